"""SQLite: one file, one writer at a time, readers on snapshots beside it (WAL).

Durable against the end of the process at every commit, against the end of the machine at every checkpoint
(synchronous=NORMAL), or at every commit too if it is opened `synced` (synchronous=FULL; then groups of records are
committed in a thread, and what comes meanwhile shares the next fsync). Checkpoints run in a thread; no commit does one.
"""

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Engine, NullPool, Table, create_engine, event
from sqlalchemy.dialects.sqlite import dml as sqlite_dml
from sqlalchemy.ext.compiler import compiles

from hearth.model.refusals import PlatformFault
from hearth.ports import AttemptEnded, ChangedElsewhere, Conflict, MemoryKind
from hearth.store.settling import settled
from hearth.store.sql import expressions, writes
from hearth.store.sql.backend import RecordWriter, Statements
from hearth.store.sql.faults import fault_of
from hearth.store.sql.rows import values_of
from hearth.store.sql.session import within
from hearth.store.sql.sqlite_prepared import record_statements
from hearth.store.sql.sqlite_reads import SqliteReader, SqliteReaders, engine_for
from hearth.store.sql.sqlite_writes import SqliteTransaction, SqliteWriter
from hearth.store.sql.writes import Entry
from hearth.store.sql.written_rows import execution_row, job_row

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_BUSY_TIMEOUT_MS = 10_000  # waits for another process only: inside this one writers queue up before
_CONNECT = {"isolation_level": None, "timeout": _BUSY_TIMEOUT_MS / 1000}
_LOCK_PAUSE_S = 0.005  # at a first start only, where several servers begin at once
_READERS = 4
#: Batches above this are written in a thread: copying megabytes of logs would hold up every other request.
_INLINE_BYTES = 512 * 1024
_CHECKPOINT_AFTER_COMMITS = 1_000
_CHECKPOINT_EVERY_S = 5.0
_CHECKPOINT_WAIT_S = 0.1  # for readers of an older snapshot; then the log just grows until the next time
_WAL_KEPT_BYTES = 64 * 1024 * 1024  # a file of up to this size is used again as it is

log = structlog.get_logger(__name__)


@compiles(expressions.position, "sqlite")
def _position(element: Any, compiler: Any, **options: Any) -> str:
    return f"instr({compiler.process(element.clauses, **options)})"


@compiles(expressions.list_has_any, "sqlite")
def _list_has_any(element: Any, compiler: Any, **options: Any) -> str:
    column, *texts = (compiler.process(clause, **options) for clause in element.clauses)
    values = ", ".join(texts)
    return f"EXISTS (SELECT 1 FROM json_each({column}) WHERE json_each.value IN ({values}))"  # noqa: S608 - bound values


def make_engine(path: Path, *, write: bool, connections: int) -> "AsyncEngine":
    """An engine on `path` whose transactions start as writers (`write`) or as read-only snapshots.

    For commands that look at a database, or write one, from outside a server.
    """
    from sqlalchemy.ext.asyncio import create_async_engine  # with the ORM: 6 MB that a server on SQLite does without

    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}", connect_args=_CONNECT, pool_size=connections, max_overflow=0
    )
    _prepare(engine.sync_engine, write=write)
    return engine


def make_sync_engine(path: Path, *, write: bool) -> Engine:
    """The same for code that is not async: work before a server listens."""
    engine = create_engine(f"sqlite:///{path}", connect_args=_CONNECT, poolclass=NullPool)
    _prepare(engine, write=write)
    return engine


def _prepare(engine: Engine, *, write: bool) -> None:
    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: object) -> None:
        cursor = connection.cursor()
        for pragma in _pragmas(write=write, synced=False):
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _pragmas(*, write: bool, synced: bool) -> list[str]:
    common = [
        f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}",
        "PRAGMA wal_autocheckpoint=0",
        "PRAGMA temp_store=MEMORY",
    ]
    return ["PRAGMA journal_mode=WAL", *common] if write else [*common, "PRAGMA query_only=ON"]


def prepare_file(path: Path) -> None:
    """Create the database's file for its owner alone; SQLite gives its side files the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    _begin_log(path)


def _begin_log(path: Path) -> None:
    """Switch a new database to WAL mode, which alone among statements does not wait for another process by itself.

    Whatever else is wrong is met again, and told, by whoever connects next.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT_MS / 1000
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        while time.monotonic() < deadline:
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchall()
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY:
                    return
                time.sleep(_LOCK_PAUSE_S)
            else:
                return


class SqliteBackend:
    """The SQLite database at `path`, whose file must exist (see `prepare_file`)."""

    writers = 1
    readers = _READERS
    is_alone = True

    def __init__(self, path: Path, *, synced: bool = False) -> None:
        self.path = path
        self.engine = engine_for(path)
        self.writes = SqliteWriter(self.engine, _pragmas(write=True, synced=synced), _BUSY_TIMEOUT_MS)
        self.reads = SqliteReaders(self.engine, _pragmas(write=False, synced=False), _BUSY_TIMEOUT_MS)
        # Units, the record writer and checkpoints stand in this one queue.
        self.write_places = asyncio.Semaphore(self.writers)
        self._records = SqliteRecords(path, self.write_places, self.committed, synced=synced)
        self.records: RecordWriter = self._records
        self._commits = 0
        self._due = asyncio.Event()
        self._checkpoints: asyncio.Task[None] | None = None

    def insert(self, table: Table) -> sqlite_dml.Insert:
        """See `Backend`."""
        return sqlite_dml.insert(table).on_conflict_do_nothing()

    def view(self) -> AbstractAsyncContextManager[SqliteReader]:
        """See `Backend`."""
        return self.reads.view()

    def write(self) -> AbstractAsyncContextManager[SqliteTransaction]:
        """See `Backend`."""
        return self.writes.write()

    async def enter(self, transaction: Statements, project_id: str) -> None:
        """Nothing to do: there is one writer anyway."""

    async def announce_jobs(self, transaction: Statements) -> None:
        """Nothing to do: workers of other processes look from time to time."""

    async def announce_changes(
        self, transaction: Statements, project_id: str, functions: set[str], kinds: set[MemoryKind]
    ) -> None:
        """Nothing to do: a database file has one server."""

    def committed(self) -> None:
        """Count towards the next checkpoint."""
        self._commits += 1
        if self._commits >= _CHECKPOINT_AFTER_COMMITS:
            self._due.set()

    async def start(self, wake: Callable[[], None], heard: Callable[[ChangedElsewhere], None]) -> None:
        """See `Backend`."""
        self._checkpoints = asyncio.create_task(self._checkpoint_loop(), name="checkpoints")

    async def close(self) -> None:
        """See `Backend`. The last checkpoint leaves one file, so that a copy of it is a backup."""
        if self._checkpoints is not None:
            self._checkpoints.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._checkpoints
        self.reads.close()
        await settled(asyncio.to_thread(self.writes.close))
        self.engine.dispose()
        self._records.close()
        try:
            await settled(asyncio.to_thread(_checkpoint, self.path, "TRUNCATE"))
        except sqlite3.Error as error:
            log.warning("the last checkpoint failed; the next start repeats it", error=str(error))

    async def _checkpoint_loop(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), _CHECKPOINT_EVERY_S)
            self._due.clear()
            if not self._commits:
                continue
            self._commits = 0
            try:
                await settled(asyncio.to_thread(_checkpoint, self.path, "PASSIVE"))
                # Little is left now. Starting the log anew costs an fsync, which is not to happen on the event
                # loop at the next record: so writers are kept out for that moment.
                async with within(self.write_places):
                    await settled(asyncio.to_thread(_restart_log, self.path))
            except (sqlite3.Error, OSError, PlatformFault) as error:  # disk full, say: the next one may do better
                log.warning("checkpoint failed", error=str(error))


def _checkpoint(path: Path, mode: str) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=_CHECKPOINT_WAIT_S)) as connection:
        connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()


def _restart_log(path: Path) -> None:
    """Move what is left into the database file and write the first page of a new log."""
    wal = path.with_name(path.name + "-wal")
    mode = "TRUNCATE" if wal.exists() and wal.stat().st_size > _WAL_KEPT_BYTES else "RESTART"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=_CHECKPOINT_WAIT_S)) as connection:
        for pragma in ("PRAGMA synchronous=NORMAL", "PRAGMA wal_autocheckpoint=0"):
            connection.execute(pragma)
        (busy, _, _) = connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        if not busy:
            connection.execute("INSERT OR REPLACE INTO facts (name, value) VALUES ('checkpoint', x'')")


class SqliteRecords:
    """Writes groups of entries through a connection of its own, on the event loop where that cannot block.

    A commit into the log of WAL mode is a copy in memory, without fsync: some microseconds a row, where a hop
    to a thread costs hundreds. It is done inline only while no other writer of this process is at work and
    no other process holds the lock.
    """

    def __init__(
        self, path: Path, write_places: asyncio.Semaphore, committed: Callable[[], None], *, synced: bool = False
    ) -> None:
        self._path = path
        self._synced = synced
        self._write_places = write_places
        self._committed = committed
        self._connection: sqlite3.Connection | None = None
        self._wait_ms = 0
        self._statements = record_statements()

    def write_now(self, entries: Sequence[Entry]) -> list[bool] | None:
        """See `RecordWriter`."""
        if self._synced or self._write_places.locked() or writes.weight(entries) > _INLINE_BYTES:
            return None
        try:
            return self._commit(entries)
        except _Locked:
            return None

    async def write(self, entries: Sequence[Entry]) -> list[bool]:
        """See `RecordWriter`."""
        async with within(self._write_places):
            return await settled(asyncio.to_thread(self._commit, entries, _BUSY_TIMEOUT_MS))

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _commit(self, entries: Sequence[Entry], wait_ms: int = 0) -> list[bool]:
        records = writes.records_of(entries)
        is_mixed = records is None
        inserted = [execution_row(one) for one in (writes.executions_of(entries) if records is None else records)]
        queued = [job_row(job) for job in writes.jobs_of(entries)] if is_mixed else []
        connection = None
        try:
            connection = self._connected()
            if wait_ms != self._wait_ms:
                connection.execute(f"PRAGMA busy_timeout={wait_ms}")
                self._wait_ms = wait_ms
            connection.execute("BEGIN IMMEDIATE")
            if inserted:
                connection.executemany(self._statements.insert_execution.sql, inserted)
            if queued:
                connection.executemany(self._statements.insert_job.sql, queued)
            applied = [True] * len(entries)
            for place, ended in writes.ended_of(entries) if is_mixed else ():
                applied[place] = self._end(connection, ended)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection is not None and connection.in_transaction:
                connection.rollback()
            if isinstance(error, sqlite3.IntegrityError):
                raise Conflict("id") from error
            if wait_ms == 0 and getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise _Locked from error
            raise fault_of(error, "record executions") from error
        self._committed()
        return applied

    def _end(self, connection: sqlite3.Connection, ended: AttemptEnded) -> bool:
        say = self._statements
        job = say.finish_job if ended.retry_at is None else say.requeue_job
        if connection.execute(job.sql, job.named(writes.job_values(ended))).rowcount == 0:
            return False
        connection.execute(say.end_execution.sql, say.end_execution.named(writes.end_values(ended)))
        if ended.attempt is not None:
            connection.execute(say.insert_attempt.sql, say.insert_attempt.named(values_of(ended.attempt)))
        if ended.dead_letter is not None:
            connection.execute(say.insert_letter.sql, say.insert_letter.named(values_of(ended.dead_letter)))
        return True

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=0)
            for pragma in _pragmas(write=True, synced=self._synced):
                connection.execute(pragma)
            self._connection = connection
        return self._connection


class _Locked(Exception):
    """Another process is writing at this moment."""
