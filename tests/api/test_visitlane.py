"""The hot lane of visits answers exactly what the ordinary way answers, and takes only what it may take."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from hearth.api.http import hot_protocol
from hearth.api.visitlane import read_visit
from hearth.model.headers import KnownPairs
from hearth.model.refusals import Busy
from hearth.model.running import Outcome, Result
from tests.api.hosting import deploy
from tests.api.test_hotlane import listening
from tests.api.whole import Whole, whole

pytestmark = pytest.mark.anyio

DOMAIN = "app.functions.localhost"
slow = pytest.mark.slow


class Served:
    """One application behind two servers: `hot` with the lane, `plain` without. `taken` says of each try if it took."""

    def __init__(self, app: Whole, hot: str, plain: str, taken: list[bool]) -> None:
        self.app, self.hot, self.plain, self.taken = app, hot, plain, taken


@asynccontextmanager
async def _serving(data_dir: Path) -> AsyncIterator[Served]:
    async with whole(data_dir) as app, app.client() as client:
        await deploy(app, client)
        made = await client.post("/proxy/rules/function", json={"domain": DOMAIN, "functionId": "f1"})
        assert made.status_code == 201, made.text
        lane, taken = app.app.visit_lane, []
        begin = lane.begin

        def counting(*args: Any) -> bool:
            taken.append(begin(*args))
            return taken[-1]

        lane.begin = counting  # type: ignore[method-assign]
        protocol = hot_protocol(app.app.hot_lane, lane)
        async with listening(app.app, protocol) as hot, listening(app.app, "httptools") as plain:
            await _visit(plain, "GET", "/")  # all is in memory now
            yield Served(app, hot, plain, taken)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with _serving(tmp_path) as served:
        yield served


async def _visit(base: str, method: str, path: str, headers: Any = None, **sent: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        given = {"host": DOMAIN, **(headers or {})}
        return await client.request(method, base + path, headers=given, **sent)


async def _both(served: Served, *args: Any, **sent: Any) -> list[httpx.Response]:
    served.app.executor.invocations.clear()
    return [await _visit(base, *args, **sent) for base in (served.hot, served.plain)]


def comparable(answer: httpx.Response) -> Any:
    """An answer without what differs from run to run."""
    text = re.sub(r"[0-9a-f]{20}", "ID", answer.text)
    headers = [(name, re.sub(r"[0-9a-f]{20}", "ID", value)) for name, value in answer.headers.multi_items()]
    return answer.status_code, sorted(header for header in headers if header[0] != "date"), text


def asked(served: Served) -> list[Any]:
    """What the function was given by both ways, without ids and keys."""
    own = ("x-appwrite-execution-id", "x-appwrite-key")
    return [
        (it.method, it.path, it.body, {name: value for name, value in it.headers.items() if name not in own})
        for it in served.app.executor.invocations
    ]


TAKEN: dict[str, tuple[Any, ...]] = {
    "a page": ("GET", "/"),
    "a query": ("GET", "/a%2Fb/c?x=1&x=%20"),
    "an empty query": ("GET", "/a?"),
    "a body": ("POST", "/form", {"content-type": "text/plain"}, b"h\xc3\xa4llo"),
    "binary": ("PUT", "/", None, bytes(range(256))),
    "cookies and what is his own": ("GET", "/", {"cookie": "a=b; c=d", "x-appwrite-user-id": "me", "x-own": "1"}),
    "behind a proxy": ("GET", "/", {"x-forwarded-for": "6.6.6.6, 203.0.113.9"}),
    "with a port": ("GET", "/", {"host": f"{DOMAIN}:8080"}),
    "deletion": ("DELETE", "/thing/1"),
}
ORDINARY: dict[str, tuple[Any, ...]] = {
    "what looks like a call of the API": (
        "POST",
        "/v1/functions/f1/executions",
        {"x-appwrite-key": "standard_here"},
        b"{}",
    ),
    "no such domain": ("GET", "/", {"host": "nobody.functions.localhost"}),
    "the functions domain itself": ("GET", "/", {"host": "functions.localhost"}),
    "only the head": ("HEAD", "/"),
    "options of a browser": ("OPTIONS", "/", {"expect": "100-continue"}),
    "a large body": ("POST", "/", None, b"x" * 100_000),
    "the check of a certificate": ("GET", "/.well-known/acme-challenge/token"),
}


@slow
async def test_what_it_takes_it_answers_like_the_ordinary_way(served: Served) -> None:
    for case, visit in TAKEN.items():
        served.taken.clear()
        method, path, headers, body = (*visit, None, None)[:4]
        hot, plain = await _both(served, method, path, headers, content=body)
        assert comparable(hot) == comparable(plain), case
        assert hot.status_code == 200, case
        given = asked(served)
        assert given[0] == given[1], case
        assert served.taken == [True], case


@slow
async def test_everything_else_goes_the_ordinary_way(served: Served) -> None:
    for case, visit in ORDINARY.items():
        method, path, headers, body = (*visit, None, None)[:4]
        hot, plain = await _both(served, method, path, headers, content=body)
        assert comparable(hot) == comparable(plain), case
        assert True not in served.taken, case


RESULTS = {
    "no content": Result(Outcome.COMPLETED, 204),
    "not modified": Result(Outcome.COMPLETED, 304, (("etag", '"a"'),)),
    "an error with a word": Result(Outcome.COMPLETED, 418, (("content-type", "text/plain"),), b"tea"),
    "an error without one": Result(Outcome.CRASHED, 500, errors="gone"),
    "a status that is none": Result(Outcome.COMPLETED, 999, body=b"x"),
    "headers of the connection": Result(
        Outcome.COMPLETED, 200, (("connection", "close"), ("content-length", "77"), ("set-cookie", "a"), ("x", "ü"))
    ),
}


@slow
async def test_what_the_function_says_comes_out_alike(served: Served) -> None:
    for case, result in RESULTS.items():
        served.taken.clear()
        served.app.executor.result = result
        hot, plain = await _both(served, "GET", "/")
        assert comparable(hot) == comparable(plain), case
        assert served.taken == [True], case
        known = replace(result, headers=KnownPairs(result.headers))
        for _ in range(2):  # as an instance says it, for the first time and again
            served.app.executor.result = known
            again, _ = await _both(served, "GET", "/")
            assert comparable(again) == comparable(hot), case


@slow
async def test_a_refusal_that_comes_after_the_start_is_answered_alike(served: Served) -> None:
    def refuse(invocation: object) -> "asyncio.Future[Result]":
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        future.set_exception(Busy("No instance came free.", limit="max_waiting", retry_after_s=3))
        return future

    served.app.executor.submit = refuse  # type: ignore[method-assign, assignment]
    hot, plain = await _both(served, "GET", "/")
    kept = [comparable(answer) for answer in (hot, plain)]
    for status, headers, _ in kept:
        assert status == 429
        assert ("retry-after", "3") in headers
    assert kept[0] == kept[1]
    assert served.taken == [True]


@slow
async def test_a_function_nobody_may_open_and_a_stopping_server_take_nothing(served: Served) -> None:
    async with served.app.client() as client:
        changed = await client.put("/functions/f1", json={"name": "F", "execute": ["users"]})
        assert changed.status_code == 200, changed.text
    hot, plain = await _both(served, "GET", "/")
    assert comparable(hot) == comparable(plain)
    assert hot.status_code == 401
    served.app.app.refuse_new_work()
    hot, plain = await _both(served, "GET", "/")
    assert (hot.status_code, plain.status_code) == (503, 503)
    assert True not in served.taken


@slow
async def test_visits_sent_one_behind_the_other_are_answered_in_their_order(served: Served) -> None:
    host, port = served.hot.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    get = f"GET /{{}} HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n"
    writer.write("".join(get.format(number) for number in range(5)).encode())
    try:
        async with asyncio.timeout(10):
            for _ in range(5):
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 ")
                assert await reader.readexactly(4) == b"done"
    finally:
        writer.close()
    assert [it.path for it in served.app.executor.invocations[-5:]] == [f"/{number}" for number in range(5)]


HEAD = b"GET /a?b HTTP/1.1\r\nHost: App.Functions.Localhost.:80\r\nAccept: */*\r\nX-Appwrite-Key: k\r\n"


def test_a_head_is_read_as_it_is() -> None:
    head = read_visit(HEAD + b"X-Forwarded-For: 1.2.3.4\r\nContent-Length: 12\r\n\r\n")
    assert head is not None
    assert (head.name, head.method, head.path, head.length) == (DOMAIN, "GET", "/a?b", 12)
    assert (head.forwarded, head.headers["accept"]) == (b"1.2.3.4", "*/*")
    assert "x-appwrite-key" not in head.headers


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"GET /a", b"GET http://x/a"),
        HEAD.replace(b"GET", b"HEAD"),
        HEAD.replace(b"1.1", b"1.0"),
        HEAD.replace(b"/a?b", b"/a#b"),
        HEAD + b"Connection: close\r\n",
        HEAD + b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n",
        HEAD + b"Expect: 100-continue\r\n",
        HEAD + b"Cookie: a\r\nCookie: b\r\n",
        HEAD + b"Content-Length: 65537\r\n",
        HEAD + b"Content-Length: -1\r\n",
        HEAD + b"no header\r\n",
    ],
)
def test_any_other_head_goes_the_ordinary_way(head: bytes) -> None:
    assert read_visit(HEAD + b"\r\n") is not None
    assert read_visit(head + b"\r\n") is None
