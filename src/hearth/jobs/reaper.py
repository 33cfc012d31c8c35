"""Ends or re-queues what a lost owner held, at start and always. A loop, not a job: nothing has to run for it.

Every job has an owner with a lease, and a deadline (architecture: principle 2). Whatever outlived one of them is
taken up here, together with its resource, in one transaction.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from hearth.jobs.handlers import Handlers
from hearth.jobs.worker import LEASE_S
from hearth.model.resources import Job
from hearth.model.statuses import JobStatus
from hearth.ports import Clock, Store

log = structlog.get_logger(__name__)

INTERVAL_S = 5.0
_BATCH = 100
#: The wall clock was set, rather than slewed, if it went by so much more or less than the monotonic one.
CLOCK_STEP_S = 2.0

_STOPPED = "The server was stopped while it worked on this."
_LEASE_OVER = "The worker that had this was lost."
_TOO_LATE = "This waited past its deadline without being done."


class Reaper:
    """`at_start` before anything is claimed, then `start` for the rest of the process's life."""

    def __init__(
        self, *, store: Store, clock: Clock, handlers: Handlers, node: str, is_held: Callable[[str], bool]
    ) -> None:
        """`is_held` tells of a job's id whether this process is at work on it now: such a job is not lost."""
        self._store = store
        self._clock = clock
        self._handlers = handlers
        self._node = node
        self._is_held = is_held
        self._loop: asyncio.Task[None] | None = None
        self._seen: tuple[datetime, float] | None = None
        self._patient_until = float("-inf")

    async def at_start(self) -> None:
        """Take back what the previous server of this data folder held: nobody else can be working on it."""
        for job in await self._store.jobs.unfinished():
            if job.status is JobStatus.CLAIMED and job.owner.startswith(f"{self._node}/"):
                await self._give_up(job, _STOPPED, ours=True)
        await self.sweep()

    async def sweep(self) -> int:
        """One round; returns how many jobs were taken up.

        Leases and due times are of the wall clock. After it was set, the living get one lease period to renew before
        anything counts as lost, and what was due by the clock as it was is due by the clock as it is.
        """
        await self._look_at_clock()
        if self._clock.monotonic() < self._patient_until:
            return 0
        taken = 0
        for job in await self._store.jobs.expired(_BATCH):
            if self._is_held(job.id):
                continue  # a renewal is late, or the database was away: its holder is alive
            late = self._clock.now() >= job.deadline_at
            await self._give_up(job, _TOO_LATE if late else _LEASE_OVER, ours=False)
            taken += 1
        return taken

    async def _look_at_clock(self) -> None:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if self._seen is not None:
            expected = self._seen[0] + timedelta(seconds=monotonic - self._seen[1])
            step_s = (now - expected).total_seconds()
            if abs(step_s) > CLOCK_STEP_S:
                log.warning("the clock was set; lost work is looked for again after one lease", step_s=round(step_s, 3))
                self._patient_until = monotonic + LEASE_S
                if step_s < 0:
                    await self._store.jobs.bring_forward(expected)
        self._seen = now, monotonic

    def start(self) -> None:
        """Begin the loop."""
        self._loop = asyncio.create_task(self._sweep_for_ever(), name="reaper")

    async def close(self) -> None:
        """End the loop."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                while await self.sweep() == _BATCH:
                    pass
            except Exception:
                log.exception("the reaper's round failed; the next one follows")

    async def _give_up(self, job: Job, reason: str, *, ours: bool) -> None:
        again = await self._handlers.retry_at(job, self._clock.now())
        ended = None
        async with self._store.begin(job.project_id) as unit:
            if ours:
                taken = await unit.jobs.fail(job.id, job.owner, reason, again)
            else:
                taken = await unit.jobs.reclaim(job.id, reason, again)
            if not taken:
                return  # it was renewed or finished meanwhile
            if again is None:
                ended = await self._handlers.end_resource(unit, job, reason, is_late=reason == _TOO_LATE)
            else:
                await self._handlers.note_retry(unit, job, reason)
        self._handlers.announce(ended)
        log.warning(
            "lost job taken up", job_id=job.id, kind=job.kind, resource_id=job.resource_id, again=again is not None
        )
