"""Usage of functions by the hour, counted from their executions and kept when those are gone."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, and_, case, delete, func, select, tuple_, type_coerce

from hearth.model import times
from hearth.model.statuses import ExecutionStatus
from hearth.model.usage import DURATION_EDGES_S, HOUR, UsageHour
from hearth.store.sql.durability_schema import usage_hours
from hearth.store.sql.schema import executions
from hearth.store.sql.session import Session

_HOUR_MS = int(HOUR / timedelta(milliseconds=1))
_CLASS = case(
    *((executions.c.duration_s < edge, place) for place, edge in enumerate(DURATION_EDGES_S)),
    else_=len(DURATION_EDGES_S),
).label("class")
_HOUR = (type_coerce(executions.c.created_at, BigInteger()) // _HOUR_MS).label("hour")


class SqlUsage:
    """See `hearth.ports.Usage`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _of(self, function_id: str) -> ColumnElement[bool]:
        return and_(usage_hours.c.project_id == self._session.project_id, usage_hours.c.function_id == function_id)

    async def last(self, function_id: str) -> datetime | None:
        """See the port."""
        row = await self._session.one(select(func.max(usage_hours.c.hour)).where(self._of(function_id)))
        return None if row is None else row[0]

    async def next_created(self, function_id: str, since: datetime) -> datetime | None:
        """See the port; one look into an index."""
        mine = and_(
            executions.c.project_id == self._session.project_id,
            executions.c.function_id == function_id,
            executions.c.created_at >= since,
        )
        row = await self._session.one(
            select(executions.c.created_at).where(mine).order_by(executions.c.created_at).limit(1)
        )
        return None if row is None else row.created_at

    async def count(self, function_id: str, since: datetime, until: datetime) -> tuple[UsageHour, ...]:
        """See the port. The database groups; a span of n executions is read once."""
        statement = (
            select(
                _HOUR,
                _CLASS,
                func.count().label("executions"),
                func.sum(case((executions.c.status == ExecutionStatus.FAILED.value, 1), else_=0)).label("failures"),
                func.sum(executions.c.duration_s).label("duration_s"),
                func.count(executions.c.is_cold).label("started"),
                func.sum(case((executions.c.is_cold, 1), else_=0)).label("cold_starts"),
                func.sum(executions.c.cpu_s).label("cpu_s"),
                func.max(executions.c.peak_memory_bytes).label("peak_memory_bytes"),
            )
            .where(
                executions.c.project_id == self._session.project_id,
                executions.c.function_id == function_id,
                executions.c.created_at >= since,
                executions.c.created_at < until,
            )
            .group_by(_HOUR, _CLASS)
        )
        found: dict[int, list[Any]] = {}
        for row in await self._session.all(statement):
            found.setdefault(int(row[0]), []).append(row)
        return tuple(
            UsageHour(
                function_id,
                times.from_epoch_ms(hour * _HOUR_MS),
                sum(int(row[2]) for row in rows),
                sum(int(row[3]) for row in rows),
                sum(float(row[4]) for row in rows),
                {int(row[1]): int(row[2]) for row in rows},
                sum(int(row.started) for row in rows),
                sum(int(row.cold_starts) for row in rows),
                sum(float(row.cpu_s or 0) for row in rows),
                max(int(row.peak_memory_bytes or 0) for row in rows),
            )
            for hour, rows in sorted(found.items())
        )

    async def put(self, hours: Sequence[UsageHour]) -> None:
        """See the port."""
        for each in hours:
            values = {
                "project_id": self._session.project_id,
                "function_id": each.function_id,
                "hour": each.hour,
                "executions": each.executions,
                "failures": each.failures,
                "duration_s": each.duration_s,
                "durations": {str(place): count for place, count in each.durations.items()},
                "started": each.started,
                "cold_starts": each.cold_starts,
                "cpu_s": each.cpu_s,
                "peak_memory_bytes": each.peak_memory_bytes,
            }
            stored = and_(self._of(each.function_id), usage_hours.c.hour == each.hour)
            # One that counted more was there before retention removed some of them.
            await self._session.execute(delete(usage_hours).where(stored, usage_hours.c.executions <= each.executions))
            await self._session.execute(self._session.backend.insert(usage_hours).values(values))

    async def list(self, function_id: str, since: datetime) -> tuple[UsageHour, ...]:
        """See the port."""
        which = and_(self._of(function_id), usage_hours.c.hour >= since)
        rows = await self._session.all(select(usage_hours).where(which).order_by(usage_hours.c.hour))
        return tuple(
            UsageHour(
                row.function_id,
                row.hour,
                row.executions,
                row.failures,
                row.duration_s,
                {int(place): count for place, count in row.durations.items()},
                row.started,
                row.cold_starts,
                row.cpu_s,
                row.peak_memory_bytes,
            )
            for row in rows
        )

    async def delete_of(self, function_id: str, limit: int) -> int:
        """See the port."""
        some = select(usage_hours.c.hour).where(self._of(function_id)).limit(limit).scalar_subquery()
        return await self._session.count(delete(usage_hours).where(self._of(function_id), usage_hours.c.hour.in_(some)))

    async def delete_before(self, before: datetime, limit: int) -> int:
        """See the port."""
        key = (usage_hours.c.function_id, usage_hours.c.hour)
        mine = usage_hours.c.project_id == self._session.project_id
        old = select(*key).where(mine, usage_hours.c.hour < before).limit(limit)
        return await self._session.count(delete(usage_hours).where(mine, tuple_(*key).in_(old)))
