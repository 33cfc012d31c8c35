"""Functions and API keys: resources that are listed, changed by field and deleted, and nothing more."""

from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, delete, select, update

from hearth.model.queries import ListQuery
from hearth.model.resources import ApiKey, Function
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.changes import EVERY
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.schema import api_keys, functions
from hearth.store.sql.search import searchable
from hearth.store.sql.session import Session

_function = reader(Function)
_HERE = functions.c.project_id == bindparam("in_project")
_ONE = select(functions).where(_HERE, functions.c.id == bindparam("wanted"))
_key = reader(ApiKey)


class SqlFunctions:
    """See `hearth.ports.Functions`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(functions.c.project_id == self._session.project_id, functions.c.id == id)

    async def insert(self, function: Function) -> Function:
        """Raises Conflict(`id`)."""
        self._session.own(function.project_id)
        words = searchable(function.id, function.name, function.runtime)
        sequence = await self._session.insert(functions, {**values_of(function), "search_words": words})
        if sequence is None:
            raise Conflict("id")
        self._session.changed_functions.add(function.id)
        return replace(function, sequence=sequence)

    async def get(self, id: str) -> Function | None:
        """One function."""
        row = await self._session.one(_ONE, {"in_project": self._session.project_id, "wanted": id})
        return None if row is None else _function(row)

    async def list(self, query: ListQuery) -> Page[Function]:
        """Raises CursorNotFound."""
        here = {"in_project": self._session.project_id}
        return await page_of(self._session, collections.FUNCTIONS, _HERE, query, _function, values=here)

    async def update(self, id: str, /, **changes: Any) -> Function | None:
        """See the port. Raises TypeError for a field that does not exist."""
        values = {"updated_at": self._session.clock.now(), **checked(Function, changes)}
        row = await self._session.one(update(functions).where(self._is(id)).values(values).returning(functions))
        if row is None:
            return None
        self._session.changed_functions.add(id)
        function = _function(row)
        if "name" in changes or "runtime" in changes:
            words = searchable(function.id, function.name, function.runtime)
            await self._session.execute(update(functions).where(self._is(id)).values(search_words=words))
        return function

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        self._session.changed_functions.add(id)
        return await self._session.count(delete(functions).where(self._is(id))) > 0

    async def outdate(self) -> tuple[Function, ...]:
        """See the port."""
        self._session.changed_functions.add(EVERY)
        which = functions.c.project_id == self._session.project_id
        values = {"updated_at": self._session.clock.now(), "live": False}
        rows = await self._session.all(update(functions).where(which).values(values).returning(functions))
        return tuple(function for function in map(_function, rows) if function.deployment_id)


class SqlKeys:
    """See `hearth.ports.Keys`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(api_keys.c.project_id == self._session.project_id, api_keys.c.id == id)

    async def insert(self, key: ApiKey) -> ApiKey:
        """Raises Conflict(`id`)."""
        self._session.own(key.project_id)
        sequence = await self._session.insert(api_keys, values_of(key))
        if sequence is None:
            raise Conflict("id")
        return replace(key, sequence=sequence)

    async def get(self, id: str) -> ApiKey | None:
        """One key."""
        row = await self._session.one(select(api_keys).where(self._is(id)))
        return None if row is None else _key(row)

    async def list(self, query: ListQuery) -> Page[ApiKey]:
        """Raises CursorNotFound."""
        scope = api_keys.c.project_id == self._session.project_id
        return await page_of(self._session, collections.KEYS, scope, query, _key)

    async def update(self, id: str, /, **changes: Any) -> ApiKey | None:
        """See the port."""
        values = {"updated_at": self._session.clock.now(), **checked(ApiKey, changes)}
        row = await self._session.one(update(api_keys).where(self._is(id)).values(values).returning(api_keys))
        return None if row is None else _key(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(api_keys).where(self._is(id))) > 0
