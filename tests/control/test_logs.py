"""Live logs over a real store: who is told what, and where a reader who comes back goes on."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from hearth.control import logs
from hearth.control.executions import ExecutionsControl
from hearth.control.log_watch import Ended, Gap, Line, LogWatch
from hearth.control.logs import LogsControl
from hearth.model.actor import Actor, ActorKind
from hearth.model.events import Occurrence
from hearth.model.refusals import Busy, Refusal
from hearth.model.resources import Execution
from hearth.model.statuses import ExecutionStatus
from hearth.model.streaming import HearLog, LogLines, LogStream
from hearth.ports import Executor
from tests.control.support import World, world
from tests.store.samples import execution

pytestmark = pytest.mark.anyio

KEY = Actor(ActorKind.KEY, frozenset())
PROCESSING, COMPLETED = ExecutionStatus.PROCESSING, ExecutionStatus.COMPLETED


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Speaking:
    """An executor in which executions say what the test lets them say."""

    def __init__(self) -> None:
        self.hearers: list[HearLog] = []
        self.said: list[LogLines] = []

    def follow_logs(self, function_id: str, hear: HearLog) -> list[LogLines]:
        assert function_id == "f"
        self.hearers.append(hear)
        return list(self.said)

    def unfollow_logs(self, function_id: str, hear: HearLog) -> None:
        if hear in self.hearers:
            self.hearers.remove(hear)

    def say(self, id: str, first: int, *lines: str, stream: LogStream = LogStream.LOGS) -> None:
        self.said.append(LogLines(id, stream, first, lines))
        for hear in self.hearers:
            hear(self.said[-1])


class Here:
    def __init__(self, world: World) -> None:
        self.world = world
        self.executor = Speaking()
        self.control = LogsControl(
            store=world.store,
            executor=cast(Executor, self.executor),
            executions=cast(ExecutionsControl, world.executions),
        )
        world.bus.watch(self.control.heard, lambda project_id: False)

    async def insert(self, id: str = "e", status: ExecutionStatus = PROCESSING, **fields: str) -> None:
        async with self.world.store.begin("p") as unit:
            await unit.executions.insert(execution(id, status=status, **fields))

    def tell(self, id: str = "e", status: ExecutionStatus = COMPLETED, **fields: str) -> None:
        subject = execution(id, status=status, **fields)
        self.control.heard(Occurrence("p", f"functions.f.executions.{id}.update", subject))

    async def follow(self, position: str = "", id: str = "e") -> LogWatch:
        return await self.control.of_execution("p", KEY, "f", id, position=position)

    async def follow_function(self, position: str = "") -> LogWatch:
        return await self.control.of_function("p", KEY, "f", position=position)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Here]:
    async with world(tmp_path) as made:
        yield Here(made)


async def texts(watch: LogWatch) -> list[str]:
    """What waits now: texts of lines, and the kinds of other events."""
    watch.finish()
    found: list[str] = []
    while (events := await watch.take(10.0)) is not None:
        found += [event.text if isinstance(event, Line) else type(event).__name__ for event in events]
    return found


async def test_a_finished_execution_is_told_from_its_record(here: Here) -> None:
    await here.insert(status=COMPLETED, logs="a\nb\n", errors="c\n")
    assert await texts(await here.follow()) == ["a", "b", "c", "Ended"]
    assert await texts(await here.follow("1-0")) == ["b", "c", "Ended"]
    assert await texts(await here.follow("2-1")) == ["Ended"]
    assert here.executor.hearers == []


async def test_a_running_one_is_told_what_it_said_and_says_until_its_end(here: Here) -> None:
    await here.insert()
    here.executor.say("e", 1, "a", "b")
    watch, late = await here.follow(), await here.follow("1-0")
    here.executor.say("other", 1, "not ours")
    here.executor.say("e", 3, "c")
    here.tell(logs="a\nb\nc\n")
    here.executor.say("e", 4, "after the end")
    assert await texts(watch) == ["a", "b", "c", "Ended"]
    assert await texts(late) == ["b", "c", "Ended"]
    watch.close()
    late.close()
    assert here.executor.hearers == []


async def test_what_only_the_record_knows_is_told_at_the_end(here: Here) -> None:
    """It never ran, or was ended by us: its lines come from nobody else."""
    await here.insert()
    watch, both = await here.follow(), await here.follow_function()
    here.tell(status=ExecutionStatus.FAILED, errors="The deployment is gone.")
    assert await texts(watch) == ["The deployment is gone.", "Ended"]
    assert await texts(both) == ["The deployment is gone.", "Ended"]


async def test_an_attempt_after_another_is_told_from_its_first_line(here: Here) -> None:
    await here.insert()
    watch, both = await here.follow(), await here.follow_function()
    here.executor.say("e", 1, "first attempt")
    here.tell(status=PROCESSING)
    here.executor.say("e", 1, "second attempt")
    here.tell(logs="second attempt\n")
    expected = ["first attempt", "second attempt", "Ended"]
    assert (await texts(watch), await texts(both)) == (expected, expected)


async def test_an_execution_that_is_deleted_or_ended_silently_ends_its_watch(here: Here) -> None:
    await here.insert("silent")
    watch = await here.follow(id="silent")
    await here.control.look_again(watch, "p", "f", "silent")
    assert await watch.take(0.001) == []
    async with here.world.store.begin("p") as unit:
        await unit.executions.move("silent", ExecutionStatus.FAILED, errors="lost\n")
    await here.control.look_again(watch, "p", "f", "silent")
    assert await texts(watch) == ["lost", "Ended"]
    await here.insert("deleted")
    watch = await here.follow(id="deleted")
    here.control.heard(Occurrence("p", "functions.f.executions.deleted.delete", execution("deleted")))
    assert await watch.take(10.0) is None


async def test_a_function_is_told_of_all_its_executions(here: Here) -> None:
    here.executor.say("old", 1, "said before")
    watch = await here.follow_function()
    here.executor.say("one", 1, "a")
    here.executor.say("two", 1, "b", stream=LogStream.ERRORS)
    here.tell("one", logs="a\n")
    events = await watch.take(10.0)
    assert events is not None
    events += await watch.take(10.0) or []
    assert [event.id.partition("-")[2] for event in events if isinstance(event, Line | Ended)] == ["1", "2", "3", "4"]
    assert await texts(watch) == []


async def test_who_comes_back_goes_on_where_he_left(here: Here) -> None:
    watch = await here.follow_function()
    here.executor.say("e", 1, "a", "b", "c")
    events = await watch.take(10.0)
    assert events is not None and isinstance(events[1], Line)
    watch.close()
    here.executor.say("e", 4, "meanwhile")
    assert await texts(await here.follow_function(events[1].id)) == ["c", "meanwhile"]


async def test_who_comes_back_too_late_is_told_of_the_gap(here: Here) -> None:
    watch = await here.follow_function()
    here.executor.say("e", 1, *map(str, range(logs.KEPT_EVENTS + 10)))
    events = await watch.take(10.0)
    assert events is not None and isinstance(events[0], Line)
    again = await here.follow_function(events[0].id)
    told = await again.take(10.0)
    assert told is not None and told[0] == Gap()
    for position in ("nonsense", "0000-1", f"{events[0].id}9999999"):
        told = await (await here.follow_function(position)).take(10.0)
        assert told is not None and told[0] == Gap(), position


async def test_a_function_nobody_follows_is_forgotten_after_a_while(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "KEPT_S", 0.01)
    (await here.follow_function()).close()
    async with asyncio.timeout(10):
        while here.executor.hearers:  # noqa: ASYNC110 - a timer of the event loop tells nobody
            await asyncio.sleep(0.005)
    assert here.control._channels == {}


async def test_a_stopping_server_ends_every_watch(here: Here) -> None:
    await here.insert()
    watches = [await here.follow(), await here.follow_function()]
    here.control.stop()
    assert [await watch.take(10.0) for watch in watches] == [None, None]
    assert here.executor.hearers == []


async def test_who_may_not_read(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    await here.insert()
    user = Actor(ActorKind.USER, frozenset(), roles=("user:u",), user_id="u")
    for asked, type in (
        (here.control.of_execution("p", user, "f", "e"), "user_unauthorized"),
        (here.control.of_function("p", user, "f"), "user_unauthorized"),
        (here.control.of_execution("p", KEY, "f", "unknown"), "execution_not_found"),
        (here.control.of_function("p", KEY, "unknown"), "function_not_found"),
    ):
        with pytest.raises(Refusal) as refused:
            await asked
        assert refused.value.type == type
    monkeypatch.setattr(logs, "WATCHES_MAX", 1)
    await here.follow()
    with pytest.raises(Busy, match="followed"):
        await here.follow()


async def test_nobody_is_told_while_nobody_listens(here: Here) -> None:
    """An event costs one look, whatever it is about."""
    here.control.heard(Occurrence("p", "functions.f.executions.e.update", cast(Execution, object())))
    assert here.executor.hearers == []
