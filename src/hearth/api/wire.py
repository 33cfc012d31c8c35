"""The resources as clients see them: names, order and defaults of the newest format (contract: functions-api 6).

The objects hold the superset of what the clients in use read, and no null where one of them rejects it
(contract: clients 2.1). Older shapes are made from these by `formats`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hearth.control.function_settings import FunctionSettingsView
from hearth.control.usage import Step, UsageView
from hearth.control.views import ExecutionView, FunctionView
from hearth.model.actor import Actor
from hearth.model.resources import Deployment, Execution, Header, Variable
from hearth.model.times import to_wire

Wire = dict[str, Any]


def _date(moment: datetime | None) -> str:
    return "" if moment is None else to_wire(moment)


def function(view: FunctionView) -> Wire:
    """A function with its variables, secrets masked (contract: functions-api 6.1)."""
    it = view.function
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "execute": it.execute,
        "name": it.name,
        "enabled": it.enabled,
        "live": it.live,
        "logging": it.logging,
        "runtime": it.runtime,
        "deploymentRetention": it.deployment_retention_days,
        "deploymentId": it.deployment_id,
        "deploymentCreatedAt": _date(it.deployment_created_at),
        "latestDeploymentId": it.latest_deployment_id,
        "latestDeploymentCreatedAt": _date(it.latest_deployment_created_at),
        "latestDeploymentStatus": it.latest_deployment_status,
        "scopes": it.scopes,
        "vars": [variable(item) for item in view.variables],
        "events": it.events,
        "schedule": it.schedule,
        "timeout": it.timeout_s,
        "entrypoint": it.entrypoint,
        "commands": it.commands,
        "version": it.version,
        "installationId": it.installation_id,
        "providerRepositoryId": it.provider_repository_id,
        "providerBranch": it.provider_branch,
        "providerRootDirectory": it.provider_root_directory,
        "providerSilentMode": it.provider_silent_mode,
        "providerBranches": it.provider_branches,
        "providerPaths": it.provider_paths,
        "specification": it.build_specification,
        "buildSpecification": it.build_specification,
        "runtimeSpecification": it.runtime_specification,
        "description": "",
        "emailEnabled": False,
    }


def usage(view: UsageView, *, of_all: bool = False) -> Wire:
    """Usage figures; times of executions are in milliseconds as in the reference, those of builds in seconds."""

    def metric(figure: Callable[[Step], float]) -> list[Wire]:
        return [{"value": round(figure(step)), "date": _date(step.date)} for step in view.steps]

    series: dict[str, Callable[[Step], float]] = {
        "deployments": lambda step: step.deployments,
        "deploymentsStorage": lambda step: step.deployments_bytes,
        "builds": lambda step: step.builds,
        "buildsSuccess": lambda step: step.builds_ready,
        "buildsFailed": lambda step: step.builds_failed,
        "buildsStorage": lambda step: step.builds_bytes,
        "buildsTime": lambda step: step.builds_s,
        "buildsMbSeconds": lambda step: step.builds_mb_s,
        "executions": lambda step: step.executions.executions,
        "executionsFailed": lambda step: step.executions.failures,
        "executionsTime": lambda step: step.executions.duration_s * 1_000,
        "executionsMbSeconds": lambda step: step.executions_mb_s,
        "executionsCold": lambda step: step.executions.cold_starts,
        "executionsCpuTime": lambda step: step.executions.cpu_s * 1_000,
        **({"functions": lambda step: step.functions} if of_all else {}),
    }
    totals = {f"{name}Total": round(sum(map(figure, view.steps))) for name, figure in series.items()}
    builds = totals["buildsTotal"]
    return {
        "range": view.range.value,
        **totals,
        "buildsTimeAverage": round(totals["buildsTimeTotal"] / builds, 3) if builds else 0,
        "executionsP50": round(view.total.p50_s * 1_000, 3),
        "executionsP95": round(view.total.p95_s * 1_000, 3),
        "executionsColdShare": round(view.total.cold_share, 6),
        "executionsPeakMemoryMax": view.total.peak_memory_bytes,
        **{name: metric(figure) for name, figure in series.items()},
        "executionsPeakMemory": metric(lambda step: step.executions.peak_memory_bytes),
    }


def function_settings(view: FunctionSettingsView) -> Wire:
    """The settings of a function that the wire of functions does not have."""
    it = view.settings
    payload = it.schedule_payload
    return {
        "functionId": view.function.id,
        "$updatedAt": _date(it.updated_at),
        "scheduleTimeZone": it.schedule_time_zone,
        "schedulePaused": it.schedule_paused,
        "scheduleMissedRuns": it.schedule_missed_runs,
        "scheduleJitterS": it.schedule_jitter_s,
        "schedulePayload": {
            "body": payload.body,
            "method": payload.method,
            "path": payload.path,
            "headers": dict(payload.headers),
        },
        "scheduleNextRuns": [to_wire(moment) for moment in view.next_runs],
        "retryMaxAttempts": it.retry_max_attempts,
        "retryMaxAgeS": it.retry_max_age_s,
        "retryBackoffS": it.retry_backoff_s,
        "rateLimitPerMinute": it.rate_limit_per_minute,
        "maxConcurrency": it.max_concurrency,
        "minInstances": it.min_instances,
        "storeBodies": it.store_bodies,
        "bodiesMaxBytes": it.bodies_max_bytes,
        "bodiesRetentionDays": it.bodies_retention_days,
        "executionsRetentionDays": it.executions_retention_days,
        "executionsRetentionCount": it.executions_retention_count,
        "egress": it.egress,
        "egressAllow": it.egress_allow,
    }


def variable(it: Variable) -> Wire:
    """A variable; the value of a secret one is never shown (contract: functions-api 6.4)."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "key": it.key,
        "value": "" if it.secret else it.value,
        "secret": it.secret,
        "resourceType": it.resource_type,
        "resourceId": it.resource_id,
        "description": "",
    }


def deployment(it: Deployment) -> Wire:
    """A deployment (contract: functions-api 6.2, with the upload counters of clients 3)."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "type": it.type,
        "resourceId": it.function_id,
        "resourceType": "functions",
        "entrypoint": it.entrypoint,
        "sourceSize": it.source_size_bytes,
        "buildSize": it.build_size_bytes,
        "totalSize": it.source_size_bytes + it.build_size_bytes,
        "buildId": "",
        "activate": it.activate,
        "screenshotLight": "",
        "screenshotDark": "",
        "status": it.status,
        "buildLogs": it.build_logs,
        "buildDuration": it.build_duration_s,
        "providerRepositoryName": it.provider_repository_name,
        "providerRepositoryOwner": it.provider_repository_owner,
        "providerRepositoryUrl": it.provider_repository_url,
        "providerCommitHash": it.provider_commit_hash,
        "providerCommitAuthorUrl": it.provider_commit_author_url,
        "providerCommitAuthor": it.provider_commit_author,
        "providerCommitMessage": it.provider_commit_message,
        "providerCommitUrl": it.provider_commit_url,
        "providerBranch": it.provider_branch,
        "providerBranchUrl": it.provider_branch_url,
        "chunksTotal": it.source_chunks_total,
        "chunksUploaded": it.source_chunks_uploaded,
    }


def _headers(headers: Sequence[Header]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers]


def execution(
    it: Execution, actor: Actor, *, response_body: str | bytes = "", response_headers: Sequence[Header] | None = None
) -> Wire:
    """An execution as `actor` may see it: logs and errors are for keys and admins only (contract: functions-api 6.3).

    So are figures of our own: `queueTime` and `cpuTime` in seconds, `coldStart`, `peakMemory` in bytes. What is not
    known is left out.

    `response_body` and `response_headers` (None = the stored ones) are for the answer of a synchronous create.
    """
    shown = actor.is_privileged
    wire: Wire = {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "$permissions": it.permissions,
        "functionId": it.function_id,
        "resourceId": it.function_id,
        "resourceType": "functions",
        "deploymentId": it.deployment_id,
        "trigger": it.trigger,
        "status": it.status,
        "requestMethod": it.request_method,
        "requestPath": it.request_path,
        "requestHeaders": _headers(it.request_headers),
        "responseStatusCode": it.response_status_code,
        "responseBody": response_body,
        "responseHeaders": _headers(it.response_headers if response_headers is None else response_headers),
        "logs": it.logs if shown else "",
        "errors": it.errors if shown else "",
        "duration": it.duration_s,
        "scheduledAt": None if it.scheduled_at is None else to_wire(it.scheduled_at),
    }
    if shown and it.queued_s is not None:
        wire["queueTime"] = it.queued_s
        wire["coldStart"] = it.is_cold
        if it.cpu_s is not None:
            wire["cpuTime"] = it.cpu_s
        if it.peak_memory_bytes is not None:
            wire["peakMemory"] = it.peak_memory_bytes
    return wire


def created_execution(view: ExecutionView, actor: Actor, response_body: str | bytes) -> Wire:
    """The answer of create execution; `response_body` is text for JSON, bytes for multipart."""
    headers = view.response_headers or None
    return execution(view.execution, actor, response_body=response_body, response_headers=headers)


def figures(view: ExecutionView, actor: Actor) -> dict[str, str]:
    """Headers of our own on the answer of a synchronous create: how the run started, and what it took.

    What it used of the machine is told to those who may see its logs.
    """
    it = view.execution
    if it.queued_s is None:
        return {}
    headers = {"x-hearth-start": "cold" if it.is_cold else "warm", "x-hearth-queue-ms": f"{it.queued_s * 1e3:.3f}"}
    if actor.is_privileged:
        if it.cpu_s is not None:
            headers["x-hearth-cpu-ms"] = f"{it.cpu_s * 1e3:.3f}"
        if it.peak_memory_bytes is not None:
            headers["x-hearth-peak-memory-bytes"] = str(it.peak_memory_bytes)
    return headers


def listing(key: str, total: int, items: Iterable[Mapping[str, Any]]) -> Wire:
    """A list as every list endpoint answers it (contract: functions-api 6.6)."""
    return {"total": total, key: list(items)}


def select(items: Iterable[Wire], wanted: Sequence[str]) -> list[Wire]:
    """Keep the wanted keys and every `$` key; nothing wanted, or `*`, is everything (contract: functions-api 5.11)."""
    if not wanted or "*" in wanted:
        return list(items)
    keys = frozenset(wanted)
    return [{key: value for key, value in item.items() if key in keys or key.startswith("$")} for item in items]
