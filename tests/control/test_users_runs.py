"""Runs that users ask for: what the record and the function know of them, now and in the background."""

import asyncio

import pytest

from hearth.model.actor import Actor, ActorKind
from hearth.model.events import Occurrence
from hearth.model.resources import Execution
from hearth.model.running import Outcome, Result
from hearth.model.statuses import DeploymentStatus, ExecutionStatus
from tests.control.support import World

pytestmark = pytest.mark.anyio

RESULT = Result(Outcome.COMPLETED, 200, (), b"", "", "", 0.01)
WAIT_S = 5.0


def user(**fields: str) -> Actor:
    return Actor(ActorKind.USER, frozenset(), roles=("any", "users", "user:ann"), user_id="ann", **fields)


async def ready(here: World) -> None:
    """The function has an active deployment that anybody may run, and the executor answers."""
    await here.deploy("d1")
    async with here.store.begin("p") as unit:
        await unit.deployments.move("d1", DeploymentStatus.PROCESSING)
        await unit.deployments.move("d1", DeploymentStatus.BUILDING)
        await unit.deployments.move("d1", DeploymentStatus.READY, artifact_key="artifacts/a", artifact_digest="0" * 64)
        await unit.functions.update("f", deployment_id="d1", execute=("users",))
    here.executor.answer.set_result(RESULT)


async def told(here: World, id: str) -> None:
    """Wait for the event of an execution's end, which is told once the end is stored."""
    async with asyncio.timeout(WAIT_S):
        while not any(event.endswith(f".executions.{id}.update") for event in here.events):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def in_background(here: World, actor: Actor) -> Execution:
    """Queue a run and let a worker do it; the final record."""
    view = await here.executions.create("p", actor, "f", headers={}, is_async=True)
    worker = here.dispatcher()
    worker.start()
    async with asyncio.timeout(WAIT_S):
        while True:
            await here.executor.called.wait()
            async with here.store.view("p") as unit:
                found = await unit.executions.get("f", view.execution.id)
            if found is not None and found.status is ExecutionStatus.COMPLETED:
                break
            await asyncio.sleep(0.01)
    await told(here, found.id)
    await worker.close()
    return found


async def test_a_background_run_gets_a_jwt_of_the_user_alone(here: World) -> None:
    """Contract: functions-api 12.2. By then the session may be over; the JWT lives as long as the run may, and 60 s."""
    await ready(here)
    found = await in_background(here, user(session_id="s1"))
    assert found.permissions == ('read("user:ann")',)
    headers = here.executor.invoked[-1].headers
    assert headers["x-appwrite-user-id"] == "ann"
    assert headers["x-appwrite-user-jwt"] == "p/ann//75"


async def test_a_background_run_remembers_who_sits_at_the_keyboard(here: World) -> None:
    await ready(here)
    found = await in_background(here, user(impersonator_id="boss"))
    assert found.permissions == ('read("user:ann")',)
    headers = here.executor.invoked[-1].headers
    assert (headers["x-appwrite-user-id"], headers["x-appwrite-user-jwt"]) == ("boss", "p/boss//75")


async def test_a_background_run_of_nobody_has_no_user(here: World) -> None:
    await ready(here)
    found = await in_background(here, Actor(ActorKind.KEY, frozenset(), roles=("keys",)))
    assert found.permissions == ()
    headers = here.executor.invoked[-1].headers
    assert (headers["x-appwrite-user-id"], headers["x-appwrite-user-jwt"]) == ("", "")


async def test_who_watches_a_background_run_hears_that_it_waits_runs_and_has_ended(here: World) -> None:
    """That it runs is progress: webhooks and functions hear of its creation and its end only."""
    heard: list[tuple[str, str, ExecutionStatus]] = []

    def hear(occurrence: Occurrence) -> None:
        if isinstance(occurrence.subject, Execution):
            action = occurrence.event.rpartition(".")[2]
            heard.append((occurrence.subject.id, action, occurrence.subject.status))

    here.bus.watch(hear, lambda project_id: True)
    await ready(here)
    id = (await in_background(here, user())).id
    assert [each[1:] for each in heard] == [
        ("create", ExecutionStatus.WAITING),
        ("update", ExecutionStatus.PROCESSING),
        ("update", ExecutionStatus.COMPLETED),
    ]
    assert {each[0] for each in heard} == {id}
    names = [event.rpartition(".")[2] for event in here.events if f".executions.{id}." in event]
    assert names == ["create", "update"]
