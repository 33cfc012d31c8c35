"""Queries of a subscription: which payloads it wants. They are read once, and asked for each event in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

QUERIES_MAX = 100
QUERY_MAX_CHARS = 4_096
DEPTH_MAX = 8

Payload = Mapping[str, Any]
#: Whether a payload is wanted.
Wanted = Callable[[Payload], bool]

_MISSING: Any = object()
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "lessThan": lambda left, right: left < right,
    "lessThanEqual": lambda left, right: left <= right,
    "greaterThan": lambda left, right: left > right,
    "greaterThanEqual": lambda left, right: left >= right,
}


class BadQuery(ValueError):
    """A query that a subscription cannot have; the text is for the client."""


def read_queries(queries: Sequence[Any]) -> Wanted:
    """What all of `queries` (texts) together want. None, or `select("*")`, want everything. Raises BadQuery."""
    if len(queries) > QUERIES_MAX:
        raise BadQuery(f"A subscription may have at most {QUERIES_MAX} queries.")
    parts = [_read(query) for query in queries]
    return lambda payload: all(part(payload) for part in parts)


def _read(query: Any) -> Wanted:
    if not isinstance(query, str) or len(query) > QUERY_MAX_CHARS:
        raise BadQuery(f"Each query must be text of at most {QUERY_MAX_CHARS} characters.")
    try:
        decoded = msgspec.json.decode(query)
    except (ValueError, RecursionError):
        raise BadQuery("Each query must be the JSON text of an object.") from None
    return _compiled(decoded, 0)


def _compiled(query: Any, depth: int) -> Wanted:
    if not isinstance(query, dict) or depth > DEPTH_MAX:
        raise BadQuery(f"A query must be an object with method, attribute and values, at most {DEPTH_MAX} deep.")
    method, attribute, values = query.get("method"), query.get("attribute", ""), query.get("values", [])
    if not isinstance(attribute, str) or not isinstance(values, list):
        raise BadQuery("`attribute` must be text and `values` a list.")
    if method == "select":
        if values != ["*"]:
            raise BadQuery('`select` may only have the value "*": events are sent whole.')
        return lambda payload: True
    if method in ("and", "or"):
        parts = [_compiled(part, depth + 1) for part in values]
        together = all if method == "and" else any
        return lambda payload: together(part(payload) for part in parts)
    if not attribute:
        raise BadQuery(f"The query method {method!r} needs an attribute.")
    return _simple(method, attribute, values)


def _simple(method: Any, attribute: str, values: list[Any]) -> Wanted:
    if method == "isNull":
        return lambda payload: payload.get(attribute) is None
    if method == "isNotNull":
        return lambda payload: payload.get(attribute) is not None
    if not values:
        raise BadQuery(f"The query method {method!r} needs values.")
    if method == "equal":
        return lambda payload: any(_equal(payload.get(attribute, _MISSING), value) for value in values)
    if method == "notEqual":
        return lambda payload: not any(_equal(payload.get(attribute, _MISSING), value) for value in values)
    compare = _ORDERED.get(method) if isinstance(method, str) else None
    if compare is None:
        raise BadQuery(f"The query method {method!r} cannot be used in realtime.")
    return lambda payload: _compared(compare, payload.get(attribute), values[0])


def _equal(left: Any, right: Any) -> bool:
    # A boolean is no number here.
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _compared(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (left, right))
    texts = isinstance(left, str) and isinstance(right, str)
    return (numbers or texts) and compare(left, right)
