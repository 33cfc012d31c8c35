"""Carries out asynchronous executions on this server: a number of places, a heartbeat, and an orderly end.

An execution that finds a free place is stored as taken by this server and starts with its commit; any other one waits
in the queue, which is looked at when a place comes free, when jobs were added, and when one falls due. The rows are
the truth: what a killed server held is found by the reaper, what waited is claimed by the next start.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog

from hearth import log_context
from hearth.control.jobs import JobKind
from hearth.control.queued import QueuedExecutions, taken
from hearth.jobs.worker import LEASE_S, POLL_S
from hearth.model.refusals import PlatformFault
from hearth.model.resources import Job
from hearth.ports import Claimed, Clock, Store

log = structlog.get_logger(__name__)

#: How long a stop waits for the ends of what it has cancelled to be stored; what is left is the reaper's.
CLOSE_WAIT_S = 10.0
LOST_GRACE_S = 1.0
_KINDS = (JobKind.EXECUTE,)


class Dispatcher:
    """Runs at most `places` queued executions at once. `start` it, then `pause` and `close`; one event loop."""

    def __init__(self, *, store: Store, clock: Clock, owner: str, queued: QueuedExecutions, places: int) -> None:
        self._store = store
        self._queue = store.execution_queue
        self._clock = clock
        self._owner = owner
        self._queued = queued
        self._places = places
        self._reserved = 0
        self._running: dict[str, asyncio.Task[None]] = {}
        self._taking: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        self._backlog = True
        """Whether something may wait in the queue: then nothing new is started before it."""
        self._more = False
        """Whether the last claim got all it asked for: then the next one need not look whether anything is due."""
        self._open = False

    def start(self) -> None:
        """Begin to claim, and to start what is accepted from now on."""
        self._open = True
        self._store.on_jobs(self._wake.set)
        self._queued.attach(self)
        self._loops = [
            asyncio.create_task(self._claim_for_ever(), name="claim executions"),
            asyncio.create_task(self._beat(), name="renew executions"),
        ]

    def pause(self) -> None:
        """Start nothing any more; what runs goes on, and keeps its leases."""
        self._open = False
        self._wake.set()

    async def close(self) -> None:
        """Stop for good: cancel what still runs, and see its end recorded."""
        self.pause()
        if self._loops:
            await asyncio.wait(self._loops[:1])  # what it has just claimed is given back
        if self._taking:
            await asyncio.wait(self._taking)
        running = list(self._running.values())
        for task in running:
            task.cancel("the server stops")
        if running:
            _, late = await asyncio.wait(running, timeout=CLOSE_WAIT_S)
            for task in late:
                task.cancel("the database does not answer")
            if late:
                log.error("executions could not be recorded; the next start ends them", count=len(late))
                await asyncio.wait(late)
        for loop in self._loops:
            loop.cancel()
        if self._loops:
            await asyncio.wait(self._loops)

    def holds(self, job_id: str) -> bool:
        """Whether this server is at work on a job now."""
        return job_id in self._running

    # -------------------------------------------------------------------------------------------- Dispatch

    def reserve(self, job: Job) -> Job | None:
        """See `hearth.control.queued.Dispatch`."""
        if not self._open or self._backlog or self._free() <= 0:
            self._backlog = True  # it is queued now, and comes first
            return None
        self._reserved += 1
        return taken(job, self._owner, self._clock.now() + timedelta(seconds=LEASE_S))

    def begin(self, claimed: Claimed) -> None:
        """See `hearth.control.queued.Dispatch`."""
        self._reserved -= 1
        self._run(claimed)

    def unreserve(self) -> None:
        """See `hearth.control.queued.Dispatch`."""
        self._reserved -= 1
        self._wake.set()

    def take(self, job_id: str, otherwise: Callable[[], None]) -> None:
        """See `hearth.control.queued.Dispatch`. It takes the place of the run whose end it was waiting for."""
        if not self._open:
            return
        self._reserved += 1
        taking = asyncio.create_task(self._take(job_id, otherwise), name=f"take job-{job_id}")
        self._taking.add(taking)
        taking.add_done_callback(self._taking.discard)

    async def _take(self, job_id: str, otherwise: Callable[[], None]) -> None:
        claimed = None
        try:
            claimed = await self._queue.claim_one(job_id, self._owner, LEASE_S)
        except PlatformFault as fault:
            log.warning("a job was not taken; it waits for its time", job_id=job_id, error=str(fault))
        finally:
            self._reserved -= 1
        if claimed is None:
            otherwise()
        elif self._open:
            self._run(claimed)
        else:
            await self._queued.give_back(claimed)

    def is_open(self) -> bool:
        """See `hearth.control.queued.Dispatch`."""
        return self._open

    # -------------------------------------------------------------------------------------------- running

    def _free(self) -> int:
        return self._places - len(self._running) - self._reserved

    def _run(self, claimed: Claimed) -> None:
        job_id = claimed.job.id
        task = asyncio.create_task(self._queued.run(claimed), name=f"job-{job_id}")
        self._running[job_id] = task
        task.add_done_callback(lambda ended: self._ended(job_id, ended), context=log_context.blank())

    def _ended(self, job_id: str, task: "asyncio.Task[None]") -> None:
        del self._running[job_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("carrying out an execution failed; its lease runs out", job_id=job_id, exc_info=error)
        if self._backlog:
            self._wake.set()

    async def _claim_for_ever(self) -> None:
        while self._open:
            try:
                timeout_s = await self._claim()
            except Exception:
                log.exception("claiming executions failed; trying again")
                timeout_s = 1.0
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _claim(self) -> float:
        """Take what is due into the free places; returns after how many seconds to look again, at the latest."""
        self._wake.clear()
        free = self._free()
        if free <= 0:
            return POLL_S  # a place that comes free wakes
        if not self._more:
            self._backlog = False  # set again by whatever is queued from here on
            due = await self._store.jobs.next_due(_KINDS)
            if due is None:
                return POLL_S
            wait_s = (due - self._clock.now()).total_seconds()
            if wait_s > 0:
                return min(POLL_S, wait_s)
        was_sure, self._more = self._more, False
        self._backlog = True
        self._reserved += free
        try:
            claimed = await self._queue.claim(self._owner, _KINDS, free, LEASE_S)
        finally:
            self._reserved -= free
        self._more = len(claimed) == free
        for one in claimed:
            if self._open:
                self._run(one)
            else:
                await self._queued.give_back(one)
        # Nothing although one is due: another server has it in its hands, or it is past its deadline.
        return 0.0 if claimed or was_sure else 1.0

    async def _beat(self) -> None:
        """Renew all leases together; what is not ours any more is stopped: somebody else may have it."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            before = set(self._running)
            if not before:
                continue
            try:
                held = await self._queue.renew(self._owner, LEASE_S)
            except Exception:
                log.exception("renewing leases failed; the next round follows")
                continue
            lost = before - held
            if lost:
                await asyncio.sleep(LOST_GRACE_S)  # one that has just ended is not held either
            for job_id in lost:
                if (task := self._running.get(job_id)) is not None:
                    log.warning("lease lost; the execution is stopped", job_id=job_id)
                    task.cancel("the lease was lost")
