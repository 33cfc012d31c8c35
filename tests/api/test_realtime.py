"""Realtime over real WebSockets (contract: side-services 13, clients 6.1, functions-api 14)."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from msgspec import structs
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from hearth.api.realtime import conversation
from hearth.model.people import CONSOLE
from hearth.model.resources import Deployment
from hearth.model.statuses import DeploymentStatus
from tests.api.hosting import add_console_user, add_user, client_of, deploy
from tests.api.realtime_client import Socket, connected, serving
from tests.api.support import NOW
from tests.api.whole import OTHER_PROJECT_ID, PROJECT_ID, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HERE = f"project={PROJECT_ID}"
SELECT_ALL = json.dumps({"method": "select", "values": ["*"]})
RUN = "/functions/f1/executions"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as composed:
        yield composed


@pytest.fixture
async def port(app: Whole) -> AsyncIterator[int]:
    async with serving(app) as number:
        yield number


@pytest.fixture
async def session(app: Whole) -> str:
    return await add_user(app)


@pytest.fixture
async def user(app: Whole, session: str) -> AsyncIterator[httpx.AsyncClient]:
    """A user with a function he may execute."""
    async with app.client() as client:
        await deploy(app, client, execute=["users"])
    async with client_of(app, x_appwrite_project=PROJECT_ID, x_appwrite_session=session) as opened:
        yield opened


async def first_frame(socket: Socket) -> dict[str, Any]:
    frame = await socket.receive()
    assert frame["type"] == "connected", frame
    data: dict[str, Any] = frame["data"]
    return data


async def test_the_first_generation_subscribes_by_channels_in_the_address(
    port: int, session: str, user: httpx.AsyncClient
) -> None:
    query = f"{HERE}&channels%5B%5D=executions&channels[]=functions.f1"
    async with connected(port, query, cookie=f"a_session_{PROJECT_ID}={session}") as socket:
        hello = await first_frame(socket)
        assert hello["channels"] == ["executions", "functions.f1"]
        assert (hello["user"]["$id"], hello["user"]["email"]) == ("u1", "u1@example.com")
        assert "password" not in hello["user"]
        run = (await user.post(RUN, json={})).json()
        event = await socket.event()
        id = run["$id"]
        assert event["events"][0] == f"functions.f1.executions.{id}.create"
        assert "functions.*.executions.*.create" in event["events"]
        assert {"executions", f"executions.{id}", "functions.f1", "executions.create"} <= set(event["channels"])
        assert event["timestamp"] == "2026-11-24T10:20:30.123+00:00"
        assert event["payload"]["$id"] == id
        assert len(event["subscriptions"]) == 1
        await socket.silent()


async def test_the_second_generation_maps_slots_to_ids_and_filters_by_query(
    port: int, session: str, user: httpx.AsyncClient
) -> None:
    failed = json.dumps({"method": "equal", "attribute": "status", "values": ["failed"]})
    query = (
        f"{HERE}&channels[]=executions&channels[]=functions.f1"
        f"&executions[0][]={quote(SELECT_ALL)}&functions.f1[0][]={quote(SELECT_ALL)}"
        f"&executions[7][]={quote(failed)}"
    )
    async with connected(port, query, x_appwrite_session=session) as socket:
        slots = (await first_frame(socket))["subscriptions"]
        assert set(slots) == {"0", "7"}
        await user.post(RUN, json={})
        assert (await socket.event())["subscriptions"] == [slots["0"]]


async def test_the_third_generation_subscribes_replaces_and_leaves_by_frames(
    port: int, session: str, user: httpx.AsyncClient
) -> None:
    async with connected(port, HERE) as socket:
        hello = await first_frame(socket)
        assert hello == {"channels": [], "subscriptions": {}, "user": None}
        assert await socket.ask("authentication", {"session": session}) == {
            "type": "response",
            "data": {"to": "authentication", "success": True, "user": await account_of(user)},
        }
        mine = {"subscriptionId": "a" * 20, "channels": ["executions"], "queries": []}
        answer = await socket.ask("subscribe", [mine])
        assert answer == {"type": "response", "data": {"to": "subscribe", "success": True, "subscriptions": [mine]}}
        await user.post(RUN, json={})
        assert (await socket.event())["subscriptions"] == ["a" * 20]
        await socket.ask("subscribe", [mine | {"channels": ["functions.other"]}])
        await user.post(RUN, json={})
        await socket.silent()
        await socket.ask("subscribe", [mine, mine | {"subscriptionId": "b", "channels": ["functions.f1"]}])
        await user.post(RUN, json={})
        assert set((await socket.event())["subscriptions"]) == {"a" * 20, "b"}
        answer = await socket.ask("unsubscribe", [{"subscriptionId": "a" * 20}, {"subscriptionId": "b"}])
        assert answer["data"]["to"] == "unsubscribe"
        await user.post(RUN, json={})
        await socket.silent()


async def account_of(user: httpx.AsyncClient) -> dict[str, Any]:
    answer: dict[str, Any] = (await user.get("/account")).json()
    return answer


async def test_an_execution_is_for_those_who_may_read_it_and_without_its_logs(
    app: Whole, port: int, session: str, user: httpx.AsyncClient
) -> None:
    other = await add_user(app, "u2")
    query = f"{HERE}&channels[]=executions&channels[]=functions.f1"
    async with (
        connected(port, query, x_appwrite_session=session) as mine,
        connected(port, query, x_appwrite_session=other) as others,
        connected(port, query) as guests,
        connected(port, f"project={OTHER_PROJECT_ID}&channels[]=executions") as elsewhere,
    ):
        for socket in (mine, others, guests, elsewhere):
            await first_frame(socket)
        await user.post(RUN, json={})
        payload = (await mine.event())["payload"]
        assert (payload["logs"], payload["errors"], payload["status"]) == ("", "", "completed")
        assert "scheduledAt" not in payload
        async with app.client() as server:
            await server.post(RUN, json={})  # by a key: nobody may read it
        for socket in (mine, others, guests, elsewhere):
            await socket.silent()


async def test_the_console_hears_of_its_projects_with_logs_and_of_no_other(app: Whole, port: int) -> None:
    admin = await add_console_user(app)
    stranger = await add_console_user(app, "stranger", roles=())
    deployment = Deployment(
        "d1", PROJECT_ID, "f1", NOW, NOW, "manual", DeploymentStatus.BUILDING, "main.py", "", True, build_logs="line\n"
    )
    query = f"project={CONSOLE}&channels[]=console"
    async with (
        connected(port, query, cookie=f"a_session_console={admin}; expires=Fri, 01 Jan 2030; path=/; httponly") as ours,
        connected(port, query, x_appwrite_session=stranger) as others,
        connected(port, query) as guest,
    ):
        for socket in (ours, others, guest):
            await first_frame(socket)
        assert app.events.is_watched(PROJECT_ID)
        # A step of a build: nobody but the console hears of it.
        app.events.progress(PROJECT_ID, "functions.f1.deployments.d1.update", deployment)
        event = await ours.event()
        assert event["events"][0] == "functions.f1.deployments.d1.update"
        assert event["channels"] == ["console", f"projects.{PROJECT_ID}"]
        assert (event["payload"]["buildLogs"], event["payload"]["status"]) == ("line\n", "building")
        app.events.emit(OTHER_PROJECT_ID, "functions.f1.deployments.d1.update", replace(deployment, project_id="other"))
        async with app.client() as server:
            await deploy(app, server)
            await server.post(RUN, json={})
        seen = [(await ours.event())["payload"] for _ in range(3)]
        assert [payload["logs"] for payload in seen if "logs" in payload] == ["logged\n"]
        for socket in (ours, others, guest):
            await socket.silent()
    async with app.client() as server:  # the last console is gone
        await server.get("/functions")
    assert not app.events.is_watched(PROJECT_ID)


@pytest.mark.parametrize(
    ("query", "headers", "message"),
    [
        ("", {}, "Missing or unknown project"),
        ("project=missing", {}, "Missing or unknown project"),
        (HERE, {"origin": "https://elsewhere.example"}, "Invalid Origin"),
        (f"{HERE}&channels[]=" + "x" * 300, {}, "At most 100 channels"),
        (f"{HERE}&executions[0][]=broken", {}, "Invalid query"),
        (HERE + "&a=1" * 400, {}, "At most 300 parameters"),
    ],
)
async def test_what_is_against_policy_is_said_and_closed_with_1008(
    port: int, query: str, headers: dict[str, str], message: str
) -> None:
    async with connected(port, query, **headers) as socket:
        frame = await socket.receive()
        assert (frame["type"], frame["data"]["code"], message in frame["data"]["message"]) == ("error", 1008, True)
        assert await socket.closed() == 1008


async def test_a_registered_origin_is_welcome_and_realtime_can_be_switched_off(app: Whole, port: int) -> None:
    async with app.client() as server:
        await server.post("/project/platforms/web", json={"name": "Web", "hostname": "app.example.com"})
        async with connected(port, HERE, origin="https://app.example.com") as socket:
            await first_frame(socket)
        await server.patch("/project/protocols/websocket", json={"enabled": False})
        async with connected(port, HERE) as socket:
            assert "switched off" in (await socket.receive())["data"]["message"]
            assert await socket.closed() == 1008


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ("no json", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"type":"unknown"}', "Message type is not valid"),
        ('{"type":"subscribe","data":5}', "must be a list of objects"),
        ('{"type":"subscribe","data":[{"channels":"executions"}]}', "must be lists"),
        ('{"type":"subscribe","data":[{"channels":["a"],"queries":["x"]}]}', "Invalid query"),
        ('{"type":"unsubscribe","data":[{}]}', "`subscriptionId` must be text"),
        ('{"type":"authentication","data":{"session":"forged"}}', "Session is not valid"),
        ('{"type":"authentication","data":{}}', "`data.session` must be the secret"),
        ("x" * 70_000, "at most 65536 characters"),
    ],
)
async def test_a_bad_frame_is_answered_and_the_connection_stays(port: int, frame: str, message: str) -> None:
    async with connected(port, HERE) as socket:
        await first_frame(socket)
        await socket.connection.send(frame)
        answer = await socket.receive()
        assert (answer["type"], answer["data"]["code"], message in answer["data"]["message"]) == ("error", 1003, True)
        await socket.silent()


async def test_a_user_who_signs_out_or_is_blocked_hears_nothing_more(
    app: Whole, port: int, session: str, user: httpx.AsyncClient
) -> None:
    query = f"{HERE}&channels[]=account"
    async with connected(port, query, x_appwrite_session=session) as socket, app.client() as server:
        await first_frame(socket)
        await server.patch("/users/u1/name", json={"name": "New"})
        event = await socket.event()
        assert (event["events"][0], event["payload"]["name"]) == ("users.u1.update.name", "New")
        assert "password" not in event["payload"]
        await server.patch("/users/u1/status", json={"status": False})
        assert (await socket.event())["events"][0] == "users.u1.update.status"
        await _until(lambda: not any(it.actor.user_id for it in app.app.hub._watchers))
        await server.patch("/users/u1/name", json={"name": "Again"})
        await socket.silent()


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nothing tells when a connection has been looked at anew
            await asyncio.sleep(0.01)


async def test_connections_of_one_address_are_limited(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "CONNECTIONS_PER_MINUTE", 2)
    for _ in range(2):
        async with connected(port, HERE) as socket:
            await first_frame(socket)
    async with connected(port, HERE) as socket:
        assert (await socket.receive())["data"]["code"] == 1013
        assert await socket.closed() == 1013


async def test_frames_and_subscriptions_of_one_connection_are_limited(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation, "FRAMES_PER_MINUTE", 5)
    monkeypatch.setattr(conversation, "SUBSCRIPTIONS_MAX", 2)
    async with connected(port, HERE) as socket:
        await first_frame(socket)
        for id in ("a", "b"):
            assert (await socket.ask("subscribe", {"subscriptionId": id, "channels": ["x"]}))["type"] == "response"
        full = await socket.ask("subscribe", {"subscriptionId": "c", "channels": ["x"]})
        assert "At most 2 subscriptions" in full["data"]["message"]
        await socket.silent()
        await socket.silent()
        assert (await socket.ask("ping"))["data"]["code"] == 1013
        assert await socket.closed() == 1013


async def test_who_reads_too_slowly_is_closed_and_nobody_else_waits(
    app: Whole, port: int, session: str, user: httpx.AsyncClient
) -> None:
    """What waits for one client is bounded, whatever he does."""
    query = f"{HERE}&channels[]=executions"
    async with connected(port, query, x_appwrite_session=session) as quick:
        await first_frame(quick)
        async with connected(port, query, x_appwrite_session=session) as slow:
            await first_frame(slow)
            big = structs.replace((await _stored(app, user)), request_path="/" + "x" * 200_000)
            await quick.event()
            slow.connection.transport.pause_reading()
            for _ in range(120):
                app.events.emit(PROJECT_ID, f"functions.f1.executions.{big.id}.create", big)
                await quick.event()
            watchers = app.app.hub._watchers
            await _until(lambda: len(watchers) == 1)
            slow.connection.transport.resume_reading()
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(10):
                    while True:
                        await slow.connection.recv()
        await quick.silent()


async def _stored(app: Whole, user: httpx.AsyncClient) -> Any:
    id = (await user.post(RUN, json={})).json()["$id"]
    async with app.store.view(PROJECT_ID) as unit:
        return await unit.executions.get("f1", id)


async def test_a_stop_closes_every_connection_and_refuses_new_ones(app: Whole, port: int) -> None:
    async with connected(port, HERE) as one, connected(port, HERE) as two:
        await first_frame(one)
        await first_frame(two)
        app.app.refuse_new_work()
        assert [await one.closed(), await two.closed()] == [1012, 1012]
    with pytest.raises(InvalidStatus):
        async with connected(port, HERE):
            pass
    assert app.app.hub._watchers == set()


async def test_nothing_else_is_spoken_over_websockets(port: int) -> None:
    with pytest.raises(InvalidStatus):
        async with connect(f"ws://127.0.0.1:{port}/v1/functions", proxy=None):
            pass
