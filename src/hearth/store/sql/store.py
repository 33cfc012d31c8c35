"""The store: opens the database and hands out units, the queue and the execution log."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text

from hearth.model.bodies import Bodies
from hearth.model.figures import CommitFigures, QueueFigures
from hearth.model.resources import Execution
from hearth.ports import (
    Attempts,
    ChangedElsewhere,
    Clock,
    DeadLetters,
    Deployments,
    ExecutionBodies,
    ExecutionLog,
    ExecutionQueue,
    Executions,
    Functions,
    FunctionSettingsRows,
    IdempotencyKeys,
    Installations,
    JobQueue,
    Keys,
    Listeners,
    Memberships,
    Platforms,
    Projects,
    RepositoryLinks,
    Rules,
    Schedules,
    Sessions,
    Teams,
    Tokens,
    Unit,
    Usage,
    Users,
    Variables,
    Webhooks,
)
from hearth.store.intents import IntentFile
from hearth.store.sql.address import Address, parse_address
from hearth.store.sql.backend import Backend
from hearth.store.sql.bodies import SqlBodies, sealed_rows, store_rows
from hearth.store.sql.dead_letters import SqlAttempts, SqlDeadLetters
from hearth.store.sql.deployments import SqlDeployments
from hearth.store.sql.executions import SqlExecutions
from hearth.store.sql.figures import queue_figures
from hearth.store.sql.function_settings import SqlFunctionSettings, kept_functions
from hearth.store.sql.functions import SqlFunctions, SqlKeys
from hearth.store.sql.groups import Groups
from hearth.store.sql.hosting import SqlPlatforms, SqlRules
from hearth.store.sql.idempotency import SqlIdempotencyKeys
from hearth.store.sql.jobs import SharedJobs, SqlJobs
from hearth.store.sql.keycheck import check_key, key_was_used
from hearth.store.sql.listeners import SqlListeners
from hearth.store.sql.log import SqlExecutionLog
from hearth.store.sql.migrating import make_engine, migrate
from hearth.store.sql.people import SqlSessions, SqlTokens, SqlUsers
from hearth.store.sql.projects import SqlProjects
from hearth.store.sql.queue import SqlExecutionQueue
from hearth.store.sql.schedules import SqlSchedules
from hearth.store.sql.session import Cipher, Session, Transactions, translated
from hearth.store.sql.sqlite import SqliteBackend, make_sync_engine
from hearth.store.sql.teams import SqlMemberships, SqlTeams
from hearth.store.sql.usage import SqlUsage
from hearth.store.sql.variables import SqlVariables
from hearth.store.sql.vcs import SqlInstallations, SqlRepositoryLinks
from hearth.store.sql.webhooks import SqlWebhooks
from hearth.store.sql.writes import Entry, queues_jobs, records_of

INTENTS_FILE = "intents.log"


class SqlUnit:
    """See `hearth.ports.Unit`. Not to be used after its transaction has ended."""

    # A request uses one or two of them, so each is made when it is asked for.
    __slots__ = ("_session", "project_id")

    def __init__(self, session: Session) -> None:
        self._session = session
        self.project_id = session.project_id

    @property
    def functions(self) -> Functions:
        return SqlFunctions(self._session)

    @property
    def function_settings(self) -> FunctionSettingsRows:
        return SqlFunctionSettings(self._session)

    @property
    def variables(self) -> Variables:
        return SqlVariables(self._session)

    @property
    def deployments(self) -> Deployments:
        return SqlDeployments(self._session)

    @property
    def executions(self) -> Executions:
        return SqlExecutions(self._session)

    @property
    def keys(self) -> Keys:
        return SqlKeys(self._session)

    @property
    def users(self) -> Users:
        return SqlUsers(self._session)

    @property
    def sessions(self) -> Sessions:
        return SqlSessions(self._session)

    @property
    def tokens(self) -> Tokens:
        return SqlTokens(self._session)

    @property
    def teams(self) -> Teams:
        return SqlTeams(self._session)

    @property
    def memberships(self) -> Memberships:
        return SqlMemberships(self._session)

    @property
    def rules(self) -> Rules:
        return SqlRules(self._session)

    @property
    def platforms(self) -> Platforms:
        return SqlPlatforms(self._session)

    @property
    def webhooks(self) -> Webhooks:
        return SqlWebhooks(self._session)

    @property
    def installations(self) -> Installations:
        return SqlInstallations(self._session)

    @property
    def repository_links(self) -> RepositoryLinks:
        return SqlRepositoryLinks(self._session)

    @property
    def dead_letters(self) -> DeadLetters:
        return SqlDeadLetters(self._session)

    @property
    def attempts(self) -> Attempts:
        return SqlAttempts(self._session)

    @property
    def bodies(self) -> ExecutionBodies:
        return SqlBodies(self._session)

    @property
    def usage(self) -> Usage:
        return SqlUsage(self._session)

    @property
    def jobs(self) -> JobQueue:
        return SqlJobs(self._session)


class SqlStore:
    """See `hearth.ports.Store`. Made by `open_store`; belongs to one event loop.

    On SQLite there is one write transaction at a time: whoever asks for a second one inside the first (also
    through `projects`, `jobs` or `execution_log`) waits for itself, and gets a PlatformFault after 30 s.
    """

    def __init__(self, backend: Backend, clock: Clock, cipher: Cipher, intents: IntentFile) -> None:
        self._backend = backend
        self._cipher = cipher
        self._jobs_queued = asyncio.Event()
        self._intents = intents
        self._job_listeners: list[Callable[[], None]] = [self._jobs_queued.set]
        self._change_listeners: list[Callable[[ChangedElsewhere], None]] = []
        self._transactions = Transactions(backend, clock, cipher, self._jobs_may_wait)
        self.projects: Projects = SqlProjects(self._transactions)
        self.schedules: Schedules = SqlSchedules(self._transactions)
        self.listeners: Listeners = SqlListeners(self._transactions)
        self.jobs: JobQueue = SharedJobs(self._transactions)
        self._groups = Groups(backend.records, self._written)
        self.execution_log: ExecutionLog = SqlExecutionLog(self._groups, intents, self._transactions)
        self.idempotency_keys: IdempotencyKeys = SqlIdempotencyKeys(self._transactions)
        self.execution_queue: ExecutionQueue = SqlExecutionQueue(self._groups, self._transactions)

    async def start(self) -> None:
        """Check the key and start the background work. Raises WrongKey."""
        async with self._transactions.begin() as session:
            await check_key(session)
        await self._backend.start(self._jobs_may_wait, self._changed)

    @property
    def changes(self) -> int | None:
        """See the port."""
        return self._transactions.changes if self._backend.is_alone else None

    async def kept_functions(self) -> tuple[tuple[str, str], ...]:
        """See the port."""
        async with self._transactions.view() as session:
            return await kept_functions(session)

    async def keep_bodies(self, bodies: Sequence[Bodies]) -> None:
        """See the port."""
        if bodies:
            rows = await asyncio.to_thread(sealed_rows, self._cipher, bodies)
            async with self._transactions.begin(bodies[0].project_id) as session:
                await store_rows(session, rows)

    @asynccontextmanager
    async def begin(self, project_id: str) -> AsyncIterator[Unit]:
        """See the port."""
        async with self._transactions.begin(_named(project_id)) as session:
            yield SqlUnit(session)

    @asynccontextmanager
    async def view(self, project_id: str) -> AsyncIterator[Unit]:
        """See the port. Writing in it raises PlatformFault."""
        async with self._transactions.view(_named(project_id)) as session:
            yield SqlUnit(session)

    async def wait_for_jobs(self, timeout_s: float) -> None:
        """See the port. For one waiter per process: it takes all that was announced since it last waited.

        A job that is due later is not announced again when its time comes (see `JobQueue.next_due`).
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._jobs_queued.wait()
        self._jobs_queued.clear()

    def on_jobs(self, listener: Callable[[], None]) -> None:
        """See the port."""
        self._job_listeners.append(listener)

    def on_changes(self, listener: Callable[[ChangedElsewhere], None]) -> None:
        """See the port."""
        self._change_listeners.append(listener)

    async def ping(self) -> None:
        """Raises PlatformFault if the database does not answer."""
        async with self._transactions.view() as session:
            await session.execute(text("SELECT 1"))

    @property
    def commits(self) -> CommitFigures:
        """The group commits since the start."""
        return self._groups.figures

    @property
    def uncommitted(self) -> int:
        """How many records, accepted executions and ended attempts wait for their commit now."""
        return len(self._groups)

    async def queue_figures(self) -> QueueFigures:
        """How the queue stands, counted now: costs as much as there are open jobs. Raises PlatformFault."""
        async with self._transactions.view() as session:
            return await queue_figures(session)

    async def close(self) -> None:
        """Commit what the log holds and disconnect. No unit may be open any more."""
        await self.execution_log.close()
        await self._backend.close()

    def _jobs_may_wait(self) -> None:
        for listener in self._job_listeners:
            listener()

    def _changed(self, change: ChangedElsewhere) -> None:
        for listener in self._change_listeners:
            listener(change)

    def _written(self, entries: Sequence[Entry]) -> None:
        self._intents.settle([(entry.project_id, entry.id) for entry in entries if isinstance(entry, Execution)])
        if records_of(entries) is None and queues_jobs(entries):
            self._jobs_may_wait()


def _backend(address: Address, *, synced: bool) -> Backend:
    if address.path is not None:
        return SqliteBackend(address.path, synced=synced)
    from hearth.store.sql.postgres import PostgresBackend  # with its driver: 4 MB that a server on SQLite does without

    return PostgresBackend(address.url)


async def open_store(url: str, *, data_dir: Path, secret: Cipher, clock: Clock, synced: bool = False) -> SqlStore:
    """Open the database at `url` (`""` = a SQLite file in `data_dir`), creating or migrating it first.

    `secret` seals the values of variables. With `synced` a commit into SQLite is on the disk before it is answered;
    what a commit into PostgreSQL survives is said in its own configuration. Raises AddressRefused, WrongKey,
    DatabaseTooNew and PlatformFault; nothing stays open then.
    """
    address = parse_address(url, data_dir)
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    await migrate(address)
    backend = _backend(address, synced=synced)
    store = SqlStore(backend, clock, secret, IntentFile(data_dir / INTENTS_FILE))
    try:
        await store.start()
    except BaseException:
        await backend.close()
        raise
    return store


async def holds_data(url: str, *, data_dir: Path) -> bool:
    """Whether a database exists at `url` with which a key was ever used: then the key file must exist too.

    Changes nothing, and creates no file. Raises AddressRefused, and PlatformFault if it does not answer.
    """
    address = parse_address(url, data_dir)
    if address.path is not None and not address.path.exists():
        return False
    with translated("answer"):
        if address.path is not None:
            with make_sync_engine(address.path, write=False).connect() as connection:
                return key_was_used(connection)
        engine = make_engine(address, read_only=True)
        try:
            async with engine.connect() as asynchronous:
                return await asynchronous.run_sync(key_was_used)
        finally:
            await engine.dispose()


def _named(project_id: str) -> str:
    if not project_id:
        raise ValueError("a unit belongs to a project")
    return project_id
