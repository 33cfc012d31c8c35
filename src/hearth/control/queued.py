"""Asynchronous executions: accepted with a durable job, carried out by whoever holds it (contract: functions-api 10.2).

The rows are the truth. Memory only makes it fast: where a place is free, an execution is stored as taken by this
server and starts right after that commit, without a look at the queue.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import structlog

from hearth import log_context, tracing
from hearth.control.gates import Closed, Gates, Key, is_limited
from hearth.control.invocations import (
    MintKey,
    MintUserJwt,
    RunRequest,
    compose,
    compose_headers,
    fail,
    finish,
    reader_of,
    require_runnable,
)
from hearth.control.kept_bodies import KeptBodies, raw_bodies
from hearth.control.retries import (
    Cause,
    Outcome,
    attempt_headers,
    attempt_of,
    decide,
    letter_of,
    next_attempt,
    waited_s,
)
from hearth.control.run_figures import UNKNOWN, RunFigures
from hearth.control.run_spans import begin_run, end_run, with_parent
from hearth.control.runnables import Runnable, Runnables
from hearth.control.stored_runs import QueuedRun, opened, replayed_request, run_of
from hearth.control.views import KEY_GRACE_S, ExecutionView
from hearth.model.durability import DeadReason
from hearth.model.function_settings import DEFAULT_SETTINGS, FunctionSettings
from hearth.model.ids import unique_id
from hearth.model.prompt import Pending, PromptFuture, follow
from hearth.model.refusals import Busy, PlatformFault, Refusal, Unavailable
from hearth.model.resources import Execution, Header, Job
from hearth.model.running import Result
from hearth.model.statuses import EXECUTION_FINAL, ExecutionStatus, JobStatus, Trigger
from hearth.ports import AttemptEnded, Claimed, Clock, Events, Executor, Store, Unit

log = structlog.get_logger(__name__)

#: How long the end of a run waits before it is given to a database again that would not take it.
_END_RETRY_S = 0.1
_END_RETRY_MAX_S = 2.0

#: How long a job is put off that waits for other runs of its function to end, if nobody takes it before.
POSTPONE_S = 60.0
#: Jobs of one function that are remembered to be taken as soon as one ends; those beyond wait for their due time.
PARKED_MAX = 10_000

_STOPPED = "The server was stopped while the execution was running."


class Dispatch(Protocol):
    """Who carries out queued executions on this server (`hearth.jobs.dispatcher`)."""

    def reserve(self, job: Job) -> Job | None:
        """The job as taken by this server, if a place is free and nothing waits for one; `begin` or `unreserve` it."""

    def begin(self, claimed: Claimed) -> None:
        """Carry out what was reserved; it is committed."""

    def unreserve(self) -> None:
        """What was reserved could not be stored."""

    def take(self, job_id: str, otherwise: Callable[[], None]) -> None:
        """Carry out a queued job before it is due; `otherwise` is called if it is not to be had any more."""

    def is_open(self) -> bool:
        """Whether anything is still to be started here."""


class _NotStarted(Exception):
    """The server stops, and user code has not begun to run."""


class _NotNow(Exception):
    """A limit of the function keeps the run waiting."""

    def __init__(self, closed: Closed) -> None:
        self.closed = closed
        super().__init__(closed.message)


class QueuedExecutions:
    """Accepts asynchronous executions and carries them out."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        events: Events,
        executor: Executor,
        runnables: Runnables,
        mint_key: MintKey,
        mint_user_jwt: MintUserJwt,
        gates: Gates,
        bodies: KeptBodies,
        figures: RunFigures | None = None,
    ) -> None:
        self.figures = figures or RunFigures()
        self._store = store
        self._bodies = bodies
        self._gates = gates
        gates.on_left = self._unpark
        self._parked: dict[Key, deque[str]] = {}
        self._turns: dict[Key, float] = {}
        self._queue = store.execution_queue
        self._clock = clock
        self._events = events
        self._executor = executor
        self._runnables = runnables
        self._mint_key = mint_key
        self._mint_user_jwt = mint_user_jwt
        self._dispatch: Dispatch | None = None
        self._spread = random.random
        """Jitter, in [0, 1)."""

    def attach(self, dispatch: Dispatch) -> None:
        """Let `dispatch` start what finds a free place. Without one everything goes through the queue."""
        self._dispatch = dispatch

    def accept(
        self, runnable: Runnable, request: RunRequest, scheduled_at: datetime | None = None, *, id: str = ""
    ) -> PromptFuture[ExecutionView]:
        """Store the record and its job with one commit; the future is done after it, whether or not anybody waits.

        The future gets Conflict(`id`) if an execution of that `id` exists, PlatformFault if the database fails.
        """
        return self.accept_run(run_of(runnable), request, scheduled_at, id=id)

    def accept_run(
        self, run: QueuedRun, request: RunRequest, scheduled_at: datetime | None = None, *, id: str = ""
    ) -> PromptFuture[ExecutionView]:
        """`accept` for a caller who knows the function by these few facts only. One whose time has come begins now."""
        request = with_parent(request)
        execution, job = opened(run, request, scheduled_at, id or unique_id(), self._clock.now())
        dispatch = self._dispatch
        is_due = execution.status is not ExecutionStatus.SCHEDULED
        taken = dispatch.reserve(job) if dispatch is not None and is_due else None
        stored = execution if taken is None else msgspec.structs.replace(execution, status=ExecutionStatus.PROCESSING)
        answer: PromptFuture[ExecutionView] = PromptFuture()

        def committed(writing: "Pending[Execution]") -> None:
            error = writing.exception()
            if error is None:
                self.emit(execution, "create")
            if taken is not None and dispatch is not None:
                if error is None:
                    dispatch.begin(Claimed(taken, stored))
                else:
                    dispatch.unreserve()
            if answer.done():
                return  # whoever asked has left
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(ExecutionView(execution))

        follow(self._queue.accept(stored, taken or job), committed)
        return answer

    async def run(self, claimed: Claimed) -> None:
        """Carry out one attempt and store how it ended. For the dispatcher.

        Every failure ends in the record. If cancelled (the server stops, or the lease was lost), the execution is
        recorded as failed all the same, because user code runs at most once.
        """
        job, execution = claimed.job, claimed.execution
        ids = {"execution_id": job.resource_id, "function_id": job.payload.get("functionId", "")}
        log_context.begin(project_id=job.project_id, job_id=job.id, **ids)
        tracing.leave()  # it is below whoever asked for it, not below what it happens to follow
        if execution is None:  # deleted, or ended by the reaper
            await self._store.jobs.finish(job.id, job.owner)
            return
        self._events.progress(execution.project_id, _event(execution, "update"), execution)
        outcome = Outcome(fail(execution, _STOPPED, self._clock.now()), Cause.LOST)
        settings, runtime = DEFAULT_SETTINGS, UNKNOWN
        try:
            runnable = await self._runnable(job, execution)
            runtime = UNKNOWN if runnable is None else runnable.function.runtime
            settings = DEFAULT_SETTINGS if runnable is None else runnable.settings
            execution = _numbered(execution, attempt_headers(settings, job.attempts))
            outcome = Outcome(fail(execution, _STOPPED, self._clock.now()), Cause.LOST)
            with self._gate(job.project_id, runnable):
                outcome = await self._replay(job, execution, runnable)
        except _NotStarted:
            await self.give_back(claimed)
            return
        except _NotNow as refused:
            await self._postpone(claimed, execution, refused.closed)
            return
        except BaseException:
            await self._end(decide(outcome, settings, job, self._clock.now(), self._spread()), runtime)
            raise
        ended = decide(outcome, settings, job, self._clock.now(), self._spread())
        try:
            # Before the end, so that whoever sees the end finds the result.
            if settings.store_bodies and ended.execution.status in EXECUTION_FINAL:
                await self._keep_bodies(settings, ended.execution, job, outcome.result)
        finally:
            await self._end(ended, runtime)

    async def _keep_bodies(
        self, settings: FunctionSettings, execution: Execution, job: Job, result: Result | None
    ) -> None:
        request = replayed_request(job.payload)
        await self._bodies.store(raw_bodies(settings, execution, self._clock.now(), request, result))

    def again(self, runnable: Runnable, payload: Mapping[str, Any]) -> tuple[Execution, Job]:
        """A new execution of a stored request, and its job; the caller stores both."""
        return opened(run_of(runnable), replayed_request(payload), None, unique_id(), self._clock.now())

    async def retry_at(self, job: Job) -> datetime | None:
        """When an execution whose job was lost is tried again; None if it is not. For the reaper."""
        now = self._clock.now()
        if now >= job.deadline_at:
            return None
        found = await self._runnables.get(job.project_id, job.payload["functionId"])
        if found is None:
            return None
        verdict = next_attempt(found.settings, job.attempts, max(job.created_at, job.due_at), now, self._spread())
        return verdict if isinstance(verdict, datetime) else None

    @contextmanager
    def _gate(self, project_id: str, runnable: Runnable | None) -> Iterator[None]:
        if runnable is None or not is_limited(runnable.settings):
            yield
            return
        key = project_id, runnable.function.id
        closed = self._gates.enter(key, runnable.settings, self._clock.monotonic())
        if closed is not None:
            raise _NotNow(closed)
        try:
            yield
        finally:
            self._gates.leave(key)

    async def _postpone(self, claimed: Claimed, execution: Execution, closed: Closed) -> None:
        """Queue a job again that met a limit of its function; the attempt does not count.

        One that waits for others to end is remembered here and taken as soon as one has ended; its due time is for the
        case that this server does not live to see it.
        """
        key = execution.project_id, execution.function_id
        wait_s = closed.wait_s
        if closed.limit == "maxConcurrency":
            wait_s = POSTPONE_S
        else:
            # One after the other, not all at the same moment.
            now_s = self._clock.monotonic()
            self._turns[key] = max(self._turns.get(key, 0.0) + closed.space_s, now_s + wait_s)
            wait_s = self._turns[key] - now_s
        await self.give_back(Claimed(claimed.job, execution), wait_s)
        if closed.limit == "maxConcurrency":
            parked = self._parked.setdefault(key, deque(maxlen=PARKED_MAX))
            parked.append(claimed.job.id)
            if not self._gates.running(key):  # the last one ended while this was stored
                self._unpark(key)

    def _unpark(self, key: Key) -> None:
        parked = self._parked.get(key)
        if not parked or self._dispatch is None:
            return
        job_id = parked.popleft()
        if not parked:
            del self._parked[key]
        self._dispatch.take(job_id, lambda: self._unpark(key))

    async def give_back(self, claimed: Claimed, wait_s: float = 0.0) -> None:
        """Queue a job again, for in `wait_s` seconds, that was taken and not begun; the attempt does not count."""
        job, execution = claimed.job, claimed.execution
        if execution is None:
            await self._store.jobs.finish(job.id, job.owner)
            return
        now = self._clock.now()
        waiting = msgspec.structs.replace(execution, status=ExecutionStatus.WAITING, updated_at=now)
        due_at = now + timedelta(milliseconds=round(wait_s * 1_000))
        await self._end(
            AttemptEnded(waiting, job.id, job.owner, retry_at=due_at, attempts=job.attempts - 1, error=job.error)
        )

    async def fail_in(self, unit: Unit, job: Job, reason: str, *, is_late: bool) -> Execution | None:
        """End an execution whose job was lost, in the reaper's transaction; returns it, to be announced afterwards."""
        final = await unit.executions.move(
            job.resource_id, ExecutionStatus.FAILED, errors=reason, response_status_code=500
        )
        if final is not None:
            why = DeadReason.ATTEMPTS_USED if job.attempts > 1 else DeadReason.LOST
            letter = letter_of(final, job, DeadReason.TOO_OLD if is_late else why, self._clock.now())
            await unit.dead_letters.add(letter)
            self.figures.dead_letters[letter.reason] += 1
            settings = await unit.function_settings.get(final.function_id)
            if settings.store_bodies:
                self._bodies.keep(raw_bodies(settings, final, self._clock.now(), replayed_request(job.payload), None))
            if job.attempts > 1:
                await unit.attempts.add(attempt_of(final, job.attempts, self._clock.now()))
        return final

    def announce_lost(self, final: Execution) -> None:
        """Say that an execution whose job was lost has ended; after the commit of `fail_in`."""
        self.figures.ended(final, UNKNOWN)
        self.emit(final, "update")

    async def wait_again_in(self, unit: Unit, job: Job, reason: str) -> None:
        """An execution whose job was lost is tried again, in the reaper's transaction."""
        lost = await unit.executions.move(job.resource_id, ExecutionStatus.WAITING)
        if lost is not None:
            failed = fail(lost, reason, self._clock.now())
            await unit.attempts.add(attempt_of(failed, job.attempts, self._clock.now()))

    def emit(self, execution: Execution, action: str) -> None:
        """Say what happened to an execution."""
        if self._events.is_heard(execution.project_id, Execution):
            self._events.emit(execution.project_id, _event(execution, action), execution, user_id=reader_of(execution))

    async def _runnable(self, job: Job, execution: Execution) -> Runnable | None:
        """The function as it is now; waits for a database that is away, because nothing has run yet."""
        pause_s = _END_RETRY_S
        while True:
            try:
                if wanted := job.payload.get("deploymentId"):
                    return await self._runnables.get_deployment(job.project_id, execution.function_id, wanted)
                return await self._runnables.get(job.project_id, execution.function_id)
            except PlatformFault as fault:
                log.warning("an execution waits for the database", job_id=job.id, error=str(fault))
                if self._dispatch is not None and not self._dispatch.is_open():
                    raise _NotStarted from fault
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _END_RETRY_MAX_S)

    async def _replay(self, job: Job, execution: Execution, found: Runnable | None) -> Outcome:
        request = replayed_request(job.payload)
        try:
            runnable, template = require_runnable(found, privileged=True)
        except Refusal as refusal:
            # Failures before the start carry their reason and no deployment (contract: functions-api 10.2).
            return Outcome(fail(execution, refusal.message, self._clock.now(), status_code=0), Cause.NOT_RUNNABLE)
        if request.real_user_id and request.trigger is not Trigger.EVENT:
            # By now the caller's session may be over, so the token stands for the user alone (contract: 12.2).
            lifetime_s = runnable.function.timeout_s + KEY_GRACE_S
            user_jwt = self._mint_user_jwt(job.project_id, request.real_user_id, "", lifetime_s)
            request = msgspec.structs.replace(request, user_jwt=user_jwt)
        headers = compose_headers(execution.id, runnable, request, self._mint_key)
        headers |= attempt_headers(runnable.settings, job.attempts)
        span = begin_run(request, headers, due_s=job.due_at.timestamp())
        invocation = compose(execution.id, runnable, template, request, headers, is_async=True)
        before_s = waited_s(execution, job, self._clock.now())
        try:
            result = await self._executor.invoke(invocation)
        except Busy as busy:
            if span is not None:
                span.end(str(busy))
            return Outcome(fail(execution, str(busy), self._clock.now()), Cause.NOT_STARTED)
        except PlatformFault as fault:
            if span is not None:
                span.end(str(fault))
            if isinstance(fault, Unavailable) and self._dispatch is not None and not self._dispatch.is_open():
                raise _NotStarted from fault
            log.exception("execution failed for a reason of ours", execution_id=execution.id)
            return Outcome(fail(execution, str(fault), self._clock.now()), Cause.NOT_STARTED)
        self.figures.ran(execution.trigger, template.runtime, result, before_s)
        now = self._clock.now()
        final = finish(execution, result, logging=runnable.function.logging, now=now, waited_s=before_s)
        if span is not None:
            end_run(span, final, result)
        return Outcome(final, Cause.RAN, result)

    async def _end(self, ended: AttemptEnded, runtime: str = UNKNOWN) -> None:
        """Store the end of an attempt, as often as it takes: what has happened must not be forgotten.

        Cancelling this leaves the job to the reaper, which ends it when the lease is over.
        """
        pause_s = _END_RETRY_S
        while True:
            try:
                stored = await asyncio.shield(self._queue.end(ended))
            except PlatformFault as fault:
                log.warning("the end of an execution was not stored yet", job_id=ended.job_id, error=str(fault))
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _END_RETRY_MAX_S)
                continue
            if stored and ended.execution.status in EXECUTION_FINAL:
                self.figures.ended(ended.execution, runtime)
                if ended.dead_letter is not None:
                    self.figures.dead_letters[ended.dead_letter.reason] += 1
                self.emit(ended.execution, "update")
            elif not stored:
                log.warning("an execution's end came too late: its job was taken away", job_id=ended.job_id)
            return


def _event(execution: Execution, action: str) -> str:
    return f"functions.{execution.function_id}.executions.{execution.id}.{action}"


def _numbered(execution: Execution, headers: tuple[Header, ...]) -> Execution:
    """The record with the headers that say which attempt it is; those of the attempt before go."""
    names = {name for name, _ in headers}
    if not names:
        return execution
    kept = tuple(header for header in execution.request_headers if header[0] not in names)
    return msgspec.structs.replace(execution, request_headers=kept + headers)


def taken(job: Job, owner: str, leased_until: datetime) -> Job:
    """A new job as one that `owner` has claimed for the first time."""
    return replace(job, status=JobStatus.CLAIMED, owner=owner, leased_until=leased_until, attempts=1)
