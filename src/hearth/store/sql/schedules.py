"""Schedules of all projects, and how far they have been fired."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, Select, select, update

from hearth.model import times
from hearth.model.function_settings import DEFAULT_SETTINGS, FunctionSettings
from hearth.ports import Scheduled
from hearth.store.sql.expressions import is_one_of
from hearth.store.sql.schema import facts, function_settings, functions
from hearth.store.sql.session import Session, Transactions

_PLANNED_UNTIL = "schedules planned until"


class SqlSchedules:
    """See `hearth.ports.Schedules`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def page(self, after: int, limit: int) -> tuple[Scheduled, ...]:
        """See the port."""
        active = _scheduled().where(
            functions.c.sequence > after, functions.c.schedule != "", functions.c.deployment_id != ""
        )
        async with self._transactions.view() as session:
            return tuple(map(_read, await session.all(active.order_by(functions.c.sequence).limit(limit))))

    async def of(self, keys: Sequence[tuple[str, str]]) -> tuple[Scheduled, ...]:
        """See the port."""
        asked = _scheduled().where(is_one_of(functions.c.project_id, functions.c.id, keys))
        async with self._transactions.view() as session:
            return tuple(map(_read, await session.all(asked)))

    async def planned_until(self) -> datetime | None:
        """See the port."""
        async with self._transactions.view() as session:
            return await _planned_until(session)

    async def note_planned_until(self, moment: datetime) -> None:
        """See the port."""
        value = str(times.to_epoch_ms(moment)).encode()
        async with self._transactions.begin() as session:
            known = await _planned_until(session)
            if known is None:
                await session.execute(session.backend.insert(facts).values(name=_PLANNED_UNTIL, value=value))
            elif moment > known:
                await session.execute(update(facts).where(facts.c.name == _PLANNED_UNTIL).values(value=value))


async def _planned_until(session: Session) -> datetime | None:
    row = await session.one(select(facts.c.value).where(facts.c.name == _PLANNED_UNTIL))
    return None if row is None else times.from_epoch_ms(int(row.value))


def _scheduled() -> Select[Any]:
    settings = function_settings.c
    beside = (settings.project_id == functions.c.project_id) & (settings.function_id == functions.c.id)
    return select(
        functions.c.sequence,
        functions.c.project_id,
        functions.c.id,
        functions.c.schedule,
        functions.c.deployment_id,
        functions.c.timeout_s,
        functions.c.updated_at,
        settings.settings,
        settings.updated_at.label("set_at"),
    ).select_from(functions.outerjoin(function_settings, beside))


def _read(row: Row[Any]) -> Scheduled:
    settings = DEFAULT_SETTINGS if row.settings is None else msgspec.convert(row.settings, FunctionSettings)
    changed_at = row.updated_at if row.set_at is None else max(row.updated_at, row.set_at)
    return Scheduled(
        row.sequence,
        row.project_id,
        row.id,
        row.schedule,
        row.deployment_id,
        row.timeout_s,
        changed_at,
        settings,
    )
