"""Variables: sealed on the way in, opened on the way out. No statement ever holds a value in clear."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Integer, Row, and_, bindparam, delete, select, update

from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault
from hearth.model.resources import Variable
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.changes import EVERY
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.schema import variables
from hearth.store.sql.session import Session

_variable = reader(Variable)
_MINE = and_(
    variables.c.project_id == bindparam("in_project"),
    variables.c.resource_type == bindparam("of_type"),
    variables.c.resource_id == bindparam("of_resource"),
)
_ALL = select(variables).where(_MINE).order_by(variables.c.sequence).limit(bindparam("most", type_=Integer))


def context(project_id: str, resource_type: str, resource_id: str, id: str) -> bytes:
    """What a sealed value is bound to: moved to any other row, it does not open."""
    return "/".join((project_id, resource_type, resource_id, id)).encode()


class SqlVariables:
    """See `hearth.ports.Variables`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(variables.c.project_id == self._session.project_id, variables.c.id == id)

    def _mine(self, resource_type: str, resource_id: str) -> dict[str, Any]:
        return {"in_project": self._session.project_id, "of_type": resource_type, "of_resource": resource_id}

    def _of(self, resource_type: str, resource_id: str) -> ColumnElement[bool]:
        return and_(
            variables.c.project_id == self._session.project_id,
            variables.c.resource_type == resource_type,
            variables.c.resource_id == resource_id,
        )

    async def insert(self, variable: Variable) -> Variable:
        """Raises Conflict(`id`) or Conflict(`key`)."""
        self._session.own(variable.project_id)
        values = values_of(variable)
        values["value"] = self._sealed(variable.value, values)
        sequence = await self._session.insert(variables, values)
        if sequence is None:
            taken = await self._session.one(select(variables.c.sequence).where(self._is(variable.id)))
            raise Conflict("key" if taken is None else "id")
        self._changed(variable.resource_type, variable.resource_id)
        return replace(variable, sequence=sequence)

    async def get(self, id: str) -> Variable | None:
        """One variable, its value in clear."""
        row = await self._session.one(select(variables).where(self._is(id)))
        return None if row is None else self._read(row)

    async def list(self, resource_type: str, resource_id: str, query: ListQuery) -> Page[Variable]:
        """Raises CursorNotFound."""
        mine = self._mine(resource_type, resource_id)
        return await page_of(self._session, collections.VARIABLES, _MINE, query, self._read, values=mine)

    async def of(self, resource_type: str, resource_id: str, limit: int) -> tuple[Variable, ...]:
        """See the port."""
        rows = await self._session.all(_ALL, {**self._mine(resource_type, resource_id), "most": limit})
        return tuple(self._read(row) for row in rows)

    async def update(self, id: str, /, **changes: Any) -> Variable | None:
        """See the port. Raises Conflict(`key`)."""
        checked(Variable, changes)
        if {"resource_type", "resource_id"} & set(changes):
            raise TypeError("a variable stays with its resource")
        row = await self._session.one(select(variables).where(self._is(id)))
        if row is None:
            return None
        if "key" in changes and changes["key"] != row.key:
            rival = variables.c.key == changes["key"]
            if await self._session.one(
                select(variables.c.sequence).where(self._of(row.resource_type, row.resource_id), rival)
            ):
                raise Conflict("key")
        values = {"updated_at": self._session.clock.now(), **changes}
        if "value" in changes:
            values["value"] = self._sealed(changes["value"], row._mapping)
        row = await self._session.one(update(variables).where(self._is(id)).values(values).returning(variables))
        if row is None:
            return None
        self._changed(row.resource_type, row.resource_id)
        return self._read(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        gone = delete(variables).where(self._is(id)).returning(variables.c.resource_type, variables.c.resource_id)
        row = await self._session.one(gone)
        if row is None:
            return False
        self._changed(row.resource_type, row.resource_id)
        return True

    async def delete_of(self, resource_type: str, resource_id: str) -> int:
        """How many went."""
        self._changed(resource_type, resource_id)
        return await self._session.count(delete(variables).where(self._of(resource_type, resource_id)))

    def _changed(self, resource_type: str, resource_id: str) -> None:
        self._session.changed_functions.add(resource_id if resource_type == "function" else EVERY)

    def _sealed(self, value: str, row: Mapping[Any, Any]) -> bytes:
        return self._session.cipher.seal(value, _context_of(row))

    def _read(self, row: Row[Any]) -> Variable:
        sealed = _variable(row)
        try:
            value = self._session.cipher.open(row.value, _context_of(row._mapping))
        except ValueError as error:
            raise PlatformFault(f"The value of variable {sealed.id} cannot be decrypted: {error}") from error
        return replace(sealed, value=value)


def _context_of(row: Mapping[Any, Any]) -> bytes:
    return context(row["project_id"], row["resource_type"], row["resource_id"], row["id"])
