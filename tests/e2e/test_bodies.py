"""Results of background executions read back, and replays, on a real server with a real function."""

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.test_project_commands import Folder
from tests.support.api import create_function, deploy, ok
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

MARK = "none-may-read-this-in-the-database"
CODE = """
def main(context):
    req, res = context.req, context.res
    context.log(f"VERSION of {{req.headers.get('x-hearth-replay-of', 'nothing')}}")
    if req.path == '/binary':
        return res.binary(bytes(range(256)) * 4)
    if req.path == '/stream':
        return res.stream(iter(['one ', 'two']), 200, {{'content-type': 'text/plain'}})
    return res.json({{'got': req.body_text, 'version': 'VERSION'}}, {status}, {{'x-version': 'VERSION'}})
"""


def code(version: str, status: int = 200) -> dict[str, str | bytes]:
    return {"main.py": CODE.format(status=status).replace("VERSION", version)}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with a function of two deployments, of which the second is active, that has bodies stored."""
    with running_server() as running:
        with running.client() as client:
            create_function(client, "f", runtime_of("python"), entrypoint="main.py", execute=["any"])
            for version, status in (("first", 200), ("second", 207)):
                assert deploy(client, "f", code(version, status))["status"] == "ready"
            ok(client.patch("/functions/f/settings", json={"storeBodies": True}))
            ok(client.post("/proxy/rules/function", json={"domain": "f.functions.localhost", "functionId": "f"}))
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def in_background(client: httpx.Client, **request: Any) -> dict[str, Any]:
    """The record of a background execution as it is read when it has ended."""
    made = ok(client.post("/functions/f/executions", json={"async": True, **request}))
    path = f"/functions/f/executions/{made['$id']}"
    wait_for(lambda: ok(client.get(path))["status"] in ("completed", "failed"), 60, "the execution")
    return ok(client.get(path))


def test_the_result_of_a_background_execution_is_read_back(client: httpx.Client) -> None:
    record = in_background(client, body="hello")
    assert json.loads(record["responseBody"]) == {"got": "hello", "version": "second"}
    response = ok(client.get(f"/functions/f/executions/{record['$id']}/response"))
    assert response["statusCode"] == 207
    assert {"name": "x-version", "value": "second"} in response["headers"]


def test_a_binary_body_comes_back_byte_by_byte(client: httpx.Client) -> None:
    record = in_background(client, path="/binary")
    path = f"/functions/f/executions/{record['$id']}/response"
    answer = client.get(path, headers={"accept": "application/octet-stream"})
    assert answer.content == bytes(range(256)) * 4
    assert base64.b64decode(ok(client.get(path))["body"]) == answer.content


def test_a_visit_with_a_streamed_response_is_stored_too(server: Server, client: httpx.Client) -> None:
    url = f"http://127.0.0.1:{server.port}/stream?q=1"
    with httpx.Client() as visitor:
        assert visitor.get(url, headers={"host": "f.functions.localhost", "cookie": "a=b"}).text == "one two"
    query = '{"method":"equal","attribute":"requestPath","values":["/stream?q=1"]}'

    def found() -> list[dict[str, Any]]:
        return list(ok(client.get("/functions/f/executions", params={"queries[]": query}))["executions"])

    wait_for(found, 60, "the record of the visit")
    path = f"/functions/f/executions/{found()[0]['$id']}"
    wait_for(lambda: client.get(f"{path}/response").status_code == 200, 60, "the stored response")
    assert ok(client.get(f"{path}/response"))["body"] == "one two"
    request = ok(client.get(f"{path}/request"))
    assert (request["method"], request["path"]) == ("GET", "/stream?q=1")
    assert {"name": "cookie", "value": "a=b"} in request["headers"]
    assert all(header["name"] != "x-appwrite-key" for header in request["headers"])


def test_a_replay_against_the_deployment_before_shows_what_differs(
    server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    original = in_background(client, body="x")
    deployments = ok(client.get("/functions/f/deployments"))["deployments"]
    before = next(one["$id"] for one in deployments if one["$id"] != original["deploymentId"])
    answer = client.post(f"/functions/f/executions/{original['$id']}/replay", json={"deploymentId": before})
    done = ok(answer)
    assert (done["deploymentId"], done["originalDeploymentId"]) == (before, original["deploymentId"])
    comparison = done["comparison"]
    assert comparison["statusCode"] == {"before": 207, "after": 200}
    assert {"name": "x-version", "before": ["second"], "after": ["first"]} in comparison["headers"]
    assert comparison["body"]["diff"].splitlines()[-3:] == ['-  "version": "second"', '+  "version": "first"', " }"]
    assert f"+first of {original['$id']}" in comparison["logs"]["diff"]
    record = ok(client.get(f"/functions/f/executions/{done['executionId']}"))
    assert {"name": "x-hearth-replay-of", "value": original["$id"]} in record["requestHeaders"]
    assert json.loads(record["responseBody"])["version"] == "first"

    folder = Folder(tmp_path / "project", server)
    folder.configure()
    shown = folder.run("replay", original["$id"], "--deployment", before)
    assert '+  "version": "first"' in shown.stdout
    assert "207" in shown.stdout
    assert folder.json("replay", original["$id"], "--deployment", before)["comparison"]["equal"] is False
    again = folder.json("replay", original["$id"], "--async")
    assert again["comparison"] is None
    assert "name one of its executions" in folder.run("replay", "f", expect=2).stderr
    wait_for(
        lambda: ok(client.get(f"/functions/f/executions/{again['executionId']}"))["status"] == "completed",
        60,
        "the replay in the background",
    )


def test_the_files_of_the_database_hold_no_body_in_clear(server: Server, client: httpx.Client) -> None:
    made = ok(client.post("/functions/f/executions", json={"body": MARK, "path": "/seen"}))
    assert MARK in made["responseBody"]
    file = next(server.data_dir.glob("*.db"))

    def stored() -> bool:
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            statement = "SELECT count(*) FROM execution_bodies WHERE execution_id = ?"
            return bool(database.execute(statement, (made["$id"],)).fetchone()[0])

    wait_for(stored, 60, "the stored body")
    content = b"".join(path.read_bytes() for path in server.data_dir.glob("*.db*"))
    assert b"/seen" in content, "the record is there"
    assert MARK.encode() not in content
    assert base64.b64encode(MARK.encode()) not in content
