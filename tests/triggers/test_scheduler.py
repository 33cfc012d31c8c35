"""The scheduler over a real store: records of planned times, through changes, restarts and steps of the clock."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hearth.model import times
from hearth.model.function_settings import DEFAULT_SETTINGS, MissedRuns, SchedulePayload
from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault
from hearth.model.resources import Execution
from hearth.model.running import Outcome, Result
from hearth.model.statuses import ExecutionStatus, Trigger
from hearth.triggers.alarm import Alarm
from hearth.triggers.scheduler import Scheduler
from tests.control.support import World, world

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MINUTE = timedelta(minutes=1)


class HandAlarm:
    """Rings when the test says so; notes for when it was set."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring
        self.at: datetime | None = None
        self.times_set = 0
        self.was_set = asyncio.Event()

    def set(self, moment: datetime | None) -> None:
        self.at = moment
        self.times_set += 1
        self.was_set.set()

    def close(self) -> None:
        self.at = None


class Here:
    """A scheduler in a world whose clock the test moves."""

    def __init__(self, world: World) -> None:
        self.world, self.clock = world, world.clock
        self.alarms: list[HandAlarm] = []
        self.scheduler = Scheduler(
            store=world.store, clock=world.clock, queued=world.queued, make_alarm=self._make_alarm
        )

    def _make_alarm(self, ring: Callable[[], None]) -> HandAlarm:
        self.alarms.append(HandAlarm(ring))
        return self.alarms[-1]

    @property
    def alarm(self) -> HandAlarm:
        return self.alarms[-1]

    async def settle(self) -> None:
        """Let the scheduler do all it has to do now."""
        self.alarm.was_set.clear()
        self.alarm.ring()
        async with asyncio.timeout(10):
            await self.alarm.was_set.wait()
        await self.scheduler.settled()

    async def move(self, **span: float) -> None:
        self.clock.moment += timedelta(**span)
        await self.settle()


@asynccontextmanager
async def running(world: World) -> AsyncIterator[Here]:
    here = Here(world)
    world.bus.subscribe(here.scheduler.heard)
    here.scheduler.start()
    try:
        async with asyncio.timeout(10):
            await here.scheduler.loaded()
        await here.settle()
        yield here
    finally:
        await here.scheduler.close()


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        await change(made, schedule="* * * * *", deployment_id="d")
        yield made


async def change(world: World, **fields: Any) -> None:
    """Change the function as control does: committed, then said."""
    async with world.store.begin("p") as unit:
        function = await unit.functions.update("f", **fields)
    world.bus.emit("p", "functions.f.update", function)


async def configure(world: World, **fields: Any) -> None:
    async with world.store.begin("p") as unit:
        await unit.function_settings.put("f", replace(DEFAULT_SETTINGS, **fields))
        function = await unit.functions.get("f")
    world.bus.emit("p", "functions.f.update", function)


async def records(world: World) -> list[Execution]:
    async with world.store.view("p") as unit:
        return list((await unit.executions.list("f", ListQuery(), None)).items)


def planned(found: list[Execution]) -> list[str]:
    return [f"{it.scheduled_at:%d %H:%M}" for it in found]


async def test_each_planned_time_becomes_one_execution_and_runs(made: World) -> None:
    dispatcher = made.dispatcher()
    made.executor.answer.set_result(Result(Outcome.COMPLETED, 200, (), b"", "", "", 0.1))
    await made.deploy("d")
    await made.builds.run("p", "f", "d")
    await change(made, schedule="* * * * *", deployment_id="d")
    await configure(made, schedule_payload=SchedulePayload("hi", "PUT", "/x", (("x-own", "1"),)))
    dispatcher.start()
    ended: asyncio.Queue[str] = asyncio.Queue()
    made.bus.subscribe(lambda it: ended.put_nowait(it.event) if it.event.endswith(".update") else None)
    async with running(made) as here:
        assert here.alarm.at == datetime.fromisoformat("2026-11-24T12:01:00+00:00")
        for _ in range(3):
            await here.move(minutes=1)
        async with asyncio.timeout(10):
            for _ in range(3):
                await ended.get()
    await dispatcher.close()
    found = await records(made)
    assert planned(found) == ["24 12:01", "24 12:02", "24 12:03"]
    assert {it.status for it in found} == {ExecutionStatus.COMPLETED}
    assert {(it.trigger, it.deployment_id, it.request_method) for it in found} == {(Trigger.SCHEDULE, "d", "PUT")}
    ran = made.executor.invoked[0]
    assert (ran.method, ran.path, ran.body, ran.headers["x-own"]) == ("PUT", "/x", b"hi", "1")
    assert (ran.headers["x-appwrite-trigger"], ran.headers["x-appwrite-event"]) == ("schedule", "")
    assert (ran.headers["x-appwrite-user-id"], ran.headers["x-appwrite-user-jwt"]) == ("", "")
    assert "x-appwrite-client-ip" not in ran.headers


async def test_changes_are_followed_at_once_and_nothing_wakes_where_nothing_is_due(made: World) -> None:
    async with running(made) as here:
        steps: list[tuple[dict[str, Any], int]] = [
            ({"enabled": False}, 1),  # its triggers go on (contract: functions-api 11)
            ({"deployment_id": ""}, 0),
            ({"deployment_id": "d2"}, 1),
            ({"schedule": ""}, 0),
            ({"schedule": "0 0 * * *"}, 1),
        ]
        for fields, active in steps:
            await change(made, **fields)
            await here.settle()
            assert len(here.scheduler) == active, fields
        assert here.alarm.at == datetime.fromisoformat("2026-11-25T00:00:00+00:00")
        await configure(made, schedule_time_zone="Asia/Tokyo")
        await here.settle()
        assert here.alarm.at == datetime.fromisoformat("2026-11-24T15:00:00+00:00")
        await configure(made, schedule_paused=True)
        await here.settle()
        assert (len(here.scheduler), here.alarm.at) == (0, None)
        async with made.store.begin("p") as unit:
            function = await unit.functions.get("f")
            await unit.functions.delete("f")
        made.bus.emit("p", "functions.f.delete", function)
        await here.settle()
        before = here.alarm.times_set
        for _ in range(20):
            await asyncio.sleep(0)
        assert here.alarm.times_set == before
    assert await records(made) == []


async def test_a_function_that_another_server_changed_fires_what_it_is_now(made: World) -> None:
    async with running(made) as here:
        async with made.store.begin("p") as unit:  # and nobody says so here
            await unit.functions.update("f", schedule="0 0 * * *")
        await here.move(minutes=1)
        assert await records(made) == []
        await here.settle()
        assert here.alarm.at == datetime.fromisoformat("2026-11-25T00:00:00+00:00")


async def test_several_schedulers_and_restarts_make_one_record_of_a_planned_time(made: World) -> None:
    async with running(made) as one, running(made) as other:
        made.clock.moment += MINUTE
        await asyncio.gather(one.settle(), other.settle())
        assert planned(await records(made)) == ["24 12:01"]
    made.clock.moment += timedelta(seconds=20)
    async with running(made):
        assert planned(await records(made)) == ["24 12:01"]
    async with made.store.view("p") as unit:
        assert len(await unit.jobs.unfinished()) == 1


async def test_what_was_changed_while_no_server_ran_counts_from_its_change_on(made: World) -> None:
    await configure(made, schedule_missed_runs=MissedRuns.ONCE)
    async with running(made) as here:
        await here.move(minutes=1)
    made.clock.moment += timedelta(hours=3, seconds=1)
    await change(made, schedule="*/2 * * * *")
    async with running(made) as here:
        await here.move(minutes=1)
    assert planned(await records(made)) == ["24 12:01", "24 15:02"]


@pytest.mark.parametrize(
    ("missed", "runs"), [(MissedRuns.SKIP, ["24 12:01"]), (MissedRuns.ONCE, ["24 12:01", "24 15:10"])]
)
async def test_after_an_absence_missed_times_are_skipped_or_run_once(
    made: World, missed: MissedRuns, runs: list[str]
) -> None:
    await configure(made, schedule_missed_runs=missed)
    await change(made, schedule="1,10 * * * *")
    async with running(made) as here:
        await here.move(minutes=1)
    for minutes in (192, 5):
        made.clock.moment += timedelta(minutes=minutes)
        async with running(made) as here:
            assert planned(await records(made)) == runs


async def test_a_clock_step_forward_is_an_absence_and_one_back_repeats_nothing(made: World) -> None:
    await configure(made, schedule_missed_runs=MissedRuns.ONCE)
    async with running(made) as here:
        await here.move(minutes=1)
        await here.move(hours=1)  # the alarm rings: the clock was set
        assert planned(await records(made)) == ["24 12:01", "24 13:01"]
        await here.move(hours=-1)
        await here.move(minutes=5)
        assert planned(await records(made)) == ["24 12:01", "24 13:01"]
        await here.move(minutes=56)
        assert planned(await records(made)) == ["24 12:01", "24 13:01", "24 13:02"]


async def test_a_database_that_is_away_delays_a_planned_time_and_loses_none(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearth.triggers.scheduler._RETRY_S", 0.01)
    accept, refused = made.store.execution_queue.accept, 0

    def failing(execution: Execution, job: Any) -> "asyncio.Future[Execution]":
        nonlocal refused
        if refused < 3:
            refused += 1
            future: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
            future.set_exception(PlatformFault("away"))
            return future
        return accept(execution, job)

    monkeypatch.setattr(made.store.execution_queue, "accept", failing)
    async with running(made) as here:
        await here.move(minutes=1)
        assert refused == 3
        assert planned(await records(made)) == ["24 12:01"]
        assert await made.store.schedules.planned_until() == made.clock.now().replace(second=0, microsecond=0)


async def test_the_alarm_rings_at_its_time_and_not_before() -> None:
    rung = asyncio.Event()
    alarm = Alarm(rung.set)
    try:
        now = times.now()
        alarm.set(now + timedelta(days=1))
        await asyncio.sleep(0)
        assert not rung.is_set()
        alarm.set(None)
        alarm.set(now + timedelta(milliseconds=50))
        async with asyncio.timeout(10):
            await rung.wait()
        assert times.now() >= now + timedelta(milliseconds=50)
        rung.clear()
        alarm.set(now - timedelta(days=1))
        async with asyncio.timeout(10):
            await rung.wait()
    finally:
        alarm.close()
