"""The seams: what control, jobs and the API ask of the rooms below them. One file, no behaviour.

Implementations live in `hearth.store`, `hearth.build`, `hearth.executor`, `hearth.runtimes` and `hearth.auth`;
only `hearth.app` names them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from hearth.model.durability import Attempt, DeadLetter, IdempotencyKey
from hearth.model.function_settings import FunctionSettings
from hearth.model.people import Membership, Session, Team, Token, User
from hearth.model.queries import ListQuery
from hearth.model.resources import (
    ApiKey,
    Deployment,
    Execution,
    Function,
    Job,
    Platform,
    Project,
    Rule,
    Variable,
    Webhook,
)
from hearth.model.running import BuildRequest, BuildResult, InstanceKey, InstanceTemplate, Invocation, Result
from hearth.model.sources import CloneSource, Fetched, FetchRequest
from hearth.model.statuses import DeploymentStatus, ExecutionStatus
from hearth.model.streaming import HearLog, LogLines
from hearth.model.usage import UsageHour
from hearth.model.vcs import (
    Branch,
    CommitState,
    Content,
    HostedCommit,
    HostEvent,
    Installation,
    Provider,
    ProviderRepository,
    PullRequest,
    RepositoryLink,
    RepositoryPage,
)

T = TypeVar("T")

# ---------------------------------------------------------------------------------------------- store


class Conflict(Exception):
    """A unique rule of the store was broken: `field` is `id`, or what else must be unique (`key`, `email`, ...)."""

    def __init__(self, field: str) -> None:
        self.field = field
        super().__init__(f"{field} already exists")


class CursorNotFound(Exception):
    """The document a cursor names does not exist (in this project and collection)."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. `total` counts what the filters match, capped at `TOTAL_MAX`; 0 if not asked for."""

    total: int
    items: tuple[T, ...]


class Functions(Protocol):
    """Functions of one project."""

    async def insert(self, function: Function) -> Function: ...
    async def get(self, id: str) -> Function | None: ...
    async def list(self, query: ListQuery) -> Page[Function]: ...
    async def update(self, id: str, /, **changes: Any) -> Function | None:
        """Set the named fields (and `updated_at` to now) and return the new row; None if there is none."""

    async def delete(self, id: str) -> bool: ...
    async def outdate(self) -> tuple[Function, ...]:
        """Make every function of the project not live (a project variable changed); returns those with a deployment."""


class FunctionSettingsRows(Protocol):
    """Settings of the functions of one project."""

    async def get(self, function_id: str) -> FunctionSettings:
        """The defaults for a function that has none of its own (or does not exist)."""

    async def put(self, function_id: str, settings: FunctionSettings) -> FunctionSettings:
        """Replace all of them; `updated_at` becomes now."""

    async def delete(self, function_id: str) -> bool: ...


class Variables(Protocol):
    """Variables of one project, its own and those of its functions; values are encrypted at rest."""

    async def insert(self, variable: Variable) -> Variable:
        """Raises Conflict(`id`) or Conflict(`key`) (same key in the same resource)."""

    async def get(self, id: str) -> Variable | None: ...
    async def list(self, resource_type: str, resource_id: str, query: ListQuery) -> Page[Variable]: ...
    async def of(self, resource_type: str, resource_id: str, limit: int) -> tuple[Variable, ...]:
        """The first `limit` variables of a resource in insertion order."""

    async def update(self, id: str, /, **changes: Any) -> Variable | None:
        """As for functions; `value` is given in clear. Raises Conflict(`key`)."""

    async def delete(self, id: str) -> bool: ...
    async def delete_of(self, resource_type: str, resource_id: str) -> int: ...


class Deployments(Protocol):
    """Deployments of one project. `function_id` narrows every read, so a foreign id is simply not found."""

    async def insert(self, deployment: Deployment) -> Deployment: ...
    async def get(self, function_id: str, id: str) -> Deployment | None: ...
    async def list(self, function_id: str, query: ListQuery) -> Page[Deployment]: ...
    async def newest(self, function_id: str) -> Deployment | None:
        """The last one created."""

    async def update(self, id: str, /, **changes: Any) -> Deployment | None: ...
    async def move(self, id: str, to: DeploymentStatus, /, **changes: Any) -> Deployment | None:
        """Compare-and-move: change status (and fields) only from a status that allows it; None if refused.

        So a late result of a canceled build finds the row moved and is dropped.
        """

    async def append_log(self, id: str, text: str, limit: int) -> None:
        """Append to `build_logs`, keeping the last `limit` characters; nothing once the status is final."""

    async def clear_activate(self, function_id: str, except_id: str) -> None:
        """Take back `activate` from every other deployment of the function."""

    async def delete(self, id: str) -> bool: ...
    async def all_of(self, function_id: str) -> tuple[Deployment, ...]: ...
    async def unfinished(self) -> tuple[Deployment, ...]:
        """Every deployment of the project whose status is not final."""

    async def add_chunk(self, id: str, start: int, end: int) -> int:
        """Note that bytes `start` to `end` (inclusive) of a source have arrived; a repeat changes nothing.

        Returns how many distinct bytes have arrived by now. Counting is exact under parallel calls.
        """

    async def chunks(self, id: str) -> tuple[tuple[int, int], ...]:
        """The byte ranges that have arrived, by start."""

    async def clear_chunks(self, id: str) -> None: ...


class Executions(Protocol):
    """Executions of one project. Writes of finished sync executions go through `ExecutionLog`, not here."""

    async def insert(self, execution: Execution) -> Execution: ...
    async def get(self, function_id: str, id: str) -> Execution | None: ...
    async def list(self, function_id: str, query: ListQuery, readable_by: Sequence[str] | None) -> Page[Execution]:
        """`readable_by` are roles, one of which a `read(...)` permission must name; None = no restriction."""

    async def move(self, id: str, to: ExecutionStatus, /, **changes: Any) -> Execution | None: ...
    async def delete(self, id: str) -> bool: ...
    async def set_created_at(self, id: str, moment: datetime) -> bool:
        """Move the creation date (for trying retention); whether there was such an execution."""

    async def delete_of(self, function_id: str, limit: int) -> int:
        """Delete up to `limit` executions of a function and return how many went."""

    async def delete_before(self, function_id: str, before: datetime, limit: int) -> int:
        """Delete up to `limit` ended executions created before a time (retention), oldest first; returns how many."""

    async def beyond(self, function_id: str, count: int) -> int:
        """The sequence of the newest execution beyond the `count` newest ones; 0 if there are no more than those."""

    async def delete_up_to(self, function_id: str, sequence: int, limit: int) -> int:
        """Delete up to `limit` ended executions up to and with a sequence, oldest first; returns how many."""


class Keys(Protocol):
    """API keys of one project."""

    async def insert(self, key: ApiKey) -> ApiKey: ...
    async def get(self, id: str) -> ApiKey | None: ...
    async def list(self, query: ListQuery) -> Page[ApiKey]: ...
    async def update(self, id: str, /, **changes: Any) -> ApiKey | None: ...
    async def delete(self, id: str) -> bool: ...


class Users(Protocol):
    """Users of one project."""

    async def insert(self, user: User) -> User:
        """Raises Conflict(`id`), Conflict(`email`) or Conflict(`phone`)."""

    async def get(self, id: str) -> User | None: ...
    async def by_email(self, email: str) -> User | None:
        """`email` in lower case."""

    async def by_phone(self, phone: str) -> User | None: ...
    async def several(self, ids: Iterable[str]) -> Mapping[str, User]:
        """The users of these ids that exist, by id."""

    async def list(self, query: ListQuery) -> Page[User]: ...
    async def update(self, id: str, /, **changes: Any) -> User | None:
        """As for functions. Raises Conflict(`email`) or Conflict(`phone`)."""

    async def touch(self, id: str, accessed_at: datetime) -> None:
        """Note that a user was here; `updated_at` stays."""

    async def delete(self, id: str) -> bool: ...


class Sessions(Protocol):
    """Sessions of the users of one project."""

    async def insert(self, session: Session) -> Session: ...
    async def get(self, user_id: str, id: str) -> Session | None: ...
    async def by_hash(self, secret_hash: str) -> Session | None: ...
    async def of(self, user_id: str) -> tuple[Session, ...]:
        """The sessions of a user, oldest first, expired ones included."""

    async def update(self, id: str, /, **changes: Any) -> Session | None: ...
    async def delete(self, id: str) -> bool: ...
    async def delete_of(self, user_id: str, except_id: str = "") -> int: ...


class Tokens(Protocol):
    """Tokens of the users of one project."""

    async def insert(self, token: Token) -> Token: ...
    async def of(self, user_id: str) -> tuple[Token, ...]:
        """The tokens of a user, oldest first, expired ones included."""

    async def delete(self, id: str) -> bool: ...
    async def delete_of(self, user_id: str) -> int: ...


class Teams(Protocol):
    """Teams of one project."""

    async def insert(self, team: Team) -> Team: ...
    async def get(self, id: str) -> Team | None: ...
    async def several(self, ids: Iterable[str]) -> Mapping[str, Team]:
        """The teams of these ids that exist, by id."""

    async def list(self, query: ListQuery, member: str | None = None) -> Page[Team]:
        """`member` is the id of a user: only teams with a confirmed membership of his; None = all."""

    async def update(self, id: str, /, **changes: Any) -> Team | None: ...
    async def count_members(self, id: str) -> None:
        """Bring `total` up to date: called in every transaction that changes who is a confirmed member."""

    async def delete(self, id: str) -> bool: ...


class Memberships(Protocol):
    """Memberships of one project."""

    async def insert(self, membership: Membership) -> Membership:
        """Raises Conflict(`id`) or Conflict(`user`) (he is in that team already)."""

    async def get(self, id: str) -> Membership | None: ...
    async def of_pair(self, team_id: str, user_id: str) -> Membership | None: ...
    async def of_user(self, user_id: str) -> tuple[Membership, ...]:
        """Every membership of a user, oldest first, also unconfirmed ones."""

    async def list(self, query: ListQuery, *, team_id: str = "", user_id: str = "") -> Page[Membership]:
        """Those of one team or of one user."""

    async def owners(self, team_id: str) -> int:
        """How many confirmed members of a team have the role `owner`."""

    async def users_of(self, team_id: str) -> tuple[str, ...]:
        """The ids of all users of a team."""

    async def update(self, id: str, /, **changes: Any) -> Membership | None: ...
    async def delete(self, id: str) -> bool: ...
    async def delete_of(self, *, team_id: str = "", user_id: str = "") -> int: ...


class Rules(Protocol):
    """What host names lead to, in one project; a domain is taken once in all projects."""

    async def insert(self, rule: Rule) -> Rule:
        """Raises Conflict(`id`) or Conflict(`domain`) (taken, maybe by another project)."""

    async def get(self, id: str) -> Rule | None: ...
    async def list(self, query: ListQuery) -> Page[Rule]: ...
    async def update(self, id: str, /, **changes: Any) -> Rule | None: ...
    async def point(self, resource_type: str, resource_id: str, branch: str, deployment_id: str) -> tuple[Rule, ...]:
        """Point the manual rules of a resource's branch (`""` = those without) to a deployment; returns them."""

    async def delete(self, id: str) -> bool: ...
    async def delete_of(self, resource_type: str, resource_id: str) -> tuple[Rule, ...]:
        """Delete the rules of a resource and return them."""


class Platforms(Protocol):
    """Apps that may call one project from browsers and devices."""

    async def insert(self, platform: Platform) -> Platform: ...
    async def get(self, id: str) -> Platform | None: ...
    async def list(self, query: ListQuery) -> Page[Platform]: ...
    async def update(self, id: str, /, **changes: Any) -> Platform | None: ...
    async def delete(self, id: str) -> bool: ...


class Webhooks(Protocol):
    """Webhooks of one project; `secret` and `auth_password` are given in clear and encrypted at rest."""

    async def insert(self, webhook: Webhook) -> Webhook: ...
    async def get(self, id: str) -> Webhook | None: ...
    async def list(self, query: ListQuery) -> Page[Webhook]: ...
    async def update(self, id: str, /, **changes: Any) -> Webhook | None: ...
    async def delete(self, id: str) -> bool: ...


class Installations(Protocol):
    """Installations of one project; `credentials` and `webhook_secret` are given in clear and encrypted at rest."""

    async def insert(self, installation: Installation) -> Installation:
        """Raises Conflict(`id`)."""

    async def get(self, id: str) -> Installation | None: ...
    async def list(self, query: ListQuery) -> Page[Installation]: ...
    async def update(self, id: str, /, **changes: Any) -> Installation | None: ...
    async def delete(self, id: str) -> bool: ...


class RepositoryLinks(Protocol):
    """Which function is connected to which repository, in one project; and where its branches were last seen."""

    async def insert(self, link: RepositoryLink) -> RepositoryLink:
        """Raises Conflict(`id`) (also when the function has one)."""

    async def get(self, id: str) -> RepositoryLink | None: ...
    async def of_function(self, function_id: str) -> RepositoryLink | None: ...
    async def of_repository(self, installation_id: str, repository_id: str) -> tuple[RepositoryLink, ...]:
        """The links to a repository, oldest first."""

    async def of_installation(self, installation_id: str) -> tuple[RepositoryLink, ...]: ...
    async def update(self, id: str, /, **changes: Any) -> RepositoryLink | None: ...
    async def delete(self, id: str) -> bool: ...
    async def heads(self, installation_id: str, repository_id: str) -> Mapping[str, str]:
        """The commit that was last acted on, by branch."""

    async def set_head(self, installation_id: str, repository_id: str, branch: str, commit: str) -> None:
        """Note the commit of a branch; `""` forgets the branch."""

    async def forget_heads(self, installation_id: str, repository_id: str) -> None: ...


class JobQueue(Protocol):
    """Durable queue entries, of all projects."""

    async def enqueue(self, job: Job) -> Job: ...
    async def get(self, id: str) -> Job | None: ...
    async def claim(self, owner: str, kinds: Iterable[str], limit: int, lease_s: float) -> tuple[Job, ...]:
        """Take up to `limit` due jobs, oldest due first: status, owner, lease and attempt are set."""

    async def claim_in_turn(self, owner: str, kind: str, limit: int, lease_s: float) -> tuple[Job, ...]:
        """`claim`, by projects in turn: those with the fewest claimed jobs of this kind come first."""

    async def renew(self, id: str, owner: str, lease_s: float) -> bool:
        """Extend a lease; False when the job is no longer ours (then stop working on it)."""

    async def finish(self, id: str, owner: str) -> bool:
        """End a claimed job as `done`; its payload is dropped."""

    async def fail(self, id: str, owner: str, error: str, retry_at: datetime | None) -> bool:
        """End a claimed job as `dead`, or queue it again for `retry_at`."""

    async def release(self, id: str, owner: str) -> bool:
        """Give a claimed job back untouched (orderly stop); the attempt does not count."""

    async def cancel_of(self, kind: str, resource_id: str) -> int:
        """End jobs of a resource that are not final, as `dead` with error `canceled`; returns how many."""

    async def expired(self, limit: int) -> tuple[Job, ...]:
        """Claimed jobs whose lease has run out, and any unfinished job past its deadline.

        A lease that ends further ahead than any lease may be is of a clock that was set back: it has run out too.
        """

    async def bring_forward(self, due_before: datetime) -> int:
        """Make every queued job due now that is due later than now and not after `due_before`; returns how many.

        For a clock that was set back: what was due by the old one must not wait for its time to come again.
        """

    async def reclaim(self, id: str, error: str, retry_at: datetime | None) -> bool:
        """The reaper's `fail`: whoever the owner was, provided the lease is (still) over or the deadline past."""

    async def unfinished(self) -> tuple[Job, ...]: ...
    async def next_due(self, kinds: Iterable[str]) -> datetime | None: ...
    async def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` ended jobs that were due before a time, and return how many went.

        Until then the id of an ended job is taken, so that an occasion is not queued twice.
        """


class DeadLetters(Protocol):
    """Dead letters of one project."""

    async def add(self, letter: DeadLetter) -> None:
        """Nothing happens if the execution has one already."""

    async def get(self, function_id: str, id: str) -> DeadLetter | None: ...
    async def list(self, function_id: str, query: ListQuery) -> Page[DeadLetter]: ...
    async def oldest(self, function_id: str, limit: int) -> tuple[DeadLetter, ...]:
        """The first `limit` of a function."""

    async def delete(self, function_id: str, id: str) -> bool: ...
    async def delete_of(self, function_id: str, limit: int) -> int:
        """Delete up to `limit` of a function and return how many went."""

    async def delete_before(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` made before a time and return how many went."""


class Attempts(Protocol):
    """Failed attempts at executions of one project."""

    async def add(self, attempt: Attempt) -> None:
        """Nothing happens if that attempt is noted already."""

    async def of(self, execution_id: str) -> tuple[Attempt, ...]:
        """Those of one execution, in order."""

    async def delete_before(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` that ended before a time and return how many went."""


class IdempotencyKeys(Protocol):
    """Keys of requests that are to be done once, of all projects. Each call is its own transaction."""

    async def begin(self, wanted: IdempotencyKey, expired: datetime) -> IdempotencyKey | None:
        """Store a key (its `answer` is ignored) and return None, or return the one that is there.

        One that was made not after `expired` is replaced. Of several at the same time one gets None.
        """

    async def take_over(self, mine: IdempotencyKey, seen: IdempotencyKey) -> bool:
        """Make `mine` the owner and lease of an unanswered key, if it still stands as it was `seen`."""

    async def finish(self, mine: IdempotencyKey, answer: str) -> None:
        """Note the answer; encrypted at rest."""

    async def forget(self, mine: IdempotencyKey) -> None:
        """Nothing was done: the key is free again."""

    async def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` keys made before a time and return how many went."""


class Usage(Protocol):
    """Usage of functions of one project by the hour (`hearth.model.usage`)."""

    async def last(self, function_id: str) -> datetime | None:
        """The newest hour that is kept."""

    async def next_created(self, function_id: str, since: datetime) -> datetime | None:
        """When the first execution from a moment on was created; None if there is none."""

    async def count(self, function_id: str, since: datetime, until: datetime) -> tuple[UsageHour, ...]:
        """Count the executions created in a span by the hour, oldest first; hours without any are left out."""

    async def put(self, hours: Sequence[UsageHour]) -> None:
        """Keep hours; of two figures for one hour, the one that counted more stays."""

    async def list(self, function_id: str, since: datetime) -> tuple[UsageHour, ...]:
        """The hours kept from a moment on, oldest first."""

    async def delete_of(self, function_id: str, limit: int) -> int:
        """Delete up to `limit` hours of a function; returns how many."""

    async def delete_before(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` hours before a time, of all functions; returns how many."""


class Unit(Protocol):
    """Everything that may be read or written in one transaction, bound to one project."""

    project_id: str
    functions: Functions
    function_settings: FunctionSettingsRows
    variables: Variables
    deployments: Deployments
    executions: Executions
    keys: Keys
    users: Users
    sessions: Sessions
    tokens: Tokens
    teams: Teams
    memberships: Memberships
    rules: Rules
    platforms: Platforms
    webhooks: Webhooks
    installations: Installations
    repository_links: RepositoryLinks
    dead_letters: DeadLetters
    attempts: Attempts
    usage: Usage
    jobs: JobQueue


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

    def submit(self, execution: Execution) -> "asyncio.Future[Execution]":
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

    def accept(self, execution: Execution, job: Job) -> "asyncio.Future[Execution]":
        """Store both; the future is done once they are committed. Conflict(`id`) if one of them is there already."""

    def end(self, ended: AttemptEnded) -> "asyncio.Future[bool]":
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

    async def kept_functions(self) -> tuple[tuple[str, str], ...]:
        """(project, function) of the functions of all projects whose settings ask for instances that are kept ready."""

    def begin(self, project_id: str) -> AbstractAsyncContextManager[Unit]:
        """One read-write transaction: committed on a clean exit, rolled back on an exception or cancellation."""

    def view(self, project_id: str) -> AbstractAsyncContextManager[Unit]:
        """One read-only transaction on a consistent snapshot."""

    async def wait_for_jobs(self, timeout_s: float) -> None:
        """Return when jobs may have been added (a commit here, a notice from another process) or after `timeout_s`."""

    def on_jobs(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever jobs may have been added, here or by another process; it must not block."""

    async def ping(self) -> None:
        """Raise if the database does not answer."""

    async def close(self) -> None: ...


# ---------------------------------------------------------------------------------------------- files


class FileNotStored(Exception):
    """The file store has no file of that key."""


class Files(Protocol):
    """Blobs by key (`sources/<project>/<deployment>`, `artifacts/<digest>`); keys are made by us, never by callers."""

    async def write_at(self, key: str, offset: int, data: AsyncIterator[bytes]) -> int:
        """Write bytes into the unfinished upload `key` at `offset` (parallel calls on distinct ranges are fine)."""

    async def finish_upload(self, key: str, size: int) -> None:
        """Turn the unfinished upload into a stored file of exactly `size` bytes; durable on return."""

    async def discard_upload(self, key: str) -> None: ...
    async def size(self, key: str) -> int:
        """Raises FileNotStored."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Raises FileNotStored at the first step."""

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A local, readable path of the file for as long as the context lasts. Raises FileNotStored."""

    def scratch(self) -> AbstractAsyncContextManager[Path]:
        """The path of a new empty file beside the store, gone after the context unless `adopt`ed."""

    async def adopt(self, key: str, path: Path) -> None:
        """Take over a finished local file as `key` (replacing an equal one); durable on return."""

    async def copy(self, source_key: str, target_key: str) -> None: ...
    async def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""

    async def close(self) -> None: ...


# ---------------------------------------------------------------------------------------------- build and run


class Builder(Protocol):
    """Turns a source into an artifact."""

    async def build(self, request: BuildRequest, on_log: Callable[[str], None]) -> BuildResult:
        """Run one build to its end. `on_log` gets pieces of the log as they come, with their newlines.

        A build the user's code fails is a BuildResult without artifact; PlatformFault means ours failed.
        If cancelled, everything of the build is ended before the cancellation goes on.
        """


class SourceUnavailable(Exception):
    """A source cannot be fetched: the text says why and what its user can do about it."""


class Fetcher(Protocol):
    """Brings the source of a deployment from where it is kept (git, bundled starters) into the file store."""

    async def fetch(self, request: FetchRequest, on_log: Callable[[str], None]) -> Fetched:
        """Fetch one source and store it under `request.key`. `on_log` gets pieces of the log as they come.

        Raises SourceUnavailable; PlatformFault means ours failed. Repeating a fetch replaces what it stored. If
        cancelled, everything of the fetch is ended before the cancellation goes on.
        """


class Executor(Protocol):
    """Turns an invocation into a result; callers never know whether it is this machine or a fleet."""

    async def start(self) -> None: ...

    def submit(self, invocation: Invocation) -> "asyncio.Future[Result]":
        """Begin to run one request; the future gets what `invoke` returns or raises. Cancelling it is as there."""

    async def invoke(self, invocation: Invocation) -> Result:
        """Run one request in an instance and return what the function did.

        A function that fails, times out or dies is a Result with that outcome. Raises Busy when no instance
        came free within `wait_s`, Unavailable when none could be started. If cancelled, the instance is
        stopped, not reused.
        """

    def follow_logs(self, function_id: str, hear: HearLog) -> Sequence[LogLines]:
        """Let `hear` be told of each line that executions of a function log, as it comes.

        Returns the lines of those that run now, from the first one of each on. All lines of an execution have been
        told when its result is there, and they are the result's.
        """

    def unfollow_logs(self, function_id: str, hear: HearLog) -> None:
        """Tell `hear` nothing more. Fine to call twice."""

    async def prepare(self, template: InstanceTemplate) -> None:
        """Make a deployment's code present, so that the first invocation need not wait for it."""

    def keep(self, template: InstanceTemplate, count: int) -> None:
        """From now on let there be `count` instances of this template, called or not, as far as there is room.

        Until `retire` or `remove` of its deployment, or `keep_only`. One that ends is replaced; requests come first.
        """

    def keep_only(self, function_id: str, key: InstanceKey | None) -> None:
        """Keep no instances ready of a function but those of `key` (None: none at all)."""

    async def wait_kept(self, template: InstanceTemplate) -> None:
        """Return when as many instances are up as are to be kept, or that will not be soon. Never raises."""

    async def retire(self, deployment_id: str) -> None:
        """Let the instances of a deployment end: no new request goes to them, running ones finish."""

    async def remove(self, deployment_id: str) -> None:
        """The deployment was deleted: end its instances at once; what runs in them or waits for one fails."""

    async def close(self, grace_s: float) -> None:
        """Refuse new work, let running invocations end for up to `grace_s` seconds, then stop everything."""


class Runtimes(Protocol):
    """The catalogue: which runtimes exist and which can run here."""

    def all(self) -> Sequence[Mapping[str, Any]]:
        """Every known runtime, in the order and with the keys of the wire model."""

    def exists(self, id: str) -> bool: ...

    def available(self, id: str) -> bool:
        """Whether functions of this runtime can be built and run on this machine now."""

    def installed(self) -> Sequence[Mapping[str, Any]]:
        """Of `all()` the available ones."""

    def how_to_get(self, id: str) -> str:
        """A sentence that says how to make a known runtime available here, for the operator."""


# ---------------------------------------------------------------------------------------------- git hosts


class BadSignature(Exception):
    """A webhook of a git host is not signed, or not by who knows the secret."""


class GitHostFailed(Exception):
    """A git host could not be reached or refused; the text is for the user and never holds a credential."""


class NoSuchRepository(Exception):
    """The installation sees no such repository at its host (or no such branch, commit, folder or file in it)."""


class GitHost(Protocol):
    """One kind of git host; implementations are in `hearth.vcs`, one object each for the life of the server.

    Every call names the installation it is for, and is bounded in time. `repository` and `id` are the host's id of a
    repository (`ProviderRepository.id`), `ref` a branch or a full commit hash. All calls that speak to the host may
    raise GitHostFailed and NoSuchRepository, and nothing else but PlatformFault.
    """

    provider: Provider
    webhook_secret: str
    """The secret of webhooks that belong to the whole server (GitHub App); `""` = each installation has its own."""

    async def complete(self, installation: Installation) -> Installation:
        """Check an installation that is about to be stored at its host, and fill in what only the host knows.

        Raises GitHostFailed with what its creator can do, ValueError naming what is wrong with its fields.
        """

    def authorize_url(self, state: str) -> str:
        """The host's page where a user installs us, which leads back with `state`; `""` where there is none."""

    async def authorized(self, query: Mapping[str, str]) -> tuple[str, str]:
        """The host's id of the installation, and the account's name, from what the user's browser brought back.

        Raises GitHostFailed. Called only for hosts with an `authorize_url`.
        """

    async def repositories(self, installation: Installation, search: str, offset: int, limit: int) -> RepositoryPage:
        """Repositories whose name contains `search` (`""` = all), in the host's order; `offset` is a multiple of
        `limit`.
        """

    async def repository(self, installation: Installation, id: str) -> ProviderRepository: ...

    async def create_repository(self, installation: Installation, name: str, private: bool) -> ProviderRepository:
        """Raises GitHostFailed also where the host cannot do it."""

    async def branches(self, installation: Installation, repository: str) -> tuple[Branch, ...]: ...

    async def contents(self, installation: Installation, repository: str, path: str, ref: str) -> tuple[Content, ...]:
        """The entries of a folder (`""` = the root), at most 1,000; `ref` `""` = the default branch."""

    async def file(self, installation: Installation, repository: str, path: str, ref: str) -> bytes:
        """A file of at most 256 KiB (a larger one raises GitHostFailed)."""

    async def latest_commit(self, installation: Installation, repository: str, ref: str) -> HostedCommit:
        """The newest commit of a branch, or the commit itself."""

    async def changed_files(
        self, installation: Installation, repository: str, before: str, after: str
    ) -> tuple[str, ...] | None:
        """Paths that differ between two commits (both names of a renamed one); None when the host cannot say."""

    async def pull_request(self, installation: Installation, repository: str, id: str) -> PullRequest:
        """A pull request as it is now. Raises NoSuchRepository also for a host that has none."""

    async def clone_source(self, installation: Installation, repository: str) -> CloneSource:
        """Where the repository is cloned from, with credentials that are valid now."""

    async def set_status(
        self,
        installation: Installation,
        repository: str,
        commit: str,
        state: CommitState,
        *,
        target_url: str,
        description: str,
        context: str,
    ) -> None:
        """Show a deployment's state at a commit; does nothing where the host has no such thing."""

    async def comment(
        self, installation: Installation, repository: str, pull_request: str, marker: str, text: str
    ) -> None:
        """Write a comment, replacing our earlier one that holds `marker` (an HTML comment, part of `text`)."""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
        """What a webhook says. Pure: `headers` have lower-case names; the signature is verified before all else.

        Raises BadSignature; ValueError when what is authentic makes no sense.
        """

    async def register_webhook(self, installation: Installation, repository: str, url: str, secret: str) -> str:
        """Make the host tell `url` of pushes and pull requests, once per repository and address; returns the host's id
        of the webhook, `""` where none is needed or possible (then the repository is polled or hooked by hand).
        """

    async def unregister_webhook(self, installation: Installation, repository: str, webhook_id: str) -> None:
        """Take it back; one that is gone is fine."""


class GitReader(Protocol):
    """Looks into any git repository without a host's API, each time in a sandbox. Raises as `GitHost`."""

    async def branches(self, source: CloneSource) -> tuple[tuple[Branch, ...], str]:
        """All branches, and the name of the default one (`""` = none)."""

    async def contents(self, source: CloneSource, path: str, ref: str) -> tuple[Content, ...]: ...
    async def file(self, source: CloneSource, path: str, ref: str) -> bytes: ...
    async def commit(self, source: CloneSource, ref: str) -> HostedCommit: ...
    async def changed_files(self, source: CloneSource, before: str, after: str) -> tuple[str, ...] | None: ...
    async def host_keys(self, url: str) -> str:
        """The keys an ssh host shows now, as lines of `known_hosts`."""


# ---------------------------------------------------------------------------------------------- others


class Events(Protocol):
    """Says what happened to whom (webhooks, realtime and event-triggered functions listen)."""

    def emit(self, project_id: str, event: str, subject: object, *, user_id: str = "") -> None:
        """`event` is the concrete dotted name, `subject` the resource as it is now, `user_id` the acting user."""

    async def record(self, unit: "Unit", event: str, subject: object, *, user_id: str = "") -> None:
        """Keep for functions, in the transaction of a change, the event that is emitted once it is committed.

        To be called for every event that is not one of functions; takes what `emit` takes.
        """

    def progress(self, project_id: str, event: str, subject: object) -> None:
        """As `emit`, for realtime watchers only: how something under way stands."""

    def is_watched(self, project_id: str) -> bool:
        """Whether `progress` of this project would reach anybody now."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What came back from a POST to the outside: the status and the beginning of the text."""

    status: int
    text: str


class PostFailed(Exception):
    """A POST to the outside got no answer; the text is for the user. `again` says whether trying again may help."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        self.again = again
        super().__init__(reason)


class Poster(Protocol):
    """Posts to addresses that users chose, within the operator's rules about where connections may go."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, verify: bool) -> Posted:
        """POST once, bounded in time; `verify` says whether certificates are checked. Raises PostFailed."""


class Clock(Protocol):
    """Time, injected so that tests need not sleep."""

    def now(self) -> datetime:
        """UTC, whole milliseconds."""

    def monotonic(self) -> float:
        """Seconds, for durations and deadlines."""
