"""The server killed with a full queue: what ran is failed with a reason, what waited runs, nothing runs twice."""

import concurrent.futures
import json
from typing import Any

import httpx
import pytest

from tests.support.api import create_function, deploy, ok
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

COUNT, PLACES = 1_000, 4
ENDED_WAIT_S = 120.0
SOURCE = """
import time
def main(context):
    context.log('began')
    if context.req.path == '/hold':
        time.sleep(55)
    return context.res.text('done')
"""
KEY = {"idempotency-key": "over-a-kill"}
PATH = "/functions/f/executions"


def all_of(client: httpx.Client) -> list[dict[str, Any]]:
    """Every execution of the function."""
    found: list[dict[str, Any]] = []
    while True:
        queries = ['{"method":"limit","values":[500]}']
        if found:
            queries.append(json.dumps({"method": "cursorAfter", "values": [found[-1]["$id"]]}))
        page = ok(client.get(PATH, params={"queries[]": queries}))["executions"]
        found += page
        if len(page) < 500:
            return found


def test_a_thousand_that_wait_outlive_a_kill() -> None:
    settings = {"HEARTH_ASYNC_CONCURRENCY": str(PLACES)}
    with running_server(settings) as server:
        with server.client() as client:
            create_function(client, "f", runtime_of("python"), entrypoint="main.py", timeout=60)
            assert deploy(client, "f", {"main.py": SOURCE})["status"] == "ready"
            keyed = client.post(PATH, json={}, headers=KEY)
            assert ok(keyed)["responseBody"] == "done"
            held = {ok(client.post(PATH, json={"async": True, "path": "/hold"}))["$id"] for _ in range(PLACES)}
            wait_for(lambda: count(client, "processing") == PLACES, ENDED_WAIT_S, "every place to be taken")
            waiting = submit(server)
            assert (len(waiting), count(client, "waiting")) == (COUNT, COUNT)
        server.kill()
        server.start()
        with server.client() as client:
            again = client.post(PATH, json={}, headers=KEY)
            assert (again.status_code, again.content) == (keyed.status_code, keyed.content), "done once, over a kill"
            wait_for(lambda: not count(client, "waiting", "processing"), ENDED_WAIT_S, "every execution to end")
            executions = {one["$id"]: one for one in all_of(client)}
            assert set(executions) == waiting | held | {ok(keyed)["$id"]}
            for id in waiting:
                assert (executions[id]["status"], executions[id]["logs"]) == ("completed", "began\n")
            for id in held:
                assert executions[id]["status"] == "failed"
                assert "stopped" in executions[id]["errors"]
            letters = ok(client.get("/functions/f/deadletters"))["deadLetters"]
            assert {letter["$id"] for letter in letters} == held, "each of them can be run again"
        server.assert_nothing_left()


def submit(server: Server) -> set[str]:
    """Queue COUNT executions over several connections."""

    def some(count: int) -> list[str]:
        with server.client() as own:
            return [ok(own.post(PATH, json={"async": True}))["$id"] for _ in range(count)]

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        return {id for ids in threads.map(some, [COUNT // 4] * 4) for id in ids}


def count(client: httpx.Client, *statuses: str) -> int:
    """How many executions have one of these statuses."""
    query = json.dumps({"method": "equal", "attribute": "status", "values": statuses})
    return int(ok(client.get(PATH, params={"queries[]": query}))["total"])
