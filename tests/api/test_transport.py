"""What holds for every route: paths, methods, origins, headers, limits, clients that leave, and stopping."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any, ClassVar

import pytest

from hearth.api.routes import FIELDS_LIMIT_BYTES
from hearth.ports import Page
from tests.api.support import DEPLOYMENT, KEY, World

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


class TestOrigins:
    """Contract: functions-api 1 check 3 and 2; clients 6 and 7.15."""

    @pytest.mark.parametrize(
        "origin",
        ["http://localhost:5173", "https://localhost", "http://127.0.0.1:1", "http://[::1]:80", "http://api.test"],
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


class TestBodies:
    """Bodies are bounded before they are read."""

    @pytest.mark.parametrize("body", [b"{nope", b"[1]", b'"x"', b"\xff", b"[" * 100_000, b'{"name":"\\ud800"}'])
    async def test_a_body_that_is_no_json_object_is_a_clear_400(self, world: World, body: bytes) -> None:
        async with world.client() as client:
            answer = await client.post("/v1/functions", content=body)
        assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
        assert "body" in answer.json()["message"]

    async def test_an_announced_body_over_the_limit_is_answered_before_it_is_read(self, world: World) -> None:
        connection = Connection("POST", "/v1/functions", b"x", **{"content-length": str(FIELDS_LIMIT_BYTES + 1)})
        unread_at_answer: list[int] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                unread_at_answer.append(connection.unread)
            await connection.send(message)

        await world.app(connection.scope, connection.receive, send)
        start, body = connection.sent[0], connection.sent[1]["body"]
        assert start["status"] == 400
        assert (b"connection", b"close") in start["headers"]
        assert str(FIELDS_LIMIT_BYTES).encode() in body
        assert unread_at_answer == [1]
        assert connection.unread == 0  # dropped afterwards, so that the client gets to read the answer

    async def test_a_body_that_grows_over_the_limit_is_stopped(self, world: World) -> None:
        sent = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal sent
            while sent < 100 * FIELDS_LIMIT_BYTES:
                sent += 65_536
                yield b"x" * 65_536

        async with world.client() as client:
            answer = await client.post("/v1/functions", content=body())
        assert answer.json()["type"] == "general_argument_invalid"

    async def test_bodies_of_all_requests_share_a_memory_budget(self) -> None:
        world = World(body_memory_max_bytes=300_000)
        held, leave = asyncio.Event(), asyncio.Event()

        async def hold(*_: Any, **__: Any) -> Any:
            held.set()
            await leave.wait()
            return world.executions.results["done"]

        world.executions.results["done"] = world.executions.results["create"]
        world.executions.results["create"] = hold
        body = {"body": "x" * 200_000}
        async with world.client() as client:
            first = asyncio.create_task(client.post("/v1/functions/f1/executions", json=body))
            await held.wait()
            refused = await client.post("/v1/functions/f1/executions", json=body)
            small = asyncio.create_task(client.post("/v1/functions/f1/executions", json={}))
            leave.set()
            assert (await first).status_code == 201
            assert (await small).status_code == 201
            again = await client.post("/v1/functions/f1/executions", json=body)
        assert (refused.status_code, refused.json()["type"]) == (429, "general_rate_limit_exceeded")
        assert again.status_code == 201


class Connection:
    """A raw ASGI connection whose client can leave."""

    def __init__(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        sent = {"x-appwrite-project": "p1", "x-appwrite-key": KEY, "content-length": str(len(body)), **headers}
        self.scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "scheme": "http",
            "client": ("127.0.0.1", 5),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
        self.gone = asyncio.Event()
        self.sent: list[MutableMapping[str, Any]] = []
        self._messages = [{"type": "http.request", "body": body, "more_body": False}]

    @property
    def unread(self) -> int:
        """Messages of the body nobody has asked for."""
        return len(self._messages)

    async def receive(self) -> MutableMapping[str, Any]:
        if self._messages:
            return self._messages.pop()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)


class TestLeaving:
    """A client that leaves during a long call cancels its handler, and nothing else."""

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [("POST", "/v1/functions/f1/executions", b"{}"), ("GET", "/v1/functions/f1/executions/e1", b"")],
    )
    async def test_the_handler_is_cancelled_and_the_server_goes_on(
        self, world: World, method: str, path: str, body: bytes
    ) -> None:
        entered, cancelled = asyncio.Event(), asyncio.Event()

        async def long(*_: Any, **__: Any) -> Any:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise

        world.executions.results |= {"create": long, "get": long}
        connection = Connection(method, path, body)
        task = asyncio.create_task(world.app(connection.scope, connection.receive, connection.send))
        await entered.wait()
        connection.gone.set()
        async with asyncio.timeout(5):
            await task
        assert cancelled.is_set()
        assert connection.sent == []
        assert task.cancelling() == 0

    async def test_a_cancellation_from_outside_is_passed_on(self, world: World) -> None:
        entered = asyncio.Event()

        async def long(*_: Any, **__: Any) -> Any:
            entered.set()
            await asyncio.Event().wait()

        world.executions.results["create"] = long
        connection = Connection("POST", "/v1/functions/f1/executions", b"{}")
        task = asyncio.create_task(world.app(connection.scope, connection.receive, connection.send))
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def test_leaving_during_the_body_ends_the_request_quietly(self, world: World) -> None:
        connection = Connection("POST", "/v1/functions/f1/executions", b"{}")
        connection._messages.clear()
        connection.gone.set()
        await world.app(connection.scope, connection.receive, connection.send)
        assert connection.sent == []
        assert world.executions.calls == []

    async def test_a_finished_request_leaves_no_task_behind(self, world: World) -> None:
        connection = Connection("POST", "/v1/functions/f1/executions", b"{}")
        before = asyncio.all_tasks()
        await world.app(connection.scope, connection.receive, connection.send)
        assert asyncio.all_tasks() == before
        assert connection.sent[0]["status"] == 201


class TestStopping:
    """After SIGTERM new work is refused; what runs goes on."""

    async def test_new_requests_are_answered_503_and_running_ones_finish(self, world: World) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()
        done = world.executions.results["create"]

        async def long(*_: Any, **__: Any) -> Any:
            entered.set()
            await leave.wait()
            return done

        world.executions.results["create"] = long
        async with world.client() as client:
            running = asyncio.create_task(client.post("/v1/functions/f1/executions", json={}))
            await entered.wait()
            world.app.refuse_new_work()
            refused = await client.get("/v1/health/version")
            leave.set()
            assert (await running).status_code == 201
        assert (refused.status_code, refused.json()["code"]) == (503, 503)
        assert refused.headers["connection"] == "close"
        assert "stopping" in refused.json()["message"]


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


class TestCreationLimit:
    """The daily limit on creating functions: off by default, per project, for keys too."""

    body: ClassVar[dict[str, Any]] = {"functionId": "a", "name": "n", "runtime": "node-22"}

    async def test_there_is_none_by_default(self, world: World) -> None:
        async with world.client() as client:
            answer = await client.post("/v1/functions", json=self.body)
        assert answer.status_code == 201
        assert "x-ratelimit-limit" not in answer.headers

    async def test_a_limit_is_told_counted_and_enforced_until_the_window_ends(self) -> None:
        world = World(function_creations_per_day=2)
        async with world.client() as client:
            first = await client.post("/v1/functions", json=self.body)
            invalid = await client.post("/v1/functions", json={})
            await client.post("/v1/functions", json=self.body)
            refused = await client.post("/v1/functions", json=self.body)
            world.clock.move(days=1)
            tomorrow = await client.post("/v1/functions", json=self.body)
        assert first.headers["x-ratelimit-limit"] == "2"
        assert first.headers["x-ratelimit-remaining"] == "1"
        midnight = 1_795_564_800  # 2026-11-25T00:00:00Z, the end of the window the clock stands in
        assert first.headers["x-ratelimit-reset"] == str(midnight)
        assert invalid.status_code == 400
        assert (refused.status_code, refused.json()["type"]) == (429, "general_rate_limit_exceeded")
        assert refused.headers["x-ratelimit-remaining"] == "0"
        assert "2 calls" in refused.json()["message"]
        assert tomorrow.status_code == 201

    async def test_abuse_off_means_no_limit(self) -> None:
        world = World(function_creations_per_day=1, abuse=False)
        async with world.client() as client:
            for _ in range(3):
                assert (await client.post("/v1/functions", json=self.body)).status_code == 201


async def test_lifespan_is_agreed_to(world: World) -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[str] = []

    async def receive() -> MutableMapping[str, Any]:
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    await world.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_a_websocket_is_closed(world: World) -> None:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await world.app({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]
