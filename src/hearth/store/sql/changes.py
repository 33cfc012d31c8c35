"""What a transaction changed of what servers keep in memory, and the notice by which other servers hear of it."""

import msgspec
from sqlalchemy import Executable
from sqlalchemy.sql.dml import Delete, Insert, Update

from hearth.ports import ChangedElsewhere, MemoryKind
from hearth.store.sql.people_schema import memberships, sessions, users
from hearth.store.sql.schema import api_keys, platforms, projects, rules, webhooks

#: Stands for every function of a project.
EVERY = "*"
#: Characters of a notice: PostgreSQL takes less than 8,000 bytes, and ids are ASCII.
_NOTICE_MAX = 7_000

_KINDS = {
    **dict.fromkeys((projects.name, rules.name, platforms.name, webhooks.name), MemoryKind.HOSTING),
    api_keys.name: MemoryKind.KEYS,
    **dict.fromkeys((users.name, sessions.name, memberships.name), MemoryKind.PEOPLE),
}
#: What is new in these is in nobody's memory yet.
_NEW_IS_UNKNOWN = frozenset({users.name, sessions.name, api_keys.name})


def kind_of(statement: Executable) -> MemoryKind | None:
    """What of a server's memory a statement makes outdated."""
    if not isinstance(statement, Insert | Update | Delete):
        return None
    name = getattr(statement.table, "name", "")
    if isinstance(statement, Insert) and name in _NEW_IS_UNKNOWN:
        return None
    return _KINDS.get(name)


def encode(origin: str, project_id: str, functions: set[str], kinds: set[MemoryKind]) -> str:
    """The notice of a transaction; `origin` names the server."""
    text = _text(origin, project_id, sorted(functions), kinds)
    return text if len(text) <= _NOTICE_MAX else _text(origin, project_id, [EVERY], kinds)


def decode(text: str, origin: str) -> ChangedElsewhere | None:
    """What a notice says to the server `origin`; None for one that it does not understand."""
    try:
        said = msgspec.json.decode(text, type=_Notice)
        kinds = frozenset(map(MemoryKind, said.kinds))
    except (msgspec.MsgspecError, ValueError):
        return None
    functions = None if EVERY in said.functions else frozenset(said.functions)
    return ChangedElsewhere(said.project, functions, kinds, is_own=said.origin == origin)


class _Notice(msgspec.Struct):
    origin: str
    project: str
    functions: list[str]
    kinds: list[str]


def _text(origin: str, project_id: str, functions: list[str], kinds: set[MemoryKind]) -> str:
    return msgspec.json.encode(_Notice(origin, project_id, functions, sorted(kinds))).decode()
