"""The executor's promises to its callers: waiting, limits, cancellation, retirement, closing."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.executor.limits import ExecutorLimits, PoolLimits
from hearth.model.refusals import Busy, Unavailable
from hearth.model.running import InstanceTemplate, Outcome, Result
from tests.executor.bad_actors import BAD_PACKS
from tests.executor.conftest import LIMITS
from tests.support.drivers import DRIVERS, make_driver
from tests.support.executors import Bench, FakePacks, invocation, open_bench
from tests.support.process_driver import ProcessDriver

pytestmark = pytest.mark.anyio

CODE = {"main.py": "def main(context):\n    return context.res.text('fine')\n"}
SLOW = {
    "main.py": "import time, uuid\nME = uuid.uuid4().hex\ndef main(context):\n    context.log('started')\n"
    "    time.sleep(float(context.req.body_text or 0))\n    return context.res.text(ME)\n"
}
ASYNC = {
    "main.py": "import asyncio, uuid\nME = uuid.uuid4().hex\nasync def main(context):\n    context.log('started')\n"
    "    await asyncio.sleep(float(context.req.body_text or 0))\n    return context.res.text(ME)\n"
}


async def until(bench: Bench, text: str) -> None:
    """Wait, bounded, until `text` is in the executor's own description."""
    for _ in range(500):
        if text in repr(bench.executor):
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{text!r} never came: {bench.executor!r}")


async def test_a_warm_instance_is_used_again(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", SLOW)
    first, second = await bench.run(template), await bench.run(template)
    assert (first.cold, second.cold, first.body) == (True, False, second.body)
    assert first.queued_s > second.queued_s


async def test_requests_beyond_all_places_wait_their_turn(bench: Bench) -> None:
    """Two instances at most, one place each: five requests are all served, four of them by waiting."""
    template = bench.deploy("python-3.11", "main.py", SLOW)
    await bench.run(template)
    results = await asyncio.gather(*(bench.run(template, body=b"0.01") for _ in range(5)))
    assert {result.outcome for result in results} == {Outcome.COMPLETED}
    assert len({result.body for result in results}) <= 2


async def test_too_many_waiting_are_refused_with_the_limit(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", SLOW)
    results = await asyncio.gather(*(bench.run(template, body=b"0.05") for _ in range(10)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, Busy)]
    assert {(result.limit, result.retry_after_s) for result in refused} == {("max_waiting_per_key", 1)}
    assert len([result for result in results if isinstance(result, Result)]) + len(refused) == 10
    assert refused


async def test_waiting_is_bounded_by_the_caller(bench: Bench) -> None:
    """`wait_s` is over before a place is free: Busy, and the limit met is named."""
    template = bench.deploy("bad-slow", "x", CODE)
    await asyncio.gather(bench.run(template), bench.run(template))
    results = await asyncio.gather(
        *(bench.run(template) for _ in range(2)), *(bench.run(template, wait_s=0.01) for _ in range(2)),
        return_exceptions=True,
    )  # fmt: skip
    assert [isinstance(result, Result) for result in results] == [True, True, False, False]
    assert isinstance(results[2], Busy)
    assert results[2].limit == "max_instances_per_key"


async def test_a_caller_that_leaves_while_waiting_leaves_an_idle_instance(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", CODE)
    call = asyncio.ensure_future(bench.run(template))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    result = await bench.run(template)
    assert result.body == b"fine"


async def running(bench: Bench, template: InstanceTemplate, body: bytes) -> "asyncio.Task[Result]":
    """A call whose handler has begun: the instance exists and has accepted it."""
    call = asyncio.ensure_future(bench.run(template, body=body))
    await until(bench, "busy")
    return call


async def test_a_canceled_run_ends_its_instance(bench: Bench) -> None:
    """Nobody else runs in it: it is killed at once, not reused."""
    await until(bench, "0 waiting")
    template = bench.deploy("python-3.11", "main.py", SLOW)
    before = (await bench.run(template)).body
    call = await running(bench, template, b"30")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await bench.run(template)).body != before


async def test_a_canceled_run_lets_the_others_of_its_instance_finish(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", ASYNC)
    before = (await bench.run(template)).body
    long, short = asyncio.ensure_future(bench.run(template, body=b"30")), None
    short = asyncio.ensure_future(bench.run(template, body=b"0.05"))
    await asyncio.sleep(0)
    long.cancel()
    result = await short
    assert (result.outcome, result.body) == (Outcome.COMPLETED, before)
    assert (await bench.run(template)).body != before


async def test_after_a_timeout_the_others_finish_and_the_instance_is_not_used_again(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", ASYNC)
    before = (await bench.run(template)).body
    late, other = await asyncio.gather(
        bench.run(template, body=b"30", timeout_s=0.05), bench.run(template, body=b"0.1")
    )
    assert (late.outcome, late.logs, late.errors) == (Outcome.TIMED_OUT, "started\n", "Execution timed out.\n")
    assert (other.outcome, other.body) == (Outcome.COMPLETED, before)
    assert (await bench.run(template)).body != before


async def test_an_async_instance_runs_many_at_once(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", ASYNC)
    await bench.run(template)
    results = await asyncio.gather(*(bench.run(template, body=b"0.05") for _ in range(4)))
    assert len({result.body for result in results}) == 1


async def test_retired_instances_get_no_new_request(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", SLOW)
    before = (await bench.run(template)).body
    call = await running(bench, template, b"0.1")
    await bench.executor.retire(template.key.deployment_id)
    after = await bench.run(template)
    result = await call
    assert (result.outcome, result.body) == (Outcome.COMPLETED, before)
    assert after.body != before


async def test_a_deleted_deployment_ends_at_once_with_what_runs_and_waits(bench: Bench) -> None:
    """Two instances at most: of three requests two run and one waits; all are told why they ended."""
    template = bench.deploy("python-3.11", "main.py", SLOW)
    other = bench.deploy("python-3.11", "main.py", CODE)
    await bench.run(template)
    calls = [asyncio.ensure_future(bench.run(template, body=b"30")) for _ in range(3)]
    await until(bench, "busy")
    await bench.executor.remove(template.key.deployment_id)
    async with asyncio.timeout(20):
        results = await asyncio.gather(*calls)
    assert {result.outcome for result in results} == {Outcome.CRASHED}
    assert all("was deleted while it was running" in result.errors for result in results)
    assert (await bench.run(other)).body == b"fine"


async def test_other_variables_mean_another_instance(bench: Bench) -> None:
    """S5: the key holds the digest of the variables, so an old instance never serves new ones."""
    code = {"main.py": "import os\ndef main(c):\n    return c.res.text(os.environ['SECRET'])\n"}
    old = bench.deploy("python-3.11", "main.py", code, {"SECRET": "old"})
    new = replace(old, key=old.key._replace(variables_digest="new"), environment={"SECRET": "new"})
    assert [(await bench.run(template)).body for template in (old, new, old)] == [b"old", b"new", b"old"]


async def test_a_failing_start_is_not_repeated_for_every_request(bench: Bench) -> None:
    """R10: while a key backs off its requests get the same error at once."""
    template = bench.deploy("python-3.11", "no.py", CODE)
    started = len(bench.driver.started) if isinstance(bench.driver, ProcessDriver) else 0
    results = [await bench.run(template) for _ in range(5)]
    assert {result.outcome for result in results} == {Outcome.LOAD_FAILED}
    if isinstance(bench.driver, ProcessDriver):
        assert len(bench.driver.started) - started <= 3  # one extraction, and hardly more than one start


async def test_prepare_unpacks_ahead(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", {**CODE, "prepared.txt": "x"})
    await bench.executor.prepare(template)
    reads = bench.files.reads
    assert (await bench.run(template)).body == b"fine"
    assert bench.files.reads == reads


async def test_a_missing_artifact_is_our_fault(bench: Bench) -> None:
    template = bench.deploy("python-3.11", "main.py", CODE)
    gone = replace(template, artifact=replace(template.artifact, key="artifacts/none", digest="none"))
    with pytest.raises(Unavailable):
        await bench.executor.prepare(gone)
    with pytest.raises(Unavailable):
        await bench.run(gone)


@pytest.mark.slow
async def test_closing_lets_running_ones_end_and_refuses_the_rest(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("closing")
    async with open_bench(ProcessDriver(), folder, LIMITS, FakePacks(*BAD_PACKS)) as bench:
        template = bench.deploy("python-3.11", "main.py", SLOW)
        await bench.run(template)
        call = await running(bench, template, b"0.2")
        closing = asyncio.ensure_future(bench.executor.close(10.0))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="stopping"):
            await bench.run(template)
        assert (await call).outcome is Outcome.COMPLETED
        await closing


async def test_closing_without_grace_tells_running_ones(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("closing")
    async with open_bench(ProcessDriver(), folder, LIMITS) as bench:
        template = bench.deploy("python-3.11", "main.py", SLOW)
        await bench.run(template)
        call = await running(bench, template, b"30")
        await bench.executor.close(0.0)
        result = await call
        assert (result.outcome, result.status_code) == (Outcome.CRASHED, 500)
        assert result.errors == "The server was stopped while the function was running.\n"


async def test_idle_instances_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    limits = ExecutorLimits(pool=PoolLimits(idle_timeout_s=0.02))
    async with open_bench(ProcessDriver(), tmp_path_factory.mktemp("idle"), limits) as bench:
        await bench.run(bench.deploy("python-3.11", "main.py", CODE))
        await until(bench, "no instance")


@pytest.mark.parametrize("name", DRIVERS)
async def test_an_idle_instance_is_frozen_and_thawed(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """R7: a frozen process computes nothing in the background; the next request finds it as it was."""
    folder = tmp_path_factory.mktemp("frozen")
    driver = make_driver(name, folder)
    async with open_bench(driver, folder, LIMITS) as bench:
        template = bench.deploy("python-3.11", "main.py", SLOW)
        before = (await bench.run(template)).body
        for _ in range(3):
            await until(bench, "1 paused")
            if isinstance(driver, ProcessDriver):
                await stopped(driver.sandboxes[-1].pid)
            result = await bench.run(template)
            assert (result.outcome, result.cold, result.body) == (Outcome.COMPLETED, False, before)


async def stopped(pid: int) -> None:
    """Wait, bounded, until a process is stopped."""
    for _ in range(500):
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"process {pid} goes on")


async def test_secrets_travel_only_over_the_channel(tmp_path_factory: pytest.TempPathFactory) -> None:
    """S3, S4: neither the command nor the environment of the sandbox holds a variable."""
    driver = ProcessDriver()
    async with open_bench(driver, tmp_path_factory.mktemp("secrets"), LIMITS) as bench:
        await bench.run(bench.deploy("python-3.11", "main.py", CODE, {"TOKEN": "a-known-secret"}))
    spec = driver.started[-1]
    assert "a-known-secret" not in repr(spec)
    assert set(spec.environment) == {"PATH", "HOME", "LANG"}


@pytest.mark.slow
async def test_a_call_canceled_at_any_moment_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Cancel after each number of loop turns; afterwards the pool reads as if nothing had been."""
    async with open_bench(ProcessDriver(), tmp_path_factory.mktemp("cancel"), LIMITS) as bench:
        template = bench.deploy("python-3.11", "main.py", CODE)
        for turns in range(40):
            call = asyncio.ensure_future(bench.executor.invoke(invocation(template)))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert (await bench.run(template)).body == b"fine"
        await until(bench, "<Pool: 1 idle; 0 waiting>")
