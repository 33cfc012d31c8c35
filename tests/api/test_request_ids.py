"""Every answer names its request, and so does every line of the log about it."""

import pytest
import structlog
from structlog.testing import capture_logs

from hearth.api.errors import REQUEST_ID_HEADER
from hearth.model.refusals import Unavailable
from tests.api.support import World

pytestmark = pytest.mark.anyio


async def test_a_request_is_answered_under_the_id_it_came_with_or_gets_one() -> None:
    async with World().client() as client:
        given = await client.get("/v1/functions/f1", headers={"x-request-id": "from-the-proxy:7"})
        assert given.headers["x-request-id"] == "from-the-proxy:7"
        unfit = await client.get("/v1/functions/f1", headers={"x-request-id": "a b"})
        none = await client.get("/v1/nothing")
    assert none.status_code == 404
    ids = {unfit.headers["x-request-id"], none.headers["x-request-id"]}
    assert len(ids) == 2
    assert "a b" not in ids


async def test_what_goes_wrong_is_logged_under_the_ids_of_the_request() -> None:
    world = World()
    world.executions.results["get"] = Unavailable("no sandboxes")
    with capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        async with world.client() as client:
            answer = await client.get("/v1/functions/f1/executions/e1")
    assert answer.status_code == 503
    [line] = [line for line in lines if line["log_level"] == "error"]
    assert line["request_id"] == answer.headers["x-request-id"] == answer.headers[REQUEST_ID_HEADER]
    assert (line["project_id"], line["function_id"], line["execution_id"]) == ("p1", "f1", "e1")
