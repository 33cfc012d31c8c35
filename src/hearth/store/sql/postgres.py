"""PostgreSQL (15 or newer): many writers, several servers."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import structlog
from sqlalchemy import Table, text, update
from sqlalchemy.dialects.postgresql import dml as postgres_dml
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles

from hearth.model.statuses import JobStatus
from hearth.ports import ANYTHING_CHANGED, AttemptEnded, ChangedElsewhere, Conflict, MemoryKind
from hearth.store.settling import settled
from hearth.store.sql import changes, expressions, writes
from hearth.store.sql.backend import RecordWriter, Statements
from hearth.store.sql.durability_schema import dead_letters, execution_attempts
from hearth.store.sql.engines import EngineStatements, connected
from hearth.store.sql.postgres_writes import is_plain, statement_of
from hearth.store.sql.rows import values_of
from hearth.store.sql.schema import jobs
from hearth.store.sql.session import translated
from hearth.store.sql.writes import Entry

_WRITERS = 8
_READERS = 8
_CONNECT_TIMEOUT_S = 10
_STATEMENT_TIMEOUT_S = 60
_RECONNECT_S = 2.0
_CHANNEL = "hearth_jobs"
_CHANGES = "hearth_changes"
#: How the connection that listens is called in `pg_stat_activity`.
LISTENER_NAME = "hearth listener"
#: How often the listening connection is asked whether it is still one, seconds.
_ASK_EVERY_S = 30.0
#: Advisory locks are numbered; ours are (class, hash of the project's id).
_PROJECT_LOCK_CLASS = 0x48727468

_SESSION = {
    "application_name": "hearth",
    "jit": "off",  # costs more than our short statements
    # A plan for any value takes each status for as frequent as the others, and reads a whole function's executions to
    # count the few that have a rare one.
    "plan_cache_mode": "force_custom_plan",
    # A server that was cut off must not hold locks for ever.
    "idle_in_transaction_session_timeout": "60000",
    "lock_timeout": "30000",
}

log = structlog.get_logger(__name__)


@compiles(expressions.position, "postgresql")
def _position(element: Any, compiler: Any, **options: Any) -> str:
    return f"strpos({compiler.process(element.clauses, **options)})"


@compiles(expressions.list_has_any, "postgresql")
def _list_has_any(element: Any, compiler: Any, **options: Any) -> str:
    column, *texts = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(CAST({column} AS JSONB) ?| CAST(ARRAY[{', '.join(texts)}] AS TEXT[]))"


def make_engine(url: URL, *, connections: int, read_only: bool = False) -> AsyncEngine:
    """An engine on a database; with `read_only`, transactions are read-only snapshots."""
    options: dict[str, Any] = {"isolation_level": "REPEATABLE READ"} if read_only else {}
    # The driver takes libpq's word under another name.
    security = {"ssl": url.query["sslmode"]} if "sslmode" in url.query else {}
    engine = create_async_engine(
        url.difference_update_query(["sslmode"]).set(drivername="postgresql+asyncpg"),
        pool_size=connections,
        max_overflow=0,
        pool_pre_ping=True,
        connect_args={
            **security,
            "timeout": _CONNECT_TIMEOUT_S,
            "command_timeout": _STATEMENT_TIMEOUT_S,
            "server_settings": _SESSION,
        },
        **options,
    )
    return engine.execution_options(postgresql_readonly=True) if read_only else engine


class PostgresBackend:
    """The PostgreSQL database at `url`."""

    readers = _READERS
    is_alone = False

    def __init__(self, url: URL) -> None:
        self._url = url
        self.writer = make_engine(url, connections=_WRITERS + 1)  # one for the records
        self.reader = make_engine(url, connections=_READERS, read_only=True)
        self.write_places = asyncio.Semaphore(_WRITERS)
        self._records = PostgresRecords(self.writer, self._address())
        self.records: RecordWriter = self._records
        self._listening: asyncio.Task[None] | None = None
        self._origin = uuid.uuid4().hex

    def insert(self, table: Table) -> postgres_dml.Insert:
        """See `Backend`."""
        return postgres_dml.insert(table).on_conflict_do_nothing()

    @asynccontextmanager
    async def view(self) -> AsyncIterator[EngineStatements]:
        """See `Backend`."""
        async with connected(self.reader) as connection:
            yield EngineStatements(connection)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[EngineStatements]:
        """See `Backend`."""
        async with connected(self.writer) as connection:
            yield EngineStatements(connection)

    async def enter(self, transaction: Statements, project_id: str) -> None:
        """See `Backend`: what a unit has read stays true until it commits, as on SQLite."""
        await transaction.rows(
            text("SELECT pg_advisory_xact_lock(:class, hashtext(:project))"),
            {"class": _PROJECT_LOCK_CLASS, "project": project_id},
        )

    async def announce_jobs(self, transaction: Statements) -> None:
        """See `Backend`."""
        await transaction.rows(text(f"NOTIFY {_CHANNEL}"))

    async def announce_changes(
        self, transaction: Statements, project_id: str, functions: set[str], kinds: set[MemoryKind]
    ) -> None:
        """See `Backend`."""
        notice = changes.encode(self._origin, project_id, functions, kinds)
        await transaction.rows(text("SELECT pg_notify(:channel, :notice)"), {"channel": _CHANGES, "notice": notice})

    def committed(self) -> None:
        """Nothing to do."""

    async def start(self, wake: Callable[[], None], heard: Callable[[ChangedElsewhere], None]) -> None:
        """See `Backend`. Listens on return, so that what is read from then on is not missed; unless that fails."""
        is_tried = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(wake, heard, is_tried), name="listen for jobs and changes")
        await is_tried.wait()

    async def close(self) -> None:
        """See `Backend`."""
        if self._listening is not None:
            self._listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listening
        await self._records.close()
        await self.reader.dispose()
        await self.writer.dispose()

    def _address(self) -> str:
        """The database, for connections of the driver's own."""
        return self._url.set(drivername="postgresql").render_as_string(hide_password=False)

    async def _listen(
        self, wake: Callable[[], None], heard: Callable[[ChangedElsewhere], None], is_tried: asyncio.Event
    ) -> None:
        """Keep one connection listening. While there is none, workers find jobs when they look by themselves."""

        def notified(*arguments: Any) -> None:
            changed = changes.decode(arguments[-1], self._origin)
            heard(ANYTHING_CHANGED if changed is None else changed)

        while True:
            try:
                named = {"application_name": LISTENER_NAME}
                connection = await asyncpg.connect(self._address(), timeout=_CONNECT_TIMEOUT_S, server_settings=named)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                log.warning("cannot listen for jobs, trying again", error=str(error))
                is_tried.set()
                await asyncio.sleep(_RECONNECT_S)
                continue
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _, ended=ended: ended.set())
            try:
                await connection.add_listener(_CHANNEL, lambda *_: wake())
                await connection.add_listener(_CHANGES, notified)
                wake()  # what was announced before we listened
                if is_tried.is_set():
                    heard(ANYTHING_CHANGED)
                is_tried.set()
                await self._watch(connection, ended)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
                log.warning("listening for jobs ended, trying again", error=str(error))
                is_tried.set()
            finally:
                connection.terminate()

    async def _watch(self, connection: "asyncpg.Connection[asyncpg.Record]", ended: asyncio.Event) -> None:
        """Return when a connection has ended; ask now and then, since one may end without a word."""
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ASK_EVERY_S):
                    await ended.wait()
                return
            await connection.fetchval("SELECT 1", timeout=_CONNECT_TIMEOUT_S)


class PostgresRecords:
    """Writes a group with one statement, on a connection of its own; one with rare entries with one of each kind."""

    def __init__(self, engine: AsyncEngine, address: str) -> None:
        self._engine = engine
        self._address = address
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._note_attempt = postgres_dml.insert(execution_attempts).on_conflict_do_nothing()
        self._note_letter = postgres_dml.insert(dead_letters).on_conflict_do_nothing()

    def write_now(self, entries: Sequence[Entry]) -> list[bool] | None:
        """See `RecordWriter`: there is always a round trip to wait for."""
        return None

    async def write(self, entries: Sequence[Entry]) -> list[bool]:
        """See `RecordWriter`."""
        with translated("record executions"):
            return await settled(self._write_plain(entries) if is_plain(entries) else self._write(entries))

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await connection.close(timeout=_CONNECT_TIMEOUT_S)

    async def _write_plain(self, entries: Sequence[Entry]) -> list[bool]:
        statement, values = statement_of(entries, _CHANNEL)
        connection = await self._connected()
        try:
            try:
                rows = await connection.fetch(statement, *values)
            except asyncpg.InternalClientError:
                # The server ended the connection while it was idle, which the driver takes for an answer to nothing.
                connection.terminate()
                connection = await self._connected()
                rows = await connection.fetch(statement, *values)
        except asyncpg.UniqueViolationError as error:
            raise Conflict("id") from error
        except TimeoutError:
            connection.terminate()  # nobody knows what it is still about to do
            raise
        held = {row[0] for row in rows}
        return [not isinstance(entry, AttemptEnded) or entry.job_id in held for entry in entries]

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection = self._connection
        if connection is None or connection.is_closed():
            connection = self._connection = await asyncpg.connect(
                self._address,
                timeout=_CONNECT_TIMEOUT_S,
                command_timeout=_STATEMENT_TIMEOUT_S,
                server_settings=_SESSION,
            )
        return connection

    async def _write(self, entries: Sequence[Entry]) -> list[bool]:
        try:
            async with self._engine.begin() as connection:
                if inserted := [values_of(record) for record in writes.executions_of(entries)]:
                    await connection.execute(writes.INSERT_EXECUTION, inserted)
                if queued := [values_of(job) for job in writes.jobs_of(entries)]:
                    await connection.execute(writes.INSERT_JOB, queued)
                applied = [True] * len(entries)
                if ended := writes.ended_of(entries):
                    held = await _release(connection, [one for _, one in ended])
                    for place, one in ended:
                        applied[place] = one.job_id in held
                    if kept := [writes.end_values(one) for _, one in ended if one.job_id in held]:
                        await connection.execute(writes.END_EXECUTION, kept)
                    applying = [one for _, one in ended if one.job_id in held]
                    if failed := [values_of(one.attempt) for one in applying if one.attempt is not None]:
                        await connection.execute(self._note_attempt, failed)
                    if dead := [values_of(one.dead_letter) for one in applying if one.dead_letter is not None]:
                        await connection.execute(self._note_letter, dead)
                if writes.queues_jobs(entries):
                    await connection.execute(text(f"NOTIFY {_CHANNEL}"))
                return applied
        except IntegrityError as error:
            raise Conflict("id") from error


async def _release(connection: AsyncConnection, ended: Sequence[AttemptEnded]) -> set[str]:
    """Finish these jobs or queue them again; returns the ids of those that were still held."""
    held: set[str] = set()
    done: dict[str, list[str]] = {}
    for one in ended:
        if one.retry_at is None:
            done.setdefault(one.owner, []).append(one.job_id)
        elif (await connection.execute(writes.REQUEUE_JOB, writes.job_values(one))).rowcount:
            held.add(one.job_id)
    for owner, ids in done.items():
        finish = (
            update(jobs)
            .where(jobs.c.id.in_(ids), jobs.c.status == JobStatus.CLAIMED.value, jobs.c.owner == owner)
            .values(status=JobStatus.DONE.value, leased_until=None, error="", payload={})
            .returning(jobs.c.id)
        )
        held.update(row.id for row in await connection.execute(finish))
    return held
