"""Who may call from a browser, and which host is the API."""

import pytest

from tests.api.support import World

pytestmark = pytest.mark.anyio

KEYLESS = {"x-appwrite-project": "p1"}


class TestOrigins:
    """Contract: functions-api 1 check 3 and 2; clients 6 and 7.15."""

    @pytest.mark.parametrize(
        "origin",
        [
            "http://localhost:5173",
            "http://app.localhost:3000",
            "https://localhost",
            "http://127.0.0.1:1",
            "http://[::1]:80",
            "http://api.test",
        ],
    )
    async def test_loopback_and_the_own_origin_are_echoed_exactly(self, world: World, origin: str) -> None:
        async with world.client(KEYLESS) as client:
            answer = await client.post("/v1/functions/f1/executions", json={}, headers={"origin": origin})
        assert answer.status_code == 201
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert answer.headers["vary"] == "origin"

    @pytest.mark.parametrize(
        "origin",
        [
            "https://evil.example",
            "http://localhost.evil.example",
            "null",
            "http://127.0.0.1.evil.example",
            "http://[",
            "",
        ],
    )
    async def test_other_origins_are_refused_and_not_echoed(self, world: World, origin: str) -> None:
        async with world.client(KEYLESS) as client:
            answer = await client.post("/v1/functions/f1/executions", json={}, headers={"origin": origin})
        assert (answer.status_code, answer.json()["type"]) == (403, "general_unknown_origin")
        assert "access-control-allow-origin" not in answer.headers

    async def test_a_registered_host_may_call(self) -> None:
        world = World(allowed_origins=frozenset({"app.example"}))
        async with world.client(KEYLESS) as client:
            answer = await client.get("/v1/health/version", headers={"origin": "https://app.example:8443"})
        assert answer.headers["access-control-allow-origin"] == "https://app.example:8443"

    async def test_a_key_is_no_browser(self, world: World) -> None:
        async with world.client() as client:
            answer = await client.get("/v1/functions/f1", headers={"origin": "https://evil.example"})
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers

    async def test_a_preflight_is_204_and_names_what_clients_send(self, world: World) -> None:
        headers = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
        async with world.client({}) as client:
            answer = await client.options("/v1/functions/f1/executions", headers=headers)
        assert answer.status_code == 204
        allowed = answer.headers["access-control-allow-headers"].split(", ")
        assert {"x-appwrite-project", "x-fallback-cookies", "content-type", "x-appwrite-response-format"} <= set(
            allowed
        )
        assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, PATCH, DELETE"
        assert "X-Fallback-Cookies" in answer.headers["access-control-expose-headers"]
        assert "X-Appwrite-Warning" in answer.headers["access-control-expose-headers"]

    async def test_errors_carry_the_cors_headers_too(self, world: World) -> None:
        async with world.client(KEYLESS) as client:
            answer = await client.get("/v1/functions", headers={"origin": "http://localhost:1"})
        assert answer.status_code == 401
        assert answer.headers["access-control-allow-origin"] == "http://localhost:1"


class TestHosts:
    """Contract: functions-api 1 check 1, 13."""

    @pytest.mark.parametrize("host", ["x.functions.localhost", "x.functions.localhost:8080", "X.Functions.Localhost."])
    async def test_below_the_functions_domain_nothing_is_found_and_the_page_is_html(
        self, world: World, host: str
    ) -> None:
        async with world.client() as client:
            answer = await client.get("/v1/health/version", headers={"host": host})
        assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=UTF-8")
        assert "rule_not_found" in answer.text

    async def test_the_functions_domain_itself_is_closed(self, world: World) -> None:
        async with world.client() as client:
            answer = await client.get("/", headers={"host": "functions.localhost:8080"})
        assert answer.status_code == 401
        assert "general_access_forbidden" in answer.text

    @pytest.mark.parametrize("host", ["127.0.0.1:8080", "hearth.example", "myfunctions.localhost", "[::1]:8080", ""])
    async def test_every_other_host_is_the_api(self, world: World, host: str) -> None:
        async with world.client() as client:
            answer = await client.get("/v1/health/version", headers={"host": host})
        assert answer.status_code == 200
