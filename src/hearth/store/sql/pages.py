"""List calls: order, cursors, pages and counts (contract: functions-api 7)."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
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
_LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


async def page_of(
    session: Session,
    collection: Collection,
    scope: ColumnElement[bool],
    query: ListQuery,
    read: Callable[[Row[Any]], T],
    implied: Sequence[TextClause] = (),
) -> Page[T]:
    """One page of the rows of `scope` that `query` asks for, and how many its filters match.

    `implied` is what follows from the filters, in words that an index understands.

    Raises CursorNotFound when the cursor's document is not in `scope`, and refuses (`general_query_invalid`)
    what no database could take.
    """
    found = _found(collection, query.search)
    matching = shown = and_(scope, where(query.filters, collection.attributes), found, *implied)
    keys = [(_sortable(collection.attributes[order.attribute]), order.descending) for order in ordering(query)]
    beyond: ColumnElement[bool] = true()
    if query.cursor:
        anchor = await session.one(
            select(*(column for column, _ in keys)).where(scope, collection.table.c.id == query.cursor)
        )
        if anchor is None:
            raise CursorNotFound(query.cursor)
        if not query.random:
            beyond = _beyond(keys, anchor, before=query.cursor_before)
            shown = and_(scope, where(_not_implied(query, anchor[0]), collection.attributes), found, *implied)
    statement = select(*collection.table.columns).where(shown, beyond)
    rows = await session.all(_paged(statement, keys, query))
    if query.cursor_before and not query.random:
        rows = rows[::-1]
    total = await _count(session, collection, matching) if query.count else 0
    return Page(total, tuple(read(row) for row in rows))


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


async def _count(session: Session, collection: Collection, matching: ColumnElement[bool]) -> int:
    capped = select(literal(1)).select_from(collection.table).where(matching).limit(TOTAL_MAX).subquery()
    row = await session.one(select(func.count()).select_from(capped))
    return 0 if row is None else int(row[0])
