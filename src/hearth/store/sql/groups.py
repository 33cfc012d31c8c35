"""Group commit: what one tick of the event loop wants to write is committed together.

The futures resolve after their commit, so that whoever waits finds the rows. While one commit is under way off the
event loop, what comes meanwhile collects for the next.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, TypeVar

from hearth.model.figures import CommitFigures
from hearth.model.prompt import PromptFuture
from hearth.model.refusals import PlatformFault
from hearth.store.sql.backend import RecordWriter
from hearth.store.sql.writes import Entry

#: Entries of one commit: on SQLite 1 to 3 ms of the event loop, the most where each has a job.
_BATCH = 100

T = TypeVar("T")

#: An entry, what its future is to say if it takes effect, and the future.
_Waiting = tuple[Entry, Any, PromptFuture[Any]]


class Groups:
    """The one way into the database for entries that cannot wait for a transaction of their own."""

    def __init__(self, writer: RecordWriter, on_written: Callable[[Sequence[Entry]], None]) -> None:
        """`on_written` hears of each committed group before its futures are done."""
        self._writer = writer
        self._on_written = on_written
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self.figures = CommitFigures()

    def __len__(self) -> int:
        """How many entries wait for their commit."""
        return len(self._waiting)

    def submit(self, entry: Entry, result: T) -> PromptFuture[T | None]:
        """Write an entry; once committed the future gets `result`, or None if the entry took no effect.

        The future gets PlatformFault if the database could not take it, Conflict(`id`) if it is stored already.
        If cancelled, it is stored all the same: what it tells of has happened.
        """
        future: PromptFuture[T | None] = PromptFuture()
        if not self._waiting and self._task is None:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append((entry, result, future))
        return future

    async def close(self) -> None:
        """Commit what waits, then stop."""
        while self._waiting or self._task is not None:
            if self._task is None:
                self._flush()
            else:
                await asyncio.wait([self._task])

    def _flush(self) -> None:
        """Commit a batch on the spot; what would mean waiting is left to a task."""
        if self._task is not None or not self._waiting:
            return
        batch = self._waiting[:_BATCH]
        began = perf_counter()
        try:
            applied = self._writer.write_now([entry for entry, _, _ in batch])
        except PlatformFault as fault:
            self.figures.failed += 1
            _fail(batch, fault)
        except Exception:  # noqa: BLE001 - one of the batch is to blame; the task finds out which
            self._task = asyncio.create_task(self._drain(), name="group commit")
            return
        else:
            if applied is None:
                self._task = asyncio.create_task(self._drain(), name="group commit")
                return
            self.figures.done(perf_counter() - began, len(batch))
            self._settle(batch, applied)
        del self._waiting[: len(batch)]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)

    async def _drain(self) -> None:
        """Commit one batch off the event loop. What has come meanwhile may be committed on it again.

        Under load something always waits: whoever went on here until nothing does would never come back, and a commit
        in a thread costs several times one on the loop.
        """
        try:
            batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
            await self._write(batch)
        finally:
            self._task = None
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._flush)

    async def _write(self, batch: list[_Waiting]) -> None:
        began = perf_counter()
        try:
            applied = await self._writer.write([entry for entry, _, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiting callers must hear of it
            self.figures.failed += isinstance(error, PlatformFault)
            if isinstance(error, PlatformFault) or len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:  # one of them is to blame: the others are not to suffer
                await self._write([one])
        else:
            self.figures.done(perf_counter() - began, len(batch))
            self._settle(batch, applied)

    def _settle(self, batch: list[_Waiting], applied: Sequence[bool]) -> None:
        self._on_written([entry for entry, _, _ in batch])
        for (_, result, future), effect in zip(batch, applied, strict=True):
            if not future.done():  # its caller was cancelled
                future.set_result(result if effect else None)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for _, _, future in batch:
        if not future.done():
            future.set_exception(error)
