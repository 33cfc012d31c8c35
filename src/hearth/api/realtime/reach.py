"""Whom an event reaches: channels, and roles that may listen (contract: functions-api 14, side-services 13). Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hearth.model.events import Named, Occurrence, Published, parse
from hearth.model.people import CONSOLE
from hearth.model.resources import Execution

_ACTIONS = frozenset({"create", "update", "upsert", "delete"})
#: Inner resources of databases, by both vocabularies.
_TABLES = {"collections": "documents", "tables": "rows"}


@dataclass(frozen=True, slots=True)
class Reach:
    """Sockets of `project_id` that listen to one of `channels` and have one of `roles` hear of an event.

    `as_owner` says whether they see what only owners of a project may (logs of executions).
    """

    project_id: str
    channels: tuple[str, ...]
    roles: frozenset[str]
    as_owner: bool


def reach_of(occurrence: Occurrence, team_id: str) -> Iterator[Reach]:
    """Everybody an event reaches: those who may read its subject, and the console of the project's organization."""
    named = parse(occurrence.event)
    if named is not None:
        channels, roles = _readers(named, occurrence)
        if channels and roles:
            yield Reach(occurrence.project_id, _with_action(channels, named), frozenset(roles), as_owner=False)
    if team_id:
        yield Reach(CONSOLE, console_channels(occurrence.project_id), frozenset({f"team:{team_id}"}), as_owner=True)


def console_channels(project_id: str) -> tuple[str, str]:
    """Where the console listens to what happens in a project."""
    return "console", f"projects.{project_id}"


def _readers(named: Named, occurrence: Occurrence) -> tuple[tuple[str, ...], Iterable[str]]:
    """The channels of an event and the roles that may read its subject."""
    (kind, id), *inner = named.resources
    match kind, inner:
        case "functions", [("executions", execution_id)]:
            channels = "executions", f"executions.{execution_id}", f"functions.{id}"
            return channels, _read_roles(occurrence.subject)
        case "users", _:
            return ("account", f"account.{id}"), (f"user:{id}",)
        case "teams", [("memberships", membership_id)]:
            return ("memberships", f"memberships.{membership_id}"), (f"team:{id}",)
        case "teams", _:
            return ("teams", f"teams.{id}"), (f"team:{id}",)
        case "buckets", [("files", file_id)]:
            channels = "files", f"buckets.{id}.files", f"buckets.{id}.files.{file_id}"
            return channels, _read_roles(occurrence.subject)
        case (("databases" | "tablesdb"), [(tables, table_id), (rows, row_id)]) if _TABLES.get(tables) == rows:
            place = f"{kind}.{id}.{tables}.{table_id}.{rows}"
            return (rows, place, f"{place}.{row_id}"), _read_roles(occurrence.subject)
    return (), ()


def _read_roles(subject: object) -> list[str]:
    """The roles of the `read(...)` permissions of an execution, or of a published payload."""
    permissions: Any = ()
    if isinstance(subject, Execution):
        permissions = subject.permissions
    elif isinstance(subject, Published) and isinstance(subject.payload, Mapping):
        permissions = subject.payload.get("$permissions", ())
    if not isinstance(permissions, list | tuple):
        return []
    return [
        text[6:-2] for text in permissions if isinstance(text, str) and text.startswith('read("') and text[-2:] == '")'
    ]


def _with_action(channels: tuple[str, ...], named: Named) -> tuple[str, ...]:
    """The channels, and each with the action behind it, as the newest clients' channel builder spells them."""
    action = named.tail[0] if named.tail else ""
    return (*channels, *(f"{channel}.{action}" for channel in channels)) if action in _ACTIONS else channels
