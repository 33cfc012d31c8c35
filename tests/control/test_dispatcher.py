"""Asynchronous executions on one server: started at once where there is room, never lost, never run twice."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from hearth.control.views import ExecutionView
from hearth.jobs.dispatcher import Dispatcher
from hearth.jobs.worker import LEASE_S
from hearth.model.actor import Actor, ActorKind
from hearth.model.refusals import PlatformFault, Unavailable
from hearth.model.resources import Execution
from hearth.model.running import Outcome, Result
from hearth.model.statuses import ExecutionStatus, JobStatus
from hearth.ports import AttemptEnded
from tests.control.support import NODE, World
from tests.control.test_users_runs import ready, told

pytestmark = pytest.mark.anyio

KEY = Actor(ActorKind.KEY, frozenset(), roles=("keys",))
WAIT_S = 20.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - nobody tells; bounded above
            await asyncio.sleep(0.002)


async def queue(here: World, body: bytes = b"") -> ExecutionView:
    return await here.executions.create("p", KEY, "f", headers={}, body=body, is_async=True)


async def stored(here: World, id: str) -> Execution:
    async with here.store.view("p") as unit:
        found = await unit.executions.get("f", id)
    assert found is not None
    return found


async def ended(here: World, id: str) -> Execution:
    async with asyncio.timeout(WAIT_S):
        while (found := await stored(here, id)).status not in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found


@asynccontextmanager
async def dispatching(here: World, places: int = 2) -> AsyncIterator[Dispatcher]:
    dispatcher = here.dispatcher(places)
    dispatcher.start()
    await until(lambda: not dispatcher._backlog)  # it has looked at the queue once
    try:
        yield dispatcher
    finally:
        await dispatcher.close()


async def test_one_that_finds_a_place_starts_with_its_commit_and_is_shown_as_waiting(here: World) -> None:
    await ready(here)
    async with dispatching(here):
        view = await queue(here, b"hello")
        assert view.execution.status is ExecutionStatus.WAITING
        assert [job.status for job in await here.store.jobs.unfinished() if job.kind == "execute"] in (
            [JobStatus.CLAIMED],
            [],
        )
        final = await ended(here, view.execution.id)
        await told(here, final.id)
    assert final.status is ExecutionStatus.COMPLETED
    assert [one.body for one in here.executor.invoked] == [b"hello"]
    name = f"functions.f.executions.{final.id}"
    assert [event for event in here.events if event.startswith(name)] == [f"{name}.create", f"{name}.update"]


async def test_no_more_run_at_once_than_there_are_places_and_all_end_in_order(here: World) -> None:
    await ready(here)
    here.executor.answer = asyncio.get_running_loop().create_future()
    async with dispatching(here, places=2):
        views = [await queue(here, b"%d" % number) for number in range(7)]
        await until(lambda: len(here.executor.invoked) == 2)
        assert (await stored(here, views[6].execution.id)).status is ExecutionStatus.WAITING
        here.executor.answer.set_result(Result(Outcome.COMPLETED, 200))
        finals = [await ended(here, view.execution.id) for view in views]
    assert {final.status for final in finals} == {ExecutionStatus.COMPLETED}
    assert [int(one.body) for one in here.executor.invoked] == list(range(7))


async def test_a_caller_who_leaves_while_it_is_stored_changes_nothing(here: World) -> None:
    await ready(here)
    await here.runnables.get("p", "f")
    async with dispatching(here):
        call = asyncio.create_task(queue(here))
        await asyncio.sleep(0)
        call.cancel()
        with suppress(asyncio.CancelledError):
            await call
        await until(lambda: here.executor.invoked)
        final = await ended(here, here.executor.invoked[0].execution_id)
    assert final.status is ExecutionStatus.COMPLETED


async def test_what_a_stop_finds_running_is_failed_with_the_reason_and_not_run_again(here: World) -> None:
    await ready(here)
    here.executor.answer = asyncio.get_running_loop().create_future()
    async with dispatching(here, places=1):
        running, waits = await queue(here), await queue(here)
        await until(lambda: here.executor.invoked)
    lost = await stored(here, running.execution.id)
    assert lost.status is ExecutionStatus.FAILED
    assert "stopped" in lost.errors
    assert (await stored(here, waits.execution.id)).status is ExecutionStatus.WAITING
    here.executor.answer.set_result(Result(Outcome.COMPLETED, 200))
    async with dispatching(here, places=1):
        assert (await ended(here, waits.execution.id)).status is ExecutionStatus.COMPLETED
    assert len(here.executor.invoked) == 2


async def test_what_has_not_begun_when_the_server_stops_waits_for_the_next_start(here: World) -> None:
    """The executor closes before the dispatcher does; what it has not begun did not run."""
    await ready(here)
    here.executor.answer = asyncio.get_running_loop().create_future()
    async with dispatching(here) as dispatcher:
        view = await queue(here)
        await until(lambda: here.executor.invoked)
        dispatcher.pause()
        here.executor.answer.set_exception(Unavailable("The server is stopping."))
        await until(lambda: not dispatcher._running)
    assert (await stored(here, view.execution.id)).status is ExecutionStatus.WAITING
    [job] = [job for job in await here.store.jobs.unfinished() if job.kind == "execute"]
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)
    here.executor.answer = asyncio.get_running_loop().create_future()
    here.executor.answer.set_result(Result(Outcome.COMPLETED, 200))
    async with dispatching(here):
        assert (await ended(here, view.execution.id)).status is ExecutionStatus.COMPLETED


@pytest.mark.slow
async def test_a_thousand_that_wait_at_a_start_all_end(here: World) -> None:
    await ready(here)
    await asyncio.gather(*(queue(here) for _ in range(1_000)))
    assert not here.executor.invoked
    async with dispatching(here, places=64):
        async with asyncio.timeout(60):
            while [job for job in await here.store.jobs.unfinished() if job.kind == "execute"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert len(here.executor.invoked) == len({one.execution_id for one in here.executor.invoked}) == 1_000
    async with here.store.view("p") as unit:
        assert not [one for one in here.executor.invoked if await unit.executions.get("f", one.execution_id) is None]


async def test_an_end_is_given_to_the_database_until_it_takes_it(here: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await ready(here)
    queue_of_store = here.store.execution_queue
    end, refused = queue_of_store.end, 2

    def away(ending: AttemptEnded) -> "asyncio.Future[bool]":
        nonlocal refused
        if refused == 0:
            return end(ending)
        refused -= 1
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        answer.set_exception(PlatformFault("the database is away"))
        return answer

    monkeypatch.setattr(queue_of_store, "end", away)
    async with dispatching(here):
        view = await queue(here)
        final = await ended(here, view.execution.id)
    assert refused == 0
    assert final.status is ExecutionStatus.COMPLETED
    assert len(here.executor.invoked) == 1


async def test_what_could_not_be_stored_is_told_to_its_caller_and_frees_its_place(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(here)

    def refused(*_: object) -> "asyncio.Future[Execution]":
        answer: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        answer.set_exception(PlatformFault("database or disk is full"))
        return answer

    async with dispatching(here, places=1):
        with monkeypatch.context() as patch:
            patch.setattr(here.store.execution_queue, "accept", refused)
            for _ in range(3):
                with pytest.raises(PlatformFault, match="full"):
                    await queue(here)
        view = await queue(here)
        assert (await ended(here, view.execution.id)).status is ExecutionStatus.COMPLETED


async def test_after_the_clock_was_set_forward_what_runs_here_or_elsewhere_is_not_taken_for_lost(here: World) -> None:
    await ready(here)
    await queue(here)
    await queue(here)
    mine, _ = await here.store.execution_queue.claim(f"{NODE}/alive", ["execute"], 2, LEASE_S)
    here.held.add(mine.job.id)
    await here.reaper.sweep()
    here.clock.step(3_600)
    assert await here.reaper.sweep() == 0
    here.clock.move(LEASE_S + 1)
    assert await here.reaper.sweep() == 1, "the one that nobody holds and nobody has renewed"
    held = await here.store.jobs.get(mine.job.id)
    assert held is not None
    assert held.status is JobStatus.CLAIMED


async def test_after_the_clock_was_set_back_lost_work_ends_and_waiting_work_runs(here: World) -> None:
    await ready(here)
    lost, waits = await queue(here), await queue(here)
    await here.store.execution_queue.claim("elsewhere/d", ["execute"], 1, LEASE_S)
    await here.reaper.sweep()
    here.clock.step(-3_600)
    await here.reaper.sweep()
    async with dispatching(here):
        assert (await ended(here, waits.execution.id)).status is ExecutionStatus.COMPLETED
    here.clock.move(LEASE_S + 1)
    assert await here.reaper.sweep() == 1
    assert (await stored(here, lost.execution.id)).errors == "The worker that had this was lost."
