"""The API over the real control and store: that the seams fit, and what only the whole can show."""

import asyncio
import gzip
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.api.resources import deployments, executions, functions, variables
from hearth.model.queries import Kind
from tests.api.whole import OTHER_SECRET, PROJECT_ID, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CHUNK = 5_242_880
FUNCTION = {
    "functionId": "f1",
    "name": "Greeter",
    "runtime": "python-3.12",
    "entrypoint": "main.py",
    "execute": ["any"],
}
ARCHIVE = gzip.compress(b"not read by anything here")


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as composed:
        yield composed


@pytest.fixture
async def client(app: Whole) -> AsyncIterator[httpx.AsyncClient]:
    async with app.client() as opened:
        assert (await opened.post("/functions", json=FUNCTION)).status_code == 201
        yield opened


async def upload(client: httpx.AsyncClient, code: bytes = ARCHIVE, **headers: str) -> httpx.Response:
    return await client.post(
        "/functions/f1/deployments",
        data={"activate": "true"},
        files={"code": ("code.tar.gz", code)},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


def query(method: str, attribute: str = "", *values: Any) -> str:
    return json.dumps({"method": method, "attribute": attribute, "values": list(values)})


async def test_a_function_is_created_found_changed_and_deleted(client: httpx.AsyncClient) -> None:
    taken = await client.post("/functions", json=FUNCTION)
    made = await client.post("/functions", json=FUNCTION | {"functionId": "unique()"})
    assert (taken.status_code, taken.json()["type"]) == (409, "function_already_exists")
    assert len(made.json()["$id"]) == 20
    found = await client.get("/functions", params={"search": "greet", "queries[0]": query("orderDesc", "$createdAt")})
    assert (found.json()["total"], len(found.json()["functions"])) == (2, 2)
    changed = (await client.put("/functions/f1", json={"name": "New", "timeout": 20})).json()
    assert (changed["name"], changed["timeout"], changed["runtime"], changed["entrypoint"], changed["execute"]) == (
        *("New", 20, "python-3.12", "main.py", []),
    )
    deleted = await client.request("DELETE", "/functions/f1", json={})
    gone = await client.get("/functions/f1")
    assert (deleted.status_code, gone.status_code, gone.json()["type"]) == (204, 404, "function_not_found")


async def test_variables_are_kept_masked_and_listed_whole(client: httpx.AsyncClient) -> None:
    for number in range(30):
        body = {"key": f"KEY_{number}", "value": "v", "secret": number % 2 == 0}
        assert (await client.post("/functions/f1/variables", json=body)).status_code == 201
    listed = (await client.get("/functions/f1/variables")).json()
    assert (listed["total"], len(listed["variables"])) == (30, 30)
    assert [item["value"] for item in listed["variables"][:2]] == ["", "v"]
    first, second = listed["variables"][0]["$id"], listed["variables"][1]["$id"]
    unset = await client.put(f"/functions/f1/variables/{first}", json={"secret": False})
    again = await client.post("/functions/f1/variables", json={"key": "KEY_1", "value": ""})
    nothing = await client.put(f"/functions/f1/variables/{second}", json={})
    set_secret = await client.put(f"/functions/f1/variables/{second}", json={"secret": True})
    assert unset.json()["type"] == "variable_cannot_unset_secret"
    assert (again.status_code, again.json()["type"]) == (409, "variable_already_exists")
    assert (nothing.status_code, nothing.json()["type"]) == (400, "general_argument_invalid")
    assert (set_secret.json()["secret"], set_secret.json()["value"]) == (True, "")
    assert (await client.get("/functions/f1")).json()["live"] is False


_SAMPLES: dict[Kind, Any] = {
    Kind.STRING: "x",
    Kind.INTEGER: 1,
    Kind.FLOAT: 1.5,
    Kind.BOOLEAN: True,
    Kind.DATETIME: "2026-11-24T00:00:00.000+00:00",
}


@pytest.mark.parametrize(
    ("path", "attributes"),
    [
        ("/functions", functions.ATTRIBUTES),
        ("/functions/f1/deployments", deployments.ATTRIBUTES),
        ("/functions/f1/executions", executions.ATTRIBUTES),
        ("/functions/f1/variables", variables.ATTRIBUTES),
    ],
)
async def test_every_attribute_that_is_admitted_can_be_asked_for(
    client: httpx.AsyncClient, path: str, attributes: dict[str, Kind]
) -> None:
    for name, kind in attributes.items():
        texts = [query("equal", name, _SAMPLES[kind]), query("isNotNull", name), query("orderDesc", name)]
        answer = await client.get(path, params={f"queries[{index}]": text for index, text in enumerate(texts)})
        assert answer.status_code == 200, (name, answer.text)
    unknown = await client.get(path, params={"queries[0]": query("cursorAfter", "", "nowhere")})
    assert (unknown.status_code, unknown.json()["type"]) == (400, "general_cursor_not_found")


async def test_lists_page_count_and_do_not_count(client: httpx.AsyncClient) -> None:
    for number in range(3):
        await client.post("/functions", json=FUNCTION | {"functionId": f"g{number}"})
    page = (await client.get("/functions", params={"queries[0]": query("limit", "", 2)})).json()
    ids = [item["$id"] for item in page["functions"]]
    assert (page["total"], ids) == (4, ["f1", "g0"])
    after = {"queries[0]": query("cursorAfter", "", "g0"), "total": "False"}
    rest = (await client.get("/functions", params=after)).json()
    assert (rest["total"], [item["$id"] for item in rest["functions"]]) == (0, ["g1", "g2"])


async def test_an_upload_in_one_piece_is_stored_and_comes_back(client: httpx.AsyncClient) -> None:
    deployment = (await upload(client)).json()
    assert (deployment["status"], deployment["chunksTotal"], deployment["chunksUploaded"]) == ("waiting", 1, 1)
    assert (deployment["sourceSize"], deployment["entrypoint"]) == (len(ARCHIVE), "main.py")
    source = await client.get(f"/functions/f1/deployments/{deployment['$id']}/download")
    assert source.content == ARCHIVE
    output = await client.get(f"/functions/f1/deployments/{deployment['$id']}/download?type=output")
    assert (output.status_code, output.json()["type"]) == (404, "deployment_not_found")


@pytest.mark.parametrize("whole_file", [False, True], ids=["chunks", "the whole file with every chunk"])
async def test_chunks_in_parallel_and_any_order_make_one_source(client: httpx.AsyncClient, whole_file: bool) -> None:
    """First chunk alone, then the rest at once, the short last one first (contract: clients 3)."""
    code = random.Random(7).randbytes(2 * CHUNK + 1_000)

    async def send(start: int, deployment_id: str = "") -> dict[str, Any]:
        end = min(start + CHUNK, len(code)) - 1
        headers = {"content_range": f"bytes {start}-{end}/{len(code)}"}
        if deployment_id:
            headers["x_appwrite_id"] = deployment_id
        answer = await upload(client, code if whole_file else code[start : end + 1], **headers)
        assert answer.status_code == 202, answer.text
        result: dict[str, Any] = answer.json()
        return result

    first = await send(0)
    assert (first["chunksTotal"], first["chunksUploaded"], first["sourceSize"]) == (3, 1, 0)
    others = await asyncio.gather(send(2 * CHUNK, first["$id"]), send(CHUNK, first["$id"]))
    assert {answer["$id"] for answer in others} == {first["$id"]}
    assert max(answer["chunksUploaded"] for answer in others) == 3
    source = await client.get(f"/functions/f1/deployments/{first['$id']}/download")
    assert source.content == code
    again = await send(CHUNK, first["$id"])
    assert (again["chunksUploaded"], again["sourceSize"]) == (3, len(code))


async def test_refusals_of_an_upload_come_in_the_order_of_the_contract(client: httpx.AsyncClient) -> None:
    """Contract: functions-api 5.7."""
    await client.post("/functions", json=FUNCTION | {"functionId": "bare", "entrypoint": ""})
    bad = {"content-range": "bytes 9-1/10"}
    file = {"code": ("code.zip", b"x")}
    cases = [
        ("/functions/nope/deployments", {"activate": "true"}, file, 404, "function_not_found"),
        ("/functions/bare/deployments", {"activate": "true"}, None, 404, "function_entrypoint_missing"),
        ("/functions/f1/deployments", {"activate": "true"}, {"x": (None, "y")}, 400, "storage_file_empty"),
        ("/functions/f1/deployments", {"activate": "true"}, file, 400, "storage_file_type_unsupported"),
        (
            "/functions/f1/deployments",
            {"activate": "true"},
            {"code": ("code.tar.gz", b"x")},
            400,
            "storage_invalid_content_range",
        ),
    ]
    for path, data, files, status, type in cases:
        answer = await client.post(path, data=data, files=files, headers=bad)
        assert (answer.status_code, answer.json()["type"]) == (status, type)


async def test_a_sync_execution_is_answered_and_can_be_read_at_once(app: Whole, client: httpx.AsyncClient) -> None:
    deployment = (await upload(client)).json()
    unready = await client.post("/functions/f1/executions", json={})
    await app.build("f1", deployment["$id"])
    answer = await client.post(
        "/functions/f1/executions", json={"path": "/a?b=1", "method": "PUT", "headers": {"x-own": "1"}, "body": "in"}
    )
    assert unready.json()["type"] == "deployment_not_found"
    execution = answer.json()
    assert (answer.status_code, execution["status"], execution["responseBody"]) == (201, "completed", "done")
    assert {"name": "x-appwrite-execution-id", "value": execution["$id"]} in execution["responseHeaders"]
    assert (execution["logs"], execution["functionId"], execution["requestPath"]) == ("logged\n", "f1", "/a?b=1")
    (invocation,) = app.executor.invocations
    assert (invocation.method, invocation.path, invocation.body) == ("PUT", "/a?b=1", b"in")
    assert (invocation.headers["x-own"], invocation.headers["x-appwrite-trigger"]) == ("1", "http")
    stored = (await client.get(f"/functions/f1/executions/{execution['$id']}")).json()
    assert (stored["responseBody"], stored["logs"]) == ("", "logged\n")
    assert {"name": "content-type", "value": "text/plain"} in stored["responseHeaders"]
    assert {header["name"] for header in stored["responseHeaders"]} <= {"content-type", "content-length"}
    deleted = await client.request("DELETE", f"/functions/f1/executions/{execution['$id']}", json={})
    assert deleted.status_code == 204
    assert (await client.get("/functions/f1/executions")).json() == {"total": 0, "executions": []}


async def test_an_async_execution_waits_and_cannot_be_deleted_yet(app: Whole, client: httpx.AsyncClient) -> None:
    await app.build("f1", (await upload(client)).json()["$id"])
    waiting = (await client.post("/functions/f1/executions", json={"async": True})).json()
    later = {"async": True, "scheduledAt": "2026-11-24T10:30:00Z"}
    scheduled = (await client.post("/functions/f1/executions", json=later)).json()
    assert (waiting["status"], waiting["responseStatusCode"], waiting["responseHeaders"]) == ("waiting", 0, [])
    assert (scheduled["status"], scheduled["scheduledAt"]) == ("scheduled", "2026-11-24T10:30:00.000+00:00")
    refused = await client.request("DELETE", f"/functions/f1/executions/{waiting['$id']}", json={})
    allowed = await client.request("DELETE", f"/functions/f1/executions/{scheduled['$id']}", json={})
    assert (refused.status_code, refused.json()["type"]) == (400, "execution_in_progress")
    assert allowed.status_code == 204


async def test_a_guest_may_execute_what_admits_any_and_nothing_else(app: Whole, client: httpx.AsyncClient) -> None:
    await app.build("f1", (await upload(client)).json()["$id"])
    async with app.client("") as guest:
        allowed = await guest.post("/functions/f1/executions", json={})
        await client.put("/functions/f1", json={"name": "n", "execute": ["users"]})
        refused = await guest.post("/functions/f1/executions", json={})
        listed = await guest.get("/functions/f1/executions")
    assert (allowed.status_code, allowed.json()["logs"]) == (201, "")
    assert (refused.status_code, refused.json()["type"]) == (401, "user_unauthorized")
    assert (listed.status_code, listed.json()["type"]) == (401, "general_unauthorized_scope")


async def test_a_key_opens_only_its_own_project_and_only_with_the_header(app: Whole) -> None:
    async with app.client(OTHER_SECRET) as foreign, app.client("standard_unknown") as unknown, app.client() as own:
        wrong = await foreign.get("/functions")
        nobody = await unknown.get("/functions")
        del own.headers["x-appwrite-project"]
        headless = await own.get("/functions", params={"project": PROJECT_ID})
    assert (wrong.status_code, wrong.json()["type"]) == (403, "project_id_missing")
    assert (nobody.status_code, nobody.json()["type"]) == (401, "general_unauthorized_scope")
    assert (headless.status_code, headless.json()["type"]) == (403, "project_id_missing")


async def test_deployments_are_rebuilt_cancelled_and_set_active_by_old_and_new_paths(
    app: Whole, client: httpx.AsyncClient
) -> None:
    deployment = (await upload(client)).json()["$id"]
    base = f"/functions/f1/deployments/{deployment}"
    not_ready = await client.patch("/functions/f1/deployment", json={"deploymentId": deployment})
    copy = await client.post("/functions/f1/deployments/duplicate", json={"deploymentId": deployment})
    older = await client.post(f"{base}/builds/b1", json={})
    assert (not_ready.status_code, not_ready.json()["type"]) == (400, "build_not_ready")
    assert (copy.status_code, older.status_code) == (202, 202)
    assert len({deployment, copy.json()["$id"], older.json()["$id"]}) == 3
    canceled = await client.patch(f"/functions/f1/deployments/{copy.json()['$id']}/status", json={})
    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    await app.build("f1", deployment)
    active = await client.patch(base, json={})
    completed = await client.patch(f"{base}/build", json={})
    assert (active.status_code, active.json()["deploymentId"]) == (200, deployment)
    assert (completed.status_code, completed.json()["type"]) == (400, "build_already_completed")
    assert (await client.get("/health")).json()["status"] == "pass"
