"""Dead letters and failed attempts of one project."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, delete, select, tuple_

from hearth.model.durability import Attempt, DeadLetter
from hearth.model.queries import ListQuery
from hearth.ports import Page
from hearth.store.sql import collections
from hearth.store.sql.durability_schema import dead_letters, execution_attempts
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import reader, values_of
from hearth.store.sql.session import Session

_letter = reader(DeadLetter)
_attempt = reader(Attempt)


class SqlDeadLetters:
    """See `hearth.ports.DeadLetters`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _of(self, function_id: str) -> ColumnElement[bool]:
        return and_(dead_letters.c.project_id == self._session.project_id, dead_letters.c.function_id == function_id)

    async def add(self, letter: DeadLetter) -> None:
        """See the port."""
        self._session.own(letter.project_id)
        await self._session.execute(self._session.backend.insert(dead_letters).values(values_of(letter)))

    async def get(self, function_id: str, id: str) -> DeadLetter | None:
        """See the port."""
        row = await self._session.one(select(dead_letters).where(self._of(function_id), dead_letters.c.id == id))
        return None if row is None else _letter(row)

    async def list(self, function_id: str, query: ListQuery) -> Page[DeadLetter]:
        """See the port. Raises CursorNotFound."""
        return await page_of(self._session, collections.DEAD_LETTERS, self._of(function_id), query, _letter)

    async def oldest(self, function_id: str, limit: int) -> tuple[DeadLetter, ...]:
        """See the port."""
        found = select(dead_letters).where(self._of(function_id)).order_by(dead_letters.c.sequence).limit(limit)
        return tuple(map(_letter, await self._session.all(found)))

    async def delete(self, function_id: str, id: str) -> bool:
        """See the port."""
        return await self._session.count(delete(dead_letters).where(self._of(function_id), dead_letters.c.id == id)) > 0

    async def delete_of(self, function_id: str, limit: int) -> int:
        """See the port."""
        return await self._delete_some(self._of(function_id), limit)

    async def delete_before(self, before: datetime, limit: int) -> int:
        """See the port."""
        mine = dead_letters.c.project_id == self._session.project_id
        return await self._delete_some(and_(mine, dead_letters.c.created_at < before), limit)

    async def _delete_some(self, which: ColumnElement[bool], limit: int) -> int:
        some = select(dead_letters.c.sequence).where(which).limit(limit).scalar_subquery()
        return await self._session.count(delete(dead_letters).where(dead_letters.c.sequence.in_(some)))


class SqlAttempts:
    """See `hearth.ports.Attempts`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def add(self, attempt: Attempt) -> None:
        """See the port."""
        self._session.own(attempt.project_id)
        await self._session.execute(self._session.backend.insert(execution_attempts).values(values_of(attempt)))

    async def of(self, execution_id: str) -> tuple[Attempt, ...]:
        """See the port."""
        found = (
            select(execution_attempts)
            .where(
                execution_attempts.c.project_id == self._session.project_id,
                execution_attempts.c.execution_id == execution_id,
            )
            .order_by(execution_attempts.c.number)
        )
        return tuple(map(_attempt, await self._session.all(found)))

    async def delete_before(self, before: datetime, limit: int) -> int:
        """See the port."""
        table = execution_attempts
        key = (table.c.project_id, table.c.execution_id, table.c.number)
        mine = table.c.project_id == self._session.project_id
        old = select(*key).where(mine, table.c.ended_at < before).limit(limit)
        return await self._session.count(delete(table).where(tuple_(*key).in_(old)))
