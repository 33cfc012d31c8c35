"""Executions: run a function now or later, list, read, delete (contract: functions-api 5.15-5.17, 10).

A synchronous run is carried by a task of ours, not by the request: a caller who leaves changes nothing, the run
ends and is recorded. No transaction is open while user code runs.
"""

import asyncio
import math
from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from hearth import tracing
from hearth.control.gates import Closed, Gates, is_limited
from hearth.control.invocations import (
    KnownRuns,
    MintKey,
    MintUserJwt,
    RunRequest,
    compose,
    fail,
    open_execution,
    require_execute,
    require_runnable,
    require_visitable,
    run_headers,
    stored_request_headers,
)
from hearth.control.jobs import JobKind
from hearth.control.kept_bodies import KeptBodies, RawBodies
from hearth.control.late_records import LateRecords
from hearth.control.queued import QueuedExecutions
from hearth.control.requiring import require_function
from hearth.control.run_figures import UNKNOWN
from hearth.control.run_spans import begin_run
from hearth.control.runnables import Runnable, Runnables
from hearth.control.streams import ResponseStream
from hearth.control.sync_runs import Keeping, SyncRun
from hearth.control.views import KEY_GRACE_S, SYNC_WAIT_S, ExecutionView
from hearth.model.actor import Actor, ActorKind
from hearth.model.bodies import BodyCopy
from hearth.model.headers import RunHeaders
from hearth.model.ids import unique_id
from hearth.model.prompt import Pending, PromptFuture
from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault, Refusal
from hearth.model.resources import Execution, Header
from hearth.model.running import InstanceTemplate
from hearth.model.statuses import EXECUTION_FINAL, ExecutionStatus
from hearth.ports import Clock, Events, Executor, Page, Store, Unit


class ExecutionsControl:
    """Use cases of executions."""

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
        queued: QueuedExecutions,
        gates: Gates,
        bodies: KeptBodies,
    ) -> None:
        self._store = store
        self._log = store.execution_log
        self._clock = clock
        self._events = events
        self._executor = executor
        self._runnables = runnables
        self._mint_key = mint_key
        self._mint_user_jwt = mint_user_jwt
        self._queued = queued
        self.figures = queued.figures
        self._gates = gates
        self._bodies = bodies
        self._known = KnownRuns()
        self._runs: dict[SyncRun, None] = {}
        """What runs now, the oldest first."""
        self._idle = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._late = LateRecords(self._log, self._recorded_late)

    async def create(
        self,
        project_id: str,
        actor: Actor,
        function_id: str,
        *,
        body: bytes = b"",
        is_async: bool = False,
        path: str = "/",
        method: str = "POST",
        headers: Mapping[str, str],
        scheduled_at: datetime | None = None,
        client_ip: str = "",
        host: str = "",
        streams: bool = False,
        id: str = "",
    ) -> ExecutionView:
        """Run the function, or queue the run when `is_async` (at `scheduled_at`, if given).

        With `streams`, a response that the function streams comes as the view's `stream`, while it runs.
        `id` is the execution's, made up if `""`. Raises `function_not_found`, `deployment_not_found`,
        `build_not_ready`, `user_unauthorized`,
        `function_synchronous_timeout`, and Busy or Unavailable when no instance could be had.
        """
        runnable = self._runnables.peek(project_id, function_id) or await self._runnables.get(project_id, function_id)
        privileged = actor.is_privileged
        runnable, template = require_runnable(runnable, privileged=privileged)
        if not privileged:
            require_execute(runnable, actor.roles)
        # An admin is somebody in the console, not a user of this project.
        user_id = actor.user_id if actor.kind is ActorKind.USER else ""
        request = RunRequest(
            method=method,
            path=path,
            headers=headers,
            body=body,
            user_id=user_id,
            real_user_id=actor.real_user_id if user_id else "",
            client_ip=client_ip,
        )
        if is_async:
            return await asyncio.shield(self._queued.accept(runnable, request, scheduled_at, id=id))
        if user_id and actor.session_id:
            lifetime_s = runnable.function.timeout_s + KEY_GRACE_S
            user_jwt = self._mint_user_jwt(project_id, actor.real_user_id, actor.session_id, lifetime_s)
            request = replace(request, user_jwt=user_jwt)
        return await self.run_now(runnable, template, request, id, streams=streams)

    def begin(
        self,
        project_id: str,
        actor: Actor,
        function_id: str,
        *,
        body: bytes,
        path: str,
        method: str,
        headers: Mapping[str, str],
        client_ip: str,
        is_async: bool = False,
    ) -> PromptFuture[ExecutionView] | None:
        """`create` for a key, at once, where everything is in memory and nothing is to be refused; None otherwise.

        The future gets what `create` returns or raises.
        """
        runnable = self._runnables.peek(project_id, function_id)
        if runnable is None or runnable.template is None or actor.kind is not ActorKind.KEY:
            return None
        request = RunRequest(method=method, path=path, headers=headers, body=body, client_ip=client_ip)
        if is_async:
            return self._queued.accept(runnable, request)
        if is_limited(runnable.settings):
            return None
        return self.run_now(runnable, runnable.template, request)

    async def visit(
        self,
        project_id: str,
        function_id: str,
        deployment_id: str = "",
        *,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        client_ip: str,
    ) -> ExecutionView:
        """Run a function for a visitor of its domain: its active deployment, or the one named.

        A response that the function streams comes as the view's `stream`, while it runs.
        Raises what `require_visitable` raises, `function_synchronous_timeout`, Busy and Unavailable.
        """
        if deployment_id:
            runnable = await self._runnables.get_deployment(project_id, function_id, deployment_id)
        else:
            runnable = self._runnables.peek(project_id, function_id)
            runnable = runnable or await self._runnables.get(project_id, function_id)
        runnable, template = require_visitable(runnable)
        request = RunRequest(method=method, path=path, headers=headers, body=body, client_ip=client_ip)
        return await self.run_now(runnable, template, request, streams=True)

    def begin_visit(
        self,
        project_id: str,
        function_id: str,
        *,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        client_ip: str,
    ) -> PromptFuture[ExecutionView] | None:
        """`visit` of the active deployment, at once, where everything is in memory and nothing is to be refused.

        None otherwise. The future gets what `visit` returns or raises.
        """
        runnable = self._runnables.peek(project_id, function_id)
        if runnable is None or is_limited(runnable.settings):
            return None
        try:
            runnable, template = require_visitable(runnable)
        except Refusal:
            return None
        request = RunRequest(method=method, path=path, headers=headers, body=body, client_ip=client_ip)
        return self.run_now(runnable, template, request, streams=True)

    def running(self, project_id: str, function_id: str, execution_id: str) -> Execution | None:
        """A synchronous execution that runs now; it is in no database yet."""
        for run in self._runs:
            execution = run.execution
            if execution.id == execution_id:
                owner = (execution.project_id, execution.function_id)
                return execution if owner == (project_id, function_id) else None
        return None

    async def list(self, project_id: str, actor: Actor, function_id: str, query: ListQuery) -> Page[Execution]:
        """Executions the caller may read: all for keys and admins, a user's own otherwise."""
        async with self._store.view(project_id) as unit:
            await _require_visible(unit, actor, function_id)
            return await unit.executions.list(function_id, query, None if actor.is_privileged else actor.roles)

    async def get(self, project_id: str, actor: Actor, function_id: str, execution_id: str) -> Execution:
        """Raises `function_not_found`, `execution_not_found` (also when the caller may not read it)."""
        async with self._store.view(project_id) as unit:
            await _require_visible(unit, actor, function_id)
            return await _require(unit, actor, function_id, execution_id)

    async def find(self, project_id: str, function_id: str, execution_id: str) -> Execution | None:
        """An execution if it is stored, or is still to be because the database was away; whoever may read it.

        For the one who made it.
        """
        late = self._late.find(project_id, execution_id)
        if late is not None:
            return late if late.function_id == function_id else None
        async with self._store.view(project_id) as unit:
            return await unit.executions.get(function_id, execution_id)

    async def delete(self, project_id: str, actor: Actor, function_id: str, execution_id: str) -> None:
        """Delete a finished or a scheduled execution; the latter is unscheduled.

        Raises `function_not_found`, `execution_not_found`, `execution_in_progress`.
        """
        async with self._store.begin(project_id) as unit:
            await _require_visible(unit, actor, function_id)
            execution = await _require(unit, actor, function_id, execution_id)
            if execution.status is ExecutionStatus.SCHEDULED:
                if not await unit.jobs.cancel_of(JobKind.EXECUTE, execution_id):
                    raise Refusal("execution_in_progress")
            elif execution.status not in EXECUTION_FINAL:
                raise Refusal("execution_in_progress")
            await unit.executions.delete(execution_id)
        self._events.emit(project_id, f"functions.{function_id}.executions.{execution_id}.delete", execution)

    async def interrupted(self, execution: Execution, reason: str) -> None:
        """Record a run that a killed server had begun as failed, with the reason. Called at start."""
        failed = await self._log.record(fail(execution, reason, self._clock.now()))
        self.figures.ended(failed, UNKNOWN)

    async def drain(self) -> None:
        """Wait until every synchronous run has been recorded. Called while stopping, after the executor closed."""
        while self._runs:
            self._idle.clear()
            await self._idle.wait()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._late.close()

    def run_now(
        self,
        runnable: Runnable,
        template: InstanceTemplate,
        request: RunRequest,
        id: str = "",
        *,
        streams: bool = False,
    ) -> PromptFuture[ExecutionView]:
        """Run once. The run belongs to us, not to whoever asked: if he leaves, it ends and is recorded all the same.

        Raises `general_rate_limit_exceeded` if a limit of the function forbids it now.
        """
        function, settings = runnable.function, runnable.settings
        id = id or unique_id()
        key = self._mint_key(function.project_id, function.scopes, function.timeout_s + KEY_GRACE_S)
        common = None if tracing.is_on() else self._known.of(request, key)
        headers: Mapping[str, str]
        stored: tuple[Header, ...]
        span = composed = None
        if common is not None:
            headers, stored = RunHeaders(common, id), common.stored
        else:
            headers = composed = run_headers(id, request, key)
            stored = stored_request_headers(composed)
        execution = open_execution(id, runnable, request, stored, self._clock.now())
        stream = None
        if streams:
            stream = ResponseStream(BodyCopy(settings.bodies_max_bytes) if settings.store_bodies else None)
        invocation = compose(id, runnable, template, request, headers, is_async=False, receiver=stream)
        gate = None
        if is_limited(settings):
            gate = function.project_id, function.id
            closed = self._gates.enter(gate, settings, self._clock.monotonic())
            if closed is not None:
                self.figures.refused[closed.limit] += 1
                raise _refused(closed)
        if composed is not None:
            span = begin_run(request, composed)
        self._log.begin(execution)
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        due = loop.time() + SYNC_WAIT_S
        run = SyncRun(self, execution, stream, template.runtime, due, logging=function.logging)
        run.gate = gate
        run.span = span
        if settings.store_bodies:
            run.keeping = Keeping(settings, request)
        self._runs[run] = None
        if self._timer is None:
            self._timer = loop.call_later(SYNC_WAIT_S, self._on_timer)
        run.start(self._executor.submit(invocation))
        return run.answer

    def _on_timer(self) -> None:
        """Give up what has run for too long; the same time holds for all, so one timer serves them, in their order."""
        self._timer = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for run in list(self._runs):
            if run.due > now:
                if run.due < math.inf:
                    self._timer = loop.call_later(run.due - now, self._on_timer)
                    return
            else:
                run.give_up()

    def now(self) -> datetime:
        """The time, for a run."""
        return self._clock.now()

    def record(self, execution: Execution) -> Pending[Execution]:
        """Store the end of a run."""
        return self._log.submit(execution)

    def record_late(self, execution: Execution, fault: PlatformFault, bodies: RawBodies | None) -> None:
        """Store the end of a run when the database is back, which it was not for `record`."""
        if bodies is not None:
            self._bodies.hold(bodies)
        self._late.keep(execution, fault)

    def keep_bodies(self, bodies: RawBodies) -> None:
        """Keep the bodies of a run that is recorded."""
        self._bodies.keep(bodies)

    def ended(self, run: SyncRun) -> None:
        """A synchronous run has been recorded (or could not be). Called by the run."""
        self._runs.pop(run, None)
        if run.gate is not None:
            self._gates.leave(run.gate)
        if not self._runs:
            self._idle.set()

    def emit(self, execution: Execution, action: str) -> None:
        """Say what happened to an execution."""
        self._queued.emit(execution, action)

    def _recorded_late(self, execution: Execution) -> None:
        self._bodies.release(execution)
        self.emit(execution, "create")


def _refused(closed: Closed) -> Refusal:
    seconds = max(1, math.ceil(closed.wait_s))
    return Refusal(
        "general_rate_limit_exceeded",
        f"{closed.message} (limit: {closed.limit}). Try again in {seconds} s, or run it in the background.",
        headers={"retry-after": str(seconds)},
    )


async def _require_visible(unit: Unit, actor: Actor, function_id: str) -> None:
    """A disabled function is there for keys and admins only (contract: functions-api 5.15, 5.16)."""
    function = await require_function(unit, function_id)
    if not (function.enabled or actor.is_privileged):
        raise Refusal("function_not_found")


async def _require(unit: Unit, actor: Actor, function_id: str, execution_id: str) -> Execution:
    execution = await unit.executions.get(function_id, execution_id)
    if execution is None:
        raise Refusal("execution_not_found")
    if not actor.is_privileged and not any(f'read("{role}")' in execution.permissions for role in actor.roles):
        raise Refusal("execution_not_found")
    return execution
