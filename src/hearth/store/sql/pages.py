"""List calls: order, cursors, pages and counts (contract: functions-api 7)."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Row, Select, TextClause, and_, func, literal, or_, select, true, tuple_

from hearth.model.queries import TOTAL_MAX, Filter, ListQuery, Order
from hearth.ports import CursorNotFound, Page
from hearth.store.sql.collections import Collection
from hearth.store.sql.expressions import holds
from hearth.store.sql.filters import where
from hearth.store.sql.search import words
from hearth.store.sql.session import Session
from hearth.store.sql.types import Moment

T = TypeVar("T")

_DATES = {"$createdAt", "$updatedAt"}
#: How many statements of lists without a cursor are kept.
_KEPT_MAX = 64
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


async def page_of(
    session: Session,
    collection: Collection,
    scope: ColumnElement[bool],
    query: ListQuery,
    read: Callable[[Row[Any]], T],
    implied: tuple[TextClause, ...] = (),
    *,
    values: Mapping[str, Any] | None = None,
) -> Page[T]:
    """One page of the rows of `scope` that `query` asks for, and how many its filters match.

    `implied` is what follows from the filters, in words that an index understands. `values` are those of the
    parameters of `scope`, where that is the same object at every call: then statements are kept for the same question.

    Raises CursorNotFound when the cursor's document is not in `scope`, and refuses (`general_query_invalid`)
    what no database could take.
    """
    anchor = None
    if query.cursor:
        columns = (column for column, _ in _keys(collection, query))
        anchor = await session.one(select(*columns).where(scope, collection.table.c.id == query.cursor), values)
        if anchor is None:
            raise CursorNotFound(query.cursor)
    if values is None or anchor is not None:
        shown, counted = _statements(collection, scope, query, implied, anchor)
    else:
        shown, counted = _kept_statements(collection, _Same(scope), query, implied)
    rows = await session.all(shown, values)
    if query.cursor_before and not query.random:
        rows = rows[::-1]
    total = await session.one(counted, values) if query.count else None
    return Page(0 if total is None else int(total[0]), tuple(read(row) for row in rows))


def _statements(
    collection: Collection,
    scope: ColumnElement[bool],
    query: ListQuery,
    implied: tuple[TextClause, ...],
    anchor: Row[Any] | None,
) -> tuple[Select[Any], Select[Any]]:
    """What selects the rows of a page, and what counts those its filters match."""
    found = _found(collection, query.search)
    keys = _keys(collection, query)
    matching = shown = and_(scope, where(query.filters, collection.attributes), found, *implied)
    beyond: ColumnElement[bool] = true()
    if anchor is not None and not query.random:
        beyond = _beyond(keys, anchor, before=query.cursor_before)
        shown = and_(scope, where(_not_implied(query, anchor[0]), collection.attributes), found, *implied)
    statement = select(*collection.table.columns).where(shown, beyond)
    return _paged(statement, keys, query), _counting(collection, matching)


class _Same:
    """A condition as a key: conditions compared are a condition."""

    __slots__ = ("condition",)

    def __init__(self, condition: ColumnElement[bool]) -> None:
        self.condition = condition

    def __hash__(self) -> int:
        return id(self.condition)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.condition is self.condition


@lru_cache(maxsize=_KEPT_MAX)
def _kept_statements(
    collection: Collection, scope: _Same, query: ListQuery, implied: tuple[TextClause, ...]
) -> tuple[Select[Any], Select[Any]]:
    """Making them, and finding out what SQL they are, takes longer than the database takes for a short page."""
    return _statements(collection, scope.condition, query, implied, None)


def _keys(collection: Collection, query: ListQuery) -> list[tuple[ColumnElement[Any], bool]]:
    return [(_sortable(collection.attributes[order.attribute]), order.descending) for order in ordering(query)]


def ordering(query: ListQuery) -> tuple[Order, ...]:
    """The sort keys of a query, made total by `$sequence`.

    The tie-break follows the direction of a leading creation or update date, else it ascends. What stands
    after `$sequence` decides nothing and is dropped.
    """
    orders: list[Order] = []
    for order in query.orders:
        orders.append(order)
        if order.attribute == "$sequence":
            return tuple(orders)
    leading = query.orders[0] if query.orders else None
    descending = leading is not None and leading.attribute in _DATES and leading.descending
    return (*orders, Order("$sequence", descending))


def _sortable(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """An unset date sorts before every other on both engines, and can be compared with."""
    if isinstance(column.type, Moment) and getattr(column, "nullable", False):
        return func.coalesce(column, literal(_LONG_AGO, Moment()), type_=Moment())
    return column


def _found(collection: Collection, search: str) -> ColumnElement[bool]:
    if not search.strip() or collection.search is None:
        return true()
    wanted = words(search)
    # Nothing but punctuation has no words, and so is found nowhere.
    return and_(true(), *(holds(collection.search, f" {word}") for word in wanted)) if wanted else literal(0) == 1


def _beyond(keys: Sequence[tuple[ColumnElement[Any], bool]], anchor: Row[Any], *, before: bool) -> ColumnElement[bool]:
    """The rows after the anchor in the order of `keys` (before it, if `before`)."""
    values = [literal(value, column.type) for (column, _), value in zip(keys, anchor, strict=True)]
    down = [descending != before for _, descending in keys]
    if len(set(down)) == 1:  # one row comparison, which an index can serve
        ours = tuple_(*(column for column, _ in keys))
        theirs = tuple_(*values)
        return ours < theirs if down[0] else ours > theirs
    alternatives = []
    for place, (column, _) in enumerate(keys):
        equal = [key == value for (key, _), value in zip(keys[:place], values, strict=False)]
        further = column < values[place] if down[place] else column > values[place]
        alternatives.append(and_(*equal, further))
    return or_(*alternatives)


def _not_implied(query: ListQuery, anchor: Any) -> list[Filter]:
    """The filters without those bounds of a leading date that the cursor implies.

    An engine enters an index by one bound, and with two may choose the wider one: then it walks from there to the
    cursor. `anchor` is the value of the leading key in the cursor's document.
    """
    leading = ordering(query)[0]
    if leading.attribute not in _DATES:
        return list(query.filters)
    down = leading.descending != query.cursor_before
    wide = "lessThanEqual" if down else "greaterThanEqual"
    kept = []
    for part in query.filters:
        if part.attribute == leading.attribute and part.method in (wide, "between"):
            bound = part.values[-1] if down else part.values[0]
            if (bound >= anchor) if down else (bound <= anchor):
                if part.method == "between":
                    other = ("greaterThanEqual", part.values[0]) if down else ("lessThanEqual", part.values[1])
                    kept.append(Filter(other[0], part.attribute, (other[1],)))
                continue
        kept.append(part)
    return kept


def _paged(statement: Select[Any], keys: Sequence[tuple[ColumnElement[Any], bool]], query: ListQuery) -> Select[Any]:
    if query.random:
        statement = statement.order_by(func.random())
    else:
        down = [descending != query.cursor_before for _, descending in keys]
        statement = statement.order_by(
            *(column.desc() if falls else column.asc() for (column, _), falls in zip(keys, down, strict=True))
        )
    return statement.limit(query.limit).offset(query.offset or None)


def _counting(collection: Collection, matching: ColumnElement[bool]) -> Select[Any]:
    capped = select(literal(1)).select_from(collection.table).where(matching).limit(TOTAL_MAX).subquery()
    return select(func.count()).select_from(capped)
