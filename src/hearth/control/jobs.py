"""The kinds of jobs, and how each is made. What a worker does with one lives in `hearth.jobs`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from hearth.model.ids import unique_id
from hearth.model.resources import Deployment, Job


class JobKind(StrEnum):
    """What a job asks for."""

    BUILD = "build"
    EXECUTE = "execute"
    PURGE = "purge"
    WEBHOOK = "webhook"
    SWEEP = "sweep"
    EVENT = "event"
    PUSH = "push"
    REPORT = "report"


#: A build that was lost with its worker is started once more; user code of an execution never is.
BUILD_ATTEMPTS = 2
EXECUTE_ATTEMPTS = 1
PURGE_ATTEMPTS = 20
#: After 1, 2, 4 ... seconds: a receiver may be away for some two minutes.
WEBHOOK_ATTEMPTS = 8
SWEEP_ATTEMPTS = 3
#: After 1, 2, 4 ... 300 seconds: some hour.
EVENT_ATTEMPTS = 20
#: After 1, 2, 4 ... seconds: a git host may be away for some two minutes.
PUSH_ATTEMPTS = 8
REPORT_ATTEMPTS = 5

#: How long a job may wait for a worker before it is ended with that reason.
QUEUE_LIMIT = timedelta(hours=24)


def build_job(deployment: Deployment, timeout_s: int, now: datetime, *, use_cache: bool = True) -> Job:
    """Build `deployment`; every attempt may take `timeout_s`."""
    return _job(
        JobKind.BUILD,
        deployment.project_id,
        deployment.id,
        now,
        deadline_at=now + QUEUE_LIMIT + timedelta(seconds=timeout_s * BUILD_ATTEMPTS),
        max_attempts=BUILD_ATTEMPTS,
        payload={"functionId": deployment.function_id, **({} if use_cache else {"useCache": False})},
    )


def execute_job(
    project_id: str, execution_id: str, payload: Mapping[str, Any], now: datetime, due_at: datetime, timeout_s: float
) -> Job:
    """Run the stored request of an execution, not before `due_at`."""
    return _job(
        JobKind.EXECUTE,
        project_id,
        execution_id,
        now,
        due_at=due_at,
        deadline_at=due_at + QUEUE_LIMIT + timedelta(seconds=timeout_s),
        max_attempts=EXECUTE_ATTEMPTS,
        payload=payload,
    )


def purge_job(project_id: str, function_id: str, deployments: Iterable[Deployment], now: datetime) -> Job:
    """Remove the files of deleted deployments, and the executions of `function_id` when it is not `""`."""
    gone = tuple(deployments)
    return _job(
        JobKind.PURGE,
        project_id,
        function_id or gone[0].id,
        now,
        deadline_at=now + timedelta(days=7),
        max_attempts=PURGE_ATTEMPTS,
        payload={
            "functionId": function_id,
            "sources": [deployment.source_key for deployment in gone if deployment.source_key],
            "uploads": [deployment.id for deployment in gone if not deployment.source_key],
            "artifacts": sorted({deployment.artifact_key for deployment in gone if deployment.artifact_key}),
        },
    )


def webhook_job(project_id: str, webhook_id: str, payload: Mapping[str, Any], now: datetime) -> Job:
    """Tell a webhook of one event."""
    return _job(
        JobKind.WEBHOOK,
        project_id,
        webhook_id,
        now,
        deadline_at=now + QUEUE_LIMIT,
        max_attempts=WEBHOOK_ATTEMPTS,
        payload=payload,
    )


def event_job(project_id: str, payload: Mapping[str, Any], now: datetime) -> Job:
    """Run the functions that listen to one event."""
    return _job(
        JobKind.EVENT,
        project_id,
        "functions",
        now,
        deadline_at=now + QUEUE_LIMIT,
        max_attempts=EVENT_ATTEMPTS,
        payload=payload,
    )


def push_job(project_id: str, installation_id: str, payload: Mapping[str, Any], now: datetime, *, id: str) -> Job:
    """Act on what a git host said of a repository; `id` names the occasion, so that it is queued once."""
    job = _job(
        JobKind.PUSH,
        project_id,
        installation_id,
        now,
        deadline_at=now + QUEUE_LIMIT,
        max_attempts=PUSH_ATTEMPTS,
        payload=payload,
    )
    return replace(job, id=id)


def report_job(deployment: Deployment, now: datetime) -> Job:
    """Show at the git host how a deployment stands."""
    return _job(
        JobKind.REPORT,
        deployment.project_id,
        deployment.id,
        now,
        deadline_at=now + timedelta(hours=1),
        max_attempts=REPORT_ATTEMPTS,
        payload={"functionId": deployment.function_id},
    )


def sweep_job(project_id: str, now: datetime) -> Job:
    """Remove, in all projects, what is past its retention. `project_id` only says where the job is kept."""
    return _job(
        JobKind.SWEEP,
        project_id,
        "retention",
        now,
        deadline_at=now + timedelta(hours=1),
        max_attempts=SWEEP_ATTEMPTS,
        payload={},
    )


def _job(
    kind: JobKind,
    project_id: str,
    resource_id: str,
    now: datetime,
    *,
    deadline_at: datetime,
    max_attempts: int,
    payload: Mapping[str, Any],
    due_at: datetime | None = None,
) -> Job:
    return Job(
        id=unique_id(),
        kind=kind,
        project_id=project_id,
        resource_id=resource_id,
        created_at=now,
        due_at=due_at or now,
        deadline_at=deadline_at,
        max_attempts=max_attempts,
        payload=payload,
    )
