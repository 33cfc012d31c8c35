"""Realtime with the official web SDK of each generation (contract: clients 6.1)."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.api import create_function, deploy, ok
from tests.support.archives import ECHOES, ENTRYPOINTS
from tests.support.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]

FLOW = Path(__file__).parent / "node" / "realtime.mjs"
FUNCTION = "realtime-told"
WAIT_S = 60


@pytest.fixture(scope="module")
def session(server: Server, node: str) -> str:
    """The session of a user who may execute a function."""
    with server.client() as client:
        create_function(client, FUNCTION, node, execute=["users"], entrypoint=ENTRYPOINTS["node"])
        assert deploy(client, FUNCTION, {ENTRYPOINTS["node"]: ECHOES["node"]})["status"] == "ready"
        ok(client.post("/users", json={"userId": "listener", "email": "l@example.com", "password": "long enough"}))
        return str(ok(client.post("/users/listener/sessions", json={}))["secret"])


@pytest.mark.parametrize("version", ["18.2.0", "23.0.0", "28.0.0"])
def test_a_page_hears_of_its_executions(server: Server, session: str, version: str) -> None:
    major = int(version.partition(".")[0])
    request = {
        "sdk": f"appwrite-{major}",
        "objects": major > 18,
        "endpoint": server.endpoint,
        "project": server.credentials["projectId"],
        "session": session,
        "id": FUNCTION,
    }
    done = subprocess.run(
        ["node", str(FLOW), json.dumps(request)], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["version"] == version
    assert set(seen["heard"]) == ({"client"} if major == 18 else {"client", "service"})
    for heard in seen["heard"].values():
        id = heard["payload"]["$id"]
        assert heard["events"][0] == f"functions.{FUNCTION}.executions.{id}.create"
        assert {"executions", f"functions.{FUNCTION}"} <= set(heard["channels"])
        assert (heard["payload"]["status"], heard["payload"]["logs"]) == ("completed", "")
