"""Rows of one project: functions and what belongs to them, rules, webhooks, links to repositories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Protocol, TypeVar

from hearth.model.function_settings import FunctionSettings
from hearth.model.queries import ListQuery
from hearth.model.resources import ApiKey, Deployment, Execution, Function, Platform, Rule, Variable, Webhook
from hearth.model.statuses import DeploymentStatus, ExecutionStatus
from hearth.model.vcs import Installation, RepositoryLink

T = TypeVar("T")

#: Open pull requests of one branch that are told of its deployments.
PULL_REQUESTS_MAX = 10


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
    async def newest(self, function_id: str, branch: str = "") -> Deployment | None:
        """The last one created, of `branch` if it is given."""

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

    async def forget_heads(self, installation_id: str, repository_id: str) -> None:
        """Forget all that is known of the branches and pull requests of a repository."""

    async def note_pull_request(self, installation_id: str, repository_id: str, id: str, branch: str) -> None:
        """Note that a pull request is open, and whose branch it is; `""` forgets it."""

    async def pull_requests_of(self, installation_id: str, repository_id: str, branch: str) -> tuple[str, ...]:
        """The ids of up to `PULL_REQUESTS_MAX` open pull requests of a branch, newest first."""
