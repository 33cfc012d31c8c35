"""Stored requests and responses, and replays, over the real control and store, as a client sees them."""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.model.running import Outcome, Result
from tests.api.test_error_table import Stage
from tests.api.test_openapi import schema_errors
from tests.api.whole import whole

pytestmark = pytest.mark.anyio

EXECUTIONS = "/functions/f/executions"
BINARY = b"\xff\x00 is no text"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with whole(tmp_path) as app, app.client() as client:
        made = Stage(app, client)
        await made.prepare()
        await made.build()
        assert (await set_up(made, storeBodies=True)).status_code == 200
        yield made


async def set_up(stage: Stage, **settings: Any) -> httpx.Response:
    return await stage.client.patch("/functions/f/settings", json=settings)


async def execute(stage: Stage, result: Result | None = None, **request: Any) -> str:
    if result is not None:
        stage.app.executor.result = result
    answer = await stage.client.post(
        EXECUTIONS, json={"body": "hi", **request}, headers={"accept": "multipart/form-data"}
    )
    assert answer.status_code == 201
    return stage.app.executor.invocations[-1].execution_id


def answering(body: bytes, **fields: Any) -> Result:
    return Result(Outcome.COMPLETED, 200, (("content-type", "text/plain"), ("x-own", "1")), body, **fields)


def described(model: str, document: Any) -> Any:
    assert schema_errors({"$ref": f"#/components/schemas/{model}"}, document) == []
    return document


async def get(stage: Stage, path: str, **headers: str) -> httpx.Response:
    return await stage.client.get(f"{EXECUTIONS}/{path}", headers=headers)


async def test_a_stored_request_and_response_are_shown_whole(stage: Stage) -> None:
    id = await execute(stage, answering(b"done"), path="/p?q", method="PATCH", headers={"X-Own": "a"})
    request = described("executionRequest", (await get(stage, f"{id}/request")).json())
    assert (request["method"], request["path"], request["body"]) == ("PATCH", "/p?q", "hi")
    assert {"name": "x-own", "value": "a"} in request["headers"]
    response = described("executionResponse", (await get(stage, f"{id}/response")).json())
    assert (response["statusCode"], response["body"], response["bodyEncoding"]) == (200, "done", "utf-8")
    assert {"name": "x-own", "value": "1"} in response["headers"]
    assert (response["bodySize"], response["bodyDigest"]) == (4, hashlib.sha256(b"done").hexdigest())


async def test_the_bytes_alone_come_as_a_file_that_no_browser_acts_on(stage: Stage) -> None:
    id = await execute(stage, answering(BINARY))
    document = (await get(stage, f"{id}/response")).json()
    assert (base64.b64decode(document["body"]), document["bodyEncoding"]) == (BINARY, "base64")
    answer = await get(stage, f"{id}/response", accept="application/octet-stream")
    assert answer.content == BINARY
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-hearth-body-truncated"] == "false"
    assert (await get(stage, f"{id}/request", accept="application/octet-stream")).content == b"hi"


async def test_get_execution_shows_the_result_that_is_stored_or_says_why_not(stage: Stage) -> None:
    text = await execute(stage, answering(b"the result"))
    answer = await get(stage, text)
    assert answer.json()["responseBody"] == "the result"
    assert "x-hearth-response-body" not in answer.headers
    binary = await execute(stage, answering(BINARY))
    answer = await get(stage, binary)
    assert (answer.json()["responseBody"], answer.headers["x-hearth-response-body"]) == ("", "binary")
    answer = await get(stage, binary, accept="multipart/form-data")
    assert BINARY in answer.content
    await set_up(stage, bodiesMaxBytes=3)
    long = await execute(stage, answering(b"1234"))
    answer = await get(stage, long)
    assert (answer.json()["responseBody"], answer.headers["x-hearth-response-body"]) == ("", "truncated")
    document = (await get(stage, f"{long}/response")).json()
    assert (document["body"], document["bodySize"], document["bodyTruncated"]) == ("123", 4, True)
    listed = (await stage.client.get(EXECUTIONS)).json()["executions"]
    assert {one["responseBody"] for one in listed} == {""}, "lists stay short"


async def test_a_replay_answers_with_what_differs(stage: Stage) -> None:
    id = await execute(stage, answering(b'{"a":1,"b":2}', logs="same\n"))
    stage.app.executor.result = answering(b'{"a":1,"b":3}', logs="same\n")
    answer = await stage.client.post(f"{EXECUTIONS}/{id}/replay")
    assert answer.status_code == 201
    done = described("executionReplay", answer.json())
    assert (done["replayOf"], done["status"], done["deploymentId"]) == (id, "completed", done["originalDeploymentId"])
    comparison = done["comparison"]
    assert (comparison["equal"], comparison["headers"], comparison["logs"]) == (False, [], {"equal": True, "diff": ""})
    assert comparison["body"]["kind"] == "text"
    assert comparison["body"]["diff"].splitlines()[-3:] == ['-  "b": 2', '+  "b": 3', " }"]
    record = (await get(stage, done["executionId"])).json()
    assert {"name": "x-hearth-replay-of", "value": id} in record["requestHeaders"]
    stage.app.executor.result = answering(b"\xff", logs="same\n")
    body = (await stage.client.post(f"{EXECUTIONS}/{id}/replay", json={"deploymentId": None})).json()["comparison"][
        "body"
    ]
    assert (body["kind"], body["diff"], body["after"]["size"]) == ("binary", "", 1)
    assert body["after"]["digest"] == hashlib.sha256(b"\xff").hexdigest()


async def test_a_replay_in_the_background_is_accepted(stage: Stage) -> None:
    id = await execute(stage, answering(b"a"))
    answer = await stage.client.post(f"{EXECUTIONS}/{id}/replay", json={"async": True})
    assert answer.status_code == 202
    done = described("executionReplay", answer.json())
    assert (done["status"], done["comparison"]) == ("waiting", None)


async def test_what_is_not_stored_is_refused_with_the_reason(stage: Stage) -> None:
    await set_up(stage, storeBodies=False)
    id = await execute(stage, answering(b"a"))
    for path in ("request", "response"):
        refused = await get(stage, f"{id}/{path}")
        assert (refused.status_code, refused.json()["type"]) == (404, "execution_body_not_found")
    assert (await stage.client.post(f"{EXECUTIONS}/{id}/replay")).json()["type"] == "execution_body_not_found"
    assert (await get(stage, id)).json()["responseBody"] == ""
    await set_up(stage, storeBodies=True, bodiesMaxBytes=1)
    id = await execute(stage, answering(b"a"))
    refused = await stage.client.post(f"{EXECUTIONS}/{id}/replay")
    assert (refused.status_code, refused.json()["type"]) == (409, "execution_body_truncated")
    assert "bodiesMaxBytes" in refused.json()["message"]
