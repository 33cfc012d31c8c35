"""What a run is stored as until its time comes: the record, and a job that keeps the request. Pure."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hearth.control.invocations import RunRequest, mark_replay, stored_request_headers
from hearth.control.jobs import execute_job
from hearth.control.runnables import Runnable
from hearth.model.resources import Execution, Job
from hearth.model.statuses import ExecutionStatus, Trigger


@dataclass(frozen=True, slots=True)
class QueuedRun:
    """What is run: a function, and the deployment that is active now (`""` = none)."""

    project_id: str
    function_id: str
    deployment_id: str
    timeout_s: int


def run_of(runnable: Runnable) -> QueuedRun:
    """What is run of a function as it is in memory."""
    function, deployment = runnable.function, runnable.deployment
    return QueuedRun(function.project_id, function.id, deployment.id if deployment else "", function.timeout_s)


def opened(
    run: QueuedRun, request: RunRequest, scheduled_at: datetime | None, id: str, now: datetime
) -> tuple[Execution, Job]:
    """The record and the job of a run that is accepted now: for `scheduled_at`, if that is not past."""
    is_delayed = scheduled_at is not None and scheduled_at > now
    headers = {name.lower(): value for name, value in request.headers.items()}
    if request.client_ip:
        headers["x-appwrite-client-ip"] = request.client_ip
    mark_replay(headers, request)
    execution = Execution(
        id=id,
        project_id=run.project_id,
        function_id=run.function_id,
        deployment_id=run.deployment_id,
        created_at=now,
        updated_at=now,
        trigger=Trigger.SCHEDULE if scheduled_at else request.trigger,
        status=ExecutionStatus.SCHEDULED if is_delayed else ExecutionStatus.WAITING,
        request_method=request.method,
        request_path=request.path,
        request_headers=stored_request_headers(headers),
        permissions=(f'read("user:{request.user_id}")',) if request.user_id else (),
        scheduled_at=scheduled_at,
    )
    payload = stored_request(request, run.function_id, execution.trigger)
    due_at = scheduled_at if scheduled_at is not None and is_delayed else now
    return execution, execute_job(run.project_id, id, payload, now, due_at, float(run.timeout_s))


def stored_request(request: RunRequest, function_id: str, trigger: Trigger) -> dict[str, Any]:
    """What a job keeps of a request, to be run later."""
    kept = {
        "functionId": function_id,
        "method": request.method,
        "path": request.path,
        "headers": dict(request.headers),
        "body": base64.b64encode(request.body).decode(),
        "userId": request.user_id,
        "realUserId": request.real_user_id,
        "clientIp": request.client_ip,
        "trigger": trigger,
        "event": request.event or "",
    }
    if request.replay_of:
        kept |= {"replayOf": request.replay_of, "deploymentId": request.deployment_id}
    return kept


def replayed_request(payload: Mapping[str, Any]) -> RunRequest:
    """The request that a job kept."""
    return RunRequest(
        method=payload["method"],
        path=payload["path"],
        headers=payload["headers"],
        body=base64.b64decode(payload["body"]),
        trigger=Trigger(payload["trigger"]),
        user_id=payload["userId"],
        real_user_id=payload.get("realUserId", payload["userId"]),  # not written before there were users
        client_ip=payload["clientIp"],
        event=payload.get("event", ""),  # not written before there were event runs
        replay_of=payload.get("replayOf", ""),
        deployment_id=payload.get("deploymentId", ""),
    )
