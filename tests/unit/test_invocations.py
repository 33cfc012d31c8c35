"""What every run is given and what is kept of it (contract: functions-api 10, 12)."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import msgspec
import pytest

from hearth.control import invocations
from hearth.control.invocations import RunRequest
from hearth.control.runnables import Runnable
from hearth.model.headers import KnownHeaders, RunHeaders
from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment, Execution, Function
from hearth.model.running import Artifact, InstanceKey, InstanceTemplate, Outcome, Result
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, Trigger

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FUNCTION = Function("f1", "p1", NOW, NOW, "F", "node-20.0", execute=("users",), timeout_s=15, scopes=("users.read",))
DEPLOYMENT = Deployment("d1", "p1", "f1", NOW, NOW, "manual", DeploymentStatus.READY, "main.js", "", True)
TEMPLATE = InstanceTemplate(
    InstanceKey("d1", "v", "s"), "p1", "f1", "node-20.0", Artifact("k", "d", 1), "main.js", {}, 1.0, 512
)
RUNNABLE = Runnable(FUNCTION, DEPLOYMENT, TEMPLATE)
REQUEST = RunRequest("POST", "/a?b=c", {"X-Mine": "1", "Content-Type": "text/x", "x-appwrite-user-id": "spoofed"}, b"")


def mint(project_id: str, scopes: object, lifetime_s: int) -> str:
    return f"ephemeral_{project_id}_{lifetime_s}"


def headers(request: RunRequest = REQUEST) -> dict[str, str]:
    return invocations.compose_headers("e1", RUNNABLE, request, mint)


def opened(request: RunRequest = REQUEST) -> Execution:
    stored = invocations.stored_request_headers(headers(request))
    return invocations.open_execution("e1", RUNNABLE, request, stored, NOW)


def test_our_headers_are_written_over_the_callers() -> None:
    composed = headers()
    assert composed["x-mine"] == "1"
    assert composed["x-appwrite-user-id"] == ""
    assert composed["x-appwrite-execution-id"] == "e1"
    assert composed["x-appwrite-trigger"] == "http"
    assert composed["x-appwrite-key"] == "ephemeral_p1_75"
    assert "x-appwrite-event" not in composed


def test_only_allow_listed_request_headers_are_stored() -> None:
    execution = opened(msgspec.structs.replace(REQUEST, client_ip="10.1.1.1"))
    assert execution.request_headers == (("content-type", "text/x"), ("x-appwrite-client-ip", "10.1.1.1"))
    assert execution.permissions == ()


def test_a_users_execution_is_readable_by_that_user() -> None:
    execution = opened(msgspec.structs.replace(REQUEST, user_id="u1"))
    assert execution.permissions == ('read("user:u1")',)


@pytest.mark.parametrize(
    ("outcome", "status_code", "expected"),
    [
        (Outcome.COMPLETED, 200, ExecutionStatus.COMPLETED),
        (Outcome.COMPLETED, 499, ExecutionStatus.COMPLETED),
        (Outcome.COMPLETED, 500, ExecutionStatus.FAILED),
        (Outcome.TIMED_OUT, 500, ExecutionStatus.FAILED),
    ],
)
def test_below_500_is_completed_and_all_else_failed(
    outcome: Outcome, status_code: int, expected: ExecutionStatus
) -> None:
    result = Result(outcome, status_code, (("content-type", "a/b"), ("x-own", "1")), b"hi", "l\n", "e\n", 0.5)
    finished = invocations.finish(opened(), result, logging=True, now=NOW)
    assert (finished.status, finished.logs, finished.errors) == (expected, "l\n", "e\n")
    assert finished.response_headers == (("content-type", "a/b"),)


def test_without_logging_nothing_of_logs_and_errors_is_kept() -> None:
    finished = invocations.finish(
        opened(), Result(Outcome.COMPLETED, 200, logs="l", errors="e"), logging=False, now=NOW
    )
    assert (finished.logs, finished.errors) == ("", "")


def test_the_creating_call_sees_all_headers_but_runtime_internal_ones() -> None:
    result = Result(Outcome.COMPLETED, 200, (("x-own", "1"), ("x-open-runtimes-log-id", "x")), b"abc")
    shown = invocations.ShownHeaders("e1", result.headers, len(result.body))
    assert tuple(shown) == (("x-own", "1"), ("content-length", "3"), ("x-appwrite-execution-id", "e1"))
    assert (len(shown), shown[0]) == (3, ("x-own", "1"))


def test_runs_with_the_same_headers_are_given_what_each_would_be_given_alone() -> None:
    known = invocations.KnownRuns()
    asked = {"X-Mine": '1"', "Content-Type": "text/x", "x-hearth-replay-of": "e0"}
    request = msgspec.structs.replace(REQUEST, headers=KnownHeaders(asked), client_ip="10.1.1.1")
    for id in ("e1", "e2"):
        common = known.of(request, "key")
        assert common is not None
        run = RunHeaders(common, id)
        alone = invocations.run_headers(id, request, "key")
        assert (dict(run), len(run), json.loads(run.encoded())) == (alone, len(alone), alone)
        assert common.stored == invocations.stored_request_headers(alone)
    assert known.of(request, "key") is known.of(request, "key")
    assert known.of(request, "another key") is not known.of(request, "key")


@pytest.mark.parametrize(
    "special",
    [
        {"headers": {"a": "b"}},
        {"headers": KnownHeaders(), "user_id": "u1"},
        {"headers": KnownHeaders(), "real_user_id": "u1"},
        {"headers": KnownHeaders(), "user_jwt": "x"},
        {"headers": KnownHeaders(), "trigger": Trigger.SCHEDULE},
        {"headers": KnownHeaders(), "event": "users.u1.create"},
        {"headers": KnownHeaders(), "replay_of": "e0"},
    ],
    ids=lambda special: next(reversed(special)),
)
def test_a_run_with_something_of_its_own_is_not_taken_for_another(special: dict[str, object]) -> None:
    assert invocations.KnownRuns().of(msgspec.structs.replace(REQUEST, **special), "key") is None


@pytest.mark.parametrize(
    ("runnable", "privileged", "type"),
    [
        (None, True, "function_not_found"),
        (replace(RUNNABLE, function=replace(FUNCTION, enabled=False)), False, "function_not_found"),
        (replace(RUNNABLE, deployment=None, template=None), True, "deployment_not_found"),
        (replace(RUNNABLE, template=None), True, "build_not_ready"),
    ],
    ids=["unknown", "disabled", "no-deployment", "not-ready"],
)
def test_what_must_hold_before_a_run(runnable: Runnable | None, privileged: bool, type: str) -> None:
    with pytest.raises(Refusal) as caught:
        invocations.require_runnable(runnable, privileged=privileged)
    assert caught.value.type == type


def test_a_disabled_function_still_runs_for_keys() -> None:
    disabled = replace(RUNNABLE, function=replace(FUNCTION, enabled=False))
    assert invocations.require_runnable(disabled, privileged=True)[1] is TEMPLATE


def test_execute_roles_admit_or_refuse_in_words() -> None:
    invocations.require_execute(RUNNABLE, ("any", "user:u1", "users"))
    with pytest.raises(Refusal, match='Missing "execute" permission for role'):
        invocations.require_execute(RUNNABLE, ("any", "guests"))
    closed = replace(RUNNABLE, function=replace(FUNCTION, execute=()))
    with pytest.raises(Refusal, match="No permissions provided for action 'execute'"):
        invocations.require_execute(closed, ("any",))
