"""The queue of one reader of live logs, and how it is known what he has been told."""

import pytest

from hearth.control.log_watch import (
    WAITING_CHARS_MAX,
    Dropped,
    Ended,
    Gap,
    Line,
    LogEvent,
    LogWatch,
    Told,
    recorded,
)
from hearth.model.streaming import LogLines, LogStream
from tests.store.samples import execution

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def line(number: int, text: str = "text") -> Line:
    return Line(f"{number}-0", "e", LogStream.LOGS, number, text)


async def everything(watch: LogWatch) -> list[LogEvent]:
    taken: list[LogEvent] = []
    while (events := await watch.take(10.0, most=3)) is not None:
        taken += events
    return taken


async def test_what_was_before_comes_first_and_nothing_is_lost_between_two_takes() -> None:
    watch = LogWatch(line(number) for number in range(1, 8))
    for number in range(8, 20):
        watch.offer(line(number))
    watch.finish()
    watch.offer(line(99))
    assert [event.number for event in await everything(watch) if isinstance(event, Line)] == list(range(1, 20))


async def test_quiet_is_an_empty_list_and_the_end_is_none() -> None:
    watch = LogWatch()
    assert await watch.take(0.001) == []
    watch.offer(Gap())
    assert await watch.take(10.0) == [Gap()]
    watch.finish()
    assert await watch.take(10.0) is None


async def test_a_slow_reader_is_dropped_and_told_so_last() -> None:
    """What waits is bounded, and taking makes room again."""
    watch = LogWatch()
    long = "x" * 100_000
    for number in range(1, 1_000):
        watch.offer(line(number, long))
        if number <= 10:
            assert await watch.take(10.0) == [line(number, long)]
    events = await everything(watch)
    assert isinstance(events[-1], Dropped)
    assert events[-1].limit == f"waiting_chars_max={WAITING_CHARS_MAX}"
    assert [event.number for event in events if isinstance(event, Line)] == list(range(11, 11 + len(events) - 1))
    assert sum(len(event.text) for event in events if isinstance(event, Line)) <= WAITING_CHARS_MAX


async def test_many_empty_lines_are_bounded_too() -> None:
    watch = LogWatch()
    for number in range(100_000):
        watch.offer(line(number, ""))
    assert len(await everything(watch)) < 25_000


async def test_closing_tells_once() -> None:
    closed: list[int] = []
    watch = LogWatch([line(1)], lambda: closed.append(1))
    watch.close()
    watch.close()
    assert (closed, await watch.take(10.0)) == ([1], None)


@pytest.mark.parametrize(
    ("position", "counts"), [("3-1", "3-1"), ("", "0-0"), ("x-1", "0-0"), ("3", "0-0"), ("²-1", "0-0")]
)
def test_a_position_is_what_was_told(position: str, counts: str) -> None:
    assert Told.at(position).position == counts


def test_only_news_is_told() -> None:
    told = Told(2, 0)
    lines = LogLines("e", LogStream.LOGS, 1, ("a", "b", "c", "d"))
    assert list(told.news(lines)) == [(3, "c"), (4, "d")]
    assert (list(told.news(lines)), told.position) == ([], "4-0")


def test_the_lines_of_a_record() -> None:
    stored = execution(logs="a\n\nb\n", errors="c")
    assert list(recorded(stored)) == [
        LogLines("e", LogStream.LOGS, 1, ("a", "", "b")),
        LogLines("e", LogStream.ERRORS, 1, ("c",)),
    ]
    assert list(recorded(execution())) == []
    assert Ended("0-0", stored).execution is stored
