"""The one shape of errors, whose fault is answered how, and a content-type on everything."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from hearth.api.errors import REQUEST_ID_HEADER
from hearth.model.refusals import Busy, PlatformFault, Refusal, Unavailable
from hearth.ports import CursorNotFound, Page
from tests.api.support import World

pytestmark = pytest.mark.anyio

Logs = list[MutableMapping[str, Any]]


async def test_the_shape_of_an_error(world: World) -> None:
    """Every key is read by some client: CLI `code` and `type`, Python `message` (contract: clients 1.4)."""
    world.functions.results["get"] = Refusal("function_not_found")
    async with world.client() as client:
        answer = await client.get("/v1/functions/f1")
    assert answer.status_code == 404
    assert answer.json() == {
        "message": "Function with the requested ID could not be found.",
        "code": 404,
        "type": "function_not_found",
        "version": "1.9.6",
    }
    assert answer.headers["content-type"] == "application/json; charset=UTF-8"
    assert answer.headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert (answer.headers["expires"], answer.headers["pragma"]) == ("0", "no-cache")


@pytest.mark.parametrize(
    ("error", "status", "type", "words"),
    [
        (Refusal("general_protocol_unsupported"), 500, "general_protocol_unsupported", "Server Error"),
        (Refusal("general_region_access_denied"), 451, "general_region_access_denied", ""),
        (Unavailable("no runtime at /opt"), 503, "general_server_error", "log"),
        (PlatformFault("disk gone at /data"), 500, "general_server_error", "Server Error"),
        (RuntimeError("secret detail"), 500, "general_server_error", "Server Error"),
        (CursorNotFound("x"), 400, "general_cursor_not_found", "cursor"),
    ],
)
async def test_whose_fault_decides_the_answer(
    world: World, error: Exception, status: int, type: str, words: str
) -> None:
    world.functions.results["get"] = error
    async with world.client() as client:
        answer = await client.get("/v1/functions/f1")
    body = answer.json()
    assert (answer.status_code, body["code"], body["type"]) == (status, status, type)
    assert words in body["message"]
    assert not any(detail in answer.text for detail in ("/opt", "/data", "secret detail"))


async def test_busy_names_its_limit_and_when_to_come_again(world: World) -> None:
    world.executions.results["create"] = Busy("all instances are busy", limit="max_instances=4", retry_after_s=3)
    async with world.client() as client:
        answer = await client.post("/v1/functions/f1/executions", json={})
    assert (answer.status_code, answer.json()["type"]) == (429, "general_rate_limit_exceeded")
    assert answer.headers["retry-after"] == "3"
    assert answer.json()["message"].count("limit: ") == 1
    assert "max_instances=4" in answer.json()["message"]


async def test_a_fault_of_ours_is_logged_once_under_the_id_the_answer_carries(world: World, logs: Logs) -> None:
    world.functions.results["get"] = RuntimeError("boom")
    async with world.client() as client:
        answer = await client.get("/v1/functions/f1")
    (entry,) = [each for each in logs if each["log_level"] != "debug"]
    assert entry["request_id"] == answer.headers[REQUEST_ID_HEADER]
    assert (entry["log_level"], entry["route"], entry["project_id"]) == ("error", "functions.get", "p1")
    assert isinstance(entry["exc_info"], RuntimeError)


async def test_a_refusal_is_not_logged(world: World, logs: Logs) -> None:
    world.functions.results["get"] = Refusal("function_not_found")
    async with world.client() as client:
        await client.get("/v1/functions/f1")
    assert [each for each in logs if each["log_level"] != "debug"] == []


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/v1/health/version", {}),
        ("GET", "/v1/health", {}),
        ("GET", "/v1/ping", {}),
        ("POST", "/v1/functions", {"json": {"functionId": "a", "name": "n", "runtime": "node-22"}}),
        ("GET", "/v1/functions", {}),
        ("GET", "/v1/functions/f1", {}),
        ("PUT", "/v1/functions/f1", {"json": {"name": "n"}}),
        ("PATCH", "/v1/functions/f1/deployment", {"json": {"deploymentId": "d1"}}),
        ("DELETE", "/v1/functions/f1", {"json": {}}),
        ("GET", "/v1/functions/runtimes", {}),
        ("GET", "/v1/functions/specifications", {}),
        ("POST", "/v1/functions/f1/deployments", {"data": {"activate": "true"}, "files": {"code": ("c.gz", b"x")}}),
        ("POST", "/v1/functions/f1/deployments/duplicate", {"json": {"deploymentId": "d1"}}),
        ("GET", "/v1/functions/f1/deployments", {}),
        ("GET", "/v1/functions/f1/deployments/d1", {}),
        ("PATCH", "/v1/functions/f1/deployments/d1/status", {"json": {}}),
        ("DELETE", "/v1/functions/f1/deployments/d1", {"json": {}}),
        ("POST", "/v1/functions/f1/executions", {"json": {}}),
        ("GET", "/v1/functions/f1/executions", {}),
        ("GET", "/v1/functions/f1/executions/e1", {}),
        ("DELETE", "/v1/functions/f1/executions/e1", {"json": {}}),
        ("POST", "/v1/functions/f1/variables", {"json": {"variableId": "v1", "key": "A", "value": ""}}),
        ("GET", "/v1/functions/f1/variables", {}),
        ("GET", "/v1/functions/f1/variables/v1", {}),
        ("PUT", "/v1/functions/f1/variables/v1", {"json": {"value": "x"}}),
        ("DELETE", "/v1/functions/f1/variables/v1", {"json": {}}),
        ("GET", "/v1/functions/templates", {}),
        ("GET", "/nope", {}),
        ("OPTIONS", "/v1/functions", {}),
        ("HEAD", "/v1/functions/f1", {}),
    ],
)
async def test_everything_has_a_content_type_and_204_is_not_json(
    world: World, method: str, path: str, options: dict[str, Any]
) -> None:
    """Python reads it unconditionally; node and web parse an empty body that says JSON (contract: clients 1.3)."""
    world.functions.results |= {"list": Page(0, ()), "set_deployment": world.functions.results["get"]}
    for collection in (world.variables, world.deployments, world.executions):
        collection.results["list"] = Page(0, ())
    async with world.client() as client:
        answer = await client.request(method, path, **options)
    assert answer.headers.get("content-type")
    assert answer.headers["server"] == "Appwrite"
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.status_code == 204:
        assert answer.headers["content-type"] == "text/plain; charset=UTF-8"
        assert answer.content == b""
    elif method != "HEAD":
        assert int(answer.headers["content-length"]) == len(answer.content) > 0
