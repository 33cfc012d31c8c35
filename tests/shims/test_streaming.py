"""Responses that a handler gives piece by piece, and log lines as they are written, through the executor."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from hearth.executor.limits import ExecutorLimits, PoolLimits
from hearth.model.resources import Header
from hearth.model.running import Outcome, Result
from hearth.model.streaming import LogLines, LogStream, StreamControl
from tests.shims.conftest import Conformance
from tests.support.drivers import DRIVERS, make_driver
from tests.support.executors import Bench, FakePacks, invocation, open_bench
from tests.support.interpreters import installed_packs

pytestmark = pytest.mark.anyio

WINDOW = ExecutorLimits().stream_window_bytes
LEFT = "The reader has left."
WAIT_S = 30.0


@pytest.fixture(scope="module", params=DRIVERS)
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    """One instance for each function, so that its counters are those of the streams it has sent; patient with it."""
    folder = tmp_path_factory.mktemp("streams")
    limits = ExecutorLimits(pool=PoolLimits(max_instances_per_key=1), cancel_grace_s=WAIT_S)
    driver, packs = make_driver(request.param, folder), FakePacks(*installed_packs())
    async with open_bench(driver, folder, limits, packs) as opened:
        yield opened


@contextlib.contextmanager
def impatient(run: Conformance) -> Iterator[None]:
    """What is aborted meanwhile has next to no time to stop."""
    limits = run.bench.executor._limits
    object.__setattr__(limits, "cancel_grace_s", 0.1)
    try:
        yield
    finally:
        object.__setattr__(limits, "cancel_grace_s", WAIT_S)


class Reader:
    """A reader of a streamed response; takes each piece at once unless it `is_slow`."""

    def __init__(self, *, is_slow: bool = False) -> None:
        self.is_slow = is_slow
        self.heads: list[tuple[int, tuple[Header, ...]]] = []
        self.body = b""
        self.control: StreamControl | None = None
        self._news = asyncio.Event()

    def on_begin(self, status_code: int, headers: tuple[Header, ...], control: StreamControl) -> None:
        self.heads.append((status_code, headers))
        self.control = control
        self._news.set()

    def on_body(self, piece: bytes) -> None:
        self.body += piece
        self._news.set()
        if not self.is_slow:
            assert self.control is not None
            self.control.consumed(len(piece))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self._news.clear()
                await self._news.wait()


def begin(run: Conformance, action: str, reader: Reader, **changes: float) -> "asyncio.Future[Result]":
    run.needs(action)
    return run.bench.executor.submit(invocation(run.template, action, receiver=reader, **changes))


async def until_answer(run: Conformance, action: str, answer: int) -> None:
    """Run `action` again and again until its answer is this number."""
    async with asyncio.timeout(WAIT_S):
        while int((await run(action)).body) != answer:  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.02)


async def test_pieces_of_any_kind_arrive_in_order(run: Conformance) -> None:
    reader = Reader()
    result = await begin(run, "stream", reader)
    assert (result.outcome, result.status_code, result.broken, result.errors) == (Outcome.COMPLETED, 202, False, "")
    assert (result.body, result.logs) == (b"", "streaming\n")
    expected = [("content-type", "text/event-stream; charset=utf-8"), ("x-kind", "pieces")]
    assert [(status, sorted(headers)) for status, headers in reader.heads] == [(202, expected)]
    assert reader.body == "first,second,€".encode()


async def test_without_a_reader_the_pieces_are_collected(run: Conformance) -> None:
    result = await run("stream")
    assert (result.outcome, result.status_code, result.body) == (Outcome.COMPLETED, 202, "first,second,€".encode())
    assert ("x-kind", "pieces") in result.headers


SOURCES = {
    "streamFunction": b"called",
    "streamItself": b"itself",
    "streamPlain": b"abc",
    "streamText": b"whole",
    "streamReadable": b"readable",
    "streamWeb": b"web",
    "streamAsync": b"from a plain handler",
}
OF_ONE_LANGUAGE = {"streamReadable": "node", "streamWeb": "node", "streamAsync": "python"}


@pytest.mark.parametrize("action", SOURCES)
async def test_what_can_be_streamed(run: Conformance, action: str) -> None:
    if not run.template.runtime.startswith(OF_ONE_LANGUAGE.get(action, "")):
        pytest.skip("this kind of source is another language's")
    reader = Reader()
    result = await begin(run, action, reader)
    assert (result.outcome, result.errors, reader.body) == (Outcome.COMPLETED, "", SOURCES[action])


async def test_what_cannot_be_streamed_is_an_error_of_the_function(run: Conformance) -> None:
    reader = Reader()
    result = await begin(run, "streamNothing", reader)
    assert (result.outcome, result.status_code, reader.heads) == (Outcome.COMPLETED, 500, [])
    assert "A body that is streamed must be" in result.errors


async def test_a_response_given_as_a_whole_is_none_of_the_readers_business(run: Conformance) -> None:
    reader = Reader()
    result = await begin(run, "text", reader)
    assert (result.body, reader.heads) == ("Hello World 👋".encode(), [])


@pytest.mark.parametrize("is_read", [True, False])
async def test_a_source_that_throws_breaks_the_response(run: Conformance, is_read: bool) -> None:
    reader = Reader()
    result = await (begin(run, "streamThrow", reader) if is_read else run("streamThrow"))
    assert (result.outcome, result.status_code, result.broken) == (Outcome.COMPLETED, 500, True)
    assert (reader.body, result.body) == (b"before" if is_read else b"", b"")
    assert "midway" in result.errors


async def test_a_slow_reader_stops_the_function_and_not_the_server(run: Conformance) -> None:
    """The function is asked for a window's worth and no more; the piece it is at waits inside it."""
    before = int((await run("closed")).body)
    reader = Reader(is_slow=True)
    running = begin(run, "streamEndless", reader)
    await reader.until(lambda: len(reader.body) > WINDOW // 2)
    await asyncio.sleep(0)
    assert len(reader.body) <= WINDOW
    assert reader.control is not None
    taken = len(reader.body)
    reader.is_slow = False
    reader.control.consumed(taken)
    await reader.until(lambda: len(reader.body) > 4 * WINDOW)
    reader.control.abort(LEFT)
    assert (await running).outcome is Outcome.CANCELED
    await until_answer(run, "closed", before + 1)


async def test_a_reader_that_leaves_stops_the_function_which_goes_on_for_others(run: Conformance) -> None:
    before = int((await run("closed")).body)
    served = int((await run("count")).body)
    reader = Reader()
    running = begin(run, "streamEndless", reader)
    await reader.until(lambda: bool(reader.body))
    assert reader.control is not None
    reader.control.abort(LEFT)
    result = await running
    assert (result.outcome, result.status_code, result.broken) == (Outcome.CANCELED, 200, True)
    assert result.errors == f"{LEFT}\n"
    assert result.logs.startswith("piece\n")
    await until_answer(run, "closed", before + 1)
    assert int((await run("count")).body) == served + 1


async def test_a_function_that_does_not_stop_is_stopped(run: Conformance) -> None:
    """A handler that waits for what never comes: an async one of Python is interrupted, others lose the instance."""
    served, closed = [int((await run(action)).body) for action in ("count", "closed")]
    reader = Reader()
    running = begin(run, "streamStuck", reader)
    await reader.until(lambda: reader.body == b"begun")
    assert reader.control is not None
    if run.template.entrypoint == "conformance_async.py":
        reader.control.abort(LEFT)
        await until_answer(run, "closed", closed + 1)
        assert int((await run("count")).body) == served + 1
    else:
        with impatient(run):
            reader.control.abort(LEFT)
        await until_answer(run, "count", 1)
    assert (await running).outcome is Outcome.CANCELED


async def test_the_timeout_holds_for_streams(run: Conformance) -> None:
    reader = Reader()
    result = await begin(run, "streamStuck", reader, timeout_s=0.5)
    assert (result.outcome, result.status_code, result.broken) == (Outcome.TIMED_OUT, 500, True)
    assert result.errors == "Execution timed out.\n"
    assert reader.body == b"begun"


async def test_lines_are_heard_before_the_execution_ends_and_are_those_of_the_record(run: Conformance) -> None:
    """Also the last ones of a flood, after which the handler does nothing for long."""
    executor, heard, all_there = run.bench.executor, list[LogLines](), asyncio.Event()

    def hear(lines: LogLines) -> None:
        heard.append(lines)
        if "line 99" in lines.lines:
            all_there.set()

    reader, function_id = Reader(), run.template.function_id
    assert executor.follow_logs(function_id, hear) == []
    running = begin(run, "streamFlood", reader)
    try:
        async with asyncio.timeout(WAIT_S):
            await all_there.wait()
        late = executor.follow_logs(function_id, lambda lines: None)
        assert not running.done()
        assert reader.control is not None
        with impatient(run):
            reader.control.abort(LEFT)
        result = await running
    finally:
        executor.unfollow_logs(function_id, hear)
    logged = [line for lines in heard if lines.stream is LogStream.LOGS for line in lines.lines]
    assert logged == [f"line {at}" for at in range(100)] == result.logs.splitlines()
    assert [line for lines in late for line in lines.lines] == logged
    assert [lines.lines for lines in heard if lines.stream is LogStream.ERRORS] == [(LEFT,)]
