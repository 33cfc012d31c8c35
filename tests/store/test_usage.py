"""Usage by the hour: counted by the database from executions, kept when they are gone."""

from datetime import timedelta
from typing import Any

import pytest

from hearth.model.statuses import ExecutionStatus
from hearth.model.usage import duration_class
from hearth.store import SqlStore
from tests.store.samples import NOW, execution

pytestmark = pytest.mark.anyio


async def test_executions_are_counted_by_hour_outcome_and_duration(store: SqlStore) -> None:
    begun = NOW.replace(minute=0, second=0, microsecond=0)
    async with store.begin("p") as unit:
        for number, (minutes, status, duration_s) in enumerate(
            [
                (0, ExecutionStatus.COMPLETED, 0.0004),
                (59, ExecutionStatus.FAILED, 0.012),
                (60, ExecutionStatus.COMPLETED, 0.012),
                (61, ExecutionStatus.COMPLETED, 0.013),
                (180, ExecutionStatus.COMPLETED, 5_000.0),
            ]
        ):
            moment = begun + timedelta(minutes=minutes)
            await unit.executions.insert(
                execution(f"e{number}", created_at=moment, status=status, duration_s=duration_s)
            )
        await unit.executions.insert(execution("other", function_id="g", created_at=begun))
        assert await unit.usage.next_created("f", begun + timedelta(minutes=61)) == begun + timedelta(minutes=61)
        assert await unit.usage.next_created("f", begun + timedelta(minutes=62)) == begun + timedelta(minutes=180)
        assert await unit.usage.next_created("f", begun + timedelta(days=1)) is None
        first, second = await unit.usage.count("f", begun, begun + timedelta(hours=3))
    assert (first.hour, first.executions, first.failures) == (begun, 2, 1)
    assert first.durations == {duration_class(0.0004): 1, duration_class(0.012): 1}
    assert (second.hour, second.executions, second.failures) == (begun + timedelta(hours=1), 2, 0)
    assert second.durations == {duration_class(0.012): 2}
    assert second.duration_s == pytest.approx(0.025)


async def test_figures_of_executions_are_summed_where_they_are_known(store: SqlStore) -> None:
    begun = NOW.replace(minute=0, second=0, microsecond=0)
    rows: list[dict[str, Any]] = [
        {"queued_s": 0.1, "is_cold": True, "cpu_s": 0.5, "peak_memory_bytes": 300, "duration_s": 2.0},
        {"queued_s": 0.0, "is_cold": False, "cpu_s": 0.25, "peak_memory_bytes": 700},
        {"queued_s": 0.0, "is_cold": False},
        {},
    ]
    async with store.begin("p") as unit:
        for number, row in enumerate(rows):
            given = execution(f"e{number}", created_at=begun, **row)
            await unit.executions.insert(given)
            read = await unit.executions.get("f", f"e{number}")
            assert read is not None
            assert (read.queued_s, read.is_cold, read.cpu_s) == (given.queued_s, given.is_cold, given.cpu_s)
            assert read.peak_memory_bytes == given.peak_memory_bytes
        (hour,) = await unit.usage.count("f", begun, begun + timedelta(hours=1))
        assert (hour.executions, hour.started, hour.cold_starts, hour.peak_memory_bytes) == (4, 3, 1, 700)
        assert hour.cpu_s == pytest.approx(0.75)
        await unit.usage.put((hour,))
        assert await unit.usage.list("f", begun) == (hour,)


async def test_hours_are_kept_and_one_that_counted_more_is_not_replaced_by_less(store: SqlStore) -> None:
    begun = NOW.replace(minute=0, second=0, microsecond=0)
    async with store.begin("p") as unit:
        await unit.executions.insert(execution("a", created_at=begun, status=ExecutionStatus.COMPLETED))
        await unit.executions.insert(execution("b", created_at=begun, status=ExecutionStatus.COMPLETED))
        assert await unit.usage.last("f") is None
        both = await unit.usage.count("f", begun, begun + timedelta(hours=1))
        await unit.usage.put(both)
        await unit.usage.put(both)
        await unit.executions.delete("a")
        await unit.usage.put(await unit.usage.count("f", begun, begun + timedelta(hours=1)))
    async with store.view("p") as unit:
        assert await unit.usage.list("f", begun) == both
        assert await unit.usage.last("f") == begun
        assert await unit.usage.list("f", begun + timedelta(hours=1)) == ()
    async with store.begin("p") as unit:
        assert await unit.usage.delete_before(begun, 10) == 0
        assert await unit.usage.delete_before(begun + timedelta(hours=1), 10) == 1
        await unit.usage.put(both)
        assert await unit.usage.delete_of("f", 10) == 1
        assert await unit.usage.delete_of("f", 10) == 0
