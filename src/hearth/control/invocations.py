"""Composes every run, whoever asked for it: headers, limits, filters (contract: functions-api 10.3, 12.2).

Pure: (function, template, request, moment) -> Invocation, and (execution, Result) -> finished Execution.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from msgspec.structs import replace

from hearth.control.runnables import Runnable
from hearth.control.views import ASYNC_GRACE_S, KEY_GRACE_S, SYNC_WAIT_S
from hearth.model.headers import EXECUTION_ID, CommonHeaders, Kept, KnownHeaders, KnownPairs
from hearth.model.refusals import Refusal
from hearth.model.resources import Execution, Header
from hearth.model.running import InstanceTemplate, Invocation, Outcome, Result
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, Trigger
from hearth.model.streaming import StreamReceiver

#: Tells a function, and the record, which execution's request is run once more. Ours to say, not the caller's.
REPLAY_HEADER = "x-hearth-replay-of"
#: Request headers that are stored and shown (contract: functions-api 10.3).
_STORED_REQUEST_HEADERS = frozenset(
    {"content-type", "agent", "content-length", "host", "x-appwrite-client-ip", REPLAY_HEADER}
)
#: Response headers that are stored.
_STORED_RESPONSE_HEADERS = frozenset({"content-type", "content-length"})
_INTERNAL_PREFIX = "x-open-runtimes-"

MintKey = Callable[[str, Sequence[str], int], str]
#: Makes the JWT of the user who called: project, user and session id, lifetime in seconds.
MintUserJwt = Callable[[str, str, str, int], str]


class RunRequest(msgspec.Struct, frozen=True):
    """What somebody wants run: the request as given, and who is behind it.

    `user_id`, `real_user_id` and `user_jwt` are `""` unless a user called. The run is `user_id`'s; the function is
    told of `real_user_id`, who differs where somebody impersonates (contract: functions-api 15). `event` is the
    concrete event name of an event run. `replay_of` is the execution whose request is run once more, `deployment_id`
    what is run if it is not the active deployment; both `""` for all other runs.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    trigger: Trigger = Trigger.HTTP
    user_id: str = ""
    real_user_id: str = ""
    user_jwt: str = ""
    client_ip: str = ""
    event: str | None = None
    replay_of: str = ""
    deployment_id: str = ""


def require_runnable(runnable: Runnable | None, *, privileged: bool) -> tuple[Runnable, InstanceTemplate]:
    """What must hold before a run, in the contract's order (functions-api 5.15, 4-7).

    Raises `function_not_found` (also for a disabled function, unless the caller is a key or an admin),
    `function_runtime_unsupported`, `deployment_not_found`, `build_not_ready`.
    """
    if runnable is None or not (runnable.function.enabled or privileged):
        raise Refusal("function_not_found")
    if not runnable.known_runtime:
        raise Refusal(
            "function_runtime_unsupported",
            f"This server does not know the function's runtime {runnable.function.runtime} any more. "
            "Give the function another one and deploy it again.",
        )
    if runnable.deployment is None:
        raise Refusal(
            "deployment_not_found",
            "The function has no active deployment. Deploy its code, or set one of its deployments active.",
        )
    if runnable.template is None:
        raise Refusal("build_not_ready")
    return runnable, runnable.template


def require_visitable(runnable: Runnable | None) -> tuple[Runnable, InstanceTemplate]:
    """What must hold before a visit of a function's domain, in the contract's order (functions-api 13).

    Nobody is exempt. Raises `deployment_not_found`, `function_not_found`, `build_failed`, `build_canceled`,
    `build_not_ready`, `function_runtime_unsupported`, `function_execute_permission_missing`.
    """
    if runnable is None:
        raise Refusal("function_not_found")
    deployment = runnable.deployment
    if deployment is None and runnable.known_runtime:
        raise Refusal("deployment_not_found", "No code has been deployed here yet.")
    if not runnable.function.enabled:
        raise Refusal("function_not_found", "There is no function here, or it is switched off.")
    if deployment is not None and runnable.template is None:
        unbuilt = {DeploymentStatus.FAILED: "build_failed", DeploymentStatus.CANCELED: "build_canceled"}
        raise Refusal(unbuilt.get(deployment.status, "build_not_ready"))
    runnable, template = require_runnable(runnable, privileged=False)
    if not {"any", "guests"} & set(runnable.function.execute):
        raise Refusal(
            "function_execute_permission_missing",
            "This function may not be opened by visitors: its `execute` list names neither `any` nor `guests`.",
        )
    return runnable, template


def require_execute(runnable: Runnable, roles: Sequence[str]) -> None:
    """The function's `execute` roles must admit one of the caller's. Raises `user_unauthorized`."""
    allowed = runnable.function.execute
    if not allowed:
        raise Refusal(
            "user_unauthorized",
            "No permissions provided for action 'execute': add a role to the function's `execute` list, "
            "or use an API key.",
        )
    if not any(role in allowed for role in roles):
        wanted, given = ", ".join(f'"{role}"' for role in allowed), ", ".join(f'"{role}"' for role in roles)
        raise Refusal(
            "user_unauthorized",
            f'Missing "execute" permission for role. Only [{wanted}] are allowed and [{given}] was given.',
        )


def open_execution(
    id: str, runnable: Runnable, request: RunRequest, headers: tuple[Header, ...], now: datetime
) -> Execution:
    """The record of a run that starts now. `headers` are those of the request that are stored."""
    return Execution(
        id=id,
        project_id=runnable.function.project_id,
        function_id=runnable.function.id,
        deployment_id=runnable.deployment.id if runnable.deployment else "",
        created_at=now,
        updated_at=now,
        trigger=request.trigger,
        status=ExecutionStatus.PROCESSING,
        request_method=request.method,
        request_path=request.path,
        request_headers=headers,
        permissions=(f'read("user:{request.user_id}")',) if request.user_id else (),
    )


def compose_headers(id: str, runnable: Runnable, request: RunRequest, mint_key: MintKey) -> dict[str, str]:
    """The headers a function receives: the caller's, then ours over them (contract: functions-api 12.2)."""
    function = runnable.function
    return run_headers(id, request, mint_key(function.project_id, function.scopes, function.timeout_s + KEY_GRACE_S))


def run_headers(id: str, request: RunRequest, key: str) -> dict[str, str]:
    """The same with an API key that is there already; `""` for none."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    headers[EXECUTION_ID] = id
    headers["x-appwrite-key"] = key
    headers["x-appwrite-trigger"] = request.trigger
    headers["x-appwrite-user-id"] = request.real_user_id
    headers["x-appwrite-user-jwt"] = request.user_jwt
    headers["x-appwrite-country-code"] = ""
    headers["x-appwrite-continent-code"] = ""
    headers["x-appwrite-continent-eu"] = "false"
    if request.event is not None:
        headers["x-appwrite-event"] = request.event
    if request.client_ip:
        headers["x-appwrite-client-ip"] = request.client_ip
    mark_replay(headers, request)
    return headers


_Common = tuple[KnownHeaders, str, str]


class KnownRuns:
    """What runs that are asked for with the same headers are given, kept from one to the next."""

    def __init__(self) -> None:
        self._kept: Kept[_Common, CommonHeaders] = Kept(_common_headers)

    def of(self, request: RunRequest, key: str) -> CommonHeaders | None:
        """What `run_headers` gives for this request and key, but for the id; None if that is not to be kept."""
        headers = request.headers
        if type(headers) is not KnownHeaders or request.trigger is not Trigger.HTTP or request.event is not None:
            return None
        if request.user_id or request.real_user_id or request.user_jwt or request.replay_of:
            return None
        return self._kept.of((headers, key, request.client_ip))


def _common_headers(asked: _Common) -> CommonHeaders:
    given, key, client_ip = asked
    headers = run_headers("", RunRequest(method="", path="", headers=given, body=b"", client_ip=client_ip), key)
    del headers[EXECUTION_ID]
    return CommonHeaders.of(headers, stored_request_headers(headers))


def mark_replay(headers: dict[str, str], request: RunRequest) -> None:
    """Set the header that tells of a replay, or take away what a caller says of one."""
    if request.replay_of:
        headers[REPLAY_HEADER] = request.replay_of
    else:
        headers.pop(REPLAY_HEADER, None)


def compose(
    id: str,
    runnable: Runnable,
    template: InstanceTemplate,
    request: RunRequest,
    headers: Mapping[str, str],
    *,
    is_async: bool,
    receiver: StreamReceiver | None = None,
) -> Invocation:
    """What the executor is handed. A synchronous run may take 30 s in all, cold start and queue included.

    `receiver` takes the response if the function streams it.
    """
    timeout_s = float(runnable.function.timeout_s)
    return Invocation(
        execution_id=id,
        template=template,
        method=request.method,
        path=request.path if request.path.startswith("/") else f"/{request.path}",
        headers=headers,
        body=request.body,
        timeout_s=timeout_s,
        wait_s=timeout_s + ASYNC_GRACE_S if is_async else SYNC_WAIT_S,
        logging=runnable.function.logging,
        receiver=receiver,
    )


def finish(execution: Execution, result: Result, *, logging: bool, now: datetime, waited_s: float = 0.0) -> Execution:
    """The finished record of a run: below 500 completed, otherwise failed (contract: functions-api 10).

    `waited_s` is how long it had waited before the executor was given it.
    """
    failed = result.outcome is not Outcome.COMPLETED or result.status_code >= 500
    return replace(
        execution,
        updated_at=now,
        status=ExecutionStatus.FAILED if failed else ExecutionStatus.COMPLETED,
        response_status_code=result.status_code,
        response_headers=_stored_response_headers(result.headers),
        logs=result.logs if logging else "",
        errors=result.errors if logging else "",
        duration_s=result.duration_s,
        queued_s=result.queued_s + waited_s,
        is_cold=result.cold,
        cpu_s=result.cpu_s,
        peak_memory_bytes=result.peak_memory_bytes,
    )


def fail(
    execution: Execution, reason: str, now: datetime, *, status_code: int = 500, duration_s: float = 0.0
) -> Execution:
    """The record of a run that did not come to an answer, with the reason."""
    return replace(
        execution,
        updated_at=now,
        status=ExecutionStatus.FAILED,
        response_status_code=status_code,
        errors=reason,
        duration_s=duration_s,
    )


def stored_request_headers(headers: Mapping[str, str]) -> tuple[Header, ...]:
    """The allow-listed part of the request headers."""
    return tuple([header for header in headers.items() if header[0] in _STORED_REQUEST_HEADERS])


def reader_of(execution: Execution) -> str:
    """The id of the user an execution belongs to, `""` if it belongs to none."""
    if not execution.permissions:
        return ""
    prefix, suffix = 'read("user:', '")'
    found = next((text for text in execution.permissions if text.startswith(prefix) and text.endswith(suffix)), "")
    return found[len(prefix) : -len(suffix)]


def _stored_response_headers(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    """The allow-listed part of the response headers."""
    return _known_stored.of(headers) if type(headers) is KnownPairs else _stored_of(headers)


def _stored_of(headers: tuple[Header, ...]) -> KnownPairs:
    return KnownPairs([header for header in headers if header[0] in _STORED_RESPONSE_HEADERS])


_known_stored: Kept[KnownPairs, KnownPairs] = Kept(_stored_of)


class ShownHeaders(Sequence[Header]):
    """All headers of an answer, as the creating call sees them; runtime-internal ones never leave.

    `given` are the function's own. `body_bytes` is the length of the body, None for one that is streamed.
    """

    __slots__ = ("_all", "body_bytes", "execution_id", "given")

    def __init__(self, execution_id: str, given: tuple[Header, ...], body_bytes: int | None) -> None:
        self.execution_id = execution_id
        self.given = given
        self.body_bytes = body_bytes
        self._all: tuple[Header, ...] = ()

    def all(self) -> tuple[Header, ...]:
        """The function's, then ours."""
        if not self._all:
            shown = [header for header in self.given if not header[0].startswith(_INTERNAL_PREFIX)]
            if self.body_bytes is not None and not any(name == "content-length" for name, _ in shown):
                shown.append(("content-length", str(self.body_bytes)))
            shown.append((EXECUTION_ID, self.execution_id))
            self._all = tuple(shown)
        return self._all

    def __getitem__(self, at: Any) -> Any:
        return self.all()[at]

    def __iter__(self) -> Iterator[Header]:
        return iter(self.all())

    def __len__(self) -> int:
        return len(self.all())
