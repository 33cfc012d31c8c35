"""The execution log: what one tick of the event loop records is committed together.

The callers' futures resolve after their commit, so a read after `record` finds the row. While one commit is
under way off the event loop, what comes meanwhile collects for the next.
"""

import asyncio

from sqlalchemy import select

from hearth.model.refusals import PlatformFault
from hearth.model.resources import Execution
from hearth.store.intents import IntentFile
from hearth.store.sql.backend import RecordWriter
from hearth.store.sql.schema import executions
from hearth.store.sql.session import Transactions

#: Rows of one commit: on SQLite about 2 ms of the event loop.
_BATCH = 200
_LOOKUP = 500

_Waiting = tuple[Execution, "asyncio.Future[Execution]"]


class SqlExecutionLog:
    """See `hearth.ports.ExecutionLog`. A record may be up to a few megabytes; it is held until committed."""

    def __init__(self, writer: RecordWriter, intents: IntentFile, transactions: Transactions) -> None:
        self._writer = writer
        self._intents = intents
        self._transactions = transactions
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> tuple[Execution, ...]:
        """Start; returns what a killed server had begun and never recorded, oldest first, as it was begun.

        They stay noted until each is given to `record`. Raises PlatformFault or OSError.
        """
        begun = self._intents.open()
        ids: dict[str, list[str]] = {}
        for execution in begun:
            ids.setdefault(execution.project_id, []).append(execution.id)
        recorded: set[tuple[str, str]] = set()
        async with self._transactions.view() as session:
            for project_id, wanted in ids.items():
                for start in range(0, len(wanted), _LOOKUP):
                    found = select(executions.c.id).where(
                        executions.c.project_id == project_id, executions.c.id.in_(wanted[start : start + _LOOKUP])
                    )
                    recorded.update((project_id, row.id) for row in await session.all(found))
        self._intents.settle(recorded)
        left = [execution for execution in begun if (execution.project_id, execution.id) not in recorded]
        return tuple(sorted(left, key=lambda execution: (execution.created_at, execution.id)))

    def begin(self, execution: Execution) -> None:
        """See `hearth.ports.ExecutionLog`."""
        self._intents.add(execution)

    def submit(self, execution: Execution) -> "asyncio.Future[Execution]":
        """Store a finished execution; the future's result is the execution as given, once committed.

        The future gets PlatformFault if the database could not take it, Conflict(`id`) if it is stored already.
        If cancelled, it is stored all the same: the run has happened.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Execution] = loop.create_future()
        if not self._waiting and self._task is None:
            loop.call_soon(self._flush)
        self._waiting.append((execution, future))
        return future

    async def record(self, execution: Execution) -> Execution:
        """Wait for `submit`."""
        return await self.submit(execution)

    async def close(self) -> None:
        """Commit what waits, then stop."""
        while self._waiting or self._task is not None:
            if self._task is None:
                self._flush()
            else:
                await asyncio.wait([self._task])
        self._intents.close()

    def _flush(self) -> None:
        """Commit a batch on the spot; what would mean waiting is left to a task."""
        if self._task is not None or not self._waiting:
            return
        batch = self._waiting[:_BATCH]
        try:
            written = self._writer.write_now([execution for execution, _ in batch])
        except PlatformFault as fault:
            _fail(batch, fault)
        except Exception:  # noqa: BLE001 - one of the batch is to blame; the task finds out which
            self._task = asyncio.create_task(self._drain(), name="record executions")
            return
        else:
            if not written:
                self._task = asyncio.create_task(self._drain(), name="record executions")
                return
            self._settle(batch)
        del self._waiting[: len(batch)]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)

    async def _drain(self) -> None:
        """Commit everything that waits, batch by batch, off the event loop."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                await self._write(batch)
        finally:
            self._task = None

    async def _write(self, batch: list[_Waiting]) -> None:
        try:
            await self._writer.write([execution for execution, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiting callers must hear of it
            if isinstance(error, PlatformFault) or len(batch) == 1:
                _fail(batch, error)
                return
            for one in batch:  # one of them is to blame: the others are not to suffer
                await self._write([one])
        else:
            self._settle(batch)

    def _settle(self, batch: list[_Waiting]) -> None:
        self._intents.settle((execution.project_id, execution.id) for execution, _ in batch)
        for execution, future in batch:
            if not future.done():  # its caller was cancelled
                future.set_result(execution)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(error)
