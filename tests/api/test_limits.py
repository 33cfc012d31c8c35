"""Bounds and ends: bodies, clients that leave, stopping, rate limits."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, ClassVar

import httpx
import pytest

from hearth.api.routes import FIELDS_LIMIT_BYTES
from tests.api.support import KEY, World

pytestmark = pytest.mark.anyio


class Connection:
    """A raw ASGI connection whose client can leave."""

    def __init__(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        sent = {"x-appwrite-project": "p1", "x-appwrite-key": KEY, "content-length": str(len(body)), **headers}
        self.scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "scheme": "http",
            "client": ("127.0.0.1", 5),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
        self.gone = asyncio.Event()
        self.sent: list[MutableMapping[str, Any]] = []
        self._messages = [{"type": "http.request", "body": body, "more_body": False}]

    @property
    def unread(self) -> int:
        """Messages of the body nobody has asked for."""
        return len(self._messages)

    async def receive(self) -> MutableMapping[str, Any]:
        if self._messages:
            return self._messages.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)


def without_length(client: httpx.AsyncClient) -> httpx.Request:
    """A POST that does not say how long its body is, because it has none."""
    request = client.build_request("POST", "/v1/functions/f1/executions")
    del request.headers["content-length"]
    return request


class TestBodies:
    """Bodies are bounded before they are read."""

    @pytest.mark.parametrize("body", [b"{nope", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b'{"name":"\\ud800"}'])
    async def test_a_body_that_is_no_json_object_is_a_clear_400(self, world: World, body: bytes) -> None:
        async with world.client() as client:
            answer = await client.post("/v1/functions", content=body)
        assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
        assert "body" in answer.json()["message"]

    async def test_an_announced_body_over_the_limit_is_answered_before_it_is_read(self, world: World) -> None:
        connection = Connection("POST", "/v1/functions", b"x", **{"content-length": str(FIELDS_LIMIT_BYTES + 1)})
        unread_at_answer: list[int] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                unread_at_answer.append(connection.unread)
            await connection.send(message)

        await world.app(connection.scope, connection.receive, send)
        start, body = connection.sent[0], connection.sent[1]["body"]
        assert start["status"] == 400
        assert (b"connection", b"close") in start["headers"]
        assert str(FIELDS_LIMIT_BYTES).encode() in body
        assert unread_at_answer == [1]
        assert connection.unread == 0  # dropped afterwards, so that the client gets to read the answer

    async def test_a_body_that_grows_over_the_limit_is_stopped(self, world: World) -> None:
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 100 * FIELDS_LIMIT_BYTES:
                sent += 65_536
                yield b"x" * 65_536

        async with world.client() as client:
            answer = await client.post("/v1/functions", content=body())
        assert answer.json()["type"] == "general_argument_invalid"

    async def test_bodies_of_all_requests_share_a_memory_budget(self) -> None:
        world = World(body_memory_max_bytes=300_000)
        held, leave = asyncio.Event(), asyncio.Event()

        async def hold(*_: Any, **__: Any) -> Any:
            held.set()
            await leave.wait()
            return world.executions.results["done"]

        world.executions.results["done"] = world.executions.results["create"]
        world.executions.results["create"] = hold
        body = {"body": "x" * 200_000}
        async with world.client() as client:
            first = asyncio.create_task(client.post("/v1/functions/f1/executions", json=body))
            await held.wait()
            refused = await client.post("/v1/functions/f1/executions", json=body)
            small = asyncio.create_task(client.post("/v1/functions/f1/executions", json={}))
            bare = asyncio.create_task(client.send(without_length(client)))
            leave.set()
            assert (await first).status_code == 201
            assert (await small).status_code == 201
            assert (await bare).status_code == 201
            again = await client.post("/v1/functions/f1/executions", json=body)
        assert (refused.status_code, refused.json()["type"]) == (429, "general_rate_limit_exceeded")
        assert again.status_code == 201


class TestLeaving:
    """A client that leaves during a long call cancels its handler, and nothing else."""

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [("POST", "/v1/functions/f1/executions", b"{}"), ("GET", "/v1/functions/f1/executions/e1", b"")],
    )
    async def test_the_handler_is_cancelled_and_the_server_goes_on(
        self, world: World, method: str, path: str, body: bytes
    ) -> None:
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def long(*_: Any, **__: Any) -> Any:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        world.executions.results |= {"create": long, "get": long}
        connection = Connection(method, path, body)
        task = asyncio.create_task(world.app(connection.scope, connection.receive, connection.send))
        await entered.wait()
        connection.gone.set()
        async with asyncio.timeout(20):
            await task
        assert cancelled.is_set()
        assert connection.sent == []
        assert task.cancelling() == 0

    async def test_a_cancellation_from_outside_is_passed_on(self, world: World) -> None:
        entered = asyncio.Event()

        async def long(*_: Any, **__: Any) -> Any:
            entered.set()
            await asyncio.Event().wait()

        world.executions.results["create"] = long
        connection = Connection("POST", "/v1/functions/f1/executions", b"{}")
        task = asyncio.create_task(world.app(connection.scope, connection.receive, connection.send))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_leaving_during_the_body_ends_the_request_quietly(self, world: World) -> None:
        connection = Connection("POST", "/v1/functions/f1/executions", b"{}")
        connection._messages.clear()
        connection.gone.set()
        await world.app(connection.scope, connection.receive, connection.send)
        assert connection.sent == []
        assert world.executions.calls == []

    async def test_a_finished_request_leaves_no_task_behind(self, world: World) -> None:
        connection = Connection("POST", "/v1/functions/f1/executions", b"{}")
        before = asyncio.all_tasks()
        await world.app(connection.scope, connection.receive, connection.send)
        assert asyncio.all_tasks() == before
        assert connection.sent[0]["status"] == 201


class TestStopping:
    """After SIGTERM new work is refused; what runs goes on."""

    async def test_new_requests_are_answered_503_and_running_ones_finish(self, world: World) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        done = world.executions.results["create"]

        async def long(*_: Any, **__: Any) -> Any:
            entered.set()
            await leave.wait()
            return done

        world.executions.results["create"] = long
        async with world.client() as client:
            running = asyncio.create_task(client.post("/v1/functions/f1/executions", json={}))
            await entered.wait()
            world.app.refuse_new_work()
            refused = await client.get("/v1/health/version")
            leave.set()
            assert (await running).status_code == 201
        assert (refused.status_code, refused.json()["code"]) == (503, 503)
        assert refused.headers["connection"] == "close"
        assert "stopping" in refused.json()["message"]


class TestCreationLimit:
    """The daily limit on creating functions: off by default, per project, for keys too."""

    body: ClassVar[dict[str, Any]] = {"functionId": "a", "name": "n", "runtime": "node-22"}

    async def test_there_is_none_by_default(self, world: World) -> None:
        async with world.client() as client:
            answer = await client.post("/v1/functions", json=self.body)
        assert answer.status_code == 201
        assert "x-ratelimit-limit" not in answer.headers

    async def test_a_limit_is_told_counted_and_enforced_until_the_window_ends(self) -> None:
        world = World(function_creations_per_day=2)
        async with world.client() as client:
            first = await client.post("/v1/functions", json=self.body)
            invalid = await client.post("/v1/functions", json={})
            await client.post("/v1/functions", json=self.body)
            refused = await client.post("/v1/functions", json=self.body)
            world.clock.move(days=1)
            tomorrow = await client.post("/v1/functions", json=self.body)
        assert first.headers["x-ratelimit-limit"] == "2"
        assert first.headers["x-ratelimit-remaining"] == "1"
        midnight = 1_795_564_800  # 2026-11-25T00:00:00Z, the end of the window the clock stands in
        assert first.headers["x-ratelimit-reset"] == str(midnight)
        assert invalid.status_code == 400
        assert (refused.status_code, refused.json()["type"]) == (429, "general_rate_limit_exceeded")
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert "2 calls" in refused.json()["message"]
        assert tomorrow.status_code == 201

    async def test_abuse_off_means_no_limit(self) -> None:
        world = World(function_creations_per_day=1, abuse=False)
        async with world.client() as client:
            for _ in range(3):
                assert (await client.post("/v1/functions", json=self.body)).status_code == 201
