"""Short words for what a test asks of the API by plain HTTP, where no SDK is the point."""

from typing import Any

import httpx

from tests.support.archives import archive
from tests.support.server import wait_for

BUILD_WAIT_S = 300.0
FINAL = ("ready", "failed", "canceled")


def create_function(client: httpx.Client, id: str, runtime: str, **settings: Any) -> dict[str, Any]:
    """Create a function and return it; AssertionError with the server's words if it is refused."""
    return ok(client.post("/functions", json={"functionId": id, "name": id, "runtime": runtime, **settings}))


def upload(client: httpx.Client, id: str, code: bytes, **fields: str) -> httpx.Response:
    """Upload a source as one request, activated when built; the answer as it came."""
    return client.post(
        f"/functions/{id}/deployments",
        data={"activate": "true", **fields},
        files={"code": ("code.tar.gz", code, "application/gzip")},
    )


def deploy(client: httpx.Client, id: str, files: dict[str, str | bytes], **fields: str) -> dict[str, Any]:
    """Upload files, wait for the end of the build, and return the deployment, ready or not."""
    deployment = ok(upload(client, id, archive(files), **fields))
    return built(client, id, deployment["$id"])


def built(client: httpx.Client, id: str, deployment_id: str) -> dict[str, Any]:
    """Wait until a deployment's status is final and return it."""
    path = f"/functions/{id}/deployments/{deployment_id}"
    wait_for(lambda: ok(client.get(path))["status"] in FINAL, BUILD_WAIT_S, f"the build of {deployment_id}")
    return ok(client.get(path))


def execute(client: httpx.Client, id: str, **request: Any) -> dict[str, Any]:
    """Run a function and return the execution."""
    return ok(client.post(f"/functions/{id}/executions", json=request))


def ok(answer: httpx.Response) -> dict[str, Any]:
    """The JSON object of a good answer."""
    assert answer.status_code < 300, f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    document = answer.json()
    assert isinstance(document, dict)
    return document
