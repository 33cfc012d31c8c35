"""Snapshots of a SQLite database: what is read quickly is read on the event loop, the rest in a thread.

A row found by an index costs some microseconds, a hop to a thread and back a hundred times that. So a statement is
begun where it is asked for, within a bound of time; one that goes over it, or finds the database locked, is given up
there and run again in a thread, which may take as long as it needs.
"""

import asyncio
import math
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Executable, NullPool, Row, create_engine
from sqlalchemy.exc import DBAPIError

from hearth.store.settling import settled

T = TypeVar("T")

#: Seconds a statement may hold the event loop.
AT_ONCE_S = 0.001
#: After how many steps of SQLite's machine the clock is looked at; a row by its id takes fewer.
_STEPS = 250
_LATER = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def engine_for(path: Path) -> Engine:
    """What compiles the statements, each once for readers and the writer. Connections and transactions are ours."""
    arguments = {"isolation_level": None, "timeout": 0, "check_same_thread": False}
    return create_engine(f"sqlite:///{path}", poolclass=NullPool, connect_args=arguments)


class SqliteReaders:
    """Read-only connections to the database of `engine` (see `engine_for`), opened when first needed and kept.

    Whoever asks keeps within the number of readers; there is no waiting here. `pragmas` are run on each connection.
    """

    def __init__(self, engine: Engine, pragmas: Sequence[str], patience_ms: int) -> None:
        """`patience_ms` is how long a statement in a thread waits for a lock of another process."""
        self._engine = engine
        self._pragmas = pragmas
        self._patience_ms = patience_ms
        self._free: list[SqliteReader] = []

    @asynccontextmanager
    async def view(self) -> AsyncIterator["SqliteReader"]:
        """A snapshot, which begins with the first statement."""
        reader = self._free.pop() if self._free else await settled(asyncio.to_thread(self._connect))
        try:
            reader.begin()
            yield reader
        finally:
            await reader.quiet()
            reader.end()
            self._free.append(reader)

    def close(self) -> None:
        """Disconnect. Nobody may be reading any more."""
        for reader in self._free:
            reader.close()
        self._free.clear()

    def _connect(self) -> "SqliteReader":
        return SqliteReader(self._engine.connect(), self._pragmas, self._patience_ms)


class SqliteReader:
    """One connection: see `hearth.store.sql.backend.Statements`."""

    def __init__(self, connection: Connection, pragmas: Sequence[str], patience_ms: int) -> None:
        self._connection = connection
        self._patience_ms = patience_ms
        self.turn = asyncio.Lock()
        """Held while a statement runs: a connection is for one at a time."""
        self._until = math.inf
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)  # noqa: S101 - what this engine's connections are
        self._driver = driver
        for pragma in pragmas:
            driver.execute(pragma)
        driver.set_progress_handler(self._is_over, _STEPS)

    def begin(self) -> None:
        """From the next statement on see the database as it is then. Raises sqlite3.Error."""
        self._driver.execute("BEGIN")

    def end(self) -> None:
        """See later changes again."""
        self._driver.rollback()

    async def quiet(self) -> None:
        """Wait for a statement that still runs, for a task that was left behind: threads know no cancelling."""
        if self.turn.locked():
            await settled(self.turn.acquire())
            self.turn.release()

    async def rows(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Run one statement and fetch all of its rows. If cancelled, it is waited for. Raises SQLAlchemyError."""
        async with self.turn:
            self._until = time.monotonic() + AT_ONCE_S
            try:
                return self._rows(statement, values)
            except DBAPIError as error:
                if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF not in _LATER:
                    raise
            finally:
                self._until = math.inf
            return await settled(asyncio.to_thread(self._patiently, self._rows, statement, values))

    async def count(self, statement: Executable) -> int:
        """Here a statement that changes something is refused."""
        await self.rows(statement)
        return 0

    def close(self) -> None:
        """Disconnect."""
        self._connection.close()

    def _is_over(self) -> bool:
        return time.monotonic() > self._until

    def _rows(self, statement: Executable, values: Mapping[str, Any] | None) -> Sequence[Row[Any]]:
        result = self._connection.execute(statement, values)
        return result.all() if result.returns_rows else []

    def _patiently(self, work: Callable[..., T], *given: Any) -> T:
        """For a thread: take the time it takes, and wait for locks."""
        # Each look at the clock would wait for the interpreter's lock, which a busy event loop holds.
        self._driver.set_progress_handler(None, 0)
        self._driver.execute(f"PRAGMA busy_timeout={self._patience_ms}")
        try:
            return work(*given)
        finally:
            self._driver.execute("PRAGMA busy_timeout=0")
            self._driver.set_progress_handler(self._is_over, _STEPS)
