"""Event triggers over a real store: from a change to one execution in each function that listens."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hearth import CONTRACT_VERSION
from hearth.api.payloads import owner_payload
from hearth.control.jobs import JobKind
from hearth.model.events import Published
from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault
from hearth.model.resources import Execution, Job
from hearth.model.running import Outcome, Result
from hearth.model.statuses import ExecutionStatus, Trigger
from hearth.triggers.events import EventTriggers, occasion_id
from tests.control.support import World, world
from tests.store.samples import function, project

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PAYLOAD = {"$id": "U", "name": "Ü"}


class Here:
    """A world with event triggers."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.triggers = self.started()

    def started(self) -> EventTriggers:
        """Event triggers as a server that starts has them, before it has read anything."""
        return EventTriggers(
            store=self.world.store, clock=self.world.clock, queued=self.world.queued, payload_of=owner_payload
        )

    async def listen(self, id: str, *events: str, project_id: str = "p") -> None:
        """Make or change a function as control does."""
        async with self.world.store.begin(project_id) as unit:
            changed = await unit.functions.update(id, events=events)
            changed = changed or await unit.functions.insert(function(id, project_id, events=events))
        self.world.runnables.drop(project_id, id)
        self.world.bus.emit(project_id, f"functions.{id}.update", changed)

    async def happen(self, event: str, *, user_id: str = "", then: Exception | None = None) -> None:
        """Something happens, in a transaction that ends well, or with `then`."""
        async with self.world.store.begin("p") as unit:
            await self.world.bus.record(unit, event, Published(PAYLOAD), user_id=user_id)
            if then is not None:
                raise then
        self.world.bus.emit("p", event, Published(PAYLOAD), user_id=user_id)

    async def jobs(self, kind: str = JobKind.EVENT) -> list[Job]:
        return [job for job in await self.world.store.jobs.unfinished() if job.kind == kind]

    async def executions(self, function_id: str = "f", project_id: str = "p") -> list[Execution]:
        async with self.world.store.view(project_id) as unit:
            return list((await unit.executions.list(function_id, ListQuery(), None)).items)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with world(tmp_path) as made:
        here = Here(made)
        made.bus.record_with(here.triggers)
        made.bus.subscribe(here.triggers.heard)
        yield here


async def test_an_event_runs_each_function_that_listens_to_a_variant_of_it_once(here: Here) -> None:
    await here.listen("f", "users.*.create", "users.U")
    await here.listen("exact", "users.U.create")
    await here.listen("other", "users.V.create", "teams.*")
    await here.world.store.projects.insert(project("q"))
    await here.listen("f", "users.*.create", project_id="q")
    await here.happen("users.U.create", user_id="ann")
    (job,) = await here.jobs()
    await here.triggers.fan_out(job)
    made = {id: await here.executions(id) for id in ("f", "exact", "other")}
    assert [len(found) for found in made.values()] == [1, 1, 0]
    assert await here.executions(project_id="q") == []
    (execution,) = made["f"]
    assert (execution.trigger, execution.status) == (Trigger.EVENT, ExecutionStatus.WAITING)
    assert (execution.request_method, execution.request_path) == ("POST", "/")
    assert execution.permissions == ('read("user:ann")',)
    stored = {job.resource_id: job.payload for job in await here.jobs(JobKind.EXECUTE)}[execution.id]
    assert json.loads(base64.b64decode(stored["body"])) == PAYLOAD


async def test_what_a_function_is_told_of_an_event(here: Here) -> None:
    dispatcher = here.world.dispatcher()
    here.world.executor.answer.set_result(Result(Outcome.COMPLETED, 200, (), b"", "", "", 0.1))
    await here.world.deploy("d")
    await here.world.builds.run("p", "f", "d")
    async with here.world.store.begin("p") as unit:
        await unit.functions.update("f", deployment_id="d", enabled=False)  # triggers do not look at `enabled`
    await here.listen("f", "users.*")
    ended: asyncio.Queue[str] = asyncio.Queue()
    here.world.bus.subscribe(lambda it: ended.put_nowait(it.event) if it.event.endswith(".update") else None)
    dispatcher.start()
    await here.happen("users.U.update.name", user_id="ann")
    await here.triggers.fan_out((await here.jobs())[0])
    async with asyncio.timeout(10):
        while ".executions." not in await ended.get():
            pass
    await dispatcher.close()
    (ran,) = here.world.executor.invoked
    assert (ran.method, ran.path, json.loads(ran.body)) == ("POST", "/", PAYLOAD)
    told = {name: ran.headers[f"x-appwrite-{name}"] for name in ("trigger", "event", "user-id", "user-jwt")}
    assert told == {"trigger": "event", "event": "users.U.update.name", "user-id": "ann", "user-jwt": ""}
    assert ran.headers["content-type"] == "application/json"
    assert ran.headers["user-agent"] == f"Appwrite/{CONTRACT_VERSION}"
    assert "x-appwrite-client-ip" not in ran.headers
    (execution,) = await here.executions()
    assert (execution.status, execution.deployment_id) == (ExecutionStatus.COMPLETED, "d")


async def test_without_a_deployment_the_record_says_so(here: Here) -> None:
    await here.listen("f", "users.*")
    await here.happen("users.U.create")
    await here.triggers.fan_out((await here.jobs())[0])
    ended: asyncio.Queue[str] = asyncio.Queue()
    here.world.bus.subscribe(lambda it: ended.put_nowait(it.event) if it.event.endswith(".update") else None)
    dispatcher = here.world.dispatcher()
    dispatcher.start()
    async with asyncio.timeout(10):
        await ended.get()
    await dispatcher.close()
    (execution,) = await here.executions()
    assert (execution.status, execution.response_status_code) == (ExecutionStatus.FAILED, 0)
    assert "no active deployment" in execution.errors


async def test_an_event_is_kept_with_its_change_or_not_at_all(here: Here) -> None:
    await here.listen("f", "users.*.create")
    with pytest.raises(RuntimeError, match="mine"):
        await here.happen("users.U.create", then=RuntimeError("mine"))
    assert await here.jobs() == []
    await here.happen("users.U.create")
    assert len(await here.jobs()) == 1


async def test_events_nobody_listens_to_and_those_of_functions_leave_nothing(here: Here) -> None:
    await here.happen("users.U.create")
    await here.listen("f", "teams.*", "functions.*")
    for event in ("users.U.create", "functions.f.update", "functions.f.executions.e.create"):
        await here.happen(event)
    await here.listen("f")
    await here.happen("teams.T.create")
    assert await here.world.store.jobs.unfinished() == ()


async def test_a_repeated_job_makes_no_second_execution(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed or refused half-way: what is missing is made, what is there stays alone."""
    for id in ("a", "b", "c"):
        await here.listen(id, "users.*.create")
    await here.happen("users.U.create")
    (job,) = await here.jobs()
    accept = here.world.store.execution_queue.accept

    def refusing(execution: Execution, job: Any) -> "asyncio.Future[Execution]":
        if execution.function_id != "b":
            return accept(execution, job)
        future: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        future.set_exception(PlatformFault("away"))
        return future

    with monkeypatch.context() as patched:
        patched.setattr(here.world.store.execution_queue, "accept", refusing)
        with pytest.raises(PlatformFault, match="away"):
            await here.triggers.fan_out(job)
    assert [len(await here.executions(id)) for id in ("a", "b", "c")] == [1, 0, 1]
    for _ in range(2):
        await here.triggers.fan_out(job)
    assert [len(await here.executions(id)) for id in ("a", "b", "c")] == [1, 1, 1]


async def test_published_events_are_committed_when_publishing_returns(here: Here) -> None:
    await here.listen("f", "databases.*.collections.*.documents.*.create")
    event = "databases.d.collections.c.documents.x.create"
    await here.world.bus.publish("p", event=event, payload=PAYLOAD, user_id="ann")
    (job,) = await here.jobs()
    assert (job.payload["event"], job.payload["userId"], json.loads(job.payload["body"])) == (event, "ann", PAYLOAD)


async def test_what_functions_listened_to_before_a_restart_is_read_again(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearth.triggers.events.SLICE", 2)
    for number in range(5):
        await here.listen(f"f{number}", "users.*.create")
    after = here.started()
    here.world.bus.record_with(after)
    await here.happen("users.U.create")
    assert await here.jobs() == []  # it has read nothing yet
    await after.load()
    await here.happen("users.U.create")
    (job,) = await here.jobs()
    await after.fan_out(job)
    assert [len(await here.executions(f"f{number}")) for number in range(5)] == [1] * 5


def test_ids_of_event_runs_are_ids() -> None:
    assert len(occasion_id("0" * 20, "f")) == 36
    assert occasion_id("0" * 20, "f") != occasion_id("0" * 20, "g")
