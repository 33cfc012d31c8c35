"""Kill -9 of the server while it builds and while it executes: nothing stays undecided, nothing is left behind."""

import concurrent.futures
import contextlib

import httpx
import pytest

from tests.support.api import built, create_function, deploy, execute, ok, upload
from tests.support.archives import archive
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

STEP_WAIT_S = 30.0
ENDED_WAIT_S = 60.0

# A process with a name of its own, so that the test can see from outside that user code is running.
SLEEPER = """
import subprocess
def main(context):
    if context.req.path == '/sleep':
        subprocess.run(['sleep', '47.11'])
    return context.res.text('fine')
"""


@pytest.fixture
def python() -> str:
    """A Python runtime that runs here."""
    return runtime_of("python")


def runs(server: Server, command: str) -> bool:
    """Whether a process with this text in its command runs somewhere below the server."""
    return any(command in process.command for process in server.note_footprint().processes)


def test_a_build_is_retried_or_failed_with_a_reason_after_a_kill(python: str) -> None:
    with running_server() as server:
        with server.client() as client:
            create_function(
                client, "built", python, entrypoint="main.py", commands="sleep 4.25 && echo built-after-all"
            )
            deployment = ok(upload(client, "built", archive({"main.py": SLEEPER})))
            wait_for(lambda: runs(server, "sleep 4.25"), STEP_WAIT_S, "the build's command to run")
            server.kill()
            server.start()
            after = built(client, "built", deployment["$id"])
            if after["status"] == "ready":
                assert "built-after-all" in after["buildLogs"]
                assert execute(client, "built")["responseBody"] == "fine"
            else:
                assert after["status"] == "failed"
                assert after["buildLogs"].strip(), "a failed build says why"
        server.assert_nothing_left()


def test_executions_are_failed_with_a_reason_after_a_kill(python: str) -> None:
    """Sync and async: what was running when the server died is failed at the next start, and never run again."""
    with running_server() as server, server.client() as client, concurrent.futures.ThreadPoolExecutor() as threads:
        create_function(client, "sleeper", python, entrypoint="main.py", timeout=60)
        assert deploy(client, "sleeper", {"main.py": SLEEPER})["status"] == "ready"
        before = execute(client, "sleeper")

        def call() -> None:
            with server.client() as other, contextlib.suppress(httpx.TransportError):
                other.post("/functions/sleeper/executions", json={"path": "/sleep"})

        waiting = threads.submit(call)
        wait_for(lambda: runs(server, "sleep 47.11"), STEP_WAIT_S, "the sync execution to run")
        started = execute(client, "sleeper", **{"async": True, "path": "/sleep"})
        wait_for(lambda: sleepers(server) >= 2, STEP_WAIT_S, "the async execution to run")
        server.kill()
        waiting.result(STEP_WAIT_S)
        server.start()

        path = "/functions/sleeper/executions"
        wait_for(
            lambda: all(e["status"] in ("completed", "failed") for e in ok(client.get(path))["executions"]),
            ENDED_WAIT_S,
            "every execution to be decided",
        )
        executions = {e["$id"]: e for e in ok(client.get(path))["executions"]}
        assert executions.pop(before["$id"])["status"] == "completed", "what was recorded stays"
        assert started["$id"] in executions
        assert len(executions) == 2, "the sync execution is on record too"
        for execution in executions.values():
            assert execution["status"] == "failed"
            assert execution["errors"].strip(), "a failed execution says why"
        assert sleepers(server) == 0, "user code of an execution runs at most once"
        assert execute(client, "sleeper")["responseBody"] == "fine"
        server.assert_nothing_left()


def sleepers(server: Server) -> int:
    """How many of the sleeper's child processes run below the server."""
    return sum("sleep 47.11" in process.command for process in server.note_footprint().processes)


def test_a_running_execution_ends_before_an_orderly_stop(python: str) -> None:
    source = """
import subprocess
def main(context):
    subprocess.run(['sleep', '1.75'])
    return context.res.text('done')
"""
    with running_server() as server, server.client() as client, concurrent.futures.ThreadPoolExecutor() as threads:
        create_function(client, "patient", python, entrypoint="main.py")
        deploy(client, "patient", {"main.py": source})
        answer = threads.submit(execute, client, "patient")
        wait_for(lambda: runs(server, "sleep 1.75"), STEP_WAIT_S, "the execution to run")
        assert server.stop() == 0
        assert answer.result(STEP_WAIT_S)["responseBody"] == "done"
        server.assert_nothing_left()


def test_a_second_start_keeps_functions_keys_and_executions(python: str) -> None:
    with running_server() as server, server.client() as client:
        create_function(client, "kept", python, entrypoint="main.py")
        deploy(client, "kept", {"main.py": SLEEPER})
        execution = execute(client, "kept")
        owner = server.credentials
        assert server.stop() == 0
        server.start()
        assert server.credentials == owner
        assert ok(client.get(f"/functions/kept/executions/{execution['$id']}"))["status"] == "completed"
        assert execute(client, "kept")["responseBody"] == "fine"
