"""Filters of the query language as SQL conditions. Order, cursors and pages stand in `pages`.

Decided here, the same on both engines:
- Comparison of text is exact and case-sensitive, by code point.
- Unset text is `""` on the wire and counts as null: `isNull` holds where the text is empty (or the list is).
- A negative method (`notEqual`, `notContains`, ...) holds exactly where its positive one does not, so also
  where a date is unset.
- `exists` asks for the attribute, not its value: every admitted attribute exists in every row.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, literal, not_, or_, true

from hearth.model.queries import Filter
from hearth.model.refusals import Refusal
from hearth.store.sql.expressions import has_any, holds
from hearth.store.sql.types import StringList, Words
from hearth.store.texts import storable

Attributes = Mapping[str, ColumnElement[Any]]

#: A chain of conditions is as deep as it is long, and SQLite refuses expressions deeper than 1000. Compiling this
#: many takes some 50 ms, which nobody else can use.
CONDITIONS_MAX = 600
#: Both engines refuse statements with more than 32,766 bound values; this many are compiled in some 10 ms.
VALUES_MAX = 10_000

_NEGATIVE = {
    "notEqual": "equal",
    "notBetween": "between",
    "notContains": "contains",
    "notStartsWith": "startsWith",
    "notEndsWith": "endsWith",
    "isNotNull": "isNull",
    "notExists": "exists",
}
_CONTAIN = {"contains", "containsAny", "containsAll", "notContains"}


def where(filters: Iterable[Filter], attributes: Attributes) -> ColumnElement[bool]:
    """The condition that all `filters` hold. Refuses more than a database takes."""
    filters = tuple(filters)
    if _weight(filters) > CONDITIONS_MAX or _values(filters) > VALUES_MAX:
        raise Refusal("general_query_invalid", "Invalid query: too many conditions and values for one list call.")
    return and_(true(), *(_condition(part, attributes) for part in filters))


def _weight(filters: Iterable[Filter]) -> int:
    return sum(1 + _weight(part.parts) + (len(part.values) if part.method in _CONTAIN else 0) for part in filters)


def _values(filters: Iterable[Filter]) -> int:
    return sum(len(part.values) + _values(part.parts) for part in filters)


def _condition(part: Filter, attributes: Attributes) -> ColumnElement[bool]:
    if part.method == "and":
        return and_(true(), *(_condition(inner, attributes) for inner in part.parts))
    if part.method == "or":
        return or_(false(), *(_condition(inner, attributes) for inner in part.parts))
    column = attributes[part.attribute]
    positive = _NEGATIVE.get(part.method)
    if positive is not None:
        return not_(_positive(positive, column, part.values))
    return _positive(part.method, column, part.values)


def _positive(method: str, column: ColumnElement[Any], values: tuple[Any, ...]) -> ColumnElement[bool]:
    if method == "isNull":
        return _is_null(column)
    if method == "exists":
        return true()
    condition = _compare(method, column, values)
    # Never NULL, so that its negation is exact.
    return and_(column.is_not(None), condition) if _nullable(column) else condition


def _compare(method: str, column: ColumnElement[Any], values: tuple[Any, ...]) -> ColumnElement[bool]:
    if isinstance(column.type, StringList):
        if method == "containsAll":
            return and_(true(), *(has_any(column, [value]) for value in values))
        return has_any(column, values)
    if method == "equal":
        return column.in_(list(values))
    bound = [literal(value, column.type) for value in values]
    match method:
        case "lessThan":
            return column < bound[0]
        case "lessThanEqual":
            return column <= bound[0]
        case "greaterThan":
            return column > bound[0]
        case "greaterThanEqual":
            return column >= bound[0]
        case "between":
            return and_(column >= bound[0], column <= bound[1])
        case "startsWith":
            return _begins(column, values[0])
        case "endsWith":
            return _ends(column, values[0])
        case "containsAll":
            return and_(true(), *(holds(column, value) for value in values))
        case "contains" | "containsAny":
            return or_(false(), *(holds(column, value) for value in values))
    raise ValueError(f"no such filter: {method}")  # `parse_queries` lets none through


def _begins(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    # Not LIKE: SQLite's ignores case, and here no character needs escaping.
    return func.substr(column, 1, len(storable(text)), type_=Words()) == literal(text, Words())


def _ends(column: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    size = len(storable(text))
    if not size:
        return true()
    tail = func.substr(column, func.length(column) - size + 1, type_=Words())
    return and_(func.length(column) >= size, tail == literal(text, Words()))


def _is_null(column: ColumnElement[Any]) -> ColumnElement[bool]:
    if isinstance(column.type, StringList):
        return column == literal((), column.type)
    if isinstance(column.type, Words):
        return column == literal("", Words())
    return column.is_(None) if _nullable(column) else false()


def _nullable(column: ColumnElement[Any]) -> bool:
    return bool(getattr(column, "nullable", False))
