"""Stem cells in an executor: they hold nothing, serve once, and whatever happens to one is no request's trouble."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hearth.executor.sandbox.spec import SandboxFailed
from hearth.executor.stem_keeper import StemKeeper
from hearth.model.running import InstanceTemplate, Outcome
from tests.executor.bad_actors import BAD_PACKS
from tests.executor.conftest import LIMITS, STEMS
from tests.support.drivers import DRIVERS, make_driver
from tests.support.executors import Bench, FakePacks, open_bench
from tests.support.process_driver import ProcessDriver, ProcessSandbox

pytestmark = pytest.mark.anyio

WITH_STEMS = replace(LIMITS, stems=STEMS)
SECRET = "hunter2-is-a-secret"
WHO = {
    "main.py": "import os\ndef main(context):\n    names = sorted(os.listdir('/usr/local/server/src/function'))\n"
    "    return context.res.json([os.getpid(), names, os.environ['S']])\n"
}
NODE_WHO = {
    "main.js": "module.exports = ({ res }) => res.json([process.pid, "
    "require('fs').readdirSync('/usr/local/server/src/function').sort(), process.env.S]);"
}


def keeper(bench: Bench) -> StemKeeper:
    return bench.executor._stems


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait, bounded, until `condition` holds."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{what} never came")


@pytest.fixture(name="stems", scope="module", params=DRIVERS)
async def stem_bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("stems")
    async with open_bench(make_driver(request.param, folder), folder, WITH_STEMS, FakePacks(*BAD_PACKS)) as opened:
        yield opened


def deploy(bench: Bench, runtime: str, **changes: Any) -> InstanceTemplate:
    files = {**(NODE_WHO if runtime.startswith("node") else WHO), f"own-{bench.deployments}.txt": "x"}
    return bench.deploy(runtime, next(iter(files)), files, {"S": SECRET}, **changes)


@pytest.mark.parametrize("runtime", ["python-3.11", "node-20"])
async def test_every_function_gets_a_stem_of_its_own_with_its_own_code(stems: Bench, runtime: str) -> None:
    """Case S6: assigned once, never to a second function or version."""
    processes, taken = set(), keeper(stems).taken
    for number in range(4):
        template = deploy(stems, runtime)
        await stems.executor.prepare(template)
        pid, names, secret = await answer(stems, template)
        assert names == sorted([template.entrypoint, f"own-{stems.deployments - 1}.txt"])
        assert secret == SECRET
        processes.add(pid if pid != 1 else f"{pid}-{number}")
        assert keeper(stems).taken == taken + number + 1
    assert len(processes) == 4


async def answer(bench: Bench, template: InstanceTemplate) -> Any:
    result = await bench.run(template)
    assert result.outcome is Outcome.COMPLETED, result.errors
    assert result.cold
    return json.loads(result.body)


async def test_the_memory_of_the_deployment_counts_not_that_of_the_stem(stems: Bench) -> None:
    code = {"main.py": "def main(context):\n    return [b'x' * (1 << 20) for _ in range(400)]\n"}
    await stems.executor.prepare(deploy(stems, "python-3.11", memory_mb=512))
    result = await stems.run(stems.deploy("python-3.11", "main.py", code, memory_mb=64))
    if isinstance(stems.driver, ProcessDriver):
        retuned = {limits.memory_bytes for box in stems.driver.sandboxes for limits in box.limits}
        assert 64 << 20 in retuned
    else:
        assert (result.outcome, result.errors.splitlines()[0]) == (
            Outcome.OUT_OF_MEMORY,
            "The function used more memory than its limit of 64 MB.",
        )


async def test_a_stem_that_died_is_replaced_and_no_request_notices(tmp_path: Path) -> None:
    driver = ProcessDriver()
    async with open_bench(driver, tmp_path, WITH_STEMS) as bench:
        template = deploy(bench, "python-3.11")
        await bench.executor.prepare(template)
        # Waited for here, so that it has ended before this event loop has been told of it.
        pid = driver.sandboxes[-1].pid
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the event loop is not to notice
        await answer(bench, template)
        for _ in range(3):
            another = deploy(bench, "python-3.11")
            await bench.executor.prepare(another)
            await answer(bench, another)


async def test_a_stem_that_cannot_be_given_its_code_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise SandboxFailed("mount: no")

    driver = ProcessDriver()
    async with open_bench(driver, tmp_path, WITH_STEMS) as bench:
        template = deploy(bench, "python-3.11")
        await bench.executor.prepare(template)
        stem = driver.sandboxes[-1]
        monkeypatch.setattr(ProcessSandbox, "mount", refuse)
        _, names, _ = await answer(bench, template)
        assert names
        assert (await stem.wait()).signal == 9, "half a stem is no good for anyone else"


async def test_a_start_given_up_while_the_code_is_mounted_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def hang(*_: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    driver = ProcessDriver()
    async with open_bench(driver, tmp_path, WITH_STEMS) as bench:
        template = deploy(bench, "python-3.11")
        await bench.executor.prepare(template)
        monkeypatch.setattr(ProcessSandbox, "mount", hang)
        running = asyncio.create_task(bench.run(template))
        await reached.wait()
        await bench.executor.close(0.0)
        await asyncio.gather(running, return_exceptions=True)
    assert all(box.pid not in live_pids() for box in driver.sandboxes)


def live_pids() -> set[int]:
    return {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}


async def test_a_stop_ends_ready_and_starting_stems(tmp_path: Path) -> None:
    driver = ProcessDriver()
    async with open_bench(driver, tmp_path, replace(WITH_STEMS, stems=replace(STEMS, per_kind=2))) as bench:
        await bench.executor.prepare(deploy(bench, "python-3.11"))
        assert "starting 1" in repr(keeper(bench)), "the second one is on its way"
        await bench.executor.close(0.0)
        assert repr(keeper(bench).plan).startswith("<Stems (closed): none")
    assert all(box.pid not in live_pids() for box in driver.sandboxes)


async def test_a_stop_right_after_a_start_was_decided_ends_that_stem_too(tmp_path: Path) -> None:
    async with open_bench(ProcessDriver(), tmp_path, WITH_STEMS) as bench:
        template = deploy(bench, "python-3.11")
        warming = asyncio.create_task(keeper(bench).warm(template))
        await asyncio.sleep(0)  # the start is decided, and its task has not run yet
        assert "starting 1" in repr(keeper(bench))
        await keeper(bench).close()
        await warming
        assert repr(keeper(bench).plan).startswith("<Stems (closed): none")


async def test_a_new_server_has_stems_of_the_runtimes_used_before(tmp_path: Path) -> None:
    async with open_bench(ProcessDriver(), tmp_path, WITH_STEMS) as bench:
        await bench.executor.prepare(deploy(bench, "python-3.11"))
        await bench.executor.prepare(deploy(bench, "node-20"))
    async with open_bench(ProcessDriver(), tmp_path, WITH_STEMS) as bench:
        await until(lambda: "ready 2" in repr(keeper(bench)), "two stems")
        assert {stem.kind.runtime for stem in keeper(bench).plan.stems} == {"python-3.11", "node-20"}


@pytest.mark.parametrize("text", ["", "{", "[1]", '[["python-3.11"]]', "[[[], 1]]", '[["no-such-runtime", 0]]', "7"])
async def test_a_spoilt_note_of_used_runtimes_only_costs_time(tmp_path: Path, text: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "stems.json").write_text(text)
    async with open_bench(ProcessDriver(), tmp_path, WITH_STEMS) as bench:
        assert keeper(bench).plan.stems == ()


async def test_without_stems_nothing_is_started_ahead(tmp_path: Path) -> None:
    driver = ProcessDriver()
    async with open_bench(driver, tmp_path, LIMITS) as bench:
        template = deploy(bench, "python-3.11")
        await bench.executor.prepare(template)
        await answer(bench, template)
        assert [spec.id.partition("-")[0] for spec in driver.started] == ["extract", "run"]


async def test_a_module_of_the_user_comes_before_one_imported_ahead(stems: Bench) -> None:
    """Whether a stem was there must not decide which `logging` a function gets."""
    files = {
        "main.py": "import logging\ndef main(context):\n    return context.res.text(logging.MINE)\n",
        "logging.py": "MINE = 'mine'\n",
    }
    template = stems.deploy("python-3.11", "main.py", files)
    await stems.executor.prepare(template)
    assert (await stems.run(template)).body == b"mine"


@pytest.mark.slow
async def test_a_burst_of_functions_that_never_ran_only_waits(stems: Bench) -> None:
    limits = keeper(stems).plan.limits
    templates = [deploy(stems, ("python-3.11", "node-20")[number % 2]) for number in range(20)]
    results = await asyncio.gather(*(stems.run(template) for template in templates))
    assert {result.outcome for result in results} == {Outcome.COMPLETED}
    assert len(keeper(stems).plan.stems) <= limits.max_stems


@pytest.mark.slow
async def test_no_descriptor_is_left_by_stems_that_came_and_went(tmp_path: Path) -> None:
    async with open_bench(ProcessDriver(), tmp_path, WITH_STEMS, FakePacks(*BAD_PACKS)) as bench:
        for round in range(4):
            for name in ("dies-at-once", "dies-while-loading", "junk", "dies-while-busy"):
                template = bench.deploy(f"bad-{name}", "x", WHO)
                await asyncio.gather(bench.run(template), return_exceptions=True)
            await bench.executor.prepare(deploy(bench, "python-3.11"))
            await answer(bench, deploy(bench, "python-3.11"))
            for member in bench.executor._instances.pool.members:
                await bench.executor.retire(member.template.key.deployment_id)
            await until(
                lambda: "no instance" in repr(bench.executor) and "starting" not in repr(keeper(bench)), "a quiet end"
            )
            open_now = len(list(Path("/proc/self/fd").iterdir())) - 3 * len(keeper(bench).plan.stems)
            if round == 0:
                first = open_now
        assert open_now <= first
