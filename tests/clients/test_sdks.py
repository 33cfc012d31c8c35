"""The official SDKs, unmodified: from creating a function to reading its logs, in old and new generations."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import DIGESTS, ECHOES, ENTRYPOINTS, incompressible, write_archive
from tests.support.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHUNK_BYTES = 5 * 1024 * 1024  # what every SDK cuts an upload into
PAYLOAD = incompressible(12_000_000)
FLOW_WAIT_S = 180


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


def check_flow(seen: dict[str, Any], large: Path) -> None:
    """The rules every generation has to see kept."""
    assert seen["function"]["name"] == "Flow"
    assert seen["function"]["execute"] == ["any"]
    values = {v["key"]: (v["value"], v["secret"]) for v in seen["variables"]["variables"]}
    assert values == {"GREETING": ("hello", False), "TOKEN": ("", True)}, "a secret is never read back"

    assert seen["small"]["status"] == "ready", seen["small"]["buildLogs"]
    first = seen["first"]
    assert (first["status"], first["responseStatusCode"]) == ("completed", 200), first["errors"]
    assert json.loads(first["responseBody"]) == {
        "greeting": "hello",
        "token": "hidden",
        "body": "ping",
        "query": {"b": "c"},
        "extra": "yes",
    }
    assert "said PUT /a" in first["logs"]
    assert "complained" in first["errors"]
    assert first["requestPath"] == "/a?b=c"
    assert first["duration"] > 0

    large_size = large.stat().st_size
    assert seen["large"]["status"] == "ready", seen["large"]["buildLogs"]
    assert seen["large"]["sourceSize"] == large_size
    assert seen["downloaded"] == large_size
    assert len(seen["progress"]) == -(-large_size // CHUNK_BYTES), "only the large upload comes in chunks"
    assert seen["second"]["responseBody"] == hashlib.sha256(PAYLOAD).hexdigest()
    assert f"read {len(PAYLOAD)}" in seen["second"]["logs"]

    assert seen["read"]["status"] == "completed"
    assert seen["read"]["responseBody"] == "", "bodies are not stored"
    assert seen["read"]["logs"] == seen["second"]["logs"]
    assert seen["started"]["status"] == "waiting"
    assert seen["ended"]["status"] == "completed", seen["ended"]["errors"]
    assert seen["executions"]["total"] == 3
    assert [e["$id"] for e in seen["executions"]["executions"]] == [seen["started"]["$id"], seen["second"]["$id"]]
    assert [f["$id"] for f in seen["functions"]["functions"]] == [seen["function"]["$id"]]
    assert seen["runtimes"] > 50
    assert seen["specifications"] > 0
    assert seen["refusal"]["code"] == 404
    assert seen["refusal"]["type"] == "function_not_found"
    assert seen["refusal"]["message"]
    assert seen["deleted"] == 404


def request_for(server: Server, folder: Path, family: str, runtime: str, version: str) -> dict[str, Any]:
    entrypoint = ENTRYPOINTS[family]
    small = write_archive(folder / "small.tar.gz", {entrypoint: ECHOES[family]})
    large = write_archive(folder / "large.tar.gz", {entrypoint: DIGESTS[family], "payload.bin": PAYLOAD})
    assert small.stat().st_size < 450
    assert large.stat().st_size > 2 * CHUNK_BYTES
    owner = server.credentials
    return {
        "endpoint": server.endpoint,
        "project": owner["projectId"],
        "key": owner["apiKey"],
        "id": f"{family}-sdk-{version}".replace(".", "-"),
        "runtime": runtime,
        "entrypoint": entrypoint,
        "small": str(small),
        "large": str(large),
    }


@pytest.mark.parametrize("version", ["11.0.0", "13.4.1", "27.0.0"])
def test_python_sdk(server: Server, python: str, tmp_path: Path, version: str) -> None:
    """Create, set variables, upload whole and in chunks, wait, execute, read logs, delete."""
    target = ROOT / ".cache" / "clients" / "python" / version
    request = request_for(server, tmp_path, "python", python, version)
    flow = HERE / "python" / "flow.py"
    seen = run_flow([sys.executable, str(flow)], {"PYTHONPATH": str(target)}, request)
    assert seen["version"] == version
    check_flow(seen, Path(request["large"]))


@pytest.mark.parametrize(
    ("alias", "version", "objects"),
    [
        ("node-appwrite-17", "17.0.0", False),
        ("node-appwrite-20", "20.2.1", False),
        ("node-appwrite-20", "20.2.1", True),
        ("node-appwrite-27", "27.1.0", True),
    ],
)
def test_node_sdk(server: Server, node: str, tmp_path: Path, alias: str, version: str, objects: bool) -> None:
    """The same flow, with arguments by position and as one object where the SDK takes both."""
    request = request_for(server, tmp_path, "node", node, f"{version}-{objects}".lower())
    flow = HERE / "node" / "flow.mjs"
    seen = run_flow(["node", str(flow)], {}, {**request, "sdk": alias, "objects": objects})
    assert seen["version"] == version
    check_flow(seen, Path(request["large"]))
