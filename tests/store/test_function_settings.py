"""Settings of functions (`hearth.ports.FunctionSettingsRows`), on both databases."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from hearth.model.function_settings import DEFAULT_SETTINGS, Egress, FunctionSettings, MissedRuns, SchedulePayload
from hearth.store import SqlStore
from hearth.store.sql import schema
from tests.store.samples import FakeClock

pytestmark = pytest.mark.anyio

FULL = FunctionSettings(
    schedule_time_zone="Europe/Berlin",
    schedule_paused=True,
    schedule_missed_runs=MissedRuns.ONCE,
    schedule_jitter_s=5,
    schedule_payload=SchedulePayload("bödy\0", "PUT", "/x?y=1", (("x-a", "1"), ("x-b", "2"))),
    retry_max_attempts=3,
    retry_max_age_s=60,
    retry_backoff_s=2,
    rate_limit_per_minute=10,
    max_concurrency=4,
    min_instances=1,
    store_bodies=True,
    bodies_max_bytes=1,
    bodies_retention_days=2,
    executions_retention_days=3,
    executions_retention_count=4,
    egress=Egress.LIST,
    egress_allow=("example.com:443",),
)


async def test_what_is_stored_is_read_back_equal(store: SqlStore, clock: FakeClock) -> None:
    async with store.begin("p") as unit:
        assert await unit.function_settings.get("f") == DEFAULT_SETTINGS
        stored = await unit.function_settings.put("f", FULL)
        assert stored == replace(FULL, updated_at=clock.now())
        clock.move(5)
        again = await unit.function_settings.put("f", replace(stored, schedule_paused=False))
    readable = replace(FULL.schedule_payload, body=again.schedule_payload.body.replace("\0", "\ufffd"))
    async with store.view("p") as unit:
        assert await unit.function_settings.get("f") == replace(
            FULL, schedule_paused=False, schedule_payload=readable, updated_at=clock.now()
        )


async def test_a_unit_sees_and_changes_its_own_project_only(store: SqlStore) -> None:
    for name in ("p", "q"):
        async with store.begin(name) as unit:
            await unit.function_settings.put("f", replace(DEFAULT_SETTINGS, min_instances=1))
    async with store.begin("q") as unit:
        await unit.function_settings.put("f", replace(DEFAULT_SETTINGS, min_instances=2))
        assert await unit.function_settings.delete("f")
        assert not await unit.function_settings.delete("f")
    async with store.view("p") as unit:
        assert (await unit.function_settings.get("f")).min_instances == 1


async def test_settings_of_another_version_are_read_as_far_as_they_are_known(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.function_settings.put("f", FULL)
    document = {"min_instances": 7, "of_tomorrow": {"x": 1}}
    async with store._transactions.begin() as session:
        await session.execute(update(schema.function_settings).values(settings=document))
    async with store.view("p") as unit:
        found = await unit.function_settings.get("f")
    assert found == replace(DEFAULT_SETTINGS, min_instances=7, updated_at=found.updated_at)
