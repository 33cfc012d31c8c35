"""Whether a failed attempt at an asynchronous execution is followed by another one, and when. Decides, does nothing.

One execution is one record, whatever it takes: clients wait for its final status, and that is the last word
(docs/adr, retries). What failed on the way is noted beside it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

import msgspec

from hearth.model.durability import Attempt, DeadLetter, DeadReason
from hearth.model.function_settings import FunctionSettings
from hearth.model.resources import Execution, Header, Job
from hearth.model.running import Result
from hearth.model.statuses import ExecutionStatus
from hearth.ports import AttemptEnded

#: Longest pause between two attempts, before jitter.
BACKOFF_MAX_S = 3_600.0
#: Jitter adds up to this part of the pause, so that what failed together is not tried again together.
JITTER = 0.5
#: Characters of logs and of errors that are kept of a failed attempt, the tail.
ATTEMPT_LOG_CHARS = 20_000
#: What tells a function, and the record, which attempt this is.
ATTEMPT_HEADER, MAX_ATTEMPTS_HEADER = "x-hearth-attempt", "x-hearth-max-attempts"


class Cause(Enum):
    """What ended an attempt."""

    RAN = auto()
    """User code ran, to whatever end."""
    NOT_RUNNABLE = auto()
    """There was nothing to run."""
    NOT_STARTED = auto()
    """No instance was to be had."""
    LOST = auto()
    """The server stopped, was killed, or lost its lease; user code may have run."""


_REASONS = {
    Cause.NOT_RUNNABLE: DeadReason.NOT_RUNNABLE,
    Cause.NOT_STARTED: DeadReason.NOT_STARTED,
    Cause.LOST: DeadReason.LOST,
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: the record as it would be if it was the last one, and why; `result` is the function's."""

    execution: Execution
    cause: Cause
    result: Result | None = None


def attempt_headers(settings: FunctionSettings, attempts: int) -> tuple[Header, ...]:
    """The headers that say "attempt n of m"; none where nothing is tried again."""
    if settings.retry_max_attempts <= 1:
        return ()
    return (ATTEMPT_HEADER, str(attempts)), (MAX_ATTEMPTS_HEADER, str(settings.retry_max_attempts))


def next_attempt(
    settings: FunctionSettings, attempts: int, since: datetime, now: datetime, spread: float
) -> datetime | DeadReason:
    """When to try again after `attempts` attempts, or why not.

    `since` is when the execution was created or due, `spread` in [0, 1) the jitter.
    """
    if attempts >= settings.retry_max_attempts:
        return DeadReason.ATTEMPTS_USED
    pause_s = min(settings.retry_backoff_s * 2.0 ** min(attempts - 1, 30), BACKOFF_MAX_S)
    again = now + timedelta(milliseconds=round(pause_s * (1 + JITTER * spread) * 1_000))
    if (again - since).total_seconds() > settings.retry_max_age_s:
        return DeadReason.TOO_OLD
    return again


def decide(outcome: Outcome, settings: FunctionSettings, job: Job, now: datetime, spread: float) -> AttemptEnded:
    """What becomes of the execution and its job after an attempt."""
    final = outcome.execution
    if final.status is not ExecutionStatus.FAILED:
        return AttemptEnded(final, job.id, job.owner)
    verdict: datetime | DeadReason = DeadReason.NOT_RUNNABLE
    if outcome.cause is not Cause.NOT_RUNNABLE:
        verdict = next_attempt(settings, job.attempts, since(final), now, spread)
    noted = attempt_of(final, job.attempts, now) if settings.retry_max_attempts > 1 else None
    if isinstance(verdict, datetime):
        return AttemptEnded(
            waiting_again(final, now),
            job.id,
            job.owner,
            retry_at=verdict,
            attempts=job.attempts,
            error=final.errors[-ATTEMPT_LOG_CHARS:],
            attempt=noted,
        )
    reason: DeadReason | None = verdict
    if settings.retry_max_attempts <= 1:
        reason = _REASONS.get(outcome.cause)  # a function that failed by itself, once, has simply failed
    letter = None if reason is None else letter_of(final, job, reason, now)
    return AttemptEnded(final, job.id, job.owner, attempt=noted, dead_letter=letter)


def waited_s(execution: Execution, job: Job, now: datetime) -> float:
    """How long an attempt that begins now has waited from when it was due, in seconds."""
    due = since(execution) if job.attempts <= 1 else job.due_at
    return max(0.0, (now - due).total_seconds())


def since(execution: Execution) -> datetime:
    """From when the age of an execution counts."""
    return max(execution.created_at, execution.scheduled_at or execution.created_at)


def waiting_again(execution: Execution, now: datetime) -> Execution:
    """The record of an execution between two attempts: nothing of the failed one."""
    return msgspec.structs.replace(
        execution,
        status=ExecutionStatus.WAITING,
        updated_at=now,
        response_status_code=0,
        response_headers=(),
        logs="",
        errors="",
        duration_s=0.0,
        queued_s=None,
        is_cold=None,
        cpu_s=None,
        peak_memory_bytes=None,
    )


def attempt_of(execution: Execution, number: int, now: datetime) -> Attempt:
    """What is noted of a failed attempt."""
    return Attempt(
        project_id=execution.project_id,
        execution_id=execution.id,
        number=number,
        deployment_id=execution.deployment_id,
        ended_at=now,
        response_status_code=execution.response_status_code,
        duration_s=execution.duration_s,
        logs=execution.logs[-ATTEMPT_LOG_CHARS:],
        errors=execution.errors[-ATTEMPT_LOG_CHARS:],
    )


def letter_of(execution: Execution, job: Job, reason: DeadReason, now: datetime) -> DeadLetter:
    """The dead letter of an execution that is not tried any more."""
    return DeadLetter(
        id=execution.id,
        project_id=execution.project_id,
        function_id=execution.function_id,
        created_at=now,
        updated_at=now,
        reason=reason,
        error=execution.errors[-ATTEMPT_LOG_CHARS:],
        attempts=job.attempts,
        trigger=execution.trigger,
        request_method=execution.request_method,
        request_path=execution.request_path,
        payload=job.payload,
    )
