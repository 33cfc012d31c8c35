"""Fires schedules: the planner says what is due, one alarm says when to ask it, the database what became of it.

Every planned time becomes one execution, whose id is made of function and planned time: several servers, restarts and
a clock that is put back find it there. Which function has which schedule is read from the database whenever something
happens to a function, and once more when it is due, so that what another server changed is seen at the latest then.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from hearth.control.invocations import RunRequest
from hearth.control.queued import QueuedExecutions
from hearth.control.stored_runs import QueuedRun
from hearth.model.cron import read_zone
from hearth.model.events import Occurrence
from hearth.model.figures import LATENESS_BOUNDS_S, Distribution
from hearth.model.function_settings import MissedRuns
from hearth.model.resources import Deployment, Function
from hearth.model.statuses import Trigger
from hearth.ports import Clock, Conflict, Scheduled, Store
from hearth.triggers.planner import LATE_S, Fire, Plan, Planner, jitter_ms, occasion_id

log = structlog.get_logger(__name__)

#: Functions that are read, planned or fired between two turns of the event loop: some 2 ms.
SLICE = 100
#: Slices that are read again at the same time: those that were due first are to be stored first.
READS = 2
_RETRY_S = 0.5
_RETRY_MAX_S = 5.0
#: How long a stop waits for what is being fired to be committed; the next start fires the rest.
_CLOSE_WAIT_S = 5.0


class SetsAlarm(Protocol):
    """See `hearth.triggers.alarm.Alarm`."""

    def set(self, moment: datetime | None) -> None: ...
    def close(self) -> None: ...


class Scheduler:
    """Listener of the event bus and a loop. `start` it once the queue takes executions; `close` it before that ends.

    `make_alarm` is given what to call when the time has come.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        queued: QueuedExecutions,
        make_alarm: Callable[[Callable[[], None]], SetsAlarm],
    ) -> None:
        self._store = store
        self._clock = clock
        self._queued = queued
        self._make_alarm = make_alarm
        self._planner = Planner()
        self._changed: set[tuple[str, str]] = set()
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._firing: set[asyncio.Task[None]] = set()
        self._is_loaded = asyncio.Event()
        self._reading = asyncio.Semaphore(READS)
        self.lateness = Distribution(LATENESS_BOUNDS_S)
        """Seconds from each planned time, with its jitter, until its execution was stored."""

    def __len__(self) -> int:
        """How many schedules are active."""
        return len(self._planner)

    def heard(self, occurrence: Occurrence) -> None:
        """Look at a function again to which something happened. Called for every event; free for all others."""
        subject = occurrence.subject
        if isinstance(subject, Function):
            self.look_at(occurrence.project_id, subject.id)
        elif isinstance(subject, Deployment):
            self.look_at(occurrence.project_id, subject.function_id)

    def look_at(self, project_id: str, function_id: str) -> None:
        """Read a function's schedule again, soon."""
        self._changed.add((project_id, function_id))
        self._wake.set()

    async def reload(self) -> None:
        """Look again at every function with a schedule. One that has none any more is found out when it is due."""
        after = -1
        while page := await self._store.schedules.page(after, SLICE):
            for scheduled in page:
                self.look_at(scheduled.project_id, scheduled.function_id)
            after = page[-1].sequence

    def start(self) -> None:
        """Read all schedules, a slice at a time, and fire what is due from then on."""
        self._loop = asyncio.create_task(self._run(), name="schedules")

    async def loaded(self) -> None:
        """Wait until all schedules have been read."""
        await self._is_loaded.wait()

    async def settled(self) -> None:
        """Wait until everything fired so far is committed."""
        while self._firing:
            await asyncio.wait(self._firing)

    async def close(self) -> None:
        """Fire no more."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        if self._firing:
            _, late = await asyncio.wait(self._firing, timeout=_CLOSE_WAIT_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    async def _run(self) -> None:
        alarm = self._make_alarm(self._wake.set)
        pause_s = _RETRY_S
        try:
            while True:
                try:
                    if not self._is_loaded.is_set():
                        await self._load()
                        self._is_loaded.set()
                    await self._follow()
                    await self._fire_all()
                    pause_s = _RETRY_S
                except Exception as error:  # noqa: BLE001 - top of a task; the database may be away
                    log.warning("schedules could not be read or fired; trying again", error=str(error), in_s=pause_s)
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, _RETRY_MAX_S)
                    continue
                if self._changed:
                    continue
                self._wake.clear()
                alarm.set(self._planner.next_at())
                await self._wake.wait()
        finally:
            alarm.close()

    async def _load(self) -> None:
        now = self._clock.now()
        until = await self._store.schedules.planned_until()
        if until is None:
            await self._store.schedules.note_planned_until(now)
        after = -1
        while page := await self._store.schedules.page(after, SLICE):
            for scheduled in page:
                key = scheduled.project_id, scheduled.function_id
                self._plan(key, plan_of(scheduled), _since(scheduled, until or now, now))
            after = page[-1].sequence
            await asyncio.sleep(0)
        if len(self._planner):
            log.info("schedules are active", count=len(self._planner))

    async def _follow(self) -> None:
        """Plan again what was changed; from now on, not from what was planned before."""
        while self._changed:
            keys = [self._changed.pop() for _ in range(min(SLICE, len(self._changed)))]
            try:
                found = {(it.project_id, it.function_id): it for it in await self._store.schedules.of(keys)}
            except BaseException:
                self._changed.update(keys)
                raise
            for key in keys:
                plan = plan_of(found[key]) if key in found else None
                if plan != self._planner.get(*key):  # else what is due at this very moment would be passed over
                    self._plan(key, plan, self._clock.now())

    def _plan(self, key: tuple[str, str], plan: Plan | None, since: datetime) -> None:
        if plan is None:
            self._planner.remove(*key)
        else:
            self._planner.put(plan, since)

    async def _fire_all(self) -> None:
        """Hand everything that is due over to be stored; a slice at a time."""
        while (at := self._planner.next_at()) is not None and at <= self._clock.now():
            fires = self._planner.due(self._clock.now(), SLICE)
            if fires:
                task = asyncio.create_task(self._fire(fires), name="fire schedules")
                self._firing.add(task)
                task.add_done_callback(self._firing.discard)
            await asyncio.sleep(0)

    async def _fire(self, fires: Sequence[Fire]) -> None:
        """Store the executions of these planned times, as often as it takes. Each is stored once."""
        pause_s, left = _RETRY_S, list(fires)
        while left:
            try:
                left = await self._store_all(left)
            except Exception as error:  # noqa: BLE001 - top of a task; the database may be away
                log.warning("schedules could not be fired yet", count=len(left), error=str(error))
            if left:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RETRY_MAX_S)
        # Others of the same planned time may still wait for the end of their jitter.
        until = min(fire.planned_at for fire in fires) - timedelta(seconds=self._planner.jitter_max_s)
        if len(self._firing) == 1:  # whatever was due before is stored too
            try:
                await self._store.schedules.note_planned_until(until)
            except Exception as error:  # noqa: BLE001 - the next one notes it
                log.warning("how far schedules were fired was not noted", error=str(error))

    async def _store_all(self, fires: Sequence[Fire]) -> list[Fire]:
        """One try; returns what the database would not take."""
        keys = [(fire.plan.project_id, fire.plan.function_id) for fire in fires]
        async with self._reading:
            found = {(it.project_id, it.function_id): it for it in await self._store.schedules.of(keys)}
        waiting = []
        for fire, key in zip(fires, keys, strict=True):
            scheduled = found.get(key)
            if scheduled is None or plan_of(scheduled) != fire.plan:
                self.look_at(*key)  # deleted or changed, and nobody told us: by another server
                continue
            id = occasion_id(scheduled.function_id, fire.planned_at)
            storing = self._queued.accept_run(_run(scheduled), _request(scheduled), fire.planned_at, id=id)
            waiting.append((fire, storing))
        left = []
        for fire, storing in waiting:
            try:
                await storing
                self._note_lateness(fire)
            except Conflict:
                continue  # another server was first
            except Exception as error:  # noqa: BLE001 - whatever it is, the planned time must not be lost
                log.warning("a schedule could not be fired yet", function_id=fire.plan.function_id, error=str(error))
                left.append(fire)
        return left

    def _note_lateness(self, fire: Fire) -> None:
        plan = fire.plan
        jitter_s = jitter_ms(plan.function_id, plan.jitter_s) / 1_000 if plan.jitter_s else 0.0
        self.lateness.add(max(0.0, (self._clock.now() - fire.planned_at).total_seconds() - jitter_s))


def plan_of(scheduled: Scheduled) -> Plan | None:
    """What is to be planned for a function: nothing without a rule or an active deployment, or while it is paused.

    `enabled` says who may call a function; its triggers do not look at it (contract: functions-api 11).
    """
    settings = scheduled.settings
    if not scheduled.schedule or not scheduled.deployment_id or settings.schedule_paused:
        return None
    if read_zone(settings.schedule_time_zone) is None:
        log.error("time zone is not known on this machine", zone=settings.schedule_time_zone)
        return None
    return Plan(
        scheduled.project_id,
        scheduled.function_id,
        scheduled.schedule,
        settings.schedule_time_zone,
        settings.schedule_jitter_s,
        settings.schedule_missed_runs,
    )


def _since(scheduled: Scheduled, planned_until: datetime, now: datetime) -> datetime:
    """After which moment planned times count at a start. A short absence loses none, whatever the policy."""
    since = max(planned_until, scheduled.changed_at)
    if scheduled.settings.schedule_missed_runs is MissedRuns.SKIP:
        since = max(since, now - timedelta(seconds=LATE_S + scheduled.settings.schedule_jitter_s))
    return min(since, now)


def _run(scheduled: Scheduled) -> QueuedRun:
    return QueuedRun(scheduled.project_id, scheduled.function_id, scheduled.deployment_id, scheduled.timeout_s)


def _request(scheduled: Scheduled) -> RunRequest:
    payload = scheduled.settings.schedule_payload
    return RunRequest(
        method=payload.method,
        path=payload.path,
        headers=dict(payload.headers),
        body=payload.body.encode(),
        trigger=Trigger.SCHEDULE,
        event="",
    )
