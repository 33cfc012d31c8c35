"""The official SDKs, unmodified: from creating a function to reading its logs, in old and new generations."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import built, create_function, ok
from tests.support.archives import DIGESTS, ECHOES, ENTRYPOINTS, incompressible, write_archive
from tests.support.git import Repository, open_to_all
from tests.support.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHUNK_BYTES = 5 * 1024 * 1024  # what every SDK cuts an upload into
PAYLOAD = incompressible(12_000_000)
FLOW_WAIT_S = 180
#: (id, runtime, entrypoint) of a function to make; what comes back waits until it is deployed.
Connect = Callable[[str, str, str], Callable[[], None]]


def run_flow(argv: list[str], environment: dict[str, str], request: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [*argv, json.dumps(request)],
        capture_output=True,
        text=True,
        timeout=FLOW_WAIT_S,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(seen, dict)
    return seen


def check_flow(seen: dict[str, Any], large: Path, *, older: bool) -> None:
    """The rules every generation has to see kept; `older` ones speak format 1.6, with fewer keys and no secrets."""
    assert seen["called"] == seen["methods"], "every method of the service is called"
    assert seen["function"]["name"] == "Flow"
    assert seen["function"]["execute"] == ["any"]
    assert seen["function"]["timeout"] == 20
    values = {v["key"]: (v["value"], v.get("secret", False)) for v in seen["variables"]["variables"]}
    token = ("hidden", False) if older else ("", True)
    assert values == {"GREETING": ("hello", False), "TOKEN": token}, "a secret is never read back"
    assert (seen["variable"]["key"], seen["variable"]["value"]) == ("GREETING", "hello")

    assert seen["small"]["status"] == "ready", seen["small"]["buildLogs"]
    for execution in (seen["first"], seen["again"]):
        assert (execution["status"], execution["responseStatusCode"]) == ("completed", 200), execution["errors"]
        assert json.loads(execution["responseBody"]) == {
            "greeting": "hello",
            "token": "hidden",
            "body": "ping",
            "query": {"b": "c"},
            "extra": "yes",
        }
        assert "said PUT /a" in execution["logs"]
        assert "complained" in execution["errors"]
        assert execution["requestPath"] == "/a?b=c"
        assert execution["duration"] > 0

    check_code(seen, large, older=older)
    check_executions(seen)
    check_queries(seen)
    assert [f["$id"] for f in seen["functions"]["functions"]] == [seen["function"]["$id"]]
    assert seen["runtimes"] >= 2, "those that are installed: a Node and a Python at least"
    assert seen["specifications"] > 0
    assert (seen["refusal"]["code"], seen["refusal"]["type"]) == (404, "function_not_found")
    assert seen["refusal"]["message"]
    assert ("vcs" in seen) is not older, "the generation of format 1.6 has no such methods"
    if not older:
        for name in ("template", "vcs"):
            assert seen[name]["code"] == 404, "an unknown function, and one without a repository"
        assert (seen["fromTemplate"]["status"], seen["fromTemplate"]["type"]) == ("waiting", "vcs")
        assert seen["fromTemplate"]["providerRepositoryName"] == "starters"
        assert (seen["fromBranch"]["status"], seen["fromBranch"]["type"]) == ("waiting", "vcs")
    assert seen["deleted"] == 404


def check_code(seen: dict[str, Any], large: Path, *, older: bool) -> None:
    """Uploads, builds and downloads."""
    large_size = large.stat().st_size
    assert seen["large"]["status"] == "ready", seen["large"]["buildLogs"]
    assert seen["large"]["size" if older else "sourceSize"] == large_size
    if older:
        assert seen["downloaded"] > 0, "below format 1.7 a download is always the build output"
    else:
        assert seen["downloaded"] == large_size
        assert seen["output"] > 0
    assert len(seen["progress"]) == -(-large_size // CHUNK_BYTES), "only the large upload comes in chunks"
    assert seen["second"]["responseBody"] == hashlib.sha256(PAYLOAD).hexdigest()
    assert f"read {len(PAYLOAD)}" in seen["second"]["logs"]
    assert seen["activated"] == seen["small"]["$id"]
    assert seen["duplicate"]["status"] == "ready"
    assert seen["duplicate"]["$id"] not in (seen["small"]["$id"], seen["large"]["$id"])
    assert seen["canceled"]["status"] == "canceled"
    assert "canceled" in seen["canceled"]["buildLogs"]
    assert seen["afterCancel"] == seen["duplicate"]["$id"], "a canceled build changes nothing"


def check_executions(seen: dict[str, Any]) -> None:
    """Sync, in the background, delayed; read back, counted and deleted."""
    assert seen["read"]["status"] == "completed"
    assert seen["read"]["responseBody"] == "", "bodies are not stored"
    assert seen["read"]["logs"] == seen["second"]["logs"]
    assert seen["started"]["status"] == "waiting"
    assert seen["ended"]["status"] == "completed", seen["ended"]["errors"]
    assert seen["scheduled"]["status"] == "scheduled"
    assert seen["executions"]["total"] == 5
    assert [e["$id"] for e in seen["executions"]["executions"]] == [seen["again"]["$id"], seen["scheduled"]["$id"]]
    assert seen["completed"] == 4
    assert seen["left"] == 3, "the finished and the delayed one can be deleted"


def check_queries(seen: dict[str, Any]) -> None:
    """Order, pages, cursors, logic, selection, and lists that are not counted."""
    all_of_them = seen["deployments"]
    assert all_of_them == [seen[name]["$id"] for name in ("small", "large", "duplicate", "canceled")]
    assert seen["page"] == all_of_them[1:3]
    assert seen["after"] == all_of_them[2:]
    assert seen["before"] == all_of_them[:1]
    assert sorted(seen["either"]) == sorted([seen["large"]["$id"], seen["canceled"]["$id"]])
    if "selected" in seen:
        assert {"$id", "$createdAt", "$updatedAt", "status"} <= set(seen["selected"])
    assert seen["uncounted"] == 0


def request_for(server: Server, folder: Path, family: str, runtime: str, version: str) -> dict[str, Any]:
    entrypoint = ENTRYPOINTS[family]
    small = write_archive(folder / "small.tar.gz", {entrypoint: ECHOES[family]})
    large = write_archive(folder / "large.tar.gz", {entrypoint: DIGESTS[family], "payload.bin": PAYLOAD})
    assert small.stat().st_size < 450
    assert large.stat().st_size > 2 * CHUNK_BYTES
    owner = server.credentials
    due = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=30)
    id = f"{family}-sdk-{version}".replace(".", "-")
    return {
        "endpoint": server.endpoint,
        "project": owner["projectId"],
        "key": owner["apiKey"],
        "id": id,
        "connected": f"{id}-git",
        "runtime": runtime,
        "entrypoint": entrypoint,
        "small": str(small),
        "large": str(large),
        "scheduledAt": due.isoformat(timespec="milliseconds"),
    }


@pytest.fixture(scope="module")
def connect(server: Server, repositories: Path) -> Connect:
    """Make a function that is connected to a repository; what comes back waits for the deployment the flow made."""
    repository = Repository(repositories / "code.git")
    files = {ENTRYPOINTS[family]: ECHOES[family] for family in ("python", "node")}
    commit = repository.commit(files)
    open_to_all(repositories)
    with server.client() as client:
        asked = {"provider": "git", "baseUrl": f"file://{repositories}", "repositories": ["code.git"]}
        link = ok(client.post("/vcs/installations", json=asked))

    def connected(id: str, runtime: str, entrypoint: str) -> Callable[[], None]:
        fields = {"installationId": link["$id"], "providerRepositoryId": "code.git", "providerBranch": "main"}
        with server.client() as client:
            create_function(client, id, runtime, entrypoint=entrypoint, **fields)

        def wait() -> None:
            with server.client() as client:
                (made,) = ok(client.get(f"/functions/{id}/deployments"))["deployments"]
                done = built(client, id, made["$id"])
                assert (done["status"], done["providerCommitHash"]) == ("ready", commit), done["buildLogs"]

        return wait

    return connected


@pytest.mark.parametrize("version", ["9.0.3", "11.0.0", "13.4.1", "16.0.0", "19.0.0", "22.0.0", "27.0.0"])
def test_python_sdk(server: Server, connect: Connect, python: str, tmp_path: Path, version: str) -> None:
    """Every method of the Functions service, from creating a function to deleting it."""
    target = ROOT / ".cache" / "clients" / "python" / version
    request = request_for(server, tmp_path, "python", python, version)
    # Models of these generations reject an item of which only some keys were selected.
    request["selects"] = version not in ("16.0.0", "19.0.0", "22.0.0")
    from_branch = connect(request["connected"], python, request["entrypoint"])
    flow = HERE / "python" / "flow.py"
    seen = run_flow([sys.executable, str(flow)], {"PYTHONPATH": str(target)}, request)
    assert seen["version"] == version
    check_flow(seen, Path(request["large"]), older=version == "9.0.3")
    if version == "27.0.0":
        from_branch()


@pytest.mark.parametrize(
    ("version", "objects"),
    [
        ("14.2.0", False),
        ("17.0.0", False),
        ("20.2.1", False),
        ("20.2.1", True),
        ("23.0.0", True),
        ("27.1.0", True),
    ],
)
def test_node_sdk(server: Server, connect: Connect, node: str, tmp_path: Path, version: str, objects: bool) -> None:
    """The same, with arguments by position and as one object where the SDK takes both."""
    alias = f"node-appwrite-{version.partition('.')[0]}"
    request = request_for(server, tmp_path, "node", node, f"{version}-{objects}".lower())
    from_branch = connect(request["connected"], node, request["entrypoint"])
    flow = HERE / "node" / "flow.mjs"
    seen = run_flow(["node", str(flow)], {}, {**request, "sdk": alias, "objects": objects})
    assert seen["version"] == version
    check_flow(seen, Path(request["large"]), older=version == "14.2.0")
    if version == "27.1.0":
        from_branch()
