"""The span of an execution: below the request that asked for it, and above what the function itself traces."""

import time

from msgspec.structs import replace

from hearth import tracing
from hearth.control.invocations import RunRequest
from hearth.model.resources import Execution
from hearth.model.running import Result
from hearth.model.statuses import ExecutionStatus


def with_parent(request: RunRequest) -> RunRequest:
    """A request that is run later, with the span that asks for it now."""
    if not tracing.is_on() or not tracing.current():
        return request
    return replace(request, headers={**request.headers, tracing.TRACEPARENT: tracing.current()})


def begin_run(request: RunRequest, composed: dict[str, str], due_s: float | None = None) -> tracing.Span | None:
    """Begin the span of a run, which `composed` (the function's headers) then names; None without traces.

    `due_s` (seconds since 1970) is when a queued one was due: the wait until now is a step of it.
    """
    if not tracing.is_on():
        return None
    span = tracing.begin("execution", tracing.current() or request.headers.get(tracing.TRACEPARENT, ""), start_s=due_s)
    if span is None:
        return None
    composed[tracing.TRACEPARENT] = span.traceparent
    if due_s is not None:
        span.step("queue", due_s, time.time())
    return span


def end_run(span: tracing.Span, execution: Execution, result: Result | None) -> None:
    """It has ended as `execution` says: how long it waited for an instance and ran are steps of it."""
    if result is not None:
        ended = time.time()
        began = ended - result.duration_s
        span.step("wait for an instance", began - result.queued_s, began)
        span.step("invoke", began, ended)
        span.set(cold=result.cold, outcome=result.outcome.value, status=result.status_code)
    span.set(
        project_id=execution.project_id,
        function_id=execution.function_id,
        deployment_id=execution.deployment_id,
        execution_id=execution.id,
        trigger=execution.trigger.value,
    )
    is_failed = execution.status is ExecutionStatus.FAILED
    span.end((execution.errors.strip().partition("\n")[0] or "failed") if is_failed else "")
