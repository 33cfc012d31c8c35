"""The hot lane answers exactly what the ordinary way answers, and takes only what it may take."""

import asyncio
import gc
import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import uvicorn
from msgspec.structs import replace
from sqlalchemy import event

from hearth.api.heads import HEADS_MAX, START, Heads, function_of, is_plain, read_plain
from hearth.api.http import hot_protocol
from hearth.model.headers import KnownPairs
from hearth.model.refusals import Busy
from hearth.model.running import Outcome, Result
from tests.api.test_over_real_control import ARCHIVE
from tests.api.whole import OTHER_SECRET, SECRET, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PATH = "/v1/functions/f1/executions"
KEYED = {"x-appwrite-project": "default", "x-appwrite-key": SECRET, "content-type": "application/json"}


class Served:
    """One application behind two servers: `hot` with the lane, `plain` without it. `taken` counts what it took."""

    def __init__(self, app: Whole, hot: str, plain: str, taken: list[bool]) -> None:
        self.app, self.hot, self.plain, self.taken = app, hot, plain, taken


@asynccontextmanager
async def listening(app: Any, http: Any, keep_alive_s: int = 5) -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            http=http,
            ws="none",
            lifespan="off",
            server_header=False,
            log_config=None,
            timeout_keep_alive=keep_alive_s,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            async with asyncio.timeout(10):
                await task


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with whole(tmp_path) as app, app.client() as client:
        made = await client.post("/functions", json={"functionId": "f1", "name": "F", "runtime": "node-20.0"})
        assert made.status_code == 201, made.text
        files = {"code": ("code.tar.gz", ARCHIVE)}
        fields = {"activate": "true", "entrypoint": "main.js"}
        uploaded = await client.post("/functions/f1/deployments", data=fields, files=files)
        await app.build("f1", uploaded.json()["$id"])
        assert (await client.post("/functions/f1/executions", json={})).status_code == 201  # all is in memory now
        lane = app.app.hot_lane
        taken: list[bool] = []
        begin = lane.begin

        def counting(*args: Any) -> bool:
            taken.append(begin(*args))
            return taken[-1]

        lane.begin = counting  # type: ignore[method-assign]
        async with (
            listening(app.app, hot_protocol(lane, app.app.visit_lane)) as hot,
            listening(app.app, "httptools") as plain,
        ):
            yield Served(app, hot, plain, taken)


def comparable(answer: httpx.Response) -> Any:
    """An answer without what differs from run to run: ids, dates and lengths that follow from them."""
    text = re.sub(r'"(\$id|\$createdAt|\$updatedAt)":"[^"]*"', r'"\1":""', answer.text)
    text = re.sub(r"[0-9a-f]{20}", "ID", text)
    headers = [
        (name, value)
        for name, value in answer.headers.multi_items()
        if name not in ("date", "content-length", "x-hearth-request-id", "x-request-id")
    ]
    return answer.status_code, sorted(headers), text


def timeless(headers: Mapping[str, str]) -> dict[str, Any]:
    """The headers of a run without its id and the second in which its key was made."""
    token = headers["x-appwrite-key"].removeprefix("ephemeral_")
    claims = jwt.decode(token, options={"verify_signature": False})
    said = {name: value for name, value in claims.items() if name not in ("iat", "exp")}
    return {**headers, "x-appwrite-execution-id": "", "x-appwrite-key": said}


async def both(served: Served, **request: Any) -> tuple[httpx.Response, httpx.Response]:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        sent = {"method": "POST", "headers": KEYED, **request}
        return (
            await client.request(url=served.hot + PATH, **sent),
            await client.request(url=served.plain + PATH, **sent),
        )


TAKEN = {
    "empty object": {"content": "{}"},
    "no body": {"content": ""},
    "everything": {
        "json": {"body": "hällo", "path": "/a?b=c", "method": "GET", "headers": {"X-Own": "1"}, "async": False}
    },
    "unknown fields": {"json": {"body": "x", "colour": "red"}},
    "older client": {"content": "{}", "headers": {**KEYED, "x-appwrite-response-format": "1.6.0"}},
    "newer client": {"content": "{}", "headers": {**KEYED, "x-appwrite-response-format": "2.5.0"}},
}
ORDINARY = {
    "unknown key": {"content": "{}", "headers": {**KEYED, "x-appwrite-key": "standard_wrong"}},
    "key of another project": {"content": "{}", "headers": {**KEYED, "x-appwrite-key": OTHER_SECRET}},
    "no project": {"content": "{}", "headers": {"x-appwrite-key": SECRET}},
    "a browser": {"content": "{}", "headers": {**KEYED, "origin": "http://localhost"}},
    "a session beside the key": {"content": "{}", "headers": {**KEYED, "x-appwrite-session": "abc"}},
    "not JSON": {"content": "{"},
    "not an object": {"content": "[1]"},
    "a wrong method": {"json": {"method": "BREW"}},
    "a path too long": {"json": {"path": "/" * 3000}},
    "an empty path": {"json": {"path": ""}},
    "a header of ours": {"json": {"headers": {"x-appwrite-user-id": "me"}}},
    "a null": {"json": {"path": None}},
    "headers as text": {"json": {"headers": '{"a":"b"}'}},
    "a form": {"data": {"body": "x"}, "headers": {k: v for k, v in KEYED.items() if k != "content-type"}},
    "events wanted": {"content": "{}", "headers": {**KEYED, "accept": "text/event-stream"}},
    "multipart wanted": {"content": "{}", "headers": {**KEYED, "accept": "multipart/form-data"}},
    "a large body": {"json": {"body": "x" * 100_000}},
}


@pytest.mark.parametrize("request_", TAKEN.values(), ids=TAKEN.keys())
async def test_what_it_takes_it_answers_like_the_ordinary_way(served: Served, request_: dict[str, Any]) -> None:
    hot, plain = await both(served, **request_)
    assert hot.status_code == 201
    if "multipart" not in hot.headers["content-type"]:
        assert comparable(hot) == comparable(plain)
    assert served.taken == [True]
    (first, second) = served.app.executor.invocations[-2:]
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    assert timeless(first.headers) == timeless(second.headers)


@pytest.mark.parametrize("request_", ORDINARY.values(), ids=ORDINARY.keys())
async def test_everything_else_goes_the_ordinary_way(served: Served, request_: dict[str, Any]) -> None:
    hot, plain = await both(served, **request_)
    if "multipart" not in hot.headers["content-type"]:  # its boundary is random
        assert comparable(hot) == comparable(plain)
    assert True not in served.taken


async def test_a_background_execution_is_taken_too(served: Served) -> None:
    hot, plain = await both(served, json={"async": True})
    assert (hot.status_code, served.taken) == (202, [True])
    assert comparable(hot) == comparable(plain)


@pytest.mark.parametrize(
    "result",
    [
        Result(Outcome.COMPLETED, 500, body=b"broken"),
        Result(Outcome.LOAD_FAILED, 503, errors="no such file\n"),
        Result(Outcome.COMPLETED, 200, (("set-cookie", "a=1"), ("x-open-runtimes-x", "y")), b"\xff\xfe"),
    ],
    ids=["handler failed", "not loaded", "bytes"],
)
async def test_failures_of_the_function_come_out_alike(served: Served, result: Result) -> None:
    for given in (result, replace(result, headers=KnownPairs(result.headers))):  # the latter as instances say it
        served.taken.clear()
        served.app.executor.result = given
        hot, plain = await both(served, content="{}")
        assert comparable(hot) == comparable(plain)
        assert served.taken == [True]


@pytest.mark.parametrize(
    ("cold", "queued_s", "shown"), [(True, 0.0123456, ("cold", "12.346")), (False, 0.0, ("warm", "0.000"))]
)
async def test_how_it_started_stands_in_headers_of_our_own(
    served: Served, cold: bool, queued_s: float, shown: tuple[str, str]
) -> None:
    served.app.executor.result = Result(Outcome.COMPLETED, 200, body=b"x", queued_s=queued_s, cold=cold)
    hot, plain = await both(served, content="{}")
    assert comparable(hot) == comparable(plain)
    assert (hot.headers["x-hearth-start"], hot.headers["x-hearth-queue-ms"]) == shown
    multipart = {**KEYED, "accept": "multipart/form-data"}
    parted, _ = await both(served, content="{}", headers=multipart)
    assert (parted.headers["x-hearth-start"], parted.headers["x-hearth-queue-ms"]) == shown
    later, _ = await both(served, json={"async": True})
    assert "x-hearth-start" not in later.headers


@pytest.mark.parametrize(
    ("cpu_s", "peak", "shown"),
    [
        (0.0123456, 50_000_000, {"x-hearth-cpu-ms": "12.346", "x-hearth-peak-memory-bytes": "50000000"}),
        (0.0, None, {"x-hearth-cpu-ms": "0.000"}),
        (None, None, {}),
    ],
)
async def test_what_it_used_stands_in_headers_and_in_the_record_where_it_is_counted(
    served: Served, cpu_s: float | None, peak: int | None, shown: dict[str, str]
) -> None:
    result = Result(Outcome.COMPLETED, 200, queued_s=0.5, cold=True, cpu_s=cpu_s, peak_memory_bytes=peak)
    served.app.executor.result = result
    hot, plain = await both(served, content="{}")
    assert comparable(hot) == comparable(plain)
    assert {name: value for name, value in hot.headers.items() if "-cpu-" in name or "-peak-" in name} == shown
    figures = {"cpuTime": cpu_s, "peakMemory": peak}
    known = {name: value for name, value in figures.items() if value is not None}
    for record in (hot.json(), (await both(served, content="{}"))[1].json()):
        assert (record["queueTime"], record["coldStart"]) == (0.5, True)
        assert {name: record[name] for name in figures if name in record} == known


async def test_a_refusal_that_comes_after_the_start_is_answered_alike(served: Served) -> None:
    def submit(invocation: object) -> "asyncio.Future[Result]":
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        future.set_exception(Busy("No instance came free in time.", limit="max_waiting", retry_after_s=3))
        return future

    served.app.executor.submit = submit  # type: ignore[method-assign]
    hot, plain = await both(served, content="{}")
    assert (hot.status_code, hot.headers["retry-after"]) == (429, "3")
    assert comparable(hot) == comparable(plain)


async def test_a_warm_execution_reads_nothing_from_the_database(served: Served) -> None:
    backend = served.app.store._backend  # type: ignore[attr-defined]
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(backend.engine, "before_cursor_execute", note)
    recorded: list[str] = []
    backend.records._connected().set_trace_callback(recorded.append)
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for _ in range(20):
            assert (await client.post(served.hot + PATH, headers=KEYED, content="{}")).status_code == 201
        assert asked == []
        assert {statement.split()[0] for statement in recorded} == {"BEGIN", "INSERT", "COMMIT"}
        assert (await client.get(served.hot + PATH, headers=KEYED)).status_code == 200
    assert asked != []  # a list reads: this test would see it


async def test_neither_lane_leaves_anything_to_the_collector(served: Served) -> None:
    """What holds itself is freed only when the collector has come, which costs every execution some of its time."""
    app, answers = served.app.app, 0
    async with served.app.client() as client:
        await client.put("/functions/f1", json={"name": "F", "execute": ["any"]})
        rule = await client.post("/proxy/rules/function", json={"domain": "f1.functions.localhost", "functionId": "f1"})
        assert rule.status_code == 201, rule.text
        assert (await client.post("/functions/f1/executions", json={})).status_code == 201
    head = app.hot_lane.heads.read(raw_head(PATH, **{**KEYED, "host": "x", "content-length": "2"}))
    visit = app.visit_lane.heads.read(raw_head("/", host="f1.functions.localhost", **{"content-length": "0"}))
    assert head is not None
    assert visit is not None

    def done(status: int, rest: bytes) -> None:
        nonlocal answers
        assert status in (200, 201)
        answers += 1

    async def run(count: int) -> None:
        wanted = answers + 2 * count
        for _ in range(count):
            assert app.hot_lane.begin(head, b"{}", "", done)
            assert app.visit_lane.begin(visit, b"", "", done, lambda answer: None)
        async with asyncio.timeout(10):
            while answers < wanted:  # noqa: ASYNC110 - steps of the loop are what is waited for
                await asyncio.sleep(0)
        served.app.executor.invocations.clear()

    await run(10)
    gc.collect()
    gc.disable()
    try:
        await run(100)
        left = gc.collect()
    finally:
        gc.enable()
    assert left < 100, f"{left} objects of 200 executions"


def raw_head(path: str, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode()


async def test_a_stopping_server_takes_nothing(served: Served) -> None:
    served.app.app.refuse_new_work()
    hot, plain = await both(served, content="{}")
    assert (hot.status_code, plain.status_code) == (503, 503)
    assert comparable(hot) == comparable(plain)


async def test_a_key_that_was_taken_away_is_known_no_more(served: Served) -> None:
    async with served.app.store.begin("default") as unit:
        await unit.keys.delete("key-default")
    served.app.identify.forget_keys()
    hot, _ = await both(served, content="{}")
    assert (hot.status_code, served.taken) == (401, [False])


async def test_requests_sent_one_behind_the_other_are_answered_in_their_order(served: Served) -> None:
    waiting: list[asyncio.Future[Result]] = []

    def submit(invocation: object) -> "asyncio.Future[Result]":
        waiting.append(asyncio.get_running_loop().create_future())
        return waiting[-1]

    served.app.executor.submit = submit  # type: ignore[method-assign]
    host, port = served.hot.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "".join(f"{name}: {value}\r\n" for name, value in KEYED.items())
    execution = f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{head}content-length: 2\r\n\r\n{{}}"
    version = "GET /v1/health/version HTTP/1.1\r\nhost: x\r\n\r\n"
    writer.write((execution + version + execution).encode())
    async with asyncio.timeout(10):
        for number in range(2):
            while len(waiting) <= number:  # noqa: ASYNC110 - bounded above; the server tells nobody
                await asyncio.sleep(0.005)
            waiting[number].set_result(Result(Outcome.COMPLETED, 200, body=str(number).encode()))
        bodies = [await _answer(reader) for _ in range(3)]
    writer.close()
    assert [body.get("responseBody", body.get("version")) for body in bodies] == ["0", "1.9.6", "1"]


async def test_a_client_that_leaves_meanwhile_disturbs_nobody(served: Served) -> None:
    waiting: list[asyncio.Future[Result]] = []

    def submit(invocation: object) -> "asyncio.Future[Result]":
        waiting.append(asyncio.get_running_loop().create_future())
        return waiting[-1]

    original = served.app.executor.submit
    served.app.executor.submit = submit  # type: ignore[method-assign]
    host, port = served.hot.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = "".join(f"{name}: {value}\r\n" for name, value in KEYED.items())
    writer.write(f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{head}content-length: 2\r\n\r\n{{}}".encode())
    async with asyncio.timeout(10):
        while not waiting:  # noqa: ASYNC110 - bounded above; the server tells nobody
            await asyncio.sleep(0.005)
        writer.close()
        await writer.wait_closed()
        waiting[0].set_result(Result(Outcome.COMPLETED, 200, body=b"late"))
    served.app.executor.submit = original  # type: ignore[method-assign]
    hot, _ = await both(served, content="{}")
    assert hot.status_code == 201


@pytest.mark.parametrize("cut", [10, 60, -1, -3], ids=["in the address", "in the headers", "in the body", "before it"])
async def test_a_request_may_come_in_pieces(served: Served, cut: int) -> None:
    host, port = served.hot.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "".join(f"{name}: {value}\r\n" for name, value in KEYED.items())
    request = f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{head}content-length: 3\r\n\r\n{{ }}".encode()
    async with asyncio.timeout(10):
        for _ in range(2):
            writer.write(request[:cut])
            await writer.drain()
            await asyncio.sleep(0.02)  # so that the pieces are read one by one; the answer is the same if not
            writer.write(request[cut:])
            assert (await _answer(reader))["responseBody"] == "done"
    writer.close()


async def test_a_body_that_does_not_come_is_given_up_the_ordinary_way(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearth.api.http.BODY_IDLE_S", 0.01)
    monkeypatch.setattr("hearth.api.messages.BODY_IDLE_S", 0.01)
    host, port = served.hot.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "".join(f"{name}: {value}\r\n" for name, value in KEYED.items())
    writer.write(f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{head}content-length: 3\r\n\r\n{{".encode())
    async with asyncio.timeout(10):
        assert (await _answer(reader))["type"] == "general_bad_request"
    writer.close()


async def test_an_idle_connection_is_closed_after_uvicorns_time(served: Served) -> None:
    app = served.app.app
    async with listening(app, hot_protocol(app.hot_lane, app.visit_lane), keep_alive_s=1) as hot, asyncio.timeout(20):
        host, port = hot.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "".join(f"{name}: {value}\r\n" for name, value in KEYED.items())
        writer.write(f"POST {PATH} HTTP/1.1\r\nhost: x\r\n{head}content-length: 2\r\n\r\n{{}}".encode())
        assert (await _answer(reader))["responseBody"] == "done"
        assert await reader.read() == b""
        writer.close()


HEAD = b"POST /v1/functions/f1/executions HTTP/1.1\r\nx-appwrite-key: k\r\ncontent-length: 2\r\n"


def test_a_head_is_read_as_it_is_and_known_again() -> None:
    heads = Heads(read_plain)
    first = heads.read(HEAD + b"Host: a\r\nX-Appwrite-Project: p\r\nx-appwrite-response-format: 1.6.0\r\n\r\n")
    assert first is not None
    assert (first.function_id, first.project_id, first.key, first.host) == ("f1", "p", "k", "a")
    assert (first.version, first.length) == ((1, 6, 0), 2)
    assert heads.read(HEAD + b"Host: a\r\nX-Appwrite-Project: p\r\nx-appwrite-response-format: 1.6.0\r\n\r\n") is first
    assert heads.read(HEAD + b"host: a\r\n\r\n") is not first


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"1.1", b"1.0"),
        HEAD.replace(b"POST", b"PUT"),
        HEAD.replace(b": 2", b": +2"),
        HEAD.replace(b": 2", b": 99999"),
        HEAD + b"connection: close\r\n",
        HEAD.replace(b"length: 2", b"length: 0") + b"connection: close\r\n",
        HEAD + b"connection: upgrade\r\nupgrade: websocket\r\n",
        HEAD + b"content-length: 2\r\n",
        HEAD + b"transfer-encoding: chunked\r\n",
        HEAD + b"expect: 100-continue\r\n",
        HEAD + b"no colon\r\n",
        HEAD + b"x-sdk-name: " + b"a" * 5_000 + b"\r\n",
        HEAD + b"\n\nhost: a\r\n",
        b"\r\n" + HEAD,
    ],
)
def test_any_other_head_goes_the_ordinary_way(head: bytes) -> None:
    assert Heads(read_plain).read(HEAD + b"\r\n") is not None
    if head.startswith(b"\r\n"):
        assert not head.startswith(START)
    else:
        assert Heads(read_plain).read(head + b"\r\n") is None


def test_only_so_many_heads_are_kept() -> None:
    heads = Heads(read_plain)
    for number in range(3 * HEADS_MAX):
        heads.read(HEAD + b"user-agent: %d\r\n\r\n" % number)
        assert len(heads._known) <= HEADS_MAX


@pytest.mark.parametrize("url", [b"/v1/functions//executions", b"/v1/functions/a%2Fb/executions", b"/v1/functions/a/b"])
def test_only_plain_addresses_are_its_own(url: bytes) -> None:
    assert function_of(url) is None


def test_a_header_sent_twice_or_unknown_is_not_plain() -> None:
    plain = [(b"x-appwrite-key", b"k"), (b"content-length", b"2")]
    assert is_plain(plain)
    assert not is_plain([*plain, (b"content-length", b"3")])
    assert not is_plain([*plain, (b"x-new", b"1")])
    assert not is_plain(plain[:1])


async def _answer(reader: asyncio.StreamReader) -> Any:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(re.search(r"content-length: (\d+)", head)[1])  # type: ignore[index]
    return json.loads(await reader.readexactly(length))
