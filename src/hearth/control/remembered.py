"""Answers of reads that may be given again while nothing has been written: many ask the same at the same time."""

from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from hearth.ports import Clock, Store

#: How long an answer is given again, seconds. Writes of this process end it at once; this bounds how long one of
#: another process on the same database (`hearth admin`) is not seen.
KEPT_S = 0.1
#: How many answers are kept; all go together when there would be more.
KEPT_MAX = 256


T = TypeVar("T")


class Remembered(Generic[T]):
    """Answers by what was asked. A write to the database, whatever it changes, makes all of them void.

    Whoever has seen a write acknowledged reads what was written: the store counts a commit before it is acknowledged,
    and an answer counts as of the moment before its transaction began.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._monotonic = clock.monotonic
        self._stamp: int | None = None
        self._until = 0.0
        self._answers: dict[Hashable, T] = {}

    async def read(self, key: Hashable, load: Callable[[], Awaitable[T]]) -> T:
        """What `load` gives, or gave a moment ago. Raises what it raises; that is not kept."""
        stamp, now = self._store.changes, self._monotonic()
        if stamp is None:
            return await load()
        if stamp != self._stamp or now >= self._until or len(self._answers) >= KEPT_MAX:
            self._answers = {}
            self._stamp, self._until = stamp, now + KEPT_S
        answers = self._answers
        if key in answers:
            return answers[key]
        answer = await load()
        if self._store.changes == stamp:
            answers[key] = answer
        return answer
