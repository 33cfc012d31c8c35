"""The query language of list calls as a tree (contract: functions-api 7). Parsing and checking live beside it.

`parse_queries` turns the JSON texts of a request into a `ListQuery`; a store compiles that into SQL. A query
that cannot be understood raises `InvalidQuery`, which the API answers as a bad `queries` parameter.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from hearth.model import times

DEFAULT_LIMIT = 25
QUERIES_MAX = 100
QUERY_MAX_CHARS = 4_096
VALUES_MAX = 500
#: A filtered count stops here (contract: functions-api 4).
TOTAL_MAX = 5_000


class InvalidQuery(ValueError):
    """A query that is not understood; the text is shown to the caller after `Invalid query: `."""


class Kind(StrEnum):
    """The type of a queryable attribute."""

    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    STRINGS = "strings"
    """A list of strings: only containment, null and presence methods apply."""


#: Attributes every collection has.
INTERNAL: Mapping[str, Kind] = {
    "$id": Kind.STRING,
    "$createdAt": Kind.DATETIME,
    "$updatedAt": Kind.DATETIME,
    "$sequence": Kind.INTEGER,
}

_COMPARE = {"notEqual", "lessThan", "lessThanEqual", "greaterThan", "greaterThanEqual"}
_RANGE = {"between", "notBetween"}
_NULL = {"isNull", "isNotNull"}
_TEXT = {"startsWith", "notStartsWith", "endsWith", "notEndsWith"}
_SEARCH = {"search", "notSearch"}
_CONTAIN = {"contains", "containsAny", "containsAll", "notContains"}
_PRESENCE = {"exists", "notExists"}
_LOGIC = {"and", "or", "elemMatch"}
_FOREIGN = {
    *("crosses", "notCrosses", "intersects", "notIntersects", "overlaps", "notOverlaps", "touches", "notTouches"),
    *("distanceEqual", "distanceNotEqual", "distanceGreaterThan", "distanceLessThan"),
    *("vectorDot", "vectorCosine", "vectorEuclidean"),
}
_FILTERS = {"equal"} | _COMPARE | _RANGE | _NULL | _TEXT | _SEARCH | _CONTAIN | _PRESENCE | _LOGIC


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition: `method` over `attribute` with checked `values`; for `and`/`or`, `parts` instead."""

    method: str
    attribute: str = ""
    values: tuple[Any, ...] = ()
    parts: tuple["Filter", ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """One sort key; `attribute` `$sequence` is insertion order."""

    attribute: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a list call asks for: filters (all must hold), order, page, and the keys wanted (empty = all).

    `cursor` is the id of a document; the page starts after it, or ends before it when `cursor_before`.
    """

    filters: tuple[Filter, ...] = ()
    orders: tuple[Order, ...] = ()
    limit: int = DEFAULT_LIMIT
    offset: int = 0
    cursor: str = ""
    cursor_before: bool = False
    select: tuple[str, ...] = ()
    random: bool = False
    search: str = ""
    count: bool = True


def parse_queries(
    texts: Sequence[str | Mapping[str, Any]],
    attributes: Mapping[str, Kind],
    *,
    selectable: bool = False,
    search: str = "",
    count: bool = True,
) -> ListQuery:
    """Read the `queries` of a list call against the `attributes` its collection admits.

    Raises InvalidQuery with a text for the caller: unknown method or attribute, wrong count or type of values.
    """
    if len(texts) > QUERIES_MAX:
        raise InvalidQuery(f"at most {QUERIES_MAX} queries are allowed")
    allowed = {**INTERNAL, **attributes}
    filters: list[Filter] = []
    orders: list[Order] = []
    page: dict[str, Any] = {}
    select: tuple[str, ...] = ()
    random = False
    for text in texts:
        method, attribute, values = _read(text)
        if method in _FILTERS:
            filters.append(_filter(method, attribute, values, allowed))
        elif method in ("orderAsc", "orderDesc"):
            orders.append(_order(method, attribute, values, allowed))
        elif method == "orderRandom":
            random = True
        elif method in ("limit", "offset", "cursorAfter", "cursorBefore"):
            page.setdefault(method, _page(method, values))
        elif method == "select":
            if not selectable:
                raise InvalidQuery("select is not allowed here")
            select += _select(values)
        elif method in _FOREIGN:
            raise InvalidQuery(f"{method} does not apply to any attribute here")
        else:
            raise InvalidQuery(f"Invalid query method: {method}")
    return ListQuery(
        filters=tuple(filters),
        orders=tuple(orders),
        limit=page.get("limit", DEFAULT_LIMIT),
        offset=page.get("offset", 0),
        cursor=page.get("cursorAfter") or page.get("cursorBefore") or "",
        cursor_before="cursorAfter" not in page and "cursorBefore" in page,
        select=select,
        random=random,
        search=search,
        count=count,
    )


def _read(text: str | Mapping[str, Any]) -> tuple[str, str, list[Any]]:
    if isinstance(text, str):
        if len(text) > QUERY_MAX_CHARS:
            raise InvalidQuery(f"a query may have at most {QUERY_MAX_CHARS} characters")
        try:
            text = json.loads(text)
        except ValueError:
            raise InvalidQuery("a query must be a JSON object with method, attribute and values") from None
    if not isinstance(text, Mapping):
        raise InvalidQuery("a query must be a JSON object with method, attribute and values")
    method, attribute, values = text.get("method", ""), text.get("attribute", ""), text.get("values", [])
    if not isinstance(method, str) or not isinstance(attribute, str) or not isinstance(values, list):
        raise InvalidQuery("method and attribute must be text and values a list")
    return method, attribute, values


def _filter(method: str, attribute: str, values: list[Any], allowed: Mapping[str, Kind]) -> Filter:
    if method in _LOGIC:
        return _logic(method, values, allowed)
    kind = allowed.get(attribute)
    if kind is None:
        raise InvalidQuery(f"Attribute not found in schema: {attribute}")
    _check_count(method, values)
    if kind is Kind.STRINGS and method not in _CONTAIN | _NULL | _PRESENCE:
        raise InvalidQuery(f"Cannot query {method} on attribute {attribute} because it is an array")
    if method in _SEARCH:
        raise InvalidQuery(f"Searching by attribute {attribute} requires a fulltext index")
    if method in _TEXT and kind is not Kind.STRING:
        raise InvalidQuery(f"{method} needs a text attribute; {attribute} is {kind}")
    if method in _CONTAIN and kind not in (Kind.STRING, Kind.STRINGS):
        raise InvalidQuery(f"{method} needs a text or list attribute; {attribute} is {kind}")
    if method in _PRESENCE:
        return Filter(method, attribute, tuple(values))
    return Filter(method, attribute, tuple(_value(value, attribute, kind) for value in values))


def _logic(method: str, values: list[Any], allowed: Mapping[str, Kind]) -> Filter:
    if method == "elemMatch":
        raise InvalidQuery("elemMatch does not apply to any attribute here")
    if not values:
        raise InvalidQuery(f"{method} needs at least one query")
    parts = []
    for value in values:
        inner, attribute, inner_values = _read(value)
        if inner not in _FILTERS:
            raise InvalidQuery(f"{method} may hold filters only, not {inner}")
        parts.append(_filter(inner, attribute, inner_values, allowed))
    return Filter(method, parts=tuple(parts))


def _check_count(method: str, values: list[Any]) -> None:
    count = len(values)
    if count > VALUES_MAX:
        raise InvalidQuery(f"{method} takes at most {VALUES_MAX} values")
    if method in _COMPARE | _TEXT | _SEARCH and count != 1:
        raise InvalidQuery(f"{method} takes exactly one value")
    if method in _RANGE and count != 2:
        raise InvalidQuery(f"{method} takes exactly two values")
    if method in _CONTAIN | _PRESENCE | {"equal"} and count == 0:
        raise InvalidQuery(f"{method} needs at least one value")


def _value(value: Any, attribute: str, kind: Kind) -> Any:
    wrong = InvalidQuery(f"Query value is invalid for attribute {attribute}: expected {kind}")
    match kind:
        case Kind.STRING | Kind.STRINGS if isinstance(value, str):
            return value
        case Kind.BOOLEAN if isinstance(value, bool):
            return value
        case Kind.INTEGER if isinstance(value, int) and not isinstance(value, bool):
            if not -(2**63) <= value < 2**63:
                raise wrong
            return value
        case Kind.INTEGER if isinstance(value, str) and attribute == "$sequence" and value.isdecimal():
            return min(int(value), 2**63 - 1)
        case Kind.FLOAT if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case Kind.DATETIME if isinstance(value, str):
            return _moment(value, wrong)
    raise wrong


def _moment(value: str, wrong: InvalidQuery) -> datetime:
    try:
        return times.parse(value)
    except (ValueError, OverflowError):
        raise wrong from None


def _order(method: str, attribute: str, values: Iterable[Any], allowed: Mapping[str, Kind]) -> Order:
    if not attribute:
        # The CLI's `pull` sends the attribute's name in `values` (contract: clients 5.5).
        first = next(iter(values), "")
        attribute = first if isinstance(first, str) and first in allowed else "$sequence"
    if attribute not in allowed:
        raise InvalidQuery(f"Attribute not found in schema: {attribute}")
    return Order(attribute, descending=method == "orderDesc")


def _page(method: str, values: list[Any]) -> Any:
    if len(values) != 1:
        raise InvalidQuery(f"{method} takes exactly one value")
    value = values[0]
    if method in ("cursorAfter", "cursorBefore"):
        if not isinstance(value, str) or not value:
            raise InvalidQuery(f"{method} takes a document id")
        return value
    least = 1 if method == "limit" else 0
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise InvalidQuery(f"{method} must be a whole number of at least {least}")
    return value


def _select(values: list[Any]) -> tuple[str, ...]:
    if not values or not all(isinstance(value, str) and value for value in values):
        raise InvalidQuery("select takes the names of attributes")
    if len(set(values)) != len(values):
        raise InvalidQuery("select names an attribute twice")
    return tuple(values)
