"""What the scheduler reads and notes (`hearth.ports.Schedules`), on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from hearth.model.function_settings import DEFAULT_SETTINGS
from hearth.store import SqlStore
from hearth.store.sql import schema
from hearth.store.sql.expressions import is_one_of
from hearth.store.sql.sqlite import SqliteBackend
from tests.store.samples import NOW, FakeClock, function

pytestmark = pytest.mark.anyio


async def test_pages_hold_what_can_fire_in_every_project_and_its_settings(store: SqlStore, clock: FakeClock) -> None:
    for project_id in ("p", "q"):
        async with store.begin(project_id) as unit:
            for number in range(3):
                id = f"f{number}"
                await unit.functions.insert(
                    function(id, project_id, schedule="0 0 * * *", deployment_id="d", timeout_s=9)
                )
            await unit.functions.insert(function("no-rule", project_id, deployment_id="d"))
            await unit.functions.insert(function("no-code", project_id, schedule="0 0 * * *"))
    clock.move(60)
    async with store.begin("q") as unit:
        await unit.function_settings.put("f1", replace(DEFAULT_SETTINGS, schedule_paused=True))
    found = []
    after = -1
    while page := await store.schedules.page(after, 2):
        found += page
        after = page[-1].sequence
    assert [(it.project_id, it.function_id) for it in found] == [(p, f"f{n}") for p in "pq" for n in range(3)]
    assert {(it.schedule, it.deployment_id, it.timeout_s) for it in found} == {("0 0 * * *", "d", 9)}
    assert [it.settings.schedule_paused for it in found] == [False] * 4 + [True, False]
    assert [it.changed_at for it in found] == [NOW] * 4 + [clock.now(), NOW]
    some = await store.schedules.of([("p", "no-code"), ("q", "f1"), ("p", "gone"), ("x", "f1")])
    assert sorted((it.project_id, it.function_id) for it in some) == [("p", "no-code"), ("q", "f1")]
    assert await store.schedules.of([]) == ()


async def test_how_far_schedules_were_fired_never_goes_back(store: SqlStore) -> None:
    assert await store.schedules.planned_until() is None
    for seconds, noted in ((0, 0), (60, 60), (30, 60), (90, 90)):
        await store.schedules.note_planned_until(NOW + timedelta(seconds=seconds))
        assert await store.schedules.planned_until() == NOW + timedelta(seconds=noted)


async def test_functions_are_found_by_index_however_many_there_are(store: SqlStore) -> None:
    """On SQLite a pair compared with a list of pairs reads the whole table; so does `_begun` of the queue."""
    wanted = is_one_of(schema.functions.c.project_id, schema.functions.c.id, [("p", "f1"), ("p", "f2"), ("q", "f1")])
    backend = store._backend
    if not isinstance(backend, SqliteBackend):
        pytest.skip("PostgreSQL plans by what is in the table")
    async with store._transactions.view() as session:
        statement = select(schema.functions.c.id).where(wanted)
        compiled = statement.compile(dialect=backend.engine.dialect, compile_kwargs={"literal_binds": True})
        plan = [row[3] for row in await session.all(text(f"EXPLAIN QUERY PLAN {compiled}"))]
    assert plan
    assert not [line for line in plan if "SCAN functions" in line]
