"""Executions: run a function now or later, list, read, delete (contract: functions-api 5.15-5.17, 10).

A synchronous run is carried by a task of ours, not by the request: a caller who leaves changes nothing, the run
ends and is recorded. No transaction is open while user code runs.
"""

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from hearth.control.functions import require_function
from hearth.control.invocations import (
    MintKey,
    MintUserJwt,
    RunRequest,
    compose,
    compose_headers,
    fail,
    finish,
    open_execution,
    reader_of,
    require_execute,
    require_runnable,
    require_visitable,
    shown_response_headers,
    stored_request_headers,
)
from hearth.control.jobs import JobKind, execute_job
from hearth.control.runnables import Runnable, Runnables
from hearth.control.views import KEY_GRACE_S, SYNC_WAIT_S, ExecutionView
from hearth.model.actor import Actor, ActorKind
from hearth.model.ids import unique_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Busy, PlatformFault, Refusal
from hearth.model.resources import Execution
from hearth.model.running import InstanceTemplate, Result
from hearth.model.statuses import EXECUTION_FINAL, ExecutionStatus, Trigger
from hearth.ports import Clock, Events, Executor, Page, Store, Unit

log = structlog.get_logger(__name__)

_SYNC_TIMEOUT_REASON = f"Synchronous function execution timed out after {SYNC_WAIT_S:g} seconds.\nError Code: 408"
_INTERNAL_REASON = "The platform failed while it ran this execution. The server log has the details."


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
    ) -> None:
        self._store = store
        self._log = store.execution_log
        self._clock = clock
        self._events = events
        self._executor = executor
        self._runnables = runnables
        self._mint_key = mint_key
        self._mint_user_jwt = mint_user_jwt
        self._tasks: set[asyncio.Task[ExecutionView]] = set()

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
    ) -> ExecutionView:
        """Run the function, or queue the run when `is_async` (at `scheduled_at`, if given).

        Raises `function_not_found`, `deployment_not_found`, `build_not_ready`, `user_unauthorized`,
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
            return await self._enqueue(runnable, request, scheduled_at)
        if user_id and actor.session_id:
            lifetime_s = runnable.function.timeout_s + KEY_GRACE_S
            user_jwt = self._mint_user_jwt(project_id, actor.real_user_id, actor.session_id, lifetime_s)
            request = replace(request, user_jwt=user_jwt)
        return await self._run_now(runnable, template, request)

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

        Raises what `require_visitable` raises, `function_synchronous_timeout`, Busy and Unavailable.
        """
        if deployment_id:
            runnable = await self._runnables.get_deployment(project_id, function_id, deployment_id)
        else:
            runnable = self._runnables.peek(project_id, function_id)
            runnable = runnable or await self._runnables.get(project_id, function_id)
        runnable, template = require_visitable(runnable)
        request = RunRequest(method=method, path=path, headers=headers, body=body, client_ip=client_ip)
        return await self._run_now(runnable, template, request)

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

    async def run_stored(self, project_id: str, execution_id: str, payload: Mapping[str, Any]) -> None:
        """Carry out an asynchronous execution: what its job stored is replayed. For workers.

        Every failure ends in the record; only a cancellation (the server stops) is passed on, after the
        execution was recorded as failed, because user code runs at most once.
        """
        function_id = payload["functionId"]
        async with self._store.begin(project_id) as unit:
            execution = await unit.executions.move(execution_id, ExecutionStatus.PROCESSING)
        if execution is None:
            return  # deleted, or ended by the reaper
        final = fail(execution, "The server was stopped while the execution was running.", self._clock.now())
        try:
            final = await self._replay(project_id, function_id, execution, payload)
        finally:
            await asyncio.shield(self._store_final(final))

    async def interrupted(self, execution: Execution, reason: str) -> None:
        """Record a run that a killed server had begun as failed, with the reason. Called at start."""
        await self._log.record(fail(execution, reason, self._clock.now()))

    async def drain(self) -> None:
        """Wait until every synchronous run has been recorded. Called while stopping, after the executor closed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run_now(self, runnable: Runnable, template: InstanceTemplate, request: RunRequest) -> ExecutionView:
        """Run once and wait, in a task of ours: whoever asked may leave, the run ends and is recorded."""
        id = unique_id()
        composed = compose_headers(id, runnable, request, self._mint_key)
        execution = open_execution(id, runnable, request, composed, self._clock.now())
        invocation = compose(id, runnable, template, request, composed, is_async=False)
        task = asyncio.create_task(self._run_sync(runnable, execution, self._executor.invoke(invocation)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _run_sync(self, runnable: Runnable, execution: Execution, invoking: Any) -> ExecutionView:
        self._log.begin(execution)
        try:
            async with asyncio.timeout(SYNC_WAIT_S):
                result: Result = await invoking
        except TimeoutError:
            failed = fail(execution, _SYNC_TIMEOUT_REASON, self._clock.now(), duration_s=SYNC_WAIT_S)
            await self._record(failed)
            raise Refusal("function_synchronous_timeout") from None
        except PlatformFault as fault:
            await self._record(fail(execution, str(fault), self._clock.now()))
            raise
        except Exception:
            # Whatever went wrong is ours; the record must end all the same.
            await self._record(fail(execution, _INTERNAL_REASON, self._clock.now()))
            raise
        finished = finish(execution, result, logging=runnable.function.logging, now=self._clock.now())
        finished = await self._record(finished)
        return ExecutionView(finished, result.body, shown_response_headers(execution.id, result))

    async def _record(self, execution: Execution) -> Execution:
        stored = await self._log.record(execution)
        self._emit(stored, "create")
        return stored

    def _emit(self, execution: Execution, action: str) -> None:
        name = f"functions.{execution.function_id}.executions.{execution.id}.{action}"
        self._events.emit(execution.project_id, name, execution, user_id=reader_of(execution))

    async def _enqueue(self, runnable: Runnable, request: RunRequest, scheduled_at: datetime | None) -> ExecutionView:
        """Store the record and its job in one transaction (architecture: the paths)."""
        function = runnable.function
        now = self._clock.now()
        id = unique_id()
        headers = {name.lower(): value for name, value in request.headers.items()}
        if request.client_ip:
            headers["x-appwrite-client-ip"] = request.client_ip
        execution = Execution(
            id=id,
            project_id=function.project_id,
            function_id=function.id,
            deployment_id=runnable.deployment.id if runnable.deployment else "",
            created_at=now,
            updated_at=now,
            trigger=Trigger.SCHEDULE if scheduled_at else Trigger.HTTP,
            status=ExecutionStatus.SCHEDULED if scheduled_at else ExecutionStatus.WAITING,
            request_method=request.method,
            request_path=request.path,
            request_headers=stored_request_headers(headers),
            permissions=(f'read("user:{request.user_id}")',) if request.user_id else (),
            scheduled_at=scheduled_at,
        )
        payload = {
            "functionId": function.id,
            "method": request.method,
            "path": request.path,
            "headers": dict(request.headers),
            "body": base64.b64encode(request.body).decode(),
            "userId": request.user_id,
            "realUserId": request.real_user_id,
            "clientIp": request.client_ip,
            "trigger": execution.trigger,
        }
        job = execute_job(function.project_id, id, payload, now, scheduled_at or now, function.timeout_s)
        async with self._store.begin(function.project_id) as unit:
            execution = await unit.executions.insert(execution)
            await unit.jobs.enqueue(job)
        self._emit(execution, "create")
        return ExecutionView(execution)

    async def _replay(
        self, project_id: str, function_id: str, execution: Execution, payload: Mapping[str, Any]
    ) -> Execution:
        trigger = Trigger(payload["trigger"])
        real_user_id = payload.get("realUserId", "")
        request = RunRequest(
            method=payload["method"],
            path=payload["path"],
            headers=payload["headers"],
            body=base64.b64decode(payload["body"]),
            trigger=trigger,
            user_id=payload["userId"],
            real_user_id=real_user_id,
            client_ip=payload["clientIp"],
            event="",
        )
        try:
            found = await self._runnables.get(project_id, function_id)
            runnable, template = require_runnable(found, privileged=True)
        except Refusal as refusal:
            # Failures before the start carry their reason and no deployment (contract: functions-api 10.2).
            return fail(execution, refusal.message, self._clock.now(), status_code=0)
        if real_user_id:
            # By now the caller's session may be over, so the token stands for the user alone (contract: 12.2).
            lifetime_s = runnable.function.timeout_s + KEY_GRACE_S
            request = replace(request, user_jwt=self._mint_user_jwt(project_id, real_user_id, "", lifetime_s))
        headers = compose_headers(execution.id, runnable, request, self._mint_key)
        invocation = compose(execution.id, runnable, template, request, headers, is_async=True)
        try:
            result = await self._executor.invoke(invocation)
        except Busy as busy:
            return fail(execution, f"{busy} (limit: {busy.limit})", self._clock.now())
        except PlatformFault as fault:
            log.exception("execution failed for a reason of ours", execution_id=execution.id, function_id=function_id)
            return fail(execution, str(fault), self._clock.now())
        return finish(execution, result, logging=runnable.function.logging, now=self._clock.now())

    async def _store_final(self, final: Execution) -> None:
        async with self._store.begin(final.project_id) as unit:
            stored = await unit.executions.move(
                final.id,
                final.status,
                response_status_code=final.response_status_code,
                response_headers=final.response_headers,
                logs=final.logs,
                errors=final.errors,
                duration_s=final.duration_s,
            )
        if stored is not None:
            self._emit(stored, "update")

    async def fail_in(self, unit: Unit, execution_id: str, reason: str) -> None:
        """End an asynchronous execution whose job was lost, in the reaper's transaction."""
        await unit.executions.move(execution_id, ExecutionStatus.FAILED, errors=reason, response_status_code=500)


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
