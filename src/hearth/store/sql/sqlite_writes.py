"""The write transactions of a SQLite database: one connection, whose statements run in a thread of their own.

What changes rows may take long and cannot be given up half-way, so it never holds the event loop; what only reads is
read as in `sqlite_reads`. A transaction begins on the event loop where nobody else writes, which takes no time.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import Engine, Executable, Row, Select

from hearth.store.settling import settled
from hearth.store.sql.sqlite_reads import SqliteReader

T = TypeVar("T")


class SqliteWriter:
    """The connection for units. Whoever asks holds the one write place; there is no waiting for another unit here."""

    def __init__(self, engine: Engine, pragmas: Sequence[str], patience_ms: int) -> None:
        """`patience_ms` is how long a transaction waits for one of another process."""
        self._engine = engine
        self._pragmas = pragmas
        self._patience_ms = patience_ms
        self._thread = ThreadPoolExecutor(1, "sqlite-writes")
        self._transaction: SqliteTransaction | None = None

    @asynccontextmanager
    async def write(self) -> AsyncIterator["SqliteTransaction"]:
        """A transaction that is rolled back in the end unless it was committed. Raises sqlite3.Error."""
        transaction = self._transaction
        if transaction is None:
            transaction = self._transaction = await self._run(self._connect)
        try:
            await transaction.begin_to_write()
            yield transaction
        finally:
            await transaction.roll_back()

    def close(self) -> None:
        """Disconnect. No transaction may be open any more."""
        if self._transaction is not None:
            self._transaction.close()
            self._transaction = None
        self._thread.shutdown()

    def _connect(self) -> "SqliteTransaction":
        return SqliteTransaction(self._engine.connect(), self._pragmas, self._patience_ms, self._run)

    async def _run(self, work: Callable[..., T], *given: Any) -> T:
        return await settled(asyncio.get_running_loop().run_in_executor(self._thread, work, *given))


class SqliteTransaction(SqliteReader):
    """One transaction after the other on one connection: see `hearth.store.sql.backend.Transaction`."""

    def __init__(self, connection: Any, pragmas: Sequence[str], patience_ms: int, run: Callable[..., Any]) -> None:
        super().__init__(connection, pragmas, patience_ms)
        self._run = run

    async def begin_to_write(self) -> None:
        """From now on nobody else writes. Raises sqlite3.Error if somebody does all the time."""
        try:
            self._driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            await self._run(self._patiently, self._driver.execute, "BEGIN IMMEDIATE")

    async def rows(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """See `Statements`."""
        if isinstance(statement, Select):
            return await super().rows(statement, values)
        async with self.turn:
            rows: Sequence[Row[Any]] = await self._run(self._patiently, self._rows, statement, values)
            return rows

    async def count(self, statement: Executable) -> int:
        """See `Statements`."""
        async with self.turn:
            count: int = await self._run(self._patiently, self._count, statement)
            return count

    async def commit(self) -> None:
        """See `Transaction`."""
        await self._run(self._patiently, self._driver.execute, "COMMIT")

    async def roll_back(self) -> None:
        """Undo what was not committed."""
        await self.quiet()
        if self._driver.in_transaction:
            await self._run(self._driver.rollback)

    def _count(self, statement: Executable) -> int:
        return self._connection.execute(statement).rowcount
