"""Executions that are tried again: one record, attempts beside it, dead letters at the end."""

import asyncio
from typing import Any

import pytest

from hearth.control.dead_letters import DeadLettersControl
from hearth.jobs.worker import LEASE_S
from hearth.model.durability import DeadReason
from hearth.model.function_settings import FunctionSettings
from hearth.model.refusals import Refusal
from hearth.model.resources import Execution
from hearth.model.running import Outcome, Result
from hearth.model.statuses import ExecutionStatus, JobStatus
from tests.control.support import NODE, World
from tests.control.test_dispatcher import KEY, dispatching, ended, queue, stored, until
from tests.control.test_users_runs import ready, told, user

pytestmark = pytest.mark.anyio

BROKEN = Result(Outcome.CRASHED, 500, errors="it broke\n")
FINE = Result(Outcome.COMPLETED, 200)


class Scripted:
    """An executor that gives one result after the other."""

    def __init__(self, here: World, *results: Result) -> None:
        self.results = list(results)
        self.headers: list[dict[str, str]] = []
        here.queued._executor = self  # type: ignore[assignment]

    async def invoke(self, invocation: Any) -> Result:
        self.headers.append(dict(invocation.headers))
        return self.results.pop(0)


async def retrying(here: World, **settings: Any) -> None:
    await ready(here)
    async with here.store.begin("p") as unit:
        await unit.function_settings.put("f", FunctionSettings(**settings))
    here.runnables.drop("p", "f")
    here.queued._spread = lambda: 0.0


def letters(here: World) -> DeadLettersControl:
    return DeadLettersControl(store=here.store, runnables=here.runnables, queued=here.queued)


async def waits_again(here: World, id: str, error: str) -> None:
    async with asyncio.timeout(20):
        while not any(  # noqa: ASYNC110 - bounded above
            job.resource_id == id and job.status is JobStatus.QUEUED and job.error == error
            for job in await here.store.jobs.unfinished()
        ):
            await asyncio.sleep(0.005)


async def test_it_is_tried_again_after_its_pause_and_ends_as_the_last_attempt_does(here: World) -> None:
    await retrying(here, retry_max_attempts=3, retry_backoff_s=30)
    executor = Scripted(here, BROKEN, FINE)
    async with dispatching(here):
        view = await queue(here, b"body")
        id = view.execution.id
        await waits_again(here, id, "it broke\n")
        between = await stored(here, id)
        assert (between.status, between.errors) == (ExecutionStatus.WAITING, "")
        here.clock.move(31)
        here.store._jobs_may_wait()  # type: ignore[attr-defined]
        final = await ended(here, id)
        await told(here, id)
    assert final.status is ExecutionStatus.COMPLETED
    assert dict(final.request_headers)["x-hearth-attempt"] == "2"
    assert [one["x-hearth-attempt"] for one in executor.headers] == ["1", "2"]
    assert {one["x-appwrite-execution-id"] for one in executor.headers} == {id}
    [failed] = await letters(here).attempts("p", KEY, "f", id)
    assert (failed.number, failed.errors, failed.response_status_code) == (1, "it broke\n", 500)
    name = f"functions.f.executions.{id}"
    assert [event for event in here.events if event.startswith(name)] == [f"{name}.create", f"{name}.update"]


async def exhausted(here: World) -> Execution:
    """An execution that failed twice of two."""
    await retrying(here, retry_max_attempts=2, retry_backoff_s=30)
    Scripted(here, BROKEN, BROKEN)
    async with dispatching(here):
        view = await queue(here, b"body")
        await waits_again(here, view.execution.id, "it broke\n")
        here.clock.move(31)
        here.store._jobs_may_wait()  # type: ignore[attr-defined]
        return await ended(here, view.execution.id)


async def test_what_used_up_its_attempts_is_a_dead_letter_that_can_be_run_again(here: World) -> None:
    final = await exhausted(here)
    assert (final.status, final.errors) == (ExecutionStatus.FAILED, "it broke\n")
    control = letters(here)
    letter = await control.get("p", KEY, "f", final.id)
    assert (letter.reason, letter.attempts, letter.error) == (DeadReason.ATTEMPTS_USED, 2, "it broke\n")
    again = await control.redrive("p", KEY, "f", letter.id)
    assert again.id != final.id
    with pytest.raises(Refusal, match="dead_letter_not_found"):
        await control.get("p", KEY, "f", final.id)
    Scripted(here, FINE)
    async with dispatching(here):
        assert (await ended(here, again.id)).status is ExecutionStatus.COMPLETED
    assert (await stored(here, final.id)).status is ExecutionStatus.FAILED, "history stays as it was"


async def test_a_dead_letter_stays_while_its_function_cannot_run(here: World) -> None:
    final = await exhausted(here)
    async with here.store.begin("p") as unit:
        await unit.functions.update("f", deployment_id="")
    here.runnables.drop("p", "f")
    control = letters(here)
    with pytest.raises(Refusal, match="deployment_not_found"):
        await control.redrive_all("p", KEY, "f")
    assert (await control.get("p", KEY, "f", final.id)).id == final.id
    await control.purge_all("p", KEY, "f")
    with pytest.raises(Refusal, match="dead_letter_not_found"):
        await control.get("p", KEY, "f", final.id)


async def test_what_can_never_run_is_a_dead_letter_at_once(here: World) -> None:
    await retrying(here, retry_max_attempts=5)
    view = await queue(here)
    async with here.store.begin("p") as unit:
        await unit.functions.update("f", deployment_id="")
    here.runnables.drop("p", "f")
    async with dispatching(here):
        await ended(here, view.execution.id)
    letter = await letters(here).get("p", KEY, "f", view.execution.id)
    assert letter.reason is DeadReason.NOT_RUNNABLE
    assert "no active deployment" in letter.error


async def lost(here: World) -> str:
    """An execution whose server was killed while it ran; its id."""
    view = await queue(here)
    [claimed] = await here.store.execution_queue.claim(f"{NODE}/killed", ["execute"], 1, LEASE_S)
    assert claimed.execution is not None
    await here.reaper.at_start()
    return view.execution.id


async def test_a_killed_run_is_tried_again_only_where_that_was_asked_for(here: World) -> None:
    await retrying(here, retry_max_attempts=2, retry_backoff_s=30)
    id = await lost(here)
    assert (await stored(here, id)).status is ExecutionStatus.WAITING
    [job] = [job for job in await here.store.jobs.unfinished() if job.resource_id == id]
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 1)
    [attempt] = await letters(here).attempts("p", KEY, "f", id)
    assert "server was stopped" in attempt.errors


async def test_a_killed_run_without_retries_fails_once_says_so_and_can_be_redriven(here: World) -> None:
    await ready(here)
    id = await lost(here)
    final = await stored(here, id)
    assert final.status is ExecutionStatus.FAILED
    assert "server was stopped" in final.errors
    assert f"functions.f.executions.{id}.update" in here.events
    letter = await letters(here).get("p", KEY, "f", id)
    assert letter.reason is DeadReason.LOST
    assert await letters(here).redrive_all("p", KEY, "f") == 1
    async with dispatching(here):
        await until(lambda: here.executor.invoked)


async def test_what_waited_past_its_deadline_ends_as_too_old(here: World) -> None:
    await ready(here)
    view = await queue(here)
    here.clock.move(3 * 86_400)
    await here.reaper.sweep()
    assert "deadline" in (await stored(here, view.execution.id)).errors
    assert (await letters(here).get("p", KEY, "f", view.execution.id)).reason is DeadReason.TOO_OLD


async def test_users_of_a_project_do_not_see_dead_letters(here: World) -> None:
    final = await exhausted(here)
    control = letters(here)
    with pytest.raises(Refusal, match="general_unauthorized_scope"):
        await control.get("p", user(), "f", final.id)
    with pytest.raises(Refusal, match="general_unauthorized_scope"):
        await control.attempts("p", user(), "f", final.id)
