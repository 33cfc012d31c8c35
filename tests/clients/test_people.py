"""The official SDKs, unmodified: users, teams and sessions, and executions by session, JWT, key and guest."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.clients.test_sdks import HERE, ROOT, run_flow
from tests.support.api import create_function, deploy
from tests.support.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]

WHO = """
NAMES = "x-appwrite-user-id", "x-appwrite-user-jwt"

def main(context):
    return context.res.json({name: context.req.headers.get(name, "") for name in NAMES})
"""


@pytest.fixture(scope="module")
def function(server: Server, python: str) -> Iterator[str]:
    """A function that answers with what it is told of its caller."""
    with server.client() as client:
        create_function(client, "who", python, entrypoint="main.py")
        assert deploy(client, "who", {"main.py": WHO})["status"] == "ready"
        yield "who"
        assert client.delete("/functions/who").status_code == 204


def request_for(server: Server, function: str, tag: str) -> dict[str, Any]:
    owner = server.credentials
    return {
        "endpoint": server.endpoint,
        "project": owner["projectId"],
        "key": owner["apiKey"],
        "function": function,
        "entrypoint": "main.py",
        "tag": tag,
    }


def check_people(seen: dict[str, Any], tag: str) -> None:
    """The rules every SDK has to see kept."""
    ann, team = f"{tag}-ann", f"{tag}-team"
    assert seen["user"]["email"] == f"{ann}@example.com"
    assert seen["prefs"] == {"theme": "dark"}
    assert [user["$id"] for user in seen["found"]["users"]] == [ann]
    assert seen["found"]["users"][0]["labels"] == ["vip"]
    assert (seen["team"]["name"], seen["team"]["total"]) == ("Team", 0)
    assert (seen["membership"]["confirm"], seen["membership"]["roles"]) == (True, ["player"])
    assert seen["members"]["memberships"][0]["userName"] == "Ann"
    assert seen["memberships"]["memberships"][0]["teamId"] == team
    assert seen["account"]["$id"] == ann
    assert [item["current"] for item in seen["sessions"]["sessions"]] == [True]

    member = seen["membership"]["$id"]
    admitted = {
        "any": {"key", "ann", "ann-jwt", "bob", "guest"},
        "guests": {"key", "guest"},
        "users": {"key", "ann", "ann-jwt", "bob"},
        f"user:{ann}": {"key", "ann", "ann-jwt"},
        f"team:{team}/player": {"key", "ann", "ann-jwt"},
        "label:vip": {"key", "ann", "ann-jwt"},
        f"member:{member}": {"key", "ann", "ann-jwt"},
        "": {"key"},
    }
    for execute, callers in admitted.items():
        for name, run in seen["runs"][execute].items():
            if name not in callers:
                assert run == {"refused": "user_unauthorized", "code": 401}, (execute, name)
                continue
            assert run["status"] == "completed", (execute, name, run)
            told = json.loads(run["responseBody"])
            expected = {"ann": ann, "ann-jwt": ann, "bob": f"{tag}-bob"}.get(name, "")
            assert told["x-appwrite-user-id"] == expected
            assert bool(told["x-appwrite-user-jwt"]) is (name in ("ann", "bob")), "of sessions only"
            if told["x-appwrite-user-jwt"]:
                claims = jwt.decode(told["x-appwrite-user-jwt"], options={"verify_signature": False})
                assert claims["userId"] == expected
            assert bool(run["$permissions"]) is bool(expected)
    anns = len([execute for execute in admitted if "ann" in admitted[execute]])
    assert seen["own"]["total"] == 2 * anns, "by session and by JWT, and nobody else's"
    assert all(item["logs"] == "" for item in seen["own"]["executions"])

    assert seen["strange"] == {"refused": "team_not_found", "code": 404}
    assert seen["signed_out"] == {"refused": "general_unauthorized_scope", "code": 401}
    assert seen["blocked"] == {"refused": "user_blocked", "code": 403}
    assert seen["deleted"] == {"refused": "user_not_found", "code": 404}


@pytest.mark.parametrize("version", ["9.0.3", "11.0.0", "13.4.1", "16.0.0", "19.0.0", "22.0.0", "27.0.0"])
def test_people_of_the_python_sdk(server: Server, function: str, version: str) -> None:
    target: Path = ROOT / ".cache" / "clients" / "python" / version
    argv = [sys.executable, str(HERE / "python" / "people.py")]
    tag = f"py{version.partition('.')[0]}"
    seen = run_flow(argv, {"PYTHONPATH": str(target)}, request_for(server, function, tag))
    assert seen["version"] == version
    check_people(seen, tag)


@pytest.mark.parametrize("version", ["14.2.0", "17.0.0", "20.2.1", "23.0.0", "27.1.0"])
def test_people_of_the_node_sdk(server: Server, function: str, version: str) -> None:
    """Arguments by position up to 17, as one object since."""
    major = version.partition(".")[0]
    tag = f"js{major}"
    request = request_for(server, function, tag) | {"sdk": f"node-appwrite-{major}", "objects": int(major) > 17}
    seen = run_flow(["node", str(HERE / "node" / "people.mjs")], {}, request)
    assert seen["version"] == version
    check_people(seen, tag)
