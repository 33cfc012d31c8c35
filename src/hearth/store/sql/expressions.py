"""SQL expressions that the two databases spell differently; each spelling stands in its database's file."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Integer, and_, bindparam, false, literal, or_
from sqlalchemy.sql.functions import FunctionElement

from hearth.store.sql.types import Words


class position(FunctionElement[int]):
    """Where a text first occurs in another, from 1; 0 if it does not. Case matters."""

    type = Integer()
    inherit_cache = True
    name = "position"


class list_has_any(FunctionElement[bool]):
    """Whether a stored list (JSON text) holds at least one of the texts given after it."""

    type = Boolean()
    inherit_cache = True
    name = "list_has_any"


def holds(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Whether a text column contains `text`, case-sensitively and without wildcards."""
    return position(column, literal(text, Words())) > 0


def has_any(column: ColumnElement[Any], texts: Sequence[str]) -> ColumnElement[bool]:
    """Whether a list column holds one of `texts`."""
    return list_has_any(column, *(bindparam(None, text, type_=Words(), unique=True) for text in texts))


def is_one_of(
    project_id: ColumnElement[str], id: ColumnElement[str], keys: Iterable[tuple[str, str]]
) -> ColumnElement[bool]:
    """Whether a row's (project, id) is one of `keys`, so that an index on the pair is used.

    `(a, b) IN (...)` says the same, and SQLite reads the whole table for it.
    """
    ids: dict[str, list[str]] = {}
    for project, key in keys:
        ids.setdefault(project, []).append(key)
    return or_(false(), *(and_(project_id == project, id.in_(wanted)) for project, wanted in ids.items()))
