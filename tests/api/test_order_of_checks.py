"""Requests with several faults are answered by the first check that fails (contract: functions-api 1)."""

from typing import Any

import pytest

from hearth.model.refusals import Refusal
from tests.api.support import EXPIRED_KEY, KEY, READ_ONLY_KEY, World

pytestmark = pytest.mark.anyio

BAD_ORIGIN = {"origin": "https://evil.example"}
UNKNOWN_PROJECT = {"x-appwrite-project": "p404"}
PROJECT = {"x-appwrite-project": "p1"}
BAD_BODY = b"{nope"

#: Headers and body of a POST /functions that fails a check and all later ones -> the refusal of the earliest.
FAILING: list[tuple[str, dict[str, str], bytes, int, str]] = [
    ("origin before project", BAD_ORIGIN | UNKNOWN_PROJECT, BAD_BODY, 403, "general_unknown_origin"),
    ("project before key", UNKNOWN_PROJECT | {"x-appwrite-key": KEY}, BAD_BODY, 404, "project_not_found"),
    ("key without project header", {"x-appwrite-key": KEY}, BAD_BODY, 403, "project_id_missing"),
    ("expired key before scope", PROJECT | {"x-appwrite-key": EXPIRED_KEY}, BAD_BODY, 401, "project_key_expired"),
    ("scope before body", PROJECT | {"x-appwrite-key": READ_ONLY_KEY}, BAD_BODY, 401, "general_unauthorized_scope"),
    ("unknown key is a guest", PROJECT | {"x-appwrite-key": "nobody's"}, BAD_BODY, 401, "general_unauthorized_scope"),
    ("guest without project fails on scope", {}, BAD_BODY, 401, "general_unauthorized_scope"),
    ("body last", PROJECT | {"x-appwrite-key": KEY}, BAD_BODY, 400, "general_argument_invalid"),
]


@pytest.mark.parametrize(("name", "headers", "body", "status", "type"), FAILING, ids=[row[0] for row in FAILING])
async def test_the_first_failing_check_answers(
    world: World, name: str, headers: dict[str, str], body: bytes, status: int, type: str
) -> None:
    async with world.client(headers) as client:
        answer = await client.post("/v1/functions", content=body)
    assert (answer.status_code, answer.json()["type"]) == (status, type), name
    assert world.functions.calls == []


async def test_an_unknown_route_is_refused_before_everything(world: World) -> None:
    async with world.client(BAD_ORIGIN | UNKNOWN_PROJECT) as client:
        answer = await client.post("/v1/functions/f1/nope", content=BAD_BODY)
    assert (answer.status_code, answer.json()["type"]) == (404, "general_route_not_found")


async def test_a_guest_without_project_may_not_execute(world: World) -> None:
    """Check 18b comes after the scope, which guests have for this route, and before the parameters."""
    async with world.client({}) as client:
        answer = await client.post("/v1/functions/f1/executions", json={"method": "nope"})
    assert (answer.status_code, answer.json()["type"]) == (401, "general_access_forbidden")


async def test_the_console_project_has_no_functions(world: World) -> None:
    async with world.client({"x-appwrite-project": "console"}) as client:
        answer = await client.post("/v1/functions/f1/executions", json={})
    assert answer.json()["type"] == "general_access_forbidden"


async def test_routes_outside_the_functions_group_need_no_project(world: World) -> None:
    async with world.client({}) as client:
        runtimes = await client.get("/v1/functions/runtimes")
        version = await client.get("/v1/health/version")
    assert runtimes.status_code == 200
    assert runtimes.json()["total"] == len(runtimes.json()["runtimes"]) > 10
    assert version.json() == {"version": "1.9.6"}


async def test_the_message_of_a_missing_scope_names_caller_role_and_scopes(world: World) -> None:
    async with world.client(PROJECT) as client:
        guest = await client.get("/v1/functions/f1/executions")
        user = await client.get("/v1/functions", headers={"x-appwrite-session": "ann"})
    assert guest.json()["message"] == ('User (role: guests) missing scopes (["executions.read","execution.read"])')
    assert user.json()["message"] == 'ann@example.com (role: users) missing scopes (["functions.read"])'


@pytest.mark.parametrize("place", ["query", "json", "form"])
async def test_the_project_may_be_named_in_query_or_body(world: World, place: str) -> None:
    options: dict[str, Any] = {
        "query": {"params": {"project": "p1"}, "json": {}},
        "json": {"json": {"project": "p1"}},
        "form": {"data": {"project": "p1"}},
    }[place]
    async with world.client({}) as client:
        answer = await client.post("/v1/functions/f1/executions", **options)
    assert answer.status_code == 201
    assert world.executions.calls[0][1][0] == "p1"


async def test_the_project_header_wins_over_query_and_body(world: World) -> None:
    async with world.client(PROJECT) as client:
        answer = await client.post("/v1/functions/f1/executions?project=p404", json={"project": "p405"})
    assert answer.status_code == 201


async def test_credentials_reach_identify_as_they_were_sent(world: World) -> None:
    headers = PROJECT | {
        "x-appwrite-session": "sess",
        "x-appwrite-jwt": "jwt",
        "cookie": "a_session_p1=abc; expires=Fri, 01 Jan 2030 00:00:00 GMT; path=/; httponly",
        "x-fallback-cookies": '{"a_session_p1":"x"}',
        "x-appwrite-mode": "admin",
    }
    async with world.client(headers) as client:
        await client.get("/v1/functions")
    seen = world.identify.seen[0]
    assert (seen.project_id, seen.header_project_id, seen.session, seen.jwt) == ("p1", "p1", "sess", "jwt")
    assert seen.cookie.startswith("a_session_p1=abc; expires=Fri, 01 Jan 2030")
    assert (seen.fallback_cookies, seen.mode) == ('{"a_session_p1":"x"}', "admin")


async def test_the_mode_may_be_named_in_the_query(world: World) -> None:
    async with world.client(PROJECT) as client:
        await client.get("/v1/functions?mode=admin")
    assert world.identify.seen[0].mode == "admin"


async def test_parameters_are_checked_in_the_order_of_declaration(world: World) -> None:
    """functionId before name before runtime; a missing one and a wrong one have their own texts."""
    bodies = [
        ({}, 'Param "functionId" is not optional.'),
        ({"functionId": "_", "timeout": 0}, "Invalid `functionId` param: "),
        ({"functionId": "a"}, 'Param "name" is not optional.'),
        ({"functionId": "a", "name": None}, "Invalid `name` param: "),
        ({"functionId": "a", "name": "n"}, 'Param "runtime" is not optional.'),
        ({"functionId": "a", "name": "n", "runtime": "cobol-60", "timeout": 0}, "Invalid `runtime` param: "),
        ({"functionId": "a", "name": "n", "runtime": "node-22", "timeout": 0}, "Invalid `timeout` param: "),
    ]
    async with world.client() as client:
        for body, message in bodies:
            answer = await client.post("/v1/functions", json=body)
            assert answer.status_code == 400
            assert answer.json()["type"] == "general_argument_invalid"
            assert answer.json()["message"].startswith(message), body
    assert world.functions.calls == []


async def test_null_means_not_given_and_unknown_fields_are_ignored(world: World) -> None:
    body = {
        "functionId": "a",
        "name": "n",
        "runtime": "node-22",
        "timeout": None,
        "execute": None,
        "interval": {"a": 1},
    }
    async with world.client() as client:
        answer = await client.post("/v1/functions", json=body)
    assert answer.status_code == 201
    arguments = world.functions.calls[0][2]
    assert (arguments["timeout_s"], arguments["execute"]) == (15, ())
    assert "interval" not in arguments


async def test_omitted_settings_of_an_update_are_reset_or_kept_as_the_contract_says(world: World) -> None:
    """Contract: functions-api 5.3. None and `""` tell control to keep."""
    async with world.client() as client:
        answer = await client.put("/v1/functions/f1", json={"name": "n"})
    assert answer.status_code == 200
    arguments = world.functions.calls[0][2]
    assert arguments == {
        "function_id": "f1",
        "name": "n",
        "runtime": "",
        "execute": (),
        "events": (),
        "schedule": "",
        "timeout_s": 15,
        "enabled": True,
        "logging": True,
        "entrypoint": "",
        "commands": "",
        "scopes": (),
        "installation_id": "",
        "provider_repository_id": None,
        "provider_branch": "",
        "provider_silent_mode": False,
        "provider_root_directory": "",
        "provider_branches": None,
        "provider_paths": None,
        "build_specification": None,
        "runtime_specification": None,
        "deployment_retention_days": 0,
    }


async def test_a_refusal_of_control_is_passed_on(world: World) -> None:
    world.functions.results["get"] = Refusal("function_not_found")
    async with world.client() as client:
        answer = await client.get("/v1/functions/nope")
    assert (answer.status_code, answer.json()["type"]) == (404, "function_not_found")
