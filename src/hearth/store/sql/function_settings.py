"""Settings of functions: one row per function that has any, found by the function's id alone."""

from dataclasses import replace
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, and_, delete, insert, select, update

from hearth.model.function_settings import DEFAULT_SETTINGS, FunctionSettings
from hearth.store.sql.schema import function_settings
from hearth.store.sql.session import Session


def read_settings(row: Row[Any]) -> FunctionSettings:
    """A row as settings. A setting it does not hold has its default; one that is not known here is passed over."""
    return replace(msgspec.convert(row.settings, FunctionSettings), updated_at=row.updated_at)


class SqlFunctionSettings:
    """See `hearth.ports.FunctionSettingsRows`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, function_id: str) -> ColumnElement[bool]:
        return and_(
            function_settings.c.project_id == self._session.project_id, function_settings.c.function_id == function_id
        )

    async def get(self, function_id: str) -> FunctionSettings:
        """See the port."""
        row = await self._session.one(select(function_settings).where(self._is(function_id)))
        return DEFAULT_SETTINGS if row is None else read_settings(row)

    async def put(self, function_id: str, settings: FunctionSettings) -> FunctionSettings:
        """See the port."""
        self._session.changed_functions.add(function_id)
        settings = replace(settings, updated_at=self._session.clock.now())
        document = {name: value for name, value in msgspec.to_builtins(settings).items() if name != "updated_at"}
        values = {"updated_at": settings.updated_at, "settings": document}
        # Write transactions of one project follow each other, so nobody inserts between the two.
        if not await self._session.count(update(function_settings).where(self._is(function_id)).values(values)):
            key = {"project_id": self._session.project_id, "function_id": function_id}
            await self._session.execute(insert(function_settings).values({**key, **values}))
        return settings

    async def delete(self, function_id: str) -> bool:
        """Whether there were any."""
        return await self._session.count(delete(function_settings).where(self._is(function_id))) > 0


async def kept_functions(session: Session) -> tuple[tuple[str, str], ...]:
    """See `hearth.ports.Store.kept_functions`; in no project's transaction."""
    rows = await session.all(select(function_settings))
    return tuple((row.project_id, row.function_id) for row in rows if read_settings(row).min_instances)
