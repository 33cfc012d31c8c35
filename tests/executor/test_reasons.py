"""Whatever ends a run in a real sandbox, its result says which limit or signal it was, and what was output last."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hearth.executor.sandbox.ns import NsDriver
from hearth.model.running import Outcome, Result
from tests.executor.conftest import LIMITS
from tests.support.drivers import make_driver
from tests.support.ends import CODE, reasons
from tests.support.executors import Bench, open_bench

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.sandbox]

WAIT_S = 20.0
OUTCOMES = {
    "exit": Outcome.CRASHED,
    "signal": Outcome.CRASHED,
    "memory": Outcome.OUT_OF_MEMORY,
    "timeout": Outcome.TIMED_OUT,
    "disk": Outcome.COMPLETED,
    "disk-caught": Outcome.CRASHED,
    "threads": Outcome.COMPLETED,
    "processes": Outcome.CRASHED,
    "raise": Outcome.COMPLETED,
}
#: Little for the one that is to exceed it: what fills /tmp and what many processes hold counts as memory too.
REASONS = reasons(memory_mb=96)
LOST = "The instance was lost while the function was running.\n"


@pytest.fixture(name="ns", scope="module")
async def ns_bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("reasons")
    async with open_bench(make_driver("ns", folder), folder, LIMITS) as opened:
        yield opened


def check(action: str, result: Result, outcome: Outcome, reason: str) -> None:
    assert (result.outcome, result.status_code, result.body) == (outcome, 500, b"")
    assert reason in result.errors
    assert [each for each, text in REASONS.items() if text in result.errors] == [action] * (reason != LOST)
    assert f"last words of {action}\n" in result.logs


def logged(bench: Bench) -> bool:
    """Whether a run has said its last words."""
    calls = [call for instance in bench.executor._instances._by_id.values() for call in instance.calls]
    return any(call.logs is not None and "last words" in call.logs.text("Logs") for call in calls)


@pytest.mark.parametrize("action", list(OUTCOMES))
async def test_every_end_of_a_run_has_a_reason_of_its_own_and_its_last_output(ns: Bench, action: str) -> None:
    template = ns.deploy("python-3.11", "main.py", {"main.py": CODE}, memory_mb=96 if action == "memory" else 512)
    result = await ns.run(template, action, timeout_s=0.5 if action == "timeout" else 60.0)
    check(action, result, OUTCOMES[action], REASONS[action])


async def test_a_run_whose_sandbox_is_lost_says_so_and_what_was_output_last(tmp_path: Path) -> None:
    """As when the spawner is killed: nobody can tell how the process ended, and the server is told to end."""
    why: list[str] = []
    driver = make_driver("ns", tmp_path)
    assert isinstance(driver, NsDriver)
    driver._on_lost = why.append
    async with open_bench(driver, tmp_path, LIMITS) as bench:
        template = bench.deploy("python-3.11", "main.py", {"main.py": CODE})
        run = asyncio.create_task(bench.run(template, "timeout", timeout_s=60.0))
        async with asyncio.timeout(WAIT_S):
            while not logged(bench):  # noqa: ASYNC110 - nobody is told of the log here
                await asyncio.sleep(0.01)
        os.kill(driver._spawner.process.pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT_S):
            check("timeout", await run, Outcome.CRASHED, LOST)
        assert why == ["the spawner ended"]
