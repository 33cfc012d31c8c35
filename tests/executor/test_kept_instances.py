"""Instances that are kept ready (`minInstances`), on every driver, started whole and grown from stem cells."""

import asyncio
import os
import signal

import pytest

from hearth.executor.actions import State
from hearth.model.running import Outcome
from tests.support.executors import Bench

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

WAIT_S = 20.0
WHO = {"main.py": "import os\ndef main(context):\n    return context.res.text(str(os.getpid()))\n"}
BROKEN = {"main.py": "raise ValueError('does not load')\n"}


def ready(bench: Bench, deployment_id: str) -> int:
    """How many instances of a deployment could take a request now."""
    members = bench.executor._instances.pool.members
    return sum(
        member.state in (State.IDLE, State.PAUSED)
        for member in members
        if member.template.key.deployment_id == deployment_id
    )


async def until_ready(bench: Bench, deployment_id: str, count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while ready(bench, deployment_id) != count:  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0.01)


async def test_what_is_kept_ready_serves_at_once_and_is_replaced_when_it_ends(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", WHO)
    id = template.key.deployment_id
    bench.executor.keep(template, 2)
    await bench.executor.wait_kept(template)
    assert ready(bench, id) == 2
    result = await bench.run(template)
    assert (result.outcome, result.cold) == (Outcome.COMPLETED, False)
    await until_ready(bench, id, 2)
    instances = [each for each in bench.executor._instances._by_id.values() if each.member.template is template]
    pid = getattr(instances[0]._sandbox, "pid", 0)
    assert pid > 1
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(WAIT_S):
        while instances[0].member.state is not State.GONE:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
    await until_ready(bench, id, 2)
    bench.executor.keep_only(template.function_id, None)
    await bench.executor.retire(id)
    await until_ready(bench, id, 0)


async def test_the_new_ones_are_up_before_the_old_ones_go_and_no_request_is_lost(bench: Bench) -> None:
    """As at a deployment, while requests keep coming: first for the old one, then for the new one."""
    old, new = (bench.deploy("python-3.11", "main.py", WHO) for _ in range(2))
    for template in (old, new):  # before: a visit that waits for a stem cell would reach the old one after its end
        await bench.prepare(template)
    bench.executor.keep(old, 1)
    await bench.executor.wait_kept(old)
    current = [old]
    results = []

    async def visitor() -> None:
        for _ in range(20):
            results.append(await bench.run(current[0]))  # noqa: PERF401 - what comes before a failure is looked at too

    visits = asyncio.create_task(visitor())
    bench.executor.keep(new, 1)
    await bench.executor.wait_kept(new)
    current[0] = new
    bench.executor.keep_only(new.function_id, new.key)
    await bench.executor.retire(old.key.deployment_id)
    await visits
    after = await bench.run(new)
    assert {result.outcome for result in results} == {Outcome.COMPLETED}
    assert not any(result.cold for result in (*results, after))
    await bench.executor.retire(new.key.deployment_id)
    await until_ready(bench, new.key.deployment_id, 0)


async def test_code_that_does_not_load_ends_the_wait(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", BROKEN)
    bench.executor.keep(template, 1)
    async with asyncio.timeout(WAIT_S):
        await bench.executor.wait_kept(template)
    assert ready(bench, template.key.deployment_id) == 0
    bench.executor.keep_only(template.function_id, None)
