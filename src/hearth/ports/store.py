"""The database as a whole: transactions, and what exists outside of projects."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from hearth.model.bodies import Bodies
from hearth.model.durability import Attempt, DeadLetter
from hearth.model.function_settings import FunctionSettings
from hearth.model.prompt import Pending
from hearth.model.queries import ListQuery
from hearth.model.resources import ApiKey, Execution, Job, Platform, Project, Rule, Webhook
from hearth.model.vcs import Installation
from hearth.ports.durability import Attempts, DeadLetters, ExecutionBodies, IdempotencyKeys, JobQueue, Usage
from hearth.ports.people import Memberships, Sessions, Teams, Tokens, Users
from hearth.ports.rows import (
    Deployments,
    Executions,
    Functions,
    FunctionSettingsRows,
    Installations,
    Keys,
    Page,
    Platforms,
    RepositoryLinks,
    Rules,
    Variables,
    Webhooks,
)


class Unit(Protocol):
    """Everything that may be read or written in one transaction, bound to one project."""

    project_id: str

    @property
    def functions(self) -> Functions: ...
    @property
    def function_settings(self) -> FunctionSettingsRows: ...
    @property
    def variables(self) -> Variables: ...
    @property
    def deployments(self) -> Deployments: ...
    @property
    def executions(self) -> Executions: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def users(self) -> Users: ...
    @property
    def sessions(self) -> Sessions: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def teams(self) -> Teams: ...
    @property
    def memberships(self) -> Memberships: ...
    @property
    def rules(self) -> Rules: ...
    @property
    def platforms(self) -> Platforms: ...
    @property
    def webhooks(self) -> Webhooks: ...
    @property
    def installations(self) -> Installations: ...
    @property
    def repository_links(self) -> RepositoryLinks: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def attempts(self) -> Attempts: ...
    @property
    def bodies(self) -> ExecutionBodies: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def jobs(self) -> JobQueue: ...


class Projects(Protocol):
    """Projects: what exists outside a project. Each call is its own transaction."""

    async def insert(self, project: Project) -> Project: ...
    async def get(self, id: str) -> Project | None: ...
    async def all(self) -> tuple[Project, ...]: ...
    async def list(self, query: ListQuery, team_ids: Iterable[str]) -> Page[Project]:
        """One page of the projects of these teams."""

    async def rules(self) -> tuple[Rule, ...]:
        """Every rule of every project, to be kept in memory."""

    async def platforms(self) -> tuple[Platform, ...]:
        """Every web platform of every project, to be kept in memory."""

    async def installations(self, provider: str, provider_installation_id: str = "") -> tuple[Installation, ...]:
        """The installations of a provider in all projects, of one host-side id if it is given."""

    async def webhooks(self) -> tuple[Webhook, ...]:
        """Every enabled webhook of every project, to be kept in memory."""

    async def update(self, id: str, /, **changes: Any) -> Project | None:
        """As for functions."""

    async def key_by_hash(self, secret_hash: str) -> ApiKey | None:
        """Look a key up by the SHA-256 of its secret, in any project."""

    async def artifact_in_use(self, key: str) -> bool:
        """Whether a deployment of any project has this artifact."""

    async def touch_key(self, key: ApiKey, accessed_at: datetime, sdk: str) -> None: ...


class ExecutionLog(Protocol):
    """The fast way to record executions: grouped commits, read-your-write, known after a crash."""

    async def open(self) -> tuple[Execution, ...]:
        """Start; returns the executions that a killed server had begun and never recorded, oldest first."""

    def begin(self, execution: Execution) -> None:
        """Note, cheaply and without waiting, that this execution starts now (an intent that survives a kill)."""

    def submit(self, execution: Execution) -> "Pending[Execution]":
        """Store a finished execution; the future is done once it is committed (a read after that finds it).

        Its result is the execution as given. A future that is cancelled changes nothing: it is stored all the same.
        """

    async def record(self, execution: Execution) -> Execution:
        """Wait for `submit`."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """An asynchronous execution on its way into the database, with the job that will carry it out.

    A job that is `claimed` already is started by its owner after the commit; a `queued` one waits to be claimed.
    """

    execution: Execution
    job: Job


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """What one attempt at a queued execution came to; stored only while `owner` still holds the job.

    `execution` is the record as it is to be from now on: final, or waiting again if the job is queued again for
    `retry_at`. `attempts` are those that count by then; `error` is kept with a job that is queued again.
    """

    execution: Execution
    job_id: str
    owner: str
    retry_at: datetime | None = None
    attempts: int = 0
    error: str = ""
    attempt: Attempt | None = None
    """What to note of a failed attempt."""
    dead_letter: DeadLetter | None = None
    """What is left of an execution that is not tried any more."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that was taken, and its execution (now `processing`); None if the execution was deleted or has ended."""

    job: Job
    execution: Execution | None


class ExecutionQueue(Protocol):
    """Asynchronous executions and their jobs: two rows, one commit, grouped as the execution log groups its own."""

    def accept(self, execution: Execution, job: Job) -> "Pending[Execution]":
        """Store both; the future is done once they are committed. Conflict(`id`) if one of them is there already."""

    def end(self, ended: AttemptEnded) -> "Pending[bool]":
        """Store the end of an attempt; False (and nothing stored) when somebody else has taken the job away."""

    async def claim(self, owner: str, kinds: Iterable[str], limit: int, lease_s: float) -> tuple[Claimed, ...]:
        """Take up to `limit` due jobs, oldest due first; their executions are `processing` with the same commit."""

    async def claim_one(self, job_id: str, owner: str, lease_s: float) -> Claimed | None:
        """Take this queued job, due or not; None when it is not to be had any more."""

    async def renew(self, owner: str, lease_s: float) -> frozenset[str]:
        """Extend the leases of everything `owner` holds; returns the ids of those jobs."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A function, as far as firing its schedule needs to know. `changed_at`: when it or its settings last changed."""

    sequence: int
    project_id: str
    function_id: str
    schedule: str
    deployment_id: str
    timeout_s: int
    changed_at: datetime
    settings: FunctionSettings


class Schedules(Protocol):
    """Schedules of all projects, for the scheduler. Each call is its own transaction."""

    async def page(self, after: int, limit: int) -> tuple[Scheduled, ...]:
        """Up to `limit` functions with a schedule and an active deployment, by `sequence`, from above `after`."""

    async def of(self, keys: Sequence[tuple[str, str]]) -> tuple[Scheduled, ...]:
        """Those of these (project, function) pairs that exist, with or without a schedule, in any order."""

    async def planned_until(self) -> datetime | None:
        """Up to which planned time everything that was to be fired has its execution; None on a new server.

        What comes after it may have one too.
        """

    async def note_planned_until(self, moment: datetime) -> None:
        """Move `planned_until` on; it never goes back."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A function that listens to events, as far as running it needs to know."""

    sequence: int
    project_id: str
    function_id: str
    events: tuple[str, ...]
    deployment_id: str
    timeout_s: int


class Listeners(Protocol):
    """Functions that listen to events. Each call is its own transaction."""

    async def page(self, after: int, limit: int, project_id: str = "") -> tuple[Listening, ...]:
        """Up to `limit` of a project (`""` = of all), by `sequence`, from above `after`."""


class MemoryKind(StrEnum):
    """What servers keep in memory of a project besides its functions."""

    HOSTING = "hosting"
    """The project itself, its rules, platforms and webhooks."""
    KEYS = "keys"
    PEOPLE = "people"
    """Users, sessions and memberships."""


@dataclass(frozen=True, slots=True)
class ChangedElsewhere:
    """What was committed by a server of this database, as far as it makes the memory of others outdated.

    `functions` are those that were changed, or whose settings, variables or deployments were; None = any of the
    project, or of all projects where `project_id` is `""`. `is_own`: it was this very server.
    """

    project_id: str
    functions: frozenset[str] | None
    kinds: frozenset[MemoryKind]
    is_own: bool = False


#: After notices may have been missed.
ANYTHING_CHANGED = ChangedElsewhere("", None, frozenset(MemoryKind))


class Store(Protocol):
    """The database. `begin` and `view` give a `Unit` bound to a project."""

    projects: Projects
    jobs: JobQueue
    """The queue outside a unit: each call is its own transaction (for workers and the reaper)."""
    execution_log: ExecutionLog
    execution_queue: ExecutionQueue
    idempotency_keys: IdempotencyKeys
    schedules: Schedules
    listeners: Listeners

    @property
    def changes(self) -> int | None:
        """How many transactions of `begin` were committed so far, counted before they are acknowledged.

        None where other processes write as well and nothing follows from that.
        """

    async def kept_functions(self) -> tuple[tuple[str, str], ...]:
        """(project, function) of the functions of all projects whose settings ask for instances that are kept ready."""

    async def keep_bodies(self, bodies: Sequence[Bodies]) -> None:
        """Store these, of one project, in a transaction of their own; what was kept of an execution is replaced.

        Those whose execution does not exist (any more) are passed over. Encrypted off the event loop.
        """

    def begin(self, project_id: str) -> AbstractAsyncContextManager[Unit]:
        """One read-write transaction: committed on a clean exit, rolled back on an exception or cancellation."""

    def view(self, project_id: str) -> AbstractAsyncContextManager[Unit]:
        """One read-only transaction on a consistent snapshot."""

    async def wait_for_jobs(self, timeout_s: float) -> None:
        """Return when jobs may have been added (a commit here, a notice from another process) or after `timeout_s`."""

    def on_jobs(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever jobs may have been added, here or by another process; it must not block."""

    def on_changes(self, listener: Callable[[ChangedElsewhere], None]) -> None:
        """Call `listener` with what servers of this database commit, itself included; it must not block.

        Within seconds of the commit; ANYTHING_CHANGED after a time without connection. Never where there can be but
        one server.
        """

    async def ping(self) -> None:
        """Raise if the database does not answer."""

    async def close(self) -> None: ...
