"""What is committed in groups, as statements of both databases: records, accepted executions, ended attempts."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from sqlalchemy import Insert, Select, Update, bindparam, insert, or_, select, update

from hearth.model.resources import Execution, Job
from hearth.model.statuses import EXECUTION_FINAL, ExecutionStatus, JobStatus
from hearth.ports import Accepted, AttemptEnded
from hearth.store.sql.schema import executions, jobs

#: One entry of a group.
Entry = Execution | Accepted | AttemptEnded

_OPEN = sorted(set(ExecutionStatus) - EXECUTION_FINAL)
#: What the end of an attempt may change of its execution.
ENDING = (
    "status",
    "updated_at",
    "deployment_id",
    "request_headers",
    "response_status_code",
    "response_headers",
    "logs",
    "errors",
    "duration_s",
    "queued_s",
    "is_cold",
    "cpu_s",
    "peak_memory_bytes",
)

INSERT_EXECUTION: Insert = insert(executions)
INSERT_JOB: Insert = insert(jobs)

#: Ends a job for good, provided it is still held by its owner; what it carried is not needed any more.
FINISH_JOB: Update = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("b_id"), jobs.c.status == JobStatus.CLAIMED.value, jobs.c.owner == bindparam("b_owner")
    )
    .values(status=JobStatus.DONE.value, leased_until=None, error="", payload={})
)
#: Queues a job again, provided it is still held by its owner.
REQUEUE_JOB: Update = (
    update(jobs)
    .where(
        jobs.c.id == bindparam("b_id"), jobs.c.status == JobStatus.CLAIMED.value, jobs.c.owner == bindparam("b_owner")
    )
    .values(
        status=JobStatus.QUEUED.value,
        owner="",
        leased_until=None,
        error=bindparam("b_error", type_=jobs.c.error.type),
        due_at=bindparam("b_due_at", type_=jobs.c.due_at.type),
        attempts=bindparam("b_attempts", type_=jobs.c.attempts.type),
    )
)
#: Writes how an execution stands after an attempt, unless it has ended already.
END_EXECUTION: Update = (
    update(executions)
    .where(
        executions.c.project_id == bindparam("b_project_id"),
        executions.c.id == bindparam("b_id"),
        or_(*(executions.c.status == status.value for status in _OPEN)),
    )
    .values({name: bindparam(f"b_{name}", type_=executions.c[name].type) for name in ENDING})
)


def job_values(ended: AttemptEnded) -> dict[str, Any]:
    """The parameters of FINISH_JOB or REQUEUE_JOB, whichever `ended.retry_at` asks for."""
    values: dict[str, Any] = {"b_id": ended.job_id, "b_owner": ended.owner}
    if ended.retry_at is not None:
        values |= {"b_error": ended.error, "b_due_at": ended.retry_at, "b_attempts": ended.attempts}
    return values


def end_values(ended: AttemptEnded) -> dict[str, Any]:
    """The parameters of END_EXECUTION."""
    execution = ended.execution
    values: dict[str, Any] = {f"b_{name}": getattr(execution, name) for name in ENDING}
    return values | {"b_project_id": execution.project_id, "b_id": execution.id}


def executions_of(entries: Iterable[Entry]) -> list[Execution]:
    """Every execution that a group inserts."""
    return [
        entry.execution if isinstance(entry, Accepted) else entry
        for entry in entries
        if not isinstance(entry, AttemptEnded)
    ]


def jobs_of(entries: Iterable[Entry]) -> list[Job]:
    """Every job that a group inserts."""
    return [entry.job for entry in entries if isinstance(entry, Accepted)]


def ended_of(entries: Sequence[Entry]) -> list[tuple[int, AttemptEnded]]:
    """Every attempt that a group ends, with its place in the group."""
    return [(place, entry) for place, entry in enumerate(entries) if isinstance(entry, AttemptEnded)]


def weight(entries: Iterable[Entry]) -> int:
    """About how many bytes a group writes."""
    size = 0
    for entry in entries:
        if type(entry) is Execution:  # nearly all: a quarter of the time of what follows
            size += len(entry.logs) + len(entry.errors) + 512
        elif isinstance(entry, Accepted):
            body = entry.job.payload.get("body", "")
            size += 1_024 + (len(body) if isinstance(body, str) else 0)
        else:
            execution = entry if isinstance(entry, Execution) else entry.execution
            size += len(execution.logs) + len(execution.errors) + 512
    return size


def records_of(entries: Sequence[Entry]) -> Sequence[Execution] | None:
    """The group, if it has nothing but records, as under synchronous load; None for any other."""
    for entry in entries:
        if type(entry) is not Execution:
            return None
    return cast("Sequence[Execution]", entries)


def queues_jobs(entries: Iterable[Entry]) -> bool:
    """Whether a group leaves a job for whoever is free to take it."""
    return any(
        (entry.retry_at is not None) if isinstance(entry, AttemptEnded) else entry.job.status is JobStatus.QUEUED
        for entry in entries
        if not isinstance(entry, Execution)
    )


def recorded(keys: Sequence[str], project_id: str) -> Select[Any]:
    """Which of these executions of a project are stored."""
    return select(executions.c.id).where(executions.c.project_id == project_id, executions.c.id.in_(keys))
