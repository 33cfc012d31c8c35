"""What is seen of an execution while it runs, on a real server: lines of its log, and a response that is streamed."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.api import create_function, deploy, execute, ok
from tests.support.archives import ENTRYPOINTS
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

FUNCTION = {
    "node": """
let gate = null;
let produced = 0;
let closed = 0;
const wait = () => new Promise((resolve) => { gate = resolve; });
const actions = {
  '/logs': async ({ res, log, error }) => {
    log('first');
    console.log('native');
    error('problem');
    await wait();
    log('last');
    return res.text('done');
  },
  '/stream': ({ res, log }) => res.stream((async function* () {
    log('streaming');
    yield 'one\\n';
    await wait();
    yield 'two\\n';
  })(), 203, { 'content-type': 'text/plain', 'x-own': 'head' }),
  '/throw': ({ res }) => res.stream((async function* () {
    yield 'one\\n';
    throw new Error('midway');
  })()),
  '/endless': ({ res, log }) => res.stream((async function* () {
    log('endless');
    try {
      for (;;) {
        produced += 65536;
        yield Buffer.alloc(65536, 97);
        await null;
      }
    } finally {
      closed += 1;
    }
  })()),
  '/go': ({ res }) => {
    const opened = gate !== null;
    if (opened) gate();
    gate = null;
    return res.text(`${opened}`);
  },
  '/counts': ({ res }) => res.json({ produced, closed }),
};
module.exports = (context) => actions[context.req.path](context);
""",
    "python": """
import asyncio

gate = None
counts = {'produced': 0, 'closed': 0}

async def wait():
    global gate
    gate = asyncio.Event()
    await gate.wait()

async def main(context):
    global gate
    res = context.res
    match context.req.path:
        case '/logs':
            context.log('first')
            print('native')
            context.error('problem')
            await wait()
            context.log('last')
            return res.text('done')
        case '/stream':
            async def pieces():
                context.log('streaming')
                yield 'one\\n'
                await wait()
                yield 'two\\n'
            return res.stream(pieces(), 203, {'content-type': 'text/plain', 'x-own': 'head'})
        case '/throw':
            def breaking():
                yield 'one\\n'
                raise Exception('midway')
            return res.stream(breaking())
        case '/endless':
            async def endless():
                context.log('endless')
                try:
                    while True:
                        counts['produced'] += 65536
                        yield b'a' * 65536
                finally:
                    counts['closed'] += 1
            return res.stream(endless())
        case '/go':
            opened, gate = gate, None
            if opened is not None:
                opened.set()
            return res.text('true' if opened is not None else 'false')
        case '/counts':
            return res.json(counts)
""",
}
NOTICE = "Native logs detected. Use context.log() or context.error() for better experience."
LEFT = "The client left before the response had ended, so the function was stopped."


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server on which each language has a function of its name, with one instance, and a domain."""
    with running_server({"HEARTH_MAX_INSTANCES_PER_FUNCTION": "1"}) as running:
        with running.client() as client:
            for family, source in FUNCTION.items():
                entrypoint = ENTRYPOINTS[family]
                create_function(client, family, runtime_of(family), entrypoint=entrypoint, execute=["any"], timeout=60)
                done = deploy(client, family, {entrypoint: source})
                assert done["status"] == "ready", done["buildLogs"]
                ok(client.post("/proxy/rules/function", json={"domain": domain(family), "functionId": family}))
                execute(client, family, path="/counts")
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Runs what has to wait while the test looks on."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


def domain(family: str) -> str:
    return f"{family}.functions.localhost"


def visit(server: Server, family: str, path: str) -> Any:
    """A visit of a function's domain, as a context manager over the answer as it comes."""
    url, host = f"http://127.0.0.1:{server.port}{path}", f"{domain(family)}:{server.port}"
    return httpx.stream("GET", url, headers={"host": host}, timeout=60, trust_env=False)


def go(client: httpx.Client, family: str) -> None:
    """Let the execution that waits in the function go on."""
    wait_for(lambda: execute(client, family, path="/go")["responseBody"] == "true", 30, "an execution that waits")


def counts(client: httpx.Client, family: str) -> dict[str, int]:
    return dict(json.loads(execute(client, family, path="/counts")["responseBody"]))


def events(answer: httpx.Response) -> Iterator[tuple[str, Any, str]]:
    """The server-sent events of an answer as they come: name, data and id."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            fields[name] = value
        elif not line and "event" in fields:
            yield fields["event"], json.loads(fields["data"]), fields.get("id", "")
            fields = {}


def latest(client: httpx.Client, family: str, path: str) -> dict[str, Any]:
    """The newest execution of a path, once there is one."""
    wait_for(lambda: found(client, family, path), 30, f"the record of {path}")
    return found(client, family, path)[0]


def found(client: httpx.Client, family: str, path: str) -> list[dict[str, Any]]:
    queries = [
        {"method": "equal", "attribute": "requestPath", "values": [path]},
        {"method": "orderDesc", "attribute": "$createdAt", "values": []},
    ]
    params = {f"queries[{at}]": json.dumps(query) for at, query in enumerate(queries)}
    return list(ok(client.get(f"/functions/{family}/executions", params=params))["executions"])


def start(server: Server, client: httpx.Client, family: str, trigger: str, path: str) -> None:
    """Run the function and wait for its end."""
    if trigger == "domain":
        with visit(server, family, path) as answer:
            answer.read()
    else:
        execute(client, family, path=path, **{"async": trigger == "async"})


@pytest.mark.parametrize("trigger", ["sync", "async", "domain"])
@pytest.mark.parametrize("family", FUNCTION)
def test_lines_are_read_before_the_execution_ends(
    server: Server, client: httpx.Client, aside: ThreadPoolExecutor, family: str, trigger: str
) -> None:
    lines: dict[str, list[str]] = {"logs": [], "errors": []}
    ours = ""
    with client.stream("GET", f"/functions/{family}/logs", params={"follow": "true"}) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=UTF-8")
        running = aside.submit(start, server, client, family, trigger, "/logs")
        for name, data, id in events(answer):
            ours = ours or data["executionId"]
            if data["executionId"] != ours:
                continue
            assert id
            if name == "end":
                assert (data["status"], data["responseStatusCode"]) == ("completed", 200)
                break
            lines[data["stream"]].append(data["line"])
            assert data["number"] == len(lines[data["stream"]])
            if lines == {"logs": ["first", NOTICE, "native"], "errors": ["problem"]}:
                assert trigger == "async" or not running.done()
                go(client, family)
        running.result(60)
    record = ok(client.get(f"/functions/{family}/executions/{ours}"))
    assert lines == {"logs": ["first", NOTICE, "native", "last"], "errors": ["problem"]}
    assert (record["logs"].splitlines(), record["errors"].splitlines()) == (lines["logs"], lines["errors"])
    assert record["trigger"] == "http"


@pytest.mark.parametrize("family", FUNCTION)
def test_one_execution_is_followed_to_its_end_and_read_again_from_any_line(client: httpx.Client, family: str) -> None:
    made = execute(client, family, path="/logs", **{"async": True})
    path = f"/functions/{family}/executions/{made['$id']}/logs"
    seen = []
    with client.stream("GET", path, params={"follow": "true"}) as answer:
        for name, data, id in events(answer):
            seen.append((name, data.get("line"), id))
            if data.get("line") == "problem":
                with client.stream("GET", path) as before:
                    assert [data["line"] for _, data, _ in events(before)] == ["first", NOTICE, "native", "problem"]
                go(client, family)
    assert [line for _, line, _ in seen] == ["first", NOTICE, "native", "problem", "last", None]
    assert [name for name, _, _ in seen] == ["log"] * 5 + ["end"]
    with client.stream("GET", path, headers={"last-event-id": seen[2][2]}) as answer:
        again = [(name, data.get("line"), id) for name, data, id in events(answer)]
    assert [line for _, line, _ in again] == ["last", "problem", None]


@pytest.mark.parametrize("family", FUNCTION)
def test_the_first_bytes_pass_at_once_and_the_record_is_like_any_other(
    server: Server, client: httpx.Client, family: str
) -> None:
    with visit(server, family, "/stream") as answer:
        assert (answer.status_code, answer.headers["x-own"]) == (203, "head")
        assert answer.headers["transfer-encoding"] == "chunked"
        pieces = answer.iter_text()
        assert next(pieces) == "one\n"
        go(client, family)
        assert "".join(pieces) == "two\n"
    record = latest(client, family, "/stream")
    assert (record["status"], record["responseStatusCode"], record["logs"]) == ("completed", 203, "streaming\n")
    assert {"name": "content-type", "value": "text/plain; charset=utf-8"} in record["responseHeaders"]
    assert record["duration"] > 0


@pytest.mark.parametrize("family", FUNCTION)
def test_clients_that_ask_for_events_get_the_stream_and_others_the_whole(
    server: Server, client: httpx.Client, aside: ThreadPoolExecutor, family: str
) -> None:
    path = f"/functions/{family}/executions"
    accept = {"accept": "text/event-stream"}
    with client.stream("POST", path, json={"path": "/stream"}, headers=accept) as answer:
        assert answer.status_code == 201
        got = events(answer)
        name, head, _ = next(got)
        assert (name, head["statusCode"]) == ("response", 203)
        assert {"name": "x-own", "value": "head"} in head["headers"]
        assert next(got)[:2] == ("body", {"text": "one\n"})
        go(client, family)
        assert next(got)[:2] == ("body", {"text": "two\n"})
        name, record, _ = next(got)
        assert (name, record["status"], record["logs"]) == ("end", "completed", "streaming\n")
        assert list(got) == []
    assert ok(client.get(f"{path}/{head['executionId']}")) == record
    whole = aside.submit(execute, client, family, path="/stream")
    go(client, family)
    assert (whole.result(60)["responseStatusCode"], whole.result()["responseBody"]) == (203, "one\ntwo\n")


@pytest.mark.parametrize("family", FUNCTION)
def test_a_source_that_throws_cuts_the_answer_off(server: Server, client: httpx.Client, family: str) -> None:
    with visit(server, family, "/throw") as answer, pytest.raises(httpx.RemoteProtocolError):
        answer.read()
    record = latest(client, family, "/throw")
    assert (record["status"], record["responseStatusCode"]) == ("failed", 500)
    assert "midway" in record["errors"]


@pytest.mark.parametrize("family", FUNCTION)
def test_a_visitor_who_does_not_read_is_waited_for_and_one_who_leaves_stops_the_function(
    server: Server, client: httpx.Client, family: str
) -> None:
    before = counts(client, family)
    readings: list[int] = []

    def stands_still() -> bool:
        readings.append(counts(client, family)["produced"] - before["produced"])
        return readings[-1] > 0 and readings[-10:] == [readings[-1]] * 10

    with socket.create_connection(("127.0.0.1", server.port)) as visitor:
        visitor.sendall(f"GET /endless HTTP/1.1\r\nhost: {domain(family)}\r\n\r\n".encode())
        wait_for(stands_still, 60, "the function to wait for its reader")
        assert readings[-1] < 64 * 1024 * 1024, "what is on its way is in buffers of the kernel and one window"
    wait_for(lambda: counts(client, family)["closed"] == before["closed"] + 1, 30, "the function to be stopped")
    record = latest(client, family, "/endless")
    assert (record["status"], record["logs"], record["errors"]) == ("failed", "endless\n", f"{LEFT}\n")
