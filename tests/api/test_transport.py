"""What holds for every route: paths, methods, query strings, headers."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from hearth.ports import Page
from tests.api.support import DEPLOYMENT, World

pytestmark = pytest.mark.anyio

KEYLESS = {"x-appwrite-project": "p1"}


@pytest.mark.parametrize("path", ["/v1/functions/f1/deployments/", "/v1/functions/f1/deployments//"])
async def test_a_trailing_slash_is_the_same_route_and_never_a_redirect(world: World, path: str) -> None:
    """A redirect turns a POST into a GET (contract: clients 1.5); Python probes with a trailing slash."""
    world.deployments.results["list"] = Page(0, ())
    async with world.client() as client:
        answer = await client.get(path)
    assert (answer.status_code, answer.json()) == (200, {"total": 0, "deployments": []})


async def test_ids_are_decoded_after_routing(world: World) -> None:
    async with world.client() as client:
        decoded = await client.get("/v1/functions/a%2Db")
        slash = await client.get("/v1/functions/a%2Fb")
    assert world.functions.calls[0][2] == {"function_id": "a-b"}
    assert slash.json()["message"].startswith("Invalid `functionId` param: ")
    assert decoded.status_code == 200


@pytest.mark.parametrize("path", ["/v1/functions//deployments", "/v1//functions", "/functions", "/v2/functions", "/v1"])
async def test_other_paths_are_not_found(world: World, path: str) -> None:
    async with world.client() as client:
        answer = await client.get(path)
    assert answer.json()["type"] == "general_route_not_found"


async def test_head_is_get_without_a_body(world: World) -> None:
    async with world.client() as client:
        get, head = await client.get("/v1/functions/f1"), await client.head("/v1/functions/f1")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(get.content))


async def test_list_parameters_of_php_style_queries(world: World) -> None:
    """`queries[0]`, `queries[]`, `+` for a space, and Python's `total=False` (contract: clients 1.2)."""
    world.functions.results["list"] = Page(0, ())
    query = (
        "queries%5B0%5D=%7B%22method%22%3A%22equal%22%2C%22attribute%22%3A%22name%22%2C%22values%22%3A%5B%22a+b%22%5D%7D"
        "&queries[]=%7B%22method%22%3A%22limit%22%2C%22values%22%3A%5B2%5D%7D&total=False&search=x"
    )
    async with world.client() as client:
        answer = await client.get(f"/v1/functions?{query}", headers={"content-type": ""})
    assert answer.status_code == 200
    asked = world.functions.calls[0][1][1]
    assert (asked.filters[0].values, asked.limit, asked.count, asked.search) == (("a b",), 2, False, "x")


async def test_a_query_string_of_too_many_parameters_is_refused(world: World) -> None:
    async with world.client() as client:
        answer = await client.get("/v1/functions?" + "&".join("a=1" for _ in range(400)))
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")


async def test_variables_are_listed_whole_unless_a_page_is_asked_for(world: World) -> None:
    """The CLI cannot page them (contract: clients 5.4)."""
    world.variables.results["list"] = Page(0, ())
    async with world.client() as client:
        await client.get("/v1/functions/f1/variables")
        await client.get("/v1/functions/f1/variables", params={"queries[0]": '{"method":"limit","values":[2]}'})
    assert [call[1][2].limit for call in world.variables.calls] == [1_000, 2]


async def test_deployments_cannot_be_searched_but_selected(world: World) -> None:
    world.deployments.results["list"] = Page(1, (DEPLOYMENT,))
    async with world.client() as client:
        search = await client.get("/v1/functions/f1/deployments?search=x")
        params = {"queries[0]": '{"method":"select","values":["status"]}'}
        selected = await client.get("/v1/functions/f1/deployments", params=params)
    assert (search.status_code, search.json()["type"]) == (400, "general_query_invalid")
    assert selected.json()["deployments"] == [
        {
            "$id": "d1",
            "$createdAt": "2026-11-24T10:20:30.123+00:00",
            "$updatedAt": "2026-11-24T10:20:30.123+00:00",
            "status": "waiting",
        }
    ]


async def test_the_fallback_header_is_reported_only_when_it_counted(world: World) -> None:
    fallback = {"x-fallback-cookies": '{"a_session_p1":"x"}'}
    async with world.client(KEYLESS) as client:
        none = await client.get("/v1/health/version")
        used = await client.get("/v1/health/version", headers=fallback)
        cookie = await client.get("/v1/health/version", headers=fallback | {"cookie": "a_session_p1=y"})
    values = [answer.headers["x-debug-fallback"] for answer in (none, used, cookie)]
    assert values == ["false", "true", "false"]


async def test_a_client_newer_than_the_server_is_warned_never_refused(world: World) -> None:
    async with world.client() as client:
        newer = await client.get("/v1/functions/f1", headers={"x-appwrite-response-format": "2.5.0"})
        same = await client.get("/v1/functions/f1", headers={"x-appwrite-response-format": "1.9.5"})
    assert newer.status_code == 200
    assert "2.5.0" in newer.headers["x-appwrite-warning"]
    assert "x-appwrite-warning" not in same.headers


async def test_lifespan_is_agreed_to(world: World) -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await world.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_to_any_other_address_is_closed(world: World) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await world.app({"type": "websocket", "path": "/elsewhere"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
