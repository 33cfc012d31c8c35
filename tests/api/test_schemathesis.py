"""Anything the description allows, and much that it does not, sent to a real server by schemathesis.

The server holds functions that run, so that more is reached than refusals. Bounded in count; the seed is fixed, so a
failure can be repeated, and is part of the printed report.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import create_function, deploy, execute, ok
from tests.support.contract import contract_document
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).with_name("schemathesis")
SEED = 20_261_124
CODE = "def main(context):\n    return context.res.text('fine')\n"
#: Left out: the contract answers an unknown method 404 `general_route_not_found`, not 405 (functions-api 1, check 2);
#: and a request of right values may be refused for its meaning (ours: `described_values_are_accepted`), or because
#: of something else that its body names (ours: `what_was_created_is_there`).
EXCLUDED = "unsupported_method,allow_header_conformance,positive_data_acceptance,ensure_resource_availability"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own: what is fuzzed is deleted and changed at will."""
    with running_server() as started:
        yield started


@pytest.fixture(scope="module")
def known(server: Server) -> dict[str, list[str]]:
    """Functions with a ready deployment, a variable and an execution each: ids by the names of path parameters."""
    runtime = runtime_of("python")
    ids: dict[str, list[str]] = {"functionId": [], "deploymentId": [], "variableId": [], "executionId": []}
    with server.client() as client:
        for number in range(5):
            id = f"fuzz-{number}"
            create_function(client, id, runtime, entrypoint="main.py", execute=["any"])
            deployment = deploy(client, id, {"main.py": CODE})
            assert deployment["status"] == "ready", deployment["buildLogs"]
            variable = ok(client.post(f"/functions/{id}/variables", json={"key": "A", "value": "b"}))
            ids["functionId"].append(id)
            ids["deploymentId"].append(deployment["$id"])
            ids["variableId"].append(variable["$id"])
            ids["executionId"].append(execute(client, id)["$id"])
    return ids


def fuzz(server: Server, known: dict[str, list[str]], folder: Path, document: dict[str, Any], *options: str) -> None:
    """Run schemathesis over a document with the owner's key; its report is the message of a failure.

    The project is sent with everything and is no part of what is fuzzed: a wrong one is answered 404, where the
    tool expects 401. Of the alternative credentials only the key is tried.
    """
    schema = folder / "document.json"
    schema.write_text(json.dumps(document))
    key = json.dumps(server.credentials["apiKey"])
    (folder / "schemathesis.toml").write_text(
        f"[auth.openapi.Key]\napi_key = {key}\n[phases.stateful.generation]\nmax-examples = 40\n"
    )
    environment = {
        "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks",
        "PYTHONPATH": str(ROOT),
        "HEARTH_TEST_IDS": json.dumps(known),
    }
    report = folder / "report.txt"
    with report.open("wb") as output:
        done = subprocess.run(
            [
                *(str(COMMAND), "run", str(schema), "--no-color", "--seed", str(SEED), "--continue-on-failure"),
                *("--request-timeout", "40", "--warnings", "off"),
                *("--header", f"x-appwrite-project: {server.credentials['projectId']}", *options),
            ],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=900,  # a bound against hanging: there are many operations, and the machine may be busy
            check=False,
        )
    assert done.returncode == 0, f"whole report: {report}\n{report.read_text(errors='replace')[-20_000:]}"
    assert '"request failed"' not in server.log, "nothing was answered 500"


def prepared(document: dict[str, Any]) -> dict[str, Any]:
    """A document with two kinds of callers: with the key, and (where it is allowed) without anything.

    Installations are made of plain git servers only, whose made-up addresses are refused as such: the others would be
    asked of hosts elsewhere. Nobody follows a log: such an answer ends when its reader leaves. Queries are kept short:
    request lines over 64 KiB are answered by the HTTP parser, before the application.
    """
    for operations in document["paths"].values():
        for operation in operations.values():
            if "security" in operation:
                kinds = [set(it) - {"Project"} for it in operation["security"]]
                operation["security"] = [{name: [] for name in kind} for kind in kinds if kind <= {"Key"}]
            for parameter in operation.get("parameters", ()):
                items = parameter.get("schema", {}).get("items", {})
                if items.get("format") == "query":
                    items["maxLength"] = 100
                if parameter["name"] == "follow":
                    parameter["schema"]["enum"] = [False]
    asked = document["paths"].get("/v1/vcs/installations", {}).get("post", {}).get("requestBody", {}).get("content", {})
    for content in asked.values():
        content["schema"]["properties"]["provider"]["enum"] = ["git"]
    return document


def test_the_server_does_what_its_description_says(server: Server, known: dict[str, list[str]], tmp_path: Path) -> None:
    """No fault of ours, no undocumented status, content type or error type, and wrong values are refused."""
    with server.client() as client:
        document = ok(client.get("/openapi.json"))
    fuzz(
        server,
        known,
        tmp_path,
        prepared(document),
        *("--url", server.endpoint.removesuffix("/v1"), "--max-examples", "8"),
        *("--exclude-checks", EXCLUDED, "--header", "x-appwrite-response-format: 1.9.6"),
    )


def test_the_server_does_what_the_recorded_contract_says(
    server: Server, known: dict[str, list[str]], tmp_path: Path
) -> None:
    """Answers of the shared operations have the shapes of the reference's own document."""
    document = contract_document("functions.openapi.json")
    with server.client() as client:
        served = {path.removeprefix("/v1") for path in ok(client.get("/openapi.json"))["paths"]}
    document["paths"] = {path: it for path, it in document["paths"].items() if path in served}
    assert len(document["paths"]) >= 14
    fuzz(
        server,
        known,
        tmp_path,
        prepared(document),
        *("--url", server.endpoint, "--max-examples", "8", "--phases", "coverage,fuzzing"),
        *("--checks", "not_a_server_error,response_schema_conformance"),
        *("--header", "x-appwrite-response-format: 1.8.0"),
    )
