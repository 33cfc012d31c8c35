"""Every limit of the contract that a request can exceed: what fits is taken, one more is refused by name and value.

Contract: functions-api 4. Whatever is refused leaves everything as it was. Limits of what runs are held elsewhere:
logs in `tests/executor/test_logs`, time and size of builds in `tests/build`, retention in `tests/control`, pieces of
downloads in `test_downloads`, the wait of a synchronous execution in `test_error_table`.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.api.settings import ApiSettings
from hearth.model.resources import Variable
from tests.api.support import NOW
from tests.api.test_over_real_control import ARCHIVE, FUNCTION, upload
from tests.api.whole import PROJECT_ID, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MADE = {"functionId": "g", "name": "G", "runtime": "python-3.12"}
CHANGED = {"name": "Greeter", "runtime": "python-3.12", "entrypoint": "main.py"}
LINKED = {"installationId": "i", "providerBranch": "main"}
CREATE, UPDATE = ("POST", "/functions", MADE), ("PUT", "/functions/f1", CHANGED)
VARIABLE = ("POST", "/functions/f1/variables", {"key": "NEW", "value": "v"})
VARIABLE_CHANGE = ("PUT", "/functions/f1/variables/v1", {})
SHARED = ("POST", "/project/variables", {"variableId": "s2", "key": "NEW", "value": "v"})
SHARED_CHANGE = ("PUT", "/project/variables/s1", {})
EXECUTE = ("POST", "/functions/f1/executions", {})
LISTS = ("/functions", "/functions/f1/deployments", "/functions/f1/executions", "/functions/f1/variables")


@dataclass(frozen=True, slots=True)
class Row:
    """One limit: `fits` is the largest value of the parameter that is taken, `exceeds` the next one."""

    request: tuple[str, str, Mapping[str, Any]]
    parameter: str
    limit: int
    fits: Any
    exceeds: Any

    def __str__(self) -> str:
        return f"{self.request[0]} {self.request[1]} {self.parameter} {self.limit}"


def text(request: tuple[str, str, Mapping[str, Any]], parameter: str, most: int) -> Row:
    return Row(request, parameter, most, "x" * most, "x" * (most + 1))


def items(request: tuple[str, str, Mapping[str, Any]], parameter: str, most: int, item: str) -> Row:
    return Row(request, parameter, most, [item] * most, [item] * (most + 1))


def headers(count: int, size: int = 1) -> dict[str, str]:
    return {f"h{number:03}": "x" * size for number in range(count)}


TABLE = [
    *(
        row
        for request in (CREATE, UPDATE)
        for row in (
            text(request, "name", 128),
            text(request, "entrypoint", 1_028),
            text(request, "commands", 8_192),
            text(request, "installationId", 128),
            text((*request[:2], request[2] | LINKED), "providerRepositoryId", 128),
            text(request, "providerBranch", 128),
            text(request, "providerRootDirectory", 128),
            items(request, "execute", 100, "any"),
            items(request, "events", 100, "users.*.create"),
            items(request, "scopes", 200, "users.read"),
            items(request, "providerBranches", 100, "main"),
            items(request, "providerPaths", 100, "src"),
            Row(request, "timeout", 900, 900, 901),
            Row(request, "timeout", 1, 1, 0),
            Row(request, "deploymentRetention", 36_500, 36_500, 36_501),
            Row(request, "deploymentRetention", 0, 0, -1),
        )
    ),
    *(
        row
        for request in (VARIABLE, VARIABLE_CHANGE, SHARED, SHARED_CHANGE)
        for row in (text(request, "key", 255), text(request, "value", 8_192))
    ),
    Row(VARIABLE, "key", 1, "k", ""),
    Row(SHARED, "key", 1, "k", ""),
    text(EXECUTE, "body", 10_485_760),
    Row(EXECUTE, "path", 2_048, "/" + "x" * 2_047, "/" + "x" * 2_048),
    Row(EXECUTE, "headers", 100, headers(100), headers(101)),
    Row(EXECUTE, "headers", 16_384, {"h": "x" * 16_382}, {"h": "x" * 16_383}),
    Row(EXECUTE, "headers", 65_535, "{}" + " " * 65_533, "{}" + " " * 65_534),
]


async def everything(client: httpx.AsyncClient) -> dict[str, Any]:
    """All that a refused request could have changed."""
    paths = (*LISTS, "/functions/f1", "/project/variables")
    return {path: (await client.get(path)).json() for path in paths}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as composed:
        yield composed


@pytest.fixture
async def client(app: Whole) -> AsyncIterator[httpx.AsyncClient]:
    """A key's client of a project with a function that runs, a variable of it and one of the project."""
    async with app.client() as opened:
        assert (await opened.post("/functions", json=FUNCTION)).status_code == 201
        for path, id in (("/functions/f1/variables", "v1"), ("/project/variables", "s1")):
            body = {"variableId": id, "key": "KEY", "value": "v", "secret": False}
            assert (await opened.post(path, json=body)).status_code == 201
        await app.build("f1", (await upload(opened)).json()["$id"])
        yield opened


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_one_more_than_a_limit_is_refused_by_name_and_value(client: httpx.AsyncClient, row: Row) -> None:
    method, path, body = row.request
    before = await everything(client)
    refused = await client.request(method, path, json={**body, row.parameter: row.exceeds})
    assert (refused.status_code, refused.json()["type"]) == (400, "general_argument_invalid")
    message = refused.json()["message"]
    assert message.startswith(f"Invalid `{row.parameter}` param: ")
    assert str(row.limit) in message
    assert await everything(client) == before
    taken = await client.request(method, path, json={**body, row.parameter: row.fits})
    # A repository that is not linked is refused for that, after its parameters were found good.
    assert taken.is_success or taken.json()["type"] == "installation_not_found", taken.text[:500]


def query(method: str, attribute: str = "", *values: Any) -> str:
    return json.dumps({"method": method, "attribute": attribute, "values": list(values)})


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("limit", "fits", "exceeds"),
    [
        (100, [query("limit", "", 1)] * 100, [query("limit", "", 1)] * 101),
        (4_096, [query("limit", "", 1).ljust(4_096)], [query("limit", "", 1).ljust(4_097)]),
        (500, [query("equal", "$id", *["x"] * 500)], [query("equal", "$id", *["x"] * 501)]),
    ],
    ids=["queries", "characters of one", "values of one"],
)
async def test_queries_of_a_list_are_bounded(
    client: httpx.AsyncClient, path: str, limit: int, fits: list[str], exceeds: list[str]
) -> None:
    taken = await client.get(path, params={f"queries[{number}]": one for number, one in enumerate(fits)})
    refused = await client.get(path, params={f"queries[{number}]": one for number, one in enumerate(exceeds)})
    assert taken.status_code == 200, taken.text
    assert (refused.status_code, refused.json()["type"]) == (400, "general_argument_invalid")
    assert refused.json()["message"].startswith("Invalid `queries` param: ")
    assert str(limit) in refused.json()["message"]


@pytest.mark.parametrize("path", LISTS)
async def test_a_page_has_one_row_at_least_and_as_many_as_asked_for(client: httpx.AsyncClient, path: str) -> None:
    many = await client.get(path, params={"queries[0]": query("limit", "", 1_000_000)})
    none = await client.get(path, params={"queries[0]": query("limit", "", 0)})
    assert many.status_code == 200
    assert (none.status_code, none.json()["type"]) == (400, "general_argument_invalid")
    assert "1" in none.json()["message"]


async def test_templates_are_listed_up_to_5000(client: httpx.AsyncClient) -> None:
    assert (await client.get("/functions/templates", params={"limit": 5_000})).status_code == 200
    for limit in (0, 5_001):
        refused = await client.get("/functions/templates", params={"limit": limit})
        assert (refused.status_code, refused.json()["type"]) == (400, "general_argument_invalid")
        assert refused.json()["message"].startswith("Invalid `limit` param: ")
        assert "5000" in refused.json()["message"]


@pytest.mark.parametrize(
    ("resource", "owner", "path"),
    [("function", "f1", "/functions/f1/variables"), ("project", "", "/project/variables")],
)
async def test_a_thousand_variables_and_no_more(
    app: Whole, client: httpx.AsyncClient, resource: str, owner: str, path: str
) -> None:
    async with app.store.begin(PROJECT_ID) as unit:
        for number in range(998):
            one = Variable(f"n{number}", PROJECT_ID, resource, owner, NOW, NOW, f"KEY_{number}", "v", False)
            await unit.variables.insert(one)
    last = await client.post(path, json={"variableId": "last", "key": "LAST", "value": "v"})
    before = await everything(client)
    refused = await client.post(path, json={"variableId": "more", "key": "MORE", "value": "v"})
    assert (last.status_code, refused.status_code) == (201, 400)
    assert "1000 variables" in refused.json()["message"]
    assert await everything(client) == before
    assert (await client.delete(f"{path}/last")).status_code == 204
    assert (await client.post(path, json={"variableId": "more", "key": "MORE", "value": "v"})).status_code == 201


@pytest.mark.parametrize(
    ("parameter", "least", "most"), [("entrypoint", 1, 1_028), ("commands", 0, 8_192)], ids=["entrypoint", "commands"]
)
async def test_fields_of_an_upload_are_bounded(
    client: httpx.AsyncClient, parameter: str, least: int, most: int
) -> None:
    async def send(value: str) -> httpx.Response:
        fields = {"activate": "false", parameter: value}
        return await client.post("/functions/f1/deployments", data=fields, files={"code": ("code.tar.gz", ARCHIVE)})

    before = await everything(client)
    for value in ["x" * (most + 1), *([""] if least else [])]:
        refused = await send(value)
        assert (refused.status_code, refused.json()["type"]) == (400, "general_argument_invalid")
        assert refused.json()["message"].startswith(f"Invalid `{parameter}` param: ")
        assert str(most) in refused.json()["message"]
    assert await everything(client) == before
    assert (await send("x" * most)).status_code == 202


async def test_an_archive_has_30_million_bytes_at_most(client: httpx.AsyncClient) -> None:
    """Refused at the first chunk, by the size it announces; what fits is begun."""
    before = await everything(client)
    chunk = bytes(5_242_880)
    refused = await upload(client, chunk, content_range="bytes 0-5242879/30000001")
    assert (refused.status_code, refused.json()["type"]) == (400, "deployment_invalid_file_size")
    assert "30000000 bytes" in refused.json()["message"]
    assert await everything(client) == before
    begun = await upload(client, chunk, content_range="bytes 0-5242879/30000000")
    assert (begun.status_code, begun.json()["chunksTotal"]) == (202, 6), "chunks of 5242880 bytes"


async def test_an_archive_in_one_piece_is_measured_as_it_comes(client: httpx.AsyncClient) -> None:
    before = await everything(client)
    refused = await upload(client, bytes(30_000_001))
    assert (refused.status_code, refused.json()["type"]) == (400, "deployment_invalid_file_size")
    assert "30000000 bytes" in refused.json()["message"]
    assert await everything(client) == before


async def test_creations_of_functions_are_counted_for_keys_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.api.whole.ApiSettings", lambda: ApiSettings(function_creations_per_day=50))
    async with whole(tmp_path) as app, app.client() as client:
        for number in range(50):
            assert (await client.post("/functions", json=MADE | {"functionId": f"g{number}"})).status_code == 201
        refused = await client.post("/functions", json=MADE)
        assert (refused.status_code, refused.json()["type"]) == (429, "general_rate_limit_exceeded")
        assert "50 calls" in refused.json()["message"]
        assert (await client.get("/functions")).json()["total"] == 50
