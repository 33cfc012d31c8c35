"""Template and VCS deployments over HTTP: both request shapes, what is refused, what is answered."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.whole import Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TEMPLATE: dict[str, Any] = {
    "repository": "templates",
    "owner": "appwrite",
    "rootDirectory": "node/starter",
    "type": "tag",
    "reference": "0.3.*",
}
WITHOUT_TYPE = {key: value for key, value in TEMPLATE.items() if key not in ("type", "reference")}
FUNCTION = {"functionId": "f1", "name": "n", "runtime": "python-3.12", "entrypoint": "main.py", "commands": "true"}


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as composed:
        yield composed


@pytest.fixture
async def client(app: Whole) -> AsyncIterator[httpx.AsyncClient]:
    async with app.client() as opened:
        assert (await opened.post("/functions", json=FUNCTION)).status_code == 201
        yield opened


async def template(client: httpx.AsyncClient, body: dict[str, Any], format: str = "") -> httpx.Response:
    headers = {"x-appwrite-response-format": format} if format else {}
    return await client.post("/functions/f1/deployments/template", json=body, headers=headers)


async def test_a_template_is_answered_with_the_waiting_deployment(client: httpx.AsyncClient) -> None:
    answer = await template(client, TEMPLATE)
    assert answer.status_code == 202, answer.text
    seen = answer.json()
    assert (seen["status"], seen["type"], seen["activate"]) == ("waiting", "vcs", False)
    assert (seen["entrypoint"], seen["sourceSize"]) == ("main.py", 0)
    assert (seen["providerRepositoryOwner"], seen["providerRepositoryName"]) == ("appwrite", "templates")
    assert seen["providerRepositoryUrl"] == "https://git.test/appwrite/templates"
    assert seen["providerBranch"] == "0.3.*"
    function = (await client.get("/functions/f1")).json()
    assert function["latestDeploymentId"] == seen["$id"]
    assert (await template(client, {**TEMPLATE, "activate": True})).json()["activate"] is True


@pytest.mark.parametrize("format", ["1.6.0", "1.8.0", ""])
async def test_a_version_is_a_tag_for_clients_that_know_no_type(
    app: Whole, client: httpx.AsyncClient, format: str
) -> None:
    """Formats below 1.9.0, and by hand: the two shapes cannot be confused."""
    answer = await template(client, {**WITHOUT_TYPE, "version": "0.3.*"}, format)
    assert answer.status_code == 202, answer.text
    async with app.store.view("default") as unit:
        deployment = await unit.deployments.get("f1", answer.json()["$id"])
    assert deployment is not None
    assert deployment.git_source is not None
    assert (deployment.git_source.kind, deployment.git_source.reference) == ("tag", "0.3.*")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (WITHOUT_TYPE, 'Param "type" is not optional.'),
        ({**TEMPLATE, "type": "release"}, "Invalid `type` param: Value must be one of (commit, branch, tag)"),
        ({**TEMPLATE, "owner": "../etc"}, "Invalid `owner` param"),
        ({**TEMPLATE, "owner": "a" * 129}, "Invalid `owner` param"),
        ({**TEMPLATE, "reference": "--upload-pack=x"}, "Invalid `reference` param"),
        ({**TEMPLATE, "rootDirectory": "../.."}, "Invalid `rootDirectory` param"),
    ],
)
async def test_what_is_wrong_is_named(client: httpx.AsyncClient, body: dict[str, Any], message: str) -> None:
    answer = await template(client, body)
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
    assert answer.json()["message"].startswith(message)


async def test_a_vcs_deployment_of_an_unconnected_function_says_that_it_is_not_connected(
    client: httpx.AsyncClient,
) -> None:
    body = {"type": "branch", "reference": "main"}
    answer = await client.post("/functions/f1/deployments/vcs", json=body)
    assert (answer.status_code, answer.json()["type"]) == (404, "installation_not_found")
    assert "not connected to a git repository" in answer.json()["message"]
    missing = await client.post("/functions/none/deployments/vcs", json=body)
    assert (missing.status_code, missing.json()["type"]) == (404, "function_not_found")
    tag = await client.post("/functions/f1/deployments/vcs", json={"type": "tag", "reference": "1"})
    assert (tag.status_code, tag.json()["type"]) == (400, "general_argument_invalid")


async def test_a_template_needs_the_scope_to_write(app: Whole) -> None:
    async with app.client(key="none") as stranger:
        answer = await stranger.post("/functions/f1/deployments/template", json=TEMPLATE)
    assert answer.status_code == 401
