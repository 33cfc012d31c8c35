"""What a reader of live logs is told, and the bounded queue it waits in. No decisions about who may read what."""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hearth.model.resources import Execution
from hearth.model.streaming import LogLines, LogStream

#: What may wait for one reader, who is dropped when it is more: characters, and for each event what it takes besides.
WAITING_CHARS_MAX = 2_000_000
_EVENT_CHARS = 100


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log. `id` is where a reader who comes back after it continues."""

    id: str
    execution_id: str
    stream: LogStream
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """An execution is over; all its lines have been told."""

    id: str
    execution: Execution


@dataclass(frozen=True, slots=True)
class Gap:
    """Lines may be missing here: it could not be continued where the reader left."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The last thing a reader is told who was too slow; `limit` names what was met."""

    limit: str


LogEvent = Line | Ended | Gap | Dropped


class LogWatch:
    """One reader: takes events with `take`, and calls `close` whatever happens."""

    def __init__(self, before: Iterable[LogEvent] = (), on_close: Callable[[], None] = lambda: None) -> None:
        self._before: Iterator[LogEvent] = iter(before)
        """What was there already. Not counted: it is one execution's stored text at most, or what a channel keeps."""
        self._waiting: deque[LogEvent] = deque()
        self._waiting_chars = 0
        self._on_close = on_close
        self._is_over = False
        self._news = asyncio.Event()

    def preface(self, before: Iterable[LogEvent]) -> None:
        """Set what is told before everything that is offered. Only before the first `take`."""
        self._before = iter(before)

    def offer(self, event: LogEvent) -> None:
        """Add an event; a reader who is too slow gets no other after that he is told so."""
        if self._is_over:
            return
        self._waiting_chars += _size(event)
        if self._waiting_chars > WAITING_CHARS_MAX:
            self._waiting.append(Dropped(f"waiting_chars_max={WAITING_CHARS_MAX}"))
            self.finish()
        else:
            self._waiting.append(event)
            self._news.set()

    def finish(self) -> None:
        """Nothing more will come; what waits is still taken. Fine to call twice."""
        self._is_over = True
        self._news.set()

    async def take(self, timeout_s: float, most: int = 500) -> list[LogEvent] | None:
        """The next events, at most so many; an empty list when none came for `timeout_s`, None when it is over."""
        events = list(itertools.islice(self._before, most))
        if events:
            return events
        if not self._waiting:
            if self._is_over:
                return None
            self._news.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                return []
        events = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._waiting_chars -= sum(map(_size, events))
        return events or None

    def close(self) -> None:
        """The reader has left. Fine to call twice."""
        self.finish()
        self._before = iter(())
        self._waiting.clear()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()


def _size(event: LogEvent) -> int:
    return _EVENT_CHARS + (len(event.text) if isinstance(event, Line) else 0)


class Told:
    """How many lines of each stream of one execution somebody knows of."""

    def __init__(self, logs: int = 0, errors: int = 0) -> None:
        self.counts = {LogStream.LOGS: logs, LogStream.ERRORS: errors}

    @property
    def position(self) -> str:
        """As an id: where to continue."""
        return f"{self.counts[LogStream.LOGS]}-{self.counts[LogStream.ERRORS]}"

    @classmethod
    def at(cls, position: str) -> "Told":
        """The inverse of `position`; nothing is known for a text that is none."""
        logs, dash, errors = position.partition("-")
        is_one = bool(dash) and all(part.isascii() and part.isdigit() and len(part) < 12 for part in (logs, errors))
        return cls(int(logs), int(errors)) if is_one else cls()

    def news(self, told: LogLines) -> Iterator[tuple[int, str]]:
        """Those of the lines that are not known yet, with their numbers; they are from then on."""
        known = self.counts[told.stream]
        for number, text in enumerate(told.lines, told.first):
            if number > known:
                self.counts[told.stream] = number
                yield number, text


def recorded(execution: Execution) -> Iterator[LogLines]:
    """The lines of a finished execution, numbered as if nothing was cut from them."""
    for stream, text in ((LogStream.LOGS, execution.logs), (LogStream.ERRORS, execution.errors)):
        if text:
            yield LogLines(execution.id, stream, 1, tuple(text.removesuffix("\n").split("\n")))
