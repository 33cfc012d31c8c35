"""What an execution used of the machine, as the executor tells it: on every driver, in every end."""

import asyncio

import pytest

from hearth.model.running import InstanceTemplate, Outcome, Result
from tests.support.executors import Bench
from tests.support.process_driver import ProcessDriver

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024

PYTHON = r"""
import os, subprocess, sys, time

def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

def main(context):
    action = context.req.headers["x-action"]
    if action == "burn":
        burn(0.2)
    elif action == "child":
        subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
    elif action == "fill":
        held = b"x" * (64 * 1024 * 1024)
    elif action == "burn and die":
        burn(0.2)
        os._exit(3)
    elif action == "burn for ever":
        burn(1000)
    return context.res.text("done")
"""
NODE = r"""
module.exports = async ({ req, res }) => {
  const used = () => { const { user, system } = process.cpuUsage(); return (user + system) / 1000; };
  const burn = (ms) => { const end = used() + ms; while (used() < end); };
  if (req.headers['x-action'] === 'burn') burn(200);
  else await new Promise((resolve) => setTimeout(resolve, 50));
  return res.text('done');
};
"""


@pytest.fixture(scope="module")
def python(bench: Bench) -> InstanceTemplate:
    return bench.deploy("python-3.11", "main.py", {"main.py": PYTHON})


def is_counted(bench: Bench, result: Result) -> bool:
    """Whether the driver can tell; one that cannot tells nothing rather than 0."""
    if isinstance(bench.driver, ProcessDriver):
        assert (result.cpu_s, result.peak_memory_bytes) == (None, None)
        return False
    return True


@pytest.mark.parametrize("action", ["burn", "child"])
async def test_cpu_time_is_that_of_the_execution_with_its_children(
    bench: Bench, python: InstanceTemplate, action: str
) -> None:
    used = await bench.run(python, action)
    idle = await bench.run(python)
    if is_counted(bench, used):
        assert used.cpu_s is not None
        assert idle.cpu_s is not None
        assert 0.15 < used.cpu_s < 2.0
        assert idle.cpu_s < used.cpu_s / 3


async def test_the_peak_of_memory_stays_with_the_instance(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", {"main.py": PYTHON})
    before = await bench.run(template)
    filled = await bench.run(template, "fill")
    after = await bench.run(template)
    if is_counted(bench, filled):
        assert before.peak_memory_bytes is not None
        assert filled.peak_memory_bytes is not None
        assert 0 < before.peak_memory_bytes < 60 * MIB
        assert 64 * MIB < filled.peak_memory_bytes < 200 * MIB
        assert after.peak_memory_bytes == filled.peak_memory_bytes


@pytest.mark.parametrize(
    ("action", "outcome"), [("burn and die", Outcome.CRASHED), ("burn for ever", Outcome.TIMED_OUT)]
)
async def test_what_ends_badly_has_figures_too(bench: Bench, action: str, outcome: Outcome) -> None:
    template = bench.deploy("python-3.11", "main.py", {"main.py": PYTHON})
    result = await bench.run(template, action, timeout_s=5.0 if outcome is Outcome.CRASHED else 0.5)
    assert result.outcome is outcome
    if is_counted(bench, result):
        assert result.cpu_s is not None
        assert result.peak_memory_bytes is not None
        # Until its time is out it gets what a busy machine gives it.
        assert result.cpu_s > (0.1 if outcome is Outcome.CRASHED else 0)
        assert result.peak_memory_bytes > MIB


async def test_those_that_run_at_once_share_what_their_instance_used(bench: Bench) -> None:
    template = bench.deploy("node-20", "index.js", {"index.js": NODE})
    await bench.run(template)
    results = await asyncio.gather(*(bench.run(template, "burn") for _ in range(2)), bench.run(template))
    if is_counted(bench, results[0]):
        assert 0.3 < sum(result.cpu_s or 0.0 for result in results) < 2.0
        assert all(result.cpu_s is not None for result in results)
