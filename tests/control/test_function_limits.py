"""`maxConcurrency` and `rateLimitPerMinute`: what is too much is refused now, or runs later."""

import asyncio
from typing import Any

import pytest

from hearth.model.function_settings import FunctionSettings
from hearth.model.refusals import Refusal
from hearth.model.running import Outcome, Result
from hearth.model.statuses import ExecutionStatus, JobStatus
from tests.control.support import World
from tests.control.test_dispatcher import KEY, dispatching, ended, queue, stored, until
from tests.control.test_users_runs import ready

pytestmark = pytest.mark.anyio

FINE = Result(Outcome.COMPLETED, 200)


async def limited(here: World, **settings: Any) -> None:
    await ready(here)
    await here.store.execution_log.open()
    async with here.store.begin("p") as unit:
        await unit.function_settings.put("f", FunctionSettings(**settings))
    here.runnables.drop("p", "f")


async def run(here: World) -> Any:
    return await here.executions.create("p", KEY, "f", headers={})


async def test_a_synchronous_run_too_many_is_refused_with_the_limit_and_when_to_come_again(here: World) -> None:
    await limited(here, max_concurrency=1)
    here.executor.answer = asyncio.get_running_loop().create_future()
    first = asyncio.create_task(run(here))
    await here.executor.called.wait()
    with pytest.raises(Refusal, match=r"general_rate_limit_exceeded.*maxConcurrency") as refused:
        await run(here)
    assert (refused.value.code, refused.value.headers["retry-after"]) == (429, "1")
    here.executor.answer.set_result(FINE)
    await first
    await run(here)
    assert len(here.executor.invoked) == 2


async def test_more_synchronous_runs_than_a_minute_may_have_are_refused(here: World) -> None:
    await limited(here, rate_limit_per_minute=2)
    await run(here)
    here.clock.move(20)
    await run(here)
    with pytest.raises(Refusal, match="rateLimitPerMinute") as refused:
        await run(here)
    assert refused.value.headers["retry-after"] == "40"
    here.clock.move(40)
    await run(here)


async def test_background_runs_wait_for_their_turn_in_order_and_all_end(here: World) -> None:
    await limited(here, max_concurrency=1)
    most = 0
    here.executor.answer = asyncio.get_running_loop().create_future()
    begun: list[bytes] = []

    class Counting:
        running = 0

        async def invoke(self, invocation: Any) -> Result:
            nonlocal most
            self.running += 1
            most = max(most, self.running)
            begun.append(invocation.body)
            await asyncio.sleep(0)
            self.running -= 1
            return FINE

    here.queued._executor = Counting()  # type: ignore[assignment]
    async with dispatching(here, places=4):
        views = [await queue(here, b"%d" % number) for number in range(12)]
        finals = [await ended(here, view.execution.id) for view in views]
    assert {final.status for final in finals} == {ExecutionStatus.COMPLETED}
    assert most == 1
    assert len(begun) == 12


async def test_a_function_at_its_limit_does_not_keep_others_waiting(here: World) -> None:
    await limited(here, max_concurrency=1)
    here.executor.answer = asyncio.get_running_loop().create_future()
    async with dispatching(here, places=2) as dispatcher:
        views = [await queue(here) for _ in range(6)]
        await until(lambda: len(dispatcher._running) == 1 and not dispatcher._backlog)
        assert len(here.executor.invoked) == 1
        here.executor.answer.set_result(FINE)
        for view in views:
            await ended(here, view.execution.id)
    assert len(here.executor.invoked) == 6


async def test_background_runs_beyond_the_rate_are_put_off_one_after_the_other(here: World) -> None:
    await limited(here, rate_limit_per_minute=6)
    async with dispatching(here) as dispatcher:
        views = [await queue(here) for _ in range(9)]
        await until(lambda: len(here.executor.invoked) == 6 and not dispatcher._running and not dispatcher._backlog)
        put_off = [job for job in await here.store.jobs.unfinished() if job.kind == "execute"]
        waits_s = sorted((job.due_at - here.clock.now()).total_seconds() for job in put_off)
        assert waits_s == [60, 70, 80]
        assert {(job.status, job.attempts) for job in put_off} == {(JobStatus.QUEUED, 0)}
        here.clock.move(81)
        here.store._jobs_may_wait()  # type: ignore[attr-defined]
        for view in views:
            await ended(here, view.execution.id)
    assert (await stored(here, views[8].execution.id)).status is ExecutionStatus.COMPLETED
