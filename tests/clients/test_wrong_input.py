"""Wrong input: the contract's error, or a failed build or execution whose text tells the user what to do."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.api import built, create_function, deploy, execute, ok, upload
from tests.support.archives import archive
from tests.support.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]

GOOD_NODE = "module.exports = async ({ res }) => res.text('fine');"
GOOD_PYTHON = "def main(context):\n    return context.res.text('fine')\n"
SIZE_LIMIT_BYTES = 30_000_000  # contract: functions-api 4


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Status and type of an error, after the shape every error has."""
    document = answer.json()
    assert document["code"] == answer.status_code
    assert document["message"]
    assert document["version"]
    return answer.status_code, document["type"]


def test_an_unknown_runtime_is_refused_and_named(client: httpx.Client) -> None:
    answer = client.post("/functions", json={"functionId": "x", "name": "x", "runtime": "cobol-60"})
    assert refusal(answer) == (400, "general_argument_invalid")
    assert answer.json()["message"].startswith("Invalid `runtime` param: ")


def test_an_id_with_wrong_characters_is_refused(client: httpx.Client, python: str) -> None:
    answer = client.post("/functions", json={"functionId": "_x y", "name": "x", "runtime": python})
    assert refusal(answer) == (400, "general_argument_invalid")
    assert "functionId" in answer.json()["message"]


def test_a_missing_name_is_refused_by_its_name(client: httpx.Client, python: str) -> None:
    answer = client.post("/functions", json={"functionId": "x", "runtime": python})
    assert refusal(answer) == (400, "general_argument_invalid")
    assert answer.json()["message"] == 'Param "name" is not optional.'


def test_a_body_that_is_not_json_is_refused(client: httpx.Client) -> None:
    answer = client.post("/functions", content=b"{nope", headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["message"]


def test_a_taken_id_is_refused(client: httpx.Client, python: str) -> None:
    create_function(client, "taken", python)
    answer = client.post("/functions", json={"functionId": "taken", "name": "again", "runtime": python})
    assert refusal(answer) == (409, "function_already_exists")


def test_a_wrong_key_is_refused_before_the_body_is_looked_at(server: Server) -> None:
    headers = {**server.headers, "x-appwrite-key": "standard_" + "0" * 256}
    answer = httpx.post(f"{server.endpoint}/functions", headers=headers, json={}, trust_env=False)
    assert refusal(answer) == (401, "general_unauthorized_scope")


def test_an_unknown_project_is_refused(server: Server) -> None:
    headers = {"x-appwrite-project": "nowhere"}
    answer = httpx.get(f"{server.endpoint}/functions", headers=headers, trust_env=False)
    assert refusal(answer) == (404, "project_not_found")


def test_a_function_without_a_deployment_cannot_be_executed(client: httpx.Client, python: str) -> None:
    create_function(client, "undeployed", python, entrypoint="main.py")
    answer = client.post("/functions/undeployed/executions", json={})
    assert refusal(answer) == (404, "deployment_not_found")


def test_an_upload_without_any_entrypoint_is_refused(client: httpx.Client, python: str) -> None:
    create_function(client, "no-entrypoint", python)
    answer = upload(client, "no-entrypoint", archive({"main.py": GOOD_PYTHON}))
    assert refusal(answer) == (404, "function_entrypoint_missing")


def test_an_upload_without_a_file_is_refused(client: httpx.Client, python: str) -> None:
    create_function(client, "no-file", python, entrypoint="main.py")
    answer = client.post("/functions/no-file/deployments", files={"activate": (None, "true")})
    assert refusal(answer) == (400, "storage_file_empty")


def test_a_file_of_another_kind_is_refused(client: httpx.Client, python: str) -> None:
    create_function(client, "zip", python, entrypoint="main.py")
    answer = client.post(
        "/functions/zip/deployments", data={"activate": "true"}, files={"code": ("code.zip", b"PK", "application/zip")}
    )
    assert refusal(answer) == (400, "storage_file_type_unsupported")


@pytest.mark.parametrize("content_range", ["bytes 0-9/", "bytes 9-0/10", "bytes 0-20/10", "items 0-9/10"])
def test_a_senseless_content_range_is_refused(client: httpx.Client, python: str, content_range: str) -> None:
    id = "range-" + "".join(c if c.isalnum() else "-" for c in content_range).strip("-")
    create_function(client, id, python, entrypoint="main.py")
    answer = client.post(
        f"/functions/{id}/deployments",
        headers={"content-range": content_range},
        data={"activate": "true"},
        files={"code": ("code.tar.gz", b"0123456789", "application/gzip")},
    )
    assert refusal(answer) == (400, "storage_invalid_content_range")


def test_an_oversize_upload_is_refused_at_its_first_chunk(client: httpx.Client, python: str) -> None:
    create_function(client, "oversize", python, entrypoint="main.py")
    answer = client.post(
        "/functions/oversize/deployments",
        headers={"content-range": f"bytes 0-99/{SIZE_LIMIT_BYTES + 1}"},
        data={"activate": "true"},
        files={"code": ("code.tar.gz", b"x" * 100, "application/gzip")},
    )
    assert refusal(answer) == (400, "deployment_invalid_file_size")


def test_an_oversize_upload_in_one_piece_is_refused(client: httpx.Client, python: str) -> None:
    create_function(client, "oversize-one", python, entrypoint="main.py")
    answer = upload(client, "oversize-one", b"\x1f\x8b" + bytes(SIZE_LIMIT_BYTES))
    assert refusal(answer) == (400, "deployment_invalid_file_size")
    assert ok(client.get("/functions/oversize-one/deployments"))["total"] == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("text", b"this is not an archive"),
        ("cut", archive({"main.py": GOOD_PYTHON * 500})[:200]),
    ],
)
def test_a_bad_archive_fails_the_build_and_says_so(client: httpx.Client, python: str, name: str, code: bytes) -> None:
    id = f"bad-archive-{name}"
    create_function(client, id, python, entrypoint="main.py")
    deployment = built(client, id, ok(upload(client, id, code))["$id"])
    assert deployment["status"] == "failed"
    assert "archive" in deployment["buildLogs"].lower()


def test_an_archive_that_leaves_its_folder_fails_the_build(client: httpx.Client, python: str) -> None:
    create_function(client, "traversal", python, entrypoint="main.py")
    deployment = deploy(client, "traversal", {"main.py": GOOD_PYTHON, "../../escaped.py": "x"})
    assert deployment["status"] == "failed"
    assert "escaped.py" in deployment["buildLogs"], "the log names the entry at fault"


def test_a_failing_build_command_fails_the_build_with_its_output(client: httpx.Client, python: str) -> None:
    create_function(client, "bad-command", python, entrypoint="main.py")
    commands = "echo before; echo 'cannot compile this' >&2; exit 3"
    deployment = deploy(client, "bad-command", {"main.py": GOOD_PYTHON}, commands=commands)
    assert deployment["status"] == "failed"
    assert "before" in deployment["buildLogs"]
    assert "cannot compile this" in deployment["buildLogs"]
    assert "3" in deployment["buildLogs"].rsplit("cannot compile this", 1)[1], "the exit code"
    answer = client.post("/functions/bad-command/executions", json={})
    assert refusal(answer) == (404, "deployment_not_found")


CASES: list[tuple[str, str, dict[str, str | bytes], list[str]]] = [
    ("missing-entrypoint", "python", {"other.py": GOOD_PYTHON}, ["main.py", "does not exist"]),
    ("missing-entrypoint", "node", {"other.js": GOOD_NODE}, ["main.js", "does not exist"]),
    ("syntax-error", "python", {"main.py": "def main(context:\n    pass\n"}, ["main.py", "SyntaxError"]),
    ("syntax-error", "node", {"main.js": "module.exports = async ( => 1;"}, ["main.js", "SyntaxError"]),
    ("missing-dependency", "python", {"main.py": "import numberwang\n" + GOOD_PYTHON}, ["numberwang"]),
    ("missing-dependency", "node", {"main.js": "require('numberwang');" + GOOD_NODE}, ["numberwang"]),
    ("no-handler", "python", {"main.py": "x = 1\n"}, ["main"]),
    ("no-handler", "node", {"main.js": "module.exports = 5;"}, ["main"]),
]


@pytest.mark.parametrize(("case", "family", "files", "words"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_code_that_cannot_be_loaded_fails_the_execution_and_says_why(
    client: httpx.Client,
    request: pytest.FixtureRequest,
    case: str,
    family: str,
    files: dict[str, str | bytes],
    words: list[str],
) -> None:
    runtime: str = request.getfixturevalue(family)
    id = f"{case}-{family}"
    create_function(client, id, runtime, entrypoint={"python": "main.py", "node": "main.js"}[family])
    deployment = deploy(client, id, files)
    if deployment["status"] == "failed":
        text = deployment["buildLogs"]  # found at build time: as good, and earlier
    else:
        execution = execute(client, id)
        assert execution["status"] == "failed"
        assert execution["responseStatusCode"] == 503
        assert execution["responseBody"] == ""
        text = execution["errors"]
    for word in words:
        assert word in text


def test_a_handler_that_raises_fails_the_execution_with_its_trace(client: httpx.Client, python: str) -> None:
    create_function(client, "raises", python, entrypoint="main.py")
    deploy(
        client, "raises", {"main.py": "def main(context):\n    context.log('so far')\n    raise ValueError('ouch')\n"}
    )
    execution = execute(client, "raises")
    assert (execution["status"], execution["responseStatusCode"]) == ("failed", 500)
    assert execution["logs"] == "so far" or execution["logs"].startswith("so far\n")
    assert "ValueError: ouch" in execution["errors"]
    assert "main.py" in execution["errors"]


def test_a_handler_past_its_timeout_fails_the_execution(client: httpx.Client, python: str) -> None:
    create_function(client, "slow", python, entrypoint="main.py", timeout=1)
    source = "import time\ndef main(context):\n    context.log('begun')\n    time.sleep(30)\n"
    deploy(client, "slow", {"main.py": source})
    execution = execute(client, "slow")
    assert (execution["status"], execution["responseStatusCode"]) == ("failed", 500)
    assert "begun" in execution["logs"]
    assert "Execution timed out." in execution["errors"]


def test_a_reserved_header_is_refused(client: httpx.Client, python: str) -> None:
    create_function(client, "headers", python, entrypoint="main.py")
    answer = client.post("/functions/headers/executions", json={"headers": {"x-appwrite-user-id": "me"}})
    assert refusal(answer)[0] == 400
