"""Streamed responses and live logs over real connections; what the function does is scripted, and the rest is real."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.api.http import hot_protocol
from hearth.api.server_sent import wants_events
from hearth.control.streams import LEFT
from hearth.model.refusals import Busy
from hearth.model.running import Invocation, Outcome, Result
from hearth.model.streaming import LogLines, LogStream
from tests.api.hosting import add_user, deploy
from tests.api.test_hotlane import KEYED, listening
from tests.api.whole import PROJECT_ID, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DOMAIN = "app.functions.localhost"
EVENTS = {**KEYED, "accept": "text/event-stream"}
PATH = "/v1/functions/f1/executions"
HEADERS = (("content-type", "text/plain"), ("x-own", "yes"), ("x-open-runtimes-internal", "no"))


class Streaming:
    """A function that streams what the test says: `begin`, `say`, `finish`."""

    def __init__(self) -> None:
        self.result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.called = asyncio.Event()
        self.invocation: Invocation | None = None
        self.consumed_bytes = 0
        self.aborted: list[str] = []
        self.is_aborted = asyncio.Event()

    def submit(self, invocation: Invocation) -> "asyncio.Future[Result]":
        self.invocation = invocation
        self.called.set()
        return self.result

    @property
    def receiver(self) -> Any:
        assert self.invocation is not None
        return self.invocation.receiver

    async def begin(self, *pieces: bytes, status: int = 200) -> None:
        async with asyncio.timeout(10):
            await self.called.wait()
        self.receiver.on_begin(status, HEADERS, self)
        for piece in pieces:
            self.say(piece)

    def say(self, piece: bytes) -> None:
        self.receiver.on_body(piece)

    def finish(self, outcome: Outcome = Outcome.COMPLETED, status: int = 200, *, broken: bool = False) -> None:
        if not self.result.done():
            self.result.set_result(Result(outcome, status, HEADERS, b"", "logged\n", "", 0.5, broken=broken))

    def consumed(self, size: int) -> None:
        self.consumed_bytes += size

    def abort(self, reason: str) -> None:
        self.aborted.append(reason)
        self.is_aborted.set()
        self.finish(Outcome.CANCELED, broken=True)


class Here:
    def __init__(self, app: Whole, url: str, client: httpx.AsyncClient) -> None:
        self.app, self.url, self.client = app, url, client

    def streaming(self) -> Streaming:
        made = Streaming()
        self.app.executor.submit = made.submit  # type: ignore[method-assign]
        return made

    def visit(self, method: str = "GET") -> Any:
        return self.client.stream(method, self.url, headers={"host": DOMAIN})

    def create(self, **fields: Any) -> Any:
        return self.client.stream("POST", self.url + PATH, headers=EVENTS, json=fields)

    async def records(self) -> list[dict[str, Any]]:
        answer = await self.client.get(self.url + PATH, headers=KEYED)
        return list(answer.json()["executions"])


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with whole(tmp_path) as app, app.client() as setup:
        await deploy(app, setup)
        made = await setup.post("/proxy/rules/function", json={"domain": DOMAIN, "functionId": "f1"})
        assert made.status_code == 201, made.text
        async with (
            listening(app.app, hot_protocol(app.app.hot_lane, app.app.visit_lane)) as url,
            httpx.AsyncClient(trust_env=False, timeout=10) as client,
        ):
            yield Here(app, url, client)


async def events(answer: httpx.Response) -> AsyncIterator[tuple[str, Any, str]]:
    """Name, data and id of each server-sent event."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif not line and fields:
            yield fields["event"], json.loads(fields["data"]), fields.get("id", "")
            fields = {}


async def test_a_visit_gets_each_piece_as_it_comes_and_the_end_after_the_record(here: Here) -> None:
    function = here.streaming()
    begun = asyncio.create_task(function.begin(b"one", status=203))
    async with here.visit() as answer:
        await begun
        assert (answer.status_code, answer.headers["x-own"]) == (203, "yes")
        assert "x-open-runtimes-internal" not in answer.headers
        assert answer.headers["transfer-encoding"] == "chunked"
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b"one"
        function.say(b"two")
        assert await anext(pieces) == b"two"
        function.finish(status=203)
        assert [piece async for piece in pieces] == []
        (record,) = await here.records()
    assert (record["status"], record["responseStatusCode"], record["logs"]) == ("completed", 203, "logged\n")
    assert record["responseHeaders"] == [{"name": "content-type", "value": "text/plain"}]
    assert function.consumed_bytes == 6
    assert function.aborted == []


async def test_a_broken_response_is_cut_off(here: Here) -> None:
    function = here.streaming()
    begun = asyncio.create_task(function.begin(b"one"))
    async with here.visit() as answer:
        await begun
        pieces = answer.aiter_bytes()
        assert await anext(pieces) == b"one"
        function.finish(Outcome.TIMED_OUT, 500, broken=True)
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(pieces)
    (record,) = await here.records()
    assert (record["status"], record["responseStatusCode"]) == ("failed", 500)


async def left(function: Streaming, here: Here) -> None:
    """The function is told, once, and its execution is recorded."""
    async with asyncio.timeout(10):
        await function.is_aborted.wait()
        while not await here.records():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.02)
    assert set(function.aborted) == {LEFT}
    assert [record["status"] for record in await here.records()] == ["failed"]


async def test_a_visitor_who_leaves_stops_the_function(here: Here) -> None:
    function = here.streaming()
    begun = asyncio.create_task(function.begin(b"one"))
    async with here.visit() as answer:
        await begun
        assert await anext(answer.aiter_bytes()) == b"one"
    await left(function, here)


async def test_a_caller_who_leaves_stops_the_function(here: Here) -> None:
    function = here.streaming()
    begun = asyncio.create_task(function.begin(b"one"))
    async with here.create() as answer:
        await begun
        assert (await anext(events(answer)))[0] == "response"
    await left(function, here)


async def test_one_who_left_before_the_head_stops_it_when_it_comes(here: Here) -> None:
    function = here.streaming()
    host, port = here.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET / HTTP/1.1\r\nhost: {DOMAIN}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        await function.called.wait()
        writer.close()
        await writer.wait_closed()
    await function.begin()
    await left(function, here)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_an_answer_without_a_body_is_complete_with_its_head(here: Here, method: str, status: int) -> None:
    function = here.streaming()
    begun = asyncio.create_task(function.begin(b"one", status=status))
    async with here.visit(method) as answer:
        await begun
        assert (answer.status_code, await answer.aread()) == (status, b"")
    await left(function, here)


async def test_who_asks_for_events_gets_head_pieces_and_record(here: Here) -> None:
    """A character that is cut waits for its rest; what is no text comes as base64."""
    function = here.streaming()
    begun = asyncio.create_task(function.begin("a€".encode()[:2], status=299))
    async with here.create(body="x", path="/p") as answer:
        await begun
        assert (answer.status_code, answer.headers["content-type"]) == (201, "text/event-stream; charset=UTF-8")
        assert (answer.headers["cache-control"], answer.headers["server"]) == ("no-cache", "Appwrite")
        got = events(answer)
        _, head, _ = await anext(got)
        assert head["statusCode"] == 299
        names = [header["name"] for header in head["headers"]]
        assert names == ["content-type", "x-own", "x-appwrite-execution-id"]
        assert (await anext(got))[:2] == ("body", {"text": "a"})
        function.say("a€".encode()[2:])
        assert (await anext(got))[:2] == ("body", {"text": "€"})
        function.say(b"\xff\xfe")
        assert (await anext(got))[:2] == ("body", {"base64": "//4="})
        function.say(b"\xe2")
        function.finish()
        assert (await anext(got))[:2] == ("body", {"base64": "4g=="})
        name, record, _ = await anext(got)
        assert (name, record["$id"], record["status"]) == ("end", head["executionId"], "completed")
        assert [each async for each in got] == []
    assert function.invocation is not None and function.invocation.path == "/p"
    assert await here.records() == [record]


async def test_events_of_a_response_that_is_whole_and_of_one_that_breaks(here: Here) -> None:
    async with here.create() as answer:
        whole_one = [(name, data) async for name, data, _ in events(answer)]
    assert [name for name, _ in whole_one] == ["response", "body", "end"]
    assert whole_one[1][1] == {"text": "done"}
    assert whole_one[2][1]["responseStatusCode"] == 200
    function = here.streaming()
    begun = asyncio.create_task(function.begin(b"one"))
    async with here.create() as answer:
        await begun
        got = events(answer)
        assert [(await anext(got))[0] for _ in range(2)] == ["response", "body"]
        function.finish(Outcome.CRASHED, 500, broken=True)
        name, record, _ = await anext(got)
    assert (name, record["status"]) == ("end", "failed")


async def test_a_refusal_is_no_event(here: Here) -> None:
    def refuse(invocation: Invocation) -> "asyncio.Future[Result]":
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        future.set_exception(Busy("No instance came free in time.", limit="max_waiting"))
        return future

    here.app.executor.submit = refuse  # type: ignore[method-assign]
    async with here.create() as answer:
        assert (answer.status_code, json.loads(await answer.aread())["code"]) == (429, 429)
    async with here.create(**{"async": True}) as answer:
        assert (answer.status_code, json.loads(await answer.aread())["status"]) == (202, "waiting")


@pytest.mark.parametrize("accept", ["application/json", "*/*", "text/event-stream;q=0"])
async def test_all_others_get_the_buffered_record(here: Here, accept: str) -> None:
    """On the ordinary way and on the hot lane: the executor is given nobody to stream to."""
    seen: list[Invocation] = []
    submit: Callable[[Invocation], asyncio.Future[Result]] = here.app.executor.submit

    def noting(invocation: Invocation) -> "asyncio.Future[Result]":
        seen.append(invocation)
        return submit(invocation)

    here.app.executor.submit = noting  # type: ignore[method-assign]
    answer = await here.client.post(here.url + PATH, headers={**KEYED, "accept": accept}, content="{}")
    assert (answer.status_code, answer.json()["responseBody"]) == (201, "done")
    assert [invocation.receiver for invocation in seen] == [None]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("text/html, Text/Event-Stream;q=0.5", True),
        ("text/event-stream; q=0.000", False),
        ("text/*", False),
        ("", False),
    ],
)
def test_who_wants_events(accept: str, wanted: bool) -> None:
    assert wants_events(accept) is wanted


async def test_logs_are_followed_until_the_server_stops(here: Here) -> None:
    url = f"{here.url}/v1/functions/f1/logs"
    async with here.client.stream("GET", url, params={"follow": "true"}, headers=KEYED) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=UTF-8")
        (hear,) = here.app.executor.hearers
        hear(LogLines("e1", LogStream.ERRORS, 1, ("wörd\twith\ttabs",)))
        got = events(answer)
        name, data, id = await anext(got)
        assert (name, id.endswith("-1")) == ("log", True)
        assert data == {"executionId": "e1", "stream": "errors", "number": 1, "line": "wörd\twith\ttabs"}
        await here.client.post(here.url + PATH, headers=KEYED, content="{}")
        assert [(await anext(got))[1].get("line") for _ in range(2)] == ["logged", None]
        here.app.app.refuse_new_work()
        assert [each async for each in got] == []
    assert here.app.executor.hearers == []


async def test_the_log_of_an_execution_that_has_ended(here: Here) -> None:
    made = (await here.client.post(here.url + PATH, headers=KEYED, content="{}")).json()
    url = f"{here.url}{PATH}/{made['$id']}/logs"
    for follow in ("true", "false"):
        answer = await here.client.get(url, params={"follow": follow}, headers=KEYED)
        assert [event.split("\n")[1] for event in answer.text.split("\n\n")[1:-1]] == ["event: log", "event: end"]
    answer = await here.client.get(url, headers={**KEYED, "last-event-id": "1-0"})
    assert "event: log" not in answer.text
    unknown = await here.client.get(f"{here.url}{PATH}/unknown/logs", headers=KEYED)
    assert (unknown.status_code, unknown.json()["type"]) == (404, "execution_not_found")


async def test_logs_are_not_for_users(here: Here) -> None:
    session = await add_user(here.app)
    headers = {"x-appwrite-project": PROJECT_ID, "x-appwrite-session": session}
    answer = await here.client.get(f"{here.url}/v1/functions/f1/logs", headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (401, "user_unauthorized")
