"""Executions that are read, listed and moved. Finished ones are recorded by `hearth.store.sql.log`."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from msgspec.structs import replace
from sqlalchemy import ColumnElement, TextClause, and_, bindparam, delete, false, or_, select, update

from hearth.model.queries import Filter, ListQuery
from hearth.model.resources import Execution
from hearth.model.statuses import EXECUTION_FINAL, EXECUTION_MOVES, ExecutionStatus
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.bodies import SqlBodies, forget_bodies, of_function
from hearth.store.sql.expressions import has_any, holds
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.schema import RARE_CODE, RARE_STATUS, executions
from hearth.store.sql.session import Session
from hearth.store.sql.types import encode_list

_execution = reader(Execution)
_MINE = and_(executions.c.project_id == bindparam("in_project"), executions.c.function_id == bindparam("of_function"))
_ONE = select(executions).where(_MINE, executions.c.id == bindparam("wanted"))
#: What waits or runs is never past its time: it still has to end.
_ENDED = executions.c.status.in_(sorted(EXECUTION_FINAL))


def _allows(roles: Sequence[str]) -> ColumnElement[bool]:
    """Whether one of `roles` may read. Looking for the permission as it stands in the JSON text is not exact, but
    cheap: it spares nearly every row the exact test."""
    permissions = [f'read("{role}")' for role in roles]
    likely = (holds(executions.c.permissions, encode_list((text,))[1:-1]) for text in permissions)
    return and_(or_(false(), *likely), has_any(executions.c.permissions, permissions))


def _implied(filters: Iterable[Filter]) -> tuple[TextClause, ...]:
    """What the filters say without saying it: that only rare executions match, which have indexes of their own.

    A database takes a partial index only where the statement says its condition in so many words.
    """
    found: list[TextClause] = []
    for attribute, common, words in (
        ("status", ExecutionStatus.COMPLETED, RARE_STATUS),
        ("responseStatusCode", 200, RARE_CODE),
    ):
        for part in filters:
            is_without = part.method == "equal" and common not in part.values
            if part.attribute == attribute and (is_without or (part.method == "notEqual" and common in part.values)):
                found.append(words)
                break
    return tuple(found)


class SqlExecutions:
    """See `hearth.ports.Executions`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(executions.c.project_id == self._session.project_id, executions.c.id == id)

    def _of(self, function_id: str) -> ColumnElement[bool]:
        return and_(executions.c.project_id == self._session.project_id, executions.c.function_id == function_id)

    async def insert(self, execution: Execution) -> Execution:
        """Raises Conflict(`id`)."""
        self._session.own(execution.project_id)
        sequence = await self._session.insert(executions, values_of(execution))
        if sequence is None:
            raise Conflict("id")
        return replace(execution, sequence=sequence)

    async def get(self, function_id: str, id: str) -> Execution | None:
        """One execution of this function."""
        values = {"in_project": self._session.project_id, "of_function": function_id, "wanted": id}
        row = await self._session.one(_ONE, values)
        return None if row is None else _execution(row)

    async def list(self, function_id: str, query: ListQuery, readable_by: Sequence[str] | None) -> Page[Execution]:
        """See the port. Raises CursorNotFound, also for a cursor the roles may not read."""
        implied, mine = _implied(query.filters), {"in_project": self._session.project_id, "of_function": function_id}
        if readable_by is None:
            return await page_of(self._session, collections.EXECUTIONS, _MINE, query, _execution, implied, values=mine)
        scope = and_(self._of(function_id), _allows(readable_by))
        return await page_of(self._session, collections.EXECUTIONS, scope, query, _execution, implied)

    async def move(self, id: str, to: ExecutionStatus, /, **changes: Any) -> Execution | None:
        """Change status and fields, only from a status that allows it; None if refused."""
        allowed = executions.c.status.in_(sorted(status for status, moves in EXECUTION_MOVES.items() if to in moves))
        values = {"updated_at": self._session.clock.now(), **checked(Execution, changes), "status": to}
        row = await self._session.one(
            update(executions).where(self._is(id), allowed).values(values).returning(executions)
        )
        return None if row is None else _execution(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        await SqlBodies(self._session).delete(id)
        return await self._session.count(delete(executions).where(self._is(id))) > 0

    async def set_created_at(self, id: str, moment: datetime) -> bool:
        """See the port."""
        return await self._session.count(update(executions).where(self._is(id)).values(created_at=moment)) > 0

    async def delete_of(self, function_id: str, limit: int) -> int:
        """See the port; oldest first."""
        return await self._delete_some(function_id, self._of(function_id), executions.c.sequence, limit)

    async def delete_before(self, function_id: str, before: datetime, limit: int) -> int:
        """See the port."""
        old = and_(self._of(function_id), executions.c.created_at < before, _ENDED)
        return await self._delete_some(function_id, old, executions.c.created_at, limit)

    async def beyond(self, function_id: str, count: int) -> int:
        """See the port; reads `count` entries of an index."""
        newest = select(executions.c.sequence).where(self._of(function_id)).order_by(executions.c.sequence.desc())
        row = await self._session.one(newest.offset(count).limit(1))
        return 0 if row is None else int(row.sequence)

    async def delete_up_to(self, function_id: str, sequence: int, limit: int) -> int:
        """See the port."""
        old = and_(self._of(function_id), executions.c.sequence <= sequence, _ENDED)
        return await self._delete_some(function_id, old, executions.c.sequence, limit)

    async def _delete_some(
        self, function_id: str, which: ColumnElement[bool], order: ColumnElement[Any], limit: int
    ) -> int:
        going = select(executions.c.id).where(which).order_by(order).limit(limit).scalar_subquery()
        await forget_bodies(self._session, of_function(self._session, function_id), going)
        some = select(executions.c.sequence).where(which).order_by(order).limit(limit).scalar_subquery()
        return await self._session.count(delete(executions).where(executions.c.sequence.in_(some)))
