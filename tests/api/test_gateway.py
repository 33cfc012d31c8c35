"""Visits of a function's domain (contract: functions-api 13) and the rules behind them (side-services 8)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.model.refusals import Busy, Unavailable
from hearth.model.running import Outcome, Result
from hearth.model.statuses import DeploymentStatus
from tests.api.hosting import deploy
from tests.api.whole import PROJECT_ID, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

DOMAIN = "app.functions.localhost"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as composed:
        yield composed


@pytest.fixture
async def client(app: Whole) -> AsyncIterator[httpx.AsyncClient]:
    async with app.client() as opened:
        yield opened


def visitor(app: Whole, host: str = DOMAIN) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app.app), base_url=f"http://{host}:8080")


async def lead(client: httpx.AsyncClient, domain: str = DOMAIN, function_id: str = "f1", **more: Any) -> dict[str, Any]:
    made = await client.post("/proxy/rules/function", json={"domain": domain, "functionId": function_id, **more})
    assert made.status_code == 201, made.text
    return dict(made.json())


def answers(app: Whole, status: int = 200, body: bytes = b"done", *headers: tuple[str, str]) -> None:
    app.executor.result = Result(Outcome.COMPLETED, status, headers, body, "logged\n", "", 0.01)


async def test_a_visit_runs_the_function_with_all_the_visitor_sent(app: Whole, client: httpx.AsyncClient) -> None:
    await deploy(app, client)
    await lead(client)
    async with visitor(app) as browser:
        answer = await browser.put(
            "/a%2Fb//c/?q=1&q=2",
            content=b"\x00\xffbody",
            headers=[
                ("cookie", "one=1"),
                ("cookie", "two=2"),
                ("x-own", "a"),
                ("x-own", "b"),
                ("x-appwrite-user-id", "forged"),
                ("x-appwrite-event", "users.forged.create"),
                ("x-open-runtimes-secret", "forged"),
                ("accept-language", "de"),
            ],
        )
    assert answer.status_code == 200
    (invocation,) = app.executor.invocations
    assert (invocation.method, invocation.path, invocation.body) == ("PUT", "/a%2Fb//c/?q=1&q=2", b"\x00\xffbody")
    sent = invocation.headers
    assert sent["cookie"] == "one=1; two=2"
    assert (sent["x-own"], sent["accept-language"], sent["host"]) == ("a, b", "de", f"{DOMAIN}:8080")
    assert (sent["x-appwrite-trigger"], sent["x-appwrite-user-id"], sent["x-appwrite-user-jwt"]) == ("http", "", "")
    assert sent["x-appwrite-key"].startswith("ephemeral_")
    assert sent["x-appwrite-client-ip"] == "127.0.0.1"
    assert not {"x-appwrite-event", "x-open-runtimes-secret"} & set(sent)
    assert sent["x-appwrite-execution-id"] == answer.headers["x-appwrite-execution-id"]


async def test_a_visit_is_answered_as_the_function_answers(app: Whole, client: httpx.AsyncClient) -> None:
    await deploy(app, client)
    await lead(client)
    answers(
        app,
        207,
        b"\x89PNG\xff\x00",
        ("content-type", "image/png"),
        ("set-cookie", "a=1; path=/"),
        ("set-cookie", "b=2"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("content-length", "999"),
        ("x-open-runtimes-logging", "enabled"),
        ("access-control-allow-origin", "*"),
        ("x-bad", "two\r\nlines: 1"),
        ("bad name", "x"),
        ("x-unicode", "grüß €"),
    )
    async with visitor(app) as browser:
        answer = await browser.get("/", headers={"origin": "https://elsewhere.example"})
    assert (answer.status_code, answer.content) == (207, b"\x89PNG\xff\x00")
    assert answer.headers.get_list("set-cookie") == ["a=1; path=/", "b=2"]
    assert answer.headers.get_list("content-type") == ["image/png"]
    assert answer.headers.get_list("content-length") == ["6"]
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    assert not {"transfer-encoding", "connection", "x-open-runtimes-logging", "x-bad", "server"} & set(answer.headers)
    assert not {"x-content-type-options", "x-debug-fallback", "bad name"} & set(answer.headers)
    assert dict(answer.headers.raw)[b"x-unicode"].decode() == "grüß €"


async def test_each_visit_is_an_execution_that_nobody_but_keys_may_read(app: Whole, client: httpx.AsyncClient) -> None:
    await deploy(app, client)
    await lead(client)
    async with visitor(app) as browser:
        answer = await browser.get("/x?y=1")
    id = answer.headers["x-appwrite-execution-id"]
    stored = (await client.get(f"/functions/f1/executions/{id}")).json()
    assert (stored["trigger"], stored["status"], stored["$permissions"]) == ("http", "completed", [])
    assert (stored["requestMethod"], stored["requestPath"], stored["logs"]) == ("GET", "/x?y=1", "logged\n")
    guest = await client.get(f"/functions/f1/executions/{id}", headers={"x-appwrite-key": ""})
    assert guest.status_code == 401


async def test_a_warm_visit_reads_no_database(
    app: Whole, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(app, client)
    await lead(client)
    async with visitor(app) as browser:
        assert (await browser.get("/")).status_code == 200

        def forbidden(*_: Any) -> Any:
            raise AssertionError("a warm visit opened a transaction")

        monkeypatch.setattr(app.store._transactions, "view", forbidden)
        assert (await browser.get("/again")).status_code == 200


CASES: list[tuple[str, dict[str, Any], int, str]] = [
    ("no deployment", {"undeployed": True}, 404, "deployment_not_found"),
    ("a disabled function", {"enabled": False}, 404, "function_not_found"),
    ("users only", {"execute": ["users"]}, 401, "function_execute_permission_missing"),
    ("nobody", {"execute": []}, 401, "function_execute_permission_missing"),
    ("guests", {"execute": ["guests"]}, 200, ""),
]


@pytest.mark.parametrize(("case", "fields", "status", "type"), CASES, ids=[row[0] for row in CASES])
async def test_what_stands_in_the_way_of_a_visit_is_told_as_a_page(
    app: Whole, client: httpx.AsyncClient, case: str, fields: dict[str, Any], status: int, type: str
) -> None:
    settings = {name: value for name, value in fields.items() if name != "undeployed"}
    deployment_id = await deploy(app, client, **settings)
    await lead(client)
    if "undeployed" in fields:
        await client.delete(f"/functions/f1/deployments/{deployment_id}")
    async with visitor(app) as browser:
        # Nobody is exempt: a key changes nothing.
        answer = await browser.get("/", headers={"x-appwrite-key": "standard_here", "x-appwrite-project": PROJECT_ID})
    assert answer.status_code == status
    assert type in answer.text
    if type:
        assert answer.headers["content-type"].startswith("text/html")
        assert app.executor.invocations == []


@pytest.mark.parametrize(
    ("status", "type"), [("failed", "build_failed"), ("canceled", "build_canceled"), ("waiting", "build_not_ready")]
)
async def test_a_branch_shows_its_own_deployment_whatever_became_of_it(
    app: Whole, client: httpx.AsyncClient, status: str, type: str
) -> None:
    active = await deploy(app, client)
    uploaded = await client.post(
        "/functions/f1/deployments", data={"activate": "false"}, files={"code": ("code.tar.gz", b"\x1f\x8b")}
    )
    other = uploaded.json()["$id"]
    rule = await lead(client, "branch.functions.localhost", branch="main")
    assert rule["deploymentId"] == ""
    async with app.store.begin(PROJECT_ID) as unit:
        if status != "waiting":
            await unit.deployments.move(other, DeploymentStatus(status))
        app.hosting.rule_book.put(*await unit.rules.point("function", "f1", "main", other))
    async with visitor(app, "branch.functions.localhost") as browser:
        answer = await browser.get("/")
        assert (answer.status_code, type in answer.text) == (400, True)
        app.hosting.rule_book.put(*await _point(app, active))
        assert (await browser.get("/")).status_code == 200
    assert [it.template.key.deployment_id for it in app.executor.invocations] == [active]


async def _point(app: Whole, deployment_id: str) -> Any:
    async with app.store.begin(PROJECT_ID) as unit:
        return await unit.rules.point("function", "f1", "main", deployment_id)


@pytest.mark.parametrize(
    ("host", "path", "status", "type"),
    [
        ("functions.localhost", "/", 401, "general_access_forbidden"),
        ("unknown.functions.localhost", "/", 404, "rule_not_found"),
        ("UNKNOWN.Functions.Localhost.", "/", 404, "rule_not_found"),
        ("elsewhere.example", "/", 404, "general_route_not_found"),
        ("elsewhere.example", "/v1/health/version", 200, "1.9.6"),
        (DOMAIN, "/.well-known/acme-challenge/token", 404, "general_route_not_found"),
        ("APP.functions.localhost.", "/", 200, "done"),
    ],
)
async def test_the_host_decides_who_answers(
    app: Whole, client: httpx.AsyncClient, host: str, path: str, status: int, type: str
) -> None:
    await deploy(app, client)
    await lead(client)
    async with visitor(app, "api.test") as browser:
        answer = await browser.get(path, headers={"host": host})
    assert (answer.status_code, type in answer.text) == (status, True)
    is_page = answer.headers["content-type"].startswith("text/html")
    assert is_page == (
        host.lower().rstrip(".").endswith("functions.localhost") and type not in ("done", "general_route_not_found")
    )


async def test_an_error_without_a_body_gets_a_page_and_one_with_a_body_is_left_alone(
    app: Whole, client: httpx.AsyncClient
) -> None:
    await deploy(app, client)
    await lead(client)
    async with visitor(app) as browser:
        answers(app, 418, b"", ("content-type", "application/json"), ("x-own", "kept"))
        page = await browser.get("/")
        answers(app, 500, b"mine", ("content-type", "text/plain"))
        own = await browser.get("/")
        answers(app, 204, b"")
        empty = await browser.get("/")
        head = await browser.head("/")
    assert page.status_code == 418
    assert page.headers.get_list("content-type") == ["text/html; charset=UTF-8"]
    assert page.headers["x-own"] == "kept"
    assert "418" in page.text
    assert (own.status_code, own.text) == (500, "mine")
    assert (empty.status_code, empty.content, "content-type" in empty.headers) == (204, b"", False)
    assert (head.status_code, head.content) == (204, b"")
    assert app.executor.invocations[-1].method == "HEAD"


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Busy("too much", limit="max_waiting=1"), 429), (Unavailable("no sandboxes"), 503), (RuntimeError("bug"), 500)],
)
async def test_our_own_faults_are_pages_too_and_say_nothing_of_the_inside(
    app: Whole, client: httpx.AsyncClient, fault: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deploy(app, client)
    await lead(client)

    def fail(invocation: Any) -> Any:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(fault)
        return future

    monkeypatch.setattr(app.executor, "submit", fail)
    async with visitor(app) as browser:
        answer = await browser.get("/")
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["x-hearth-request-id"]
    assert "sandboxes" not in answer.text and "bug" not in answer.text


async def test_a_body_over_the_limit_is_refused_before_anything_runs(app: Whole, client: httpx.AsyncClient) -> None:
    await deploy(app, client)
    await lead(client)
    async with visitor(app) as browser:
        answer = await browser.post("/", content=bytes(10_485_761))
        assert (answer.status_code, "at most 10485760 bytes" in answer.text) == (400, True)
        assert (await browser.request("TRACE", "/")).status_code == 405
    assert app.executor.invocations == []


async def test_a_redirect_keeps_the_query_and_its_status(app: Whole, client: httpx.AsyncClient) -> None:
    await deploy(app, client)
    made = await client.post(
        "/proxy/rules/redirect",
        json={
            "domain": "old.functions.localhost",
            "url": "https://new.example/start?x=1",
            "statusCode": "307",
            "resourceId": "f1",
            "resourceType": "function",
        },
    )
    assert (made.status_code, made.json()["redirectStatusCode"], made.json()["type"]) == (201, 307, "redirect")
    async with visitor(app, "old.functions.localhost") as browser:
        answer = await browser.post("/path?y=2")
    assert (answer.status_code, answer.headers["location"]) == (307, "https://new.example/start?x=1&y=2")
    assert app.executor.invocations == []


async def test_a_domain_elsewhere_works_once_it_leads_here(app: Whole, client: httpx.AsyncClient) -> None:
    await deploy(app, client)
    app.addresses["functions.localhost"] = frozenset({"203.0.113.1"})
    rule = await lead(client, "shop.example.com")
    assert (rule["status"], "has no address" in rule["logs"]) == ("unverified", True)
    async with visitor(app, "shop.example.com") as browser:
        assert (await browser.get("/")).json()["type"] == "general_route_not_found"
        refused = await client.patch(f"/proxy/rules/{rule['$id']}/verification", json={})
        assert (refused.status_code, refused.json()["type"]) == (400, "rule_verification_failed")
        app.addresses["shop.example.com"] = frozenset({"198.51.100.7"})
        wrong = await client.patch(f"/proxy/rules/{rule['$id']}/status", json={})
        assert "198.51.100.7" in wrong.json()["message"]
        app.addresses["shop.example.com"] = frozenset({"203.0.113.1"})
        verified = await client.patch(f"/proxy/rules/{rule['$id']}/status", json={})
        assert (verified.status_code, verified.json()["status"], verified.json()["logs"]) == (200, "verified", "")
        assert (await browser.get("/")).text == "done"
        assert (await client.delete(f"/proxy/rules/{rule['$id']}")).status_code == 204
        assert (await browser.get("/")).json()["type"] == "general_route_not_found"


async def test_an_api_domain_serves_the_api(app: Whole, client: httpx.AsyncClient) -> None:
    made = await client.post("/proxy/rules/api", json={"domain": "api.functions.localhost"})
    assert (made.status_code, made.json()["type"]) == (201, "api")
    async with visitor(app, "api.functions.localhost") as browser:
        assert (await browser.get("/v1/health/version")).json() == {"version": "1.9.6"}


async def test_rules_follow_activation_and_end_with_their_function(app: Whole, client: httpx.AsyncClient) -> None:
    first = await deploy(app, client)
    rule = await lead(client)
    assert rule["deploymentId"] == first
    uploaded = await client.post(
        "/functions/f1/deployments", data={"activate": "false"}, files={"code": ("code.tar.gz", b"\x1f\x8b")}
    )
    second = uploaded.json()["$id"]
    await app.build("f1", second)
    await client.patch("/functions/f1/deployment", json={"deploymentId": second})
    assert (await client.get(f"/proxy/rules/{rule['$id']}")).json()["deploymentId"] == second
    async with visitor(app) as browser:
        assert (await browser.get("/")).status_code == 200
        assert app.executor.invocations[-1].template.key.deployment_id == second
        await client.delete(f"/functions/f1/deployments/{second}")
        assert (await client.get(f"/proxy/rules/{rule['$id']}")).json()["deploymentId"] == ""
        await client.delete("/functions/f1")
        assert "rule_not_found" in (await browser.get("/")).text
    assert (await client.get("/proxy/rules")).json() == {"total": 0, "rules": []}


@pytest.mark.parametrize(
    ("body", "status", "type"),
    [
        ({"domain": "functions.localhost", "functionId": "f1"}, 400, "general_argument_invalid"),
        ({"domain": "api.test", "functionId": "f1"}, 400, "general_argument_invalid"),
        ({"domain": "https://a.functions.localhost", "functionId": "f1"}, 400, "general_argument_invalid"),
        ({"domain": "localhost", "functionId": "f1"}, 400, "general_argument_invalid"),
        ({"domain": "10.0.0.1", "functionId": "f1"}, 400, "general_argument_invalid"),
        ({"domain": "a..functions.localhost", "functionId": "f1"}, 400, "general_argument_invalid"),
        ({"domain": "taken.functions.localhost", "functionId": "f1"}, 409, "rule_already_exists"),
        ({"domain": "TAKEN.functions.localhost", "functionId": "f1"}, 409, "rule_already_exists"),
        ({"domain": "b.functions.localhost", "functionId": "missing"}, 404, "rule_resource_not_found"),
    ],
)
async def test_what_cannot_be_a_rule_is_refused(
    app: Whole, client: httpx.AsyncClient, body: dict[str, Any], status: int, type: str
) -> None:
    await deploy(app, client)
    await lead(client, "taken.functions.localhost")
    answer = await client.post("/proxy/rules/function", json=body)
    assert (answer.status_code, answer.json()["type"]) == (status, type)


async def test_the_cli_finds_the_rule_of_a_function_by_the_names_of_every_generation(
    app: Whole, client: httpx.AsyncClient
) -> None:
    await deploy(app, client)
    await lead(client)

    def query(attribute: str, value: str) -> str:
        return json.dumps({"method": "equal", "attribute": attribute, "values": [value]})

    new = [query("deploymentResourceType", "function"), query("deploymentResourceId", "f1"), query("trigger", "manual")]
    answer = await client.get("/proxy/rules", params={"queries[0]": new[0], "queries[1]": new[1], "queries[2]": new[2]})
    assert (answer.json()["total"], answer.json()["rules"][0]["domain"]) == (1, DOMAIN)
    old = {"queries[0]": query("resourceType", "function"), "queries[1]": query("resourceId", "f1")}
    answer = await client.get("/proxy/rules", params=old, headers={"x-appwrite-response-format": "1.6.0"})
    assert answer.json()["rules"][0]["resourceId"] == "f1"
    assert "deploymentResourceId" not in answer.json()["rules"][0]
