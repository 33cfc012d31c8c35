"""The official web SDK, as a page uses it, and what a browser asks before and around that (contract: clients 6)."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api import create_function, deploy, ok
from tests.support.archives import ECHOES, ENTRYPOINTS
from tests.support.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]

FLOW = Path(__file__).parent / "node" / "web.mjs"
OPEN, CLOSED = "web-open", "web-closed"
VERSIONS = ["18.2.0", "23.0.0", "28.0.0"]
WAIT_S = 60

#: What the SDK sends with its own requests, all of which a browser has to ask for first.
ASKED = (
    "content-type,x-appwrite-project,x-appwrite-response-format,x-fallback-cookies,x-sdk-language,x-sdk-name,"
    "x-sdk-platform,x-sdk-version,x-appwrite-session,x-appwrite-jwt,x-appwrite-locale"
)


@pytest.fixture(scope="module")
def functions(server: Server, node: str) -> None:
    """A function for everybody and one for a label that nobody has, both ready."""
    with server.client() as client:
        for id, role in ((OPEN, "any"), (CLOSED, "label:nobody")):
            create_function(client, id, node, execute=[role], entrypoint=ENTRYPOINTS["node"])
            variable = {"variableId": "unique()", "key": "GREETING", "value": "hello", "secret": False}
            ok(client.post(f"/functions/{id}/variables", json=variable))
            assert deploy(client, id, {ENTRYPOINTS["node"]: ECHOES["node"]})["status"] == "ready"


@pytest.fixture(scope="module")
def session(server: Server) -> str:
    """The secret of a session of a new user of the project."""
    with server.client() as client:
        ok(client.post("/users", json={"userId": "webber", "email": "webber@example.com", "password": "long enough"}))
        return str(ok(client.post("/users/webber/sessions", json={}))["secret"])


def run_page(server: Server, version: str, session: str = "") -> dict[str, Any]:
    major = int(version.partition(".")[0])
    request = {
        "sdk": f"appwrite-{major}",
        "objects": major > 18,
        "endpoint": server.endpoint,
        "project": server.credentials["projectId"],
        "session": session,
        "id": OPEN,
        "closed": CLOSED,
    }
    done = subprocess.run(
        ["node", str(FLOW), json.dumps(request)], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(seen, dict)
    assert seen["version"] == version
    assert (seen["first"]["status"], seen["first"]["responseStatusCode"]) == ("completed", 200)
    assert json.loads(seen["first"]["responseBody"])["body"] == "ping"
    assert (seen["first"]["logs"], seen["first"]["errors"]) == ("", ""), "logs are for keys and admins"
    assert seen["started"]["status"] == "waiting"
    assert (seen["refused"]["code"], seen["refused"]["type"]) == (401, "user_unauthorized")
    assert (seen["missing"]["code"], seen["missing"]["type"]) == (404, "function_not_found")
    return seen


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("functions")
def test_a_guest_executes_and_reads_nothing(server: Server, version: str) -> None:
    seen = run_page(server, version)
    for name in ("list", "one"):
        assert (seen[name]["code"], seen[name]["type"]) == (401, "general_unauthorized_scope")
    assert seen["first"]["$permissions"] == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.usefixtures("functions")
def test_a_user_executes_and_reads_what_is_his_own(server: Server, session: str, version: str) -> None:
    seen = run_page(server, version, session)
    assert seen["first"]["$permissions"] == ['read("user:webber")']
    assert seen["one"]["answered"]["$id"] == seen["first"]["$id"]
    listed = seen["list"]["answered"]
    assert [it["$id"] for it in listed["executions"]] == [seen["started"]["$id"], seen["first"]["$id"]]
    with server.client() as client:
        everything = ok(client.get(f"/functions/{OPEN}/executions"))
    assert listed["total"] <= everything["total"]
    assert all(it["$permissions"] == ['read("user:webber")'] for it in listed["executions"])


def browser(server: Server, origin: str) -> httpx.Client:
    headers = {"origin": origin, "x-appwrite-project": server.credentials["projectId"]}
    return httpx.Client(base_url=server.endpoint, headers=headers, trust_env=False, timeout=30)


@pytest.mark.parametrize("origin", ["http://localhost:5173", "https://app.localhost", "http://127.0.0.1:3000"])
@pytest.mark.usefixtures("functions")
def test_a_page_is_let_through_its_preflight_and_its_call(server: Server, origin: str) -> None:
    """The exact origin is echoed, because browsers send credentials; every header the SDK sends is allowed."""
    path = f"/functions/{OPEN}/executions"
    asked = {"access-control-request-method": "POST", "access-control-request-headers": ASKED}
    with httpx.Client(base_url=server.endpoint, trust_env=False) as plain:
        preflight = plain.options(path, headers={"origin": origin, **asked})  # a preflight names no project
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == origin
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    allowed = {it.strip().lower() for it in preflight.headers["access-control-allow-headers"].split(",")}
    assert set(ASKED.split(",")) <= allowed
    with browser(server, origin) as page:
        answer = page.post(path, json={"body": "ping"})
    assert answer.status_code == 201
    assert answer.headers["access-control-allow-origin"] == origin
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert "x-fallback-cookies" in exposed
    assert "x-appwrite-warning" in exposed
    assert "origin" in answer.headers["vary"].lower()


@pytest.mark.usefixtures("functions")
def test_a_foreign_page_is_refused_and_not_named(server: Server) -> None:
    path = f"/functions/{OPEN}/executions"
    with browser(server, "https://evil.example") as page:
        preflight = page.options(path, headers={"access-control-request-method": "POST"})
        answer = page.post(path, json={})
    assert "access-control-allow-origin" not in preflight.headers
    assert (answer.status_code, answer.json()["type"]) == (403, "general_unknown_origin")
    assert "access-control-allow-origin" not in answer.headers
