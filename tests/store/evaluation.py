"""The query language in plain Python: what the SQL must agree with."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import Any

from hearth.model.queries import Filter, Order

Row = Mapping[str, Any]


def matches(filters: Sequence[Filter], row: Row) -> bool:
    """Whether all filters hold for a row given by wire attributes."""
    return all(_matches(part, row) for part in filters)


def _matches(part: Filter, row: Row) -> bool:
    if part.method == "and":
        return all(_matches(inner, row) for inner in part.parts)
    if part.method == "or":
        return any(_matches(inner, row) for inner in part.parts)
    value, wanted = row[part.attribute], part.values
    if part.method == "exists":
        return True
    if part.method == "isNull":
        return value in (None, "", ())
    positive = part.method.removeprefix("not")
    if part.method in ("isNotNull", "notExists") or positive != part.method:
        names = {"isNotNull": "isNull", "notExists": "exists"}
        method = names.get(part.method) or positive[0].lower() + positive[1:]
        return not _matches(Filter(method, part.attribute, wanted), row)
    return value is not None and _compare(part.method, value, wanted)


def _compare(method: str, value: Any, wanted: Sequence[Any]) -> bool:
    match method:
        case "equal":
            return value in wanted
        case "lessThan":
            return value < wanted[0]
        case "lessThanEqual":
            return value <= wanted[0]
        case "greaterThan":
            return value > wanted[0]
        case "greaterThanEqual":
            return value >= wanted[0]
        case "between":
            return wanted[0] <= value <= wanted[1]
        case "startsWith":
            return value.startswith(wanted[0])
        case "endsWith":
            return value.endswith(wanted[0])
        case "contains" | "containsAny":
            return any(part in value for part in wanted)
        case "containsAll":
            return all(part in value for part in wanted)
    raise AssertionError(method)


def in_order(rows: Sequence[Row], orders: Sequence[Order]) -> list[Row]:
    """The rows sorted by `orders`; an unset date comes before every other."""
    oldest = datetime(1, 1, 1, tzinfo=UTC)

    def compare(left: Row, right: Row) -> int:
        for order in orders:
            ours, theirs = (oldest if row[order.attribute] is None else row[order.attribute] for row in (left, right))
            if ours != theirs:
                return (1 if ours > theirs else -1) * (-1 if order.descending else 1)
        return 0

    return sorted(rows, key=cmp_to_key(compare))
