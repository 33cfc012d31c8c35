"""Units: whole or not at all, also under cancellation; snapshots; wake-ups."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault
from hearth.store import SqlStore
from hearth.store.settling import settled
from hearth.store.sql.sqlite import SqliteBackend
from tests.store.conftest import opened
from tests.store.samples import FakeClock, function, job, project, variable

pytestmark = pytest.mark.anyio


async def names(store: SqlStore) -> list[str]:
    async with store.view("p") as unit:
        return [item.id for item in (await unit.functions.list(ListQuery())).items]


async def test_an_exception_leaves_nothing_and_the_store_usable(store: SqlStore) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        async with store.begin("p") as unit:
            await unit.functions.insert(function())
            await unit.jobs.enqueue(job())
            raise RuntimeError("mine")
    assert await names(store) == []
    assert await store.jobs.get("j") is None
    async with store.begin("p") as unit:
        await unit.functions.insert(function("g"))
    assert await names(store) == ["g"]


async def test_cancelled_at_any_statement_a_unit_leaves_nothing_and_the_store_usable(store: SqlStore) -> None:
    backend = store._backend
    engine = backend.engine if isinstance(backend, SqliteBackend) else backend.writer.sync_engine
    cancelled_at: list[int] = []

    async def work() -> None:
        async with store.begin("p") as unit:
            await unit.functions.insert(function())
            await unit.variables.insert(variable())
            await unit.jobs.enqueue(job())
            await unit.functions.update("f", name="x")

    for wanted in range(1, 20):
        seen = 0
        task = asyncio.create_task(work())

        def count(*_: Any, wanted: int = wanted, task: asyncio.Task[None] = task) -> None:
            nonlocal seen
            seen += 1
            if seen == wanted:
                task.cancel()

        event.listen(engine, "before_cursor_execute", count)
        try:
            await asyncio.wait([task])
        finally:
            event.remove(engine, "before_cursor_execute", count)
        if not task.cancelled():
            break  # no statement of that number any more
        cancelled_at.append(wanted)
        assert await names(store) == []
        assert await store.jobs.get("j") is None
    assert len(cancelled_at) >= 5
    task.result()
    assert await names(store) == ["f"]


async def test_cancelled_while_waiting_for_its_turn_a_unit_does_not_keep_it(store: SqlStore) -> None:
    async def wait() -> None:
        async with store.begin("p"):
            pass

    async with store.begin("p"):
        waiting = [asyncio.create_task(wait()) for _ in range(12)]
        for _ in range(20):
            await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.wait(waiting[::2])
    async with asyncio.timeout(20):
        await asyncio.gather(*waiting[1::2])


async def test_settled_work_ends_before_the_cancellation_goes_on() -> None:
    steps: list[str] = []
    started, go = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        await go.wait()
        steps.append("worked")

    async def caller() -> None:
        try:
            await settled(work())
        finally:
            steps.append("left")

    task = asyncio.create_task(caller())
    await started.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert steps == []
    go.set()
    await asyncio.wait([task])
    assert steps == ["worked", "left"]
    assert task.cancelled()


async def test_units_of_one_project_follow_each_other(store: SqlStore) -> None:
    """What a unit has read stays true until it commits, so no update is lost."""
    async with store.begin("p") as unit:
        await unit.functions.insert(function(timeout_s=1))

    async def add() -> None:
        async with store.begin("p") as unit:
            found = await unit.functions.get("f")
            assert found is not None
            await unit.functions.update("f", timeout_s=found.timeout_s + 1)

    await asyncio.gather(*(add() for _ in range(10)))
    async with store.view("p") as unit:
        found = await unit.functions.get("f")
        assert found is not None
        assert found.timeout_s == 11


async def test_a_view_is_a_snapshot_and_does_not_write(store: SqlStore) -> None:
    async with store.view("p") as unit:
        assert (await unit.functions.list(ListQuery())).total == 0
        async with store.begin("p") as other:
            await other.functions.insert(function())
        assert await unit.functions.get("f") is None
    async with store.view("p") as unit:
        assert await unit.functions.get("f")
        with pytest.raises(PlatformFault):
            await unit.functions.delete("f")
    assert await names(store) == ["f"]


async def test_a_second_transaction_inside_the_first_ends_in_a_fault(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite, which has one writer: bounded, not for ever."""
    async with opened("", tmp_path, clock) as store:
        monkeypatch.setattr("hearth.store.sql.session.WAIT_S", 0.02)
        async with store.begin("p"):
            with pytest.raises(PlatformFault, match="free"):
                await store.projects.insert(project())
        await store.projects.insert(project())


async def test_waiting_for_jobs_ends_with_the_commit_and_is_not_missed(store: SqlStore) -> None:
    # What a listener announces at its start, however long it takes to get there; on SQLite there is none.
    await store.wait_for_jobs(0.01 if isinstance(store._backend, SqliteBackend) else 20)
    async with store.begin("p") as unit:
        await unit.jobs.enqueue(job())
        waiting = asyncio.create_task(store.wait_for_jobs(30))
        await asyncio.sleep(0)
        await unit.jobs.get("j")
        assert not waiting.done()
    async with asyncio.timeout(20):
        await waiting
    async with store.begin("p") as unit:
        await unit.jobs.enqueue(job("k"))
    async with asyncio.timeout(20):
        await store.wait_for_jobs(30)  # queued before the wait began
    await store.wait_for_jobs(0.01)


@pytest.mark.parametrize("database", ["postgres"], indirect=True)
async def test_another_server_is_told_of_jobs(database: str, store: SqlStore, tmp_path: Path, clock: FakeClock) -> None:
    async with opened(database, tmp_path / "other", clock) as other:
        async with asyncio.timeout(20):
            await other.wait_for_jobs(30)  # listens now
        async with store.begin("p") as unit:
            await unit.jobs.enqueue(job())
        async with asyncio.timeout(20):
            await other.wait_for_jobs(30)
        assert await other.jobs.get("j")


async def test_ping_answers(store: SqlStore) -> None:
    await store.ping()
