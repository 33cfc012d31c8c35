"""The shape of every resource in each response format (contract: functions-api 6 and 16, clients 2.1)."""

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from hearth.api import wire
from hearth.api.formats import parse_version, shape, warning_for
from hearth.control.views import ExecutionView, FunctionView
from hearth.model.actor import Actor, ActorKind
from hearth.model.refusals import Refusal
from hearth.ports import Page
from tests.api.support import DEPLOYMENT, EXECUTION, FUNCTION, FUNCTION_VIEW, NOW, SECRET, VARIABLE, World

KEY_ACTOR = Actor(ActorKind.KEY, frozenset(), roles=("keys",))
USER_ACTOR = Actor(ActorKind.USER, frozenset(), roles=("any",), user_id="u1")
DATE = "2026-11-24T10:20:30.123+00:00"

FUNCTION_KEYS = [
    "$id",
    "$createdAt",
    "$updatedAt",
    "execute",
    "name",
    "enabled",
    "live",
    "logging",
    "runtime",
    "deploymentRetention",
    "deploymentId",
    "deploymentCreatedAt",
    "latestDeploymentId",
    "latestDeploymentCreatedAt",
    "latestDeploymentStatus",
    "scopes",
    "vars",
    "events",
    "schedule",
    "timeout",
    "entrypoint",
    "commands",
    "version",
    "installationId",
    "providerRepositoryId",
    "providerBranch",
    "providerRootDirectory",
    "providerSilentMode",
    "providerBranches",
    "providerPaths",
]
DEPLOYMENT_KEYS = [
    "$id",
    "$createdAt",
    "$updatedAt",
    "type",
    "resourceId",
    "resourceType",
    "entrypoint",
    "sourceSize",
    "buildSize",
    "totalSize",
    "buildId",
    "activate",
    "screenshotLight",
    "screenshotDark",
    "status",
    "buildLogs",
    "buildDuration",
    "providerRepositoryName",
    "providerRepositoryOwner",
    "providerRepositoryUrl",
    "providerCommitHash",
    "providerCommitAuthorUrl",
    "providerCommitAuthor",
    "providerCommitMessage",
    "providerCommitUrl",
    "providerBranch",
    "providerBranchUrl",
]
EXECUTION_KEYS = [
    "$id",
    "$createdAt",
    "$updatedAt",
    "$permissions",
    "functionId",
    "resourceId",
    "resourceType",
    "deploymentId",
    "trigger",
    "status",
    "requestMethod",
    "requestPath",
    "requestHeaders",
    "responseStatusCode",
    "responseBody",
    "responseHeaders",
    "logs",
    "errors",
    "duration",
    "scheduledAt",
]
VARIABLE_KEYS = ["$id", "$createdAt", "$updatedAt", "key", "value", "secret", "resourceType", "resourceId"]


def in_format(version: str | None, model: str, payload: dict[str, Any]) -> dict[str, Any]:
    return shape(None if version is None else parse_version(version), model, payload)


def has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(has_null(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_null(item) for item in value)
    return value is None


def test_a_function_has_every_key_in_order_and_the_superset_after_them() -> None:
    shown = wire.function(FUNCTION_VIEW)
    assert list(shown)[: len(FUNCTION_KEYS)] == FUNCTION_KEYS
    assert set(shown) - set(FUNCTION_KEYS) == {
        *("specification", "buildSpecification", "runtimeSpecification", "description", "emailEnabled")
    }
    assert (shown["$createdAt"], shown["deploymentCreatedAt"]) == (DATE, DATE)
    assert shown["specification"] == shown["buildSpecification"] == "s-1vcpu-512mb"
    assert shown["version"] == "v5"


def test_figures_of_our_own_are_for_whoever_may_see_the_logs() -> None:
    measured = structs.replace(EXECUTION, queued_s=0.0, is_cold=False, cpu_s=0.0, peak_memory_bytes=1)
    shown, hidden = wire.execution(measured, KEY_ACTOR), wire.execution(measured, USER_ACTOR)
    assert set(shown) - set(hidden) == {"queueTime", "coldStart", "cpuTime", "peakMemory"}
    assert list(hidden) == list(wire.execution(EXECUTION, KEY_ACTOR)), "unknown is left out, never null"
    view = ExecutionView(measured)
    assert list(wire.figures(view, USER_ACTOR)) == ["x-hearth-start", "x-hearth-queue-ms"]
    assert set(wire.figures(view, KEY_ACTOR)) - set(wire.figures(view, USER_ACTOR)) == {
        *("x-hearth-cpu-ms", "x-hearth-peak-memory-bytes")
    }


def test_what_is_unset_is_empty_text_never_null() -> None:
    """Python SDKs reject null (contract: clients 2.1)."""
    bare = replace(FUNCTION, deployment_id="", deployment_created_at=None, latest_deployment_created_at=None)
    shown = wire.function(FunctionView(bare, (VARIABLE,)))
    assert (shown["deploymentCreatedAt"], shown["latestDeploymentCreatedAt"]) == ("", "")
    assert not has_null(shown)
    assert not has_null(wire.deployment(DEPLOYMENT))
    assert not has_null(wire.variable(VARIABLE))


def test_the_value_of_a_secret_is_shown_nowhere() -> None:
    assert wire.variable(SECRET)["value"] == ""
    assert [item["value"] for item in wire.function(FUNCTION_VIEW)["vars"]] == ["hello", ""]


def test_a_variable_has_every_key() -> None:
    assert list(wire.variable(VARIABLE)) == [*VARIABLE_KEYS, "description"]


def test_a_deployment_has_every_key_and_the_upload_counters() -> None:
    shown = wire.deployment(DEPLOYMENT)
    assert list(shown) == [*DEPLOYMENT_KEYS, "chunksTotal", "chunksUploaded"]
    assert (shown["sourceSize"], shown["buildSize"], shown["totalSize"]) == (100, 50, 150)
    assert (shown["resourceId"], shown["resourceType"]) == ("f1", "functions")
    assert (shown["chunksTotal"], shown["chunksUploaded"]) == (3, 2)


def test_an_execution_has_every_key_and_headers_as_a_list_of_pairs() -> None:
    shown = wire.execution(EXECUTION, KEY_ACTOR)
    assert list(shown) == EXECUTION_KEYS
    assert shown["requestHeaders"] == [{"name": "content-type", "value": "application/json"}]
    assert shown["responseBody"] == ""
    assert shown["scheduledAt"] is None


def test_logs_and_errors_are_for_keys_and_admins_only() -> None:
    privileged, user = wire.execution(EXECUTION, KEY_ACTOR), wire.execution(EXECUTION, USER_ACTOR)
    assert (privileged["logs"], privileged["errors"]) == ("a log\n", "an error\n")
    assert (user["logs"], user["errors"]) == ("", "")


def test_select_keeps_the_wanted_keys_and_every_internal_one() -> None:
    item = wire.deployment(DEPLOYMENT)
    assert set(wire.select([item], ["status", "nope"])[0]) == {"$id", "$createdAt", "$updatedAt", "status"}
    assert wire.select([item], ["*", "status"]) == [item]
    assert wire.select([item], []) == [item]


class TestFormats:
    """Each difference of section 16, at its version and just below it."""

    @pytest.mark.parametrize(("version", "keys"), [(None, 3), ("2.5.0", 3), ("2.0.0", 3), ("1.9.5", 1), ("1.6.0", 1)])
    def test_below_2_0_an_execution_has_only_its_function_id(self, version: str | None, keys: int) -> None:
        shown = in_format(version, "execution", wire.execution(EXECUTION, KEY_ACTOR))
        assert len({"functionId", "resourceId", "resourceType"} & set(shown)) == keys
        assert shown["functionId"] == "f1"

    def test_an_unscheduled_execution_has_null_only_for_callers_without_a_format(self) -> None:
        plain = in_format(None, "execution", wire.execution(EXECUTION, KEY_ACTOR))
        sdk = in_format("1.9.5", "execution", wire.execution(EXECUTION, KEY_ACTOR))
        due = in_format("1.9.5", "execution", wire.execution(structs.replace(EXECUTION, scheduled_at=NOW), KEY_ACTOR))
        assert plain["scheduledAt"] is None
        assert "scheduledAt" not in sdk
        assert due["scheduledAt"] == DATE

    def test_below_1_9_a_function_has_one_specification(self) -> None:
        assert "buildSpecification" in in_format("1.9.0", "function", wire.function(FUNCTION_VIEW))
        older = in_format("1.8.0", "function", wire.function(FUNCTION_VIEW))
        assert older["specification"] == "s-1vcpu-512mb"
        assert not {"buildSpecification", "runtimeSpecification"} & set(older)

    def test_the_1_8_shapes_hold_every_field_its_clients_demand(self) -> None:
        function = in_format("1.8.0", "function", wire.function(FUNCTION_VIEW))
        assert {*FUNCTION_KEYS, "specification"} <= set(function)
        assert set(DEPLOYMENT_KEYS) <= set(in_format("1.8.0", "deployment", wire.deployment(DEPLOYMENT)))
        execution = in_format("1.8.0", "execution", wire.execution(EXECUTION, KEY_ACTOR))
        assert set(EXECUTION_KEYS) - {"resourceId", "resourceType", "scheduledAt"} <= set(execution)
        assert not has_null([function, execution])

    def test_below_1_7_a_function_names_its_deployment_differently(self) -> None:
        assert in_format("1.7.0", "function", wire.function(FUNCTION_VIEW))["deploymentId"] == "d1"
        older = in_format("1.6.0", "function", wire.function(FUNCTION_VIEW))
        assert older["deployment"] == "d1"
        gone = {"deploymentId", "deploymentCreatedAt", "latestDeploymentId", "latestDeploymentCreatedAt"}
        assert not (gone | {"latestDeploymentStatus"}) & set(older)
        assert "secret" not in older["vars"][0]

    def test_below_1_7_a_deployment_has_size_and_build_time(self) -> None:
        older = in_format("1.6.0", "deployment", wire.deployment(replace(DEPLOYMENT, build_duration_s=9)))
        assert (older["size"], older["buildTime"]) == (100, 9)
        assert not {"sourceSize", "buildDuration", "totalSize", "screenshotLight", "screenshotDark"} & set(older)

    def test_below_1_7_a_variable_does_not_say_whether_it_is_secret(self) -> None:
        assert "secret" in in_format("1.7.0", "variable", wire.variable(VARIABLE))
        assert "secret" not in in_format("1.6.2", "variable", wire.variable(VARIABLE))

    def test_below_1_6_scopes_specification_schedule_and_runtime_key_are_gone(self) -> None:
        function = in_format("1.5.0", "function", wire.function(FUNCTION_VIEW))
        assert not {"scopes", "specification"} & set(function)
        execution = in_format(
            "1.5.0", "execution", wire.execution(structs.replace(EXECUTION, scheduled_at=NOW), KEY_ACTOR)
        )
        assert "scheduledAt" not in execution
        assert in_format("1.5.0", "runtime", {"$id": "node-22", "key": "node"}) == {"$id": "node-22"}
        assert in_format("1.6.0", "runtime", {"$id": "node-22", "key": "node"})["key"] == "node"

    def test_below_1_4_the_first_names_are_used(self) -> None:
        execution = in_format("1.3.0", "execution", wire.execution(EXECUTION, KEY_ACTOR, response_body="hi"))
        assert (execution["statusCode"], execution["response"]) == (200, "hi")
        assert (execution["stdout"], execution["stderr"]) == ("a log\n", "an error\n")
        deployment = in_format("1.3.0", "deployment", wire.deployment(replace(DEPLOYMENT, build_logs="built")))
        assert (deployment["buildStdout"], deployment["buildStderr"]) == ("built", "")
        function = in_format("1.3.0", "function", wire.function(FUNCTION_VIEW))
        assert (function["schedulePrevious"], function["scheduleNext"]) == ("", "")
        assert in_format("1.3.0", "variable", wire.variable(VARIABLE))["functionId"] == "f1"

    def test_the_items_of_lists_are_shaped_too(self) -> None:
        page = wire.listing("deployments", 1, [wire.deployment(DEPLOYMENT)])
        assert in_format("1.6.0", "deploymentList", page)["deployments"][0]["size"] == 100

    def test_shaping_does_not_lose_the_order_of_keys(self) -> None:
        shown = list(in_format("1.6.0", "function", wire.function(FUNCTION_VIEW)))
        assert shown.index("deployment") == FUNCTION_KEYS.index("deploymentId")

    @pytest.mark.parametrize(
        ("text", "version"),
        [("1.9.5", (1, 9, 5)), ("1.7", (1, 7, 0)), ("2", (2, 0, 0)), ("", None), ("v1", None), ("1.2.3.4", None)],
    )
    def test_versions_are_read_leniently(self, text: str, version: tuple[int, int, int] | None) -> None:
        assert parse_version(text) == version

    def test_only_newer_clients_are_warned_and_in_one_sentence_list(self) -> None:
        """Clients split the header at `;`, so the text must not hold one."""
        assert warning_for(None) == warning_for((1, 9, 6)) == warning_for((1, 8, 0)) == ""
        assert "2.5.0" in warning_for((2, 5, 0))
        assert ";" not in warning_for((2, 5, 0))


@pytest.mark.anyio
class TestRequestFormats:
    """Requests in older shapes mean what they meant (contract: functions-api 16)."""

    @pytest.mark.parametrize("version", [None, "1.8.0", "1.9.5"])
    async def test_one_specification_stands_for_both(self, world: World, version: str | None) -> None:
        headers = {} if version is None else {"x-appwrite-response-format": version}
        body = {"functionId": "a", "name": "n", "runtime": "node-22", "specification": "s-1vcpu-1gb"}
        async with world.client() as client:
            await client.post("/v1/functions", json=body, headers=headers)
        arguments = world.functions.calls[0][2]
        assert (arguments["build_specification"], arguments["runtime_specification"]) == ("s-1vcpu-1gb", "s-1vcpu-1gb")

    async def test_the_pair_wins_over_the_one(self, world: World) -> None:
        body = {"name": "n", "specification": "s-1vcpu-1gb", "buildSpecification": "s-2vcpu-2gb"}
        async with world.client() as client:
            await client.put("/v1/functions/f1", json=body)
        arguments = world.functions.calls[0][2]
        assert (arguments["build_specification"], arguments["runtime_specification"]) == ("s-2vcpu-2gb", "s-1vcpu-1gb")

    @pytest.mark.parametrize(("version", "status"), [(None, 201), ("1.8.0", 201), ("1.9.1", 201), ("1.9.4", 400)])
    async def test_only_newer_clients_must_send_a_variable_id(
        self, world: World, version: str | None, status: int
    ) -> None:
        headers = {} if version is None else {"x-appwrite-response-format": version}
        async with world.client() as client:
            answer = await client.post("/v1/functions/f1/variables", json={"key": "A", "value": ""}, headers=headers)
        assert answer.status_code == status
        if status == 400:
            assert answer.json()["message"] == 'Param "variableId" is not optional.'
        else:
            assert world.variables.calls[0][2]["variable_id"] == "unique()"

    @pytest.mark.parametrize(("version", "secret"), [("1.7.0", True), ("1.6.0", False)])
    async def test_below_1_7_variables_are_never_secret(self, world: World, version: str, secret: bool) -> None:
        headers = {"x-appwrite-response-format": version}
        async with world.client() as client:
            await client.post("/v1/functions/f1/variables", json={"key": "A", "value": ""}, headers=headers)
        assert world.variables.calls[0][2]["secret"] is secret

    @pytest.mark.parametrize(("version", "kind"), [("1.7.0", "source"), ("1.6.0", "output")])
    async def test_below_1_7_a_download_is_of_the_output(self, world: World, version: str, kind: str) -> None:
        world.deployments.results["download"] = Refusal("deployment_not_found")
        async with world.client() as client:
            await client.get(
                "/v1/functions/f1/deployments/d1/download", headers={"x-appwrite-response-format": version}
            )
        assert world.deployments.calls[0][2]["kind"] == kind

    @pytest.mark.parametrize(("version", "accepted"), [("1.4.0", True), ("1.5.0", False)])
    async def test_below_1_5_queries_are_text(self, world: World, version: str, accepted: bool) -> None:
        world.functions.results["list"] = Page(0, ())
        params = [("queries[]", 'equal("name", ["a", "b"])'), ("queries[]", "limit(3)")]
        async with world.client() as client:
            answer = await client.get("/v1/functions", params=params, headers={"x-appwrite-response-format": version})
        assert (answer.status_code == 200) is accepted
        if accepted:
            query = world.functions.calls[0][1][1]
            assert (query.filters[0].attribute, query.filters[0].values, query.limit) == ("name", ("a", "b"), 3)

    async def test_below_1_7_attributes_have_their_old_names(self, world: World) -> None:
        world.functions.results["list"] = Page(0, ())
        params = {"queries[0]": '{"method":"equal","attribute":"deployment","values":["d1"]}'}
        async with world.client() as client:
            old = await client.get("/v1/functions", params=params, headers={"x-appwrite-response-format": "1.6.0"})
            new = await client.get("/v1/functions", params=params, headers={"x-appwrite-response-format": "1.7.0"})
        assert (old.status_code, new.status_code) == (200, 400)
        assert world.functions.calls[0][1][1].filters[0].attribute == "deploymentId"

    async def test_below_1_4_the_body_is_called_data_and_commands_are_implied(self, world: World) -> None:
        headers = {"x-appwrite-response-format": "1.3.0"}
        body = {"functionId": "a", "name": "n", "runtime": "node-22"}
        async with world.client() as client:
            await client.post("/v1/functions/f1/executions", json={"data": "payload"}, headers=headers)
            await client.post("/v1/functions", json=body, headers=headers)
            await client.post("/v1/functions", json=body)
        assert world.executions.calls[0][2]["body"] == b"payload"
        assert [call[2]["commands"] for call in world.functions.calls] == ["npm install", ""]
