"""Claims jobs and runs their handlers: bounded, with a heartbeat, and an orderly end.

The row is the truth: whatever this process holds is also leased in the database, so a killed worker loses its
jobs to the reaper, never to oblivion.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta

import structlog

from hearth import log_context
from hearth.control.jobs import JobKind
from hearth.model.resources import Job
from hearth.ports import Clock, Store

log = structlog.get_logger(__name__)

#: A claimed job is lost when its worker did not renew for this long.
LEASE_S = 30.0
#: Longest sleep between two looks at the queue; wake-ups make it rarely matter.
POLL_S = 5.0
#: Kinds whose resource is a deployment.
_OF_DEPLOYMENTS = frozenset({JobKind.BUILD, JobKind.REPORT})

Handler = Callable[[Job], Awaitable[None]]


class JobFailed(Exception):
    """A handler's way to say that a job failed for a reason that is nobody's bug. `again`: a retry may help."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        self.again = again
        super().__init__(reason)


def retry_at(job: Job, now: datetime) -> datetime | None:
    """When a failed attempt is repeated (1 s, 2 s, 4 s ... 5 min), or None when it was the last one."""
    if job.attempts >= job.max_attempts or now >= job.deadline_at:
        return None
    return now + timedelta(seconds=min(2.0 ** (job.attempts - 1), 300.0))


class Worker:
    """Runs jobs of some kinds, at most `concurrency[kind]` of each at once.

    Kinds `in_turn` are shared between projects: one with many jobs does not make others wait for all of them.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        owner: str,
        handlers: Mapping[str, Handler],
        concurrency: Mapping[str, int],
        on_dead: Callable[[Job, str], Awaitable[None]],
        in_turn: Collection[str] = (),
    ) -> None:
        self._store = store
        self._clock = clock
        self._owner = owner
        self._handlers = dict(handlers)
        self._concurrency = dict(concurrency)
        self._on_dead = on_dead
        self._in_turn = frozenset(in_turn)
        self._running: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._loop: asyncio.Task[None] | None = None
        self._freed = asyncio.Event()

    def start(self) -> None:
        """Begin to claim."""
        self._loop = asyncio.create_task(self._claim_for_ever(), name="worker")

    def pause(self) -> None:
        """Claim no more; what runs goes on."""
        if self._loop is not None:
            self._loop.cancel()

    async def close(self) -> None:
        """Stop claiming, cancel what runs and give it back; returns when nothing of it is left."""
        self.pause()
        if self._loop is not None:
            await asyncio.wait([self._loop])
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel("the server stops")
        if tasks:
            await asyncio.wait(tasks)

    def holds(self, job_id: str) -> bool:
        """Whether this worker is at work on a job now."""
        return job_id in self._running

    def _free(self) -> dict[str, int]:
        busy = [kind for kind, _ in self._running.values()]
        return {kind: most - busy.count(kind) for kind, most in self._concurrency.items()}

    async def _claim_for_ever(self) -> None:
        while True:
            try:
                claimed = await self._claim()
            except Exception:
                log.exception("claiming jobs failed; trying again")
                await asyncio.sleep(1.0)
                continue
            if not claimed:
                await self._wait()

    async def _claim(self) -> bool:
        claimed = False
        for kind, free in self._free().items():
            if free <= 0:
                continue
            for job in await self._take(kind, free):
                task = asyncio.create_task(self._carry_out(job), name=f"job-{job.id}")
                self._running[job.id] = kind, task
                claimed = True
        return claimed

    async def _take(self, kind: str, free: int) -> tuple[Job, ...]:
        if kind in self._in_turn:
            return await self._store.jobs.claim_in_turn(self._owner, kind, free, LEASE_S)
        return await self._store.jobs.claim(self._owner, [kind], free, LEASE_S)

    async def _wait(self) -> None:
        """Until a job was added, one of ours ended, or one that waits for its time is due."""
        due = await self._store.jobs.next_due([kind for kind, free in self._free().items() if free > 0])
        timeout_s = POLL_S
        if due is not None:
            timeout_s = min(POLL_S, max(0.0, (due - self._clock.now()).total_seconds()))
        self._freed.clear()
        added = asyncio.ensure_future(self._store.wait_for_jobs(timeout_s))
        freed = asyncio.ensure_future(self._freed.wait())
        try:
            await asyncio.wait([added, freed], timeout=timeout_s + 0.005, return_when=asyncio.FIRST_COMPLETED)
        finally:
            added.cancel()
            freed.cancel()

    async def _carry_out(self, job: Job) -> None:
        ids = {"function_id": job.payload.get("functionId", "")}
        if job.kind in _OF_DEPLOYMENTS:
            ids["deployment_id"] = job.resource_id
        log_context.begin(project_id=job.project_id, job_id=job.id, **ids)
        bound = log.bind(kind=job.kind, resource_id=job.resource_id, attempt=job.attempts)
        work = asyncio.ensure_future(self._handlers[job.kind](job))
        beat = asyncio.create_task(self._beat(job, work))
        try:
            await asyncio.shield(work)
            await self._store.jobs.finish(job.id, self._owner)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            await asyncio.shield(self._store.jobs.release(job.id, self._owner))
        except JobFailed as failure:
            bound.info("job attempt failed", reason=str(failure))
            await self._failed(job, str(failure), may_retry=failure.again)
        except Exception as error:  # noqa: BLE001 - top of a task: logged, and the job is told
            bound.exception("job failed")
            await self._failed(job, f"{type(error).__name__}: {error}")
        finally:
            beat.cancel()
            self._running.pop(job.id, None)
            self._freed.set()

    async def _failed(self, job: Job, error: str, *, may_retry: bool = True) -> None:
        again = retry_at(job, self._clock.now()) if may_retry else None
        if await self._store.jobs.fail(job.id, self._owner, error, again) and again is None:
            await self._on_dead(job, error)

    async def _beat(self, job: Job, work: "asyncio.Future[None]") -> None:
        """Renew the lease; when it is no longer ours, stop working: somebody else may have the job."""
        while True:
            await asyncio.sleep(LEASE_S / 3)
            try:
                if await self._store.jobs.renew(job.id, self._owner, LEASE_S):
                    continue
            except Exception:
                log.exception("renewing a lease failed", job_id=job.id)
                continue
            log.warning("lease lost; the job is left to others", job_id=job.id)
            work.cancel("the lease was lost")
            return
