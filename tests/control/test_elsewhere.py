"""Two servers on one PostgreSQL: what one changes, the other knows within seconds."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from hearth.auth.secrets import VariableCipher
from hearth.control.elsewhere import ChangesElsewhere
from hearth.control.environment import Environment
from hearth.control.queued import QueuedExecutions
from hearth.control.rules import Domains, RuleBook
from hearth.control.runnables import Runnables
from hearth.control.specifications import Specifications
from hearth.model.events import Occurrence
from hearth.model.function_settings import FunctionSettings
from hearth.model.people import User
from hearth.model.resources import Function
from hearth.model.statuses import DeploymentStatus
from hearth.ports import ANYTHING_CHANGED, ChangedElsewhere, MemoryKind
from hearth.store import SqlStore, open_store
from hearth.store.sql import changes, postgres
from hearth.triggers.events import EventTriggers
from hearth.triggers.scheduler import Scheduler
from tests.control.support import RUNTIMES
from tests.store.samples import KEY, NOW, FakeClock, deployment, function, key, project, rule, variable
from tests.support.postgres import running_postgres

pytestmark = pytest.mark.anyio

WAIT_S = 30.0


class NoAlarm:
    """Rings never: what is due is no matter here."""

    def set(self, moment: object) -> None: ...
    def close(self) -> None: ...


class Node:
    """One server, as far as it keeps things in memory."""

    def __init__(self, store: SqlStore) -> None:
        self.store, self.clock = store, FakeClock()
        environment = Environment(endpoint="http://api/v1", region="r", runtimes=RUNTIMES, mint_key=lambda *_: "key")
        self.runnables = Runnables(store, Specifications(0, 0), environment)
        queued = cast(QueuedExecutions, None)
        self.scheduler = Scheduler(store=store, clock=self.clock, queued=queued, make_alarm=lambda _: NoAlarm())
        self.triggers = EventTriggers(store=store, clock=self.clock, queued=queued, payload_of=lambda _: None)
        self.rules = RuleBook(Domains("functions.localhost"))
        self.forgotten: list[str] = []
        self.told: list[str] = []
        self.heard: list[ChangedElsewhere] = []
        self.elsewhere = ChangesElsewhere(
            store=store,
            clock=self.clock,
            runnables=self.runnables,
            forget_keys=lambda: self.forgotten.append("keys"),
            forget_people=lambda: self.forgotten.append("people"),
            reload_hosting=self.reload_hosting,
            follow=(lambda occurrence: self.told.append(occurrence.event), self.triggers.heard, self.scheduler.heard),
            reload=(self.triggers.load, self.scheduler.reload),
        )
        store.on_changes(self.heard.append)
        store.on_changes(self.elsewhere.heard)

    async def reload_hosting(self) -> None:
        self.rules.load(await self.store.projects.rules())


@asynccontextmanager
async def node(address: str, data_dir: Path) -> AsyncIterator[Node]:
    store = await open_store(address, data_dir=data_dir, secret=VariableCipher(KEY), clock=FakeClock())
    made = Node(store)
    await made.triggers.load()
    made.scheduler.start()
    made.elsewhere.start()
    try:
        await made.scheduler.loaded()
        yield made
    finally:
        await made.elsewhere.close()
        await made.scheduler.close()
        await store.close()


@pytest.fixture(scope="module")
def address() -> Any:
    with running_postgres() as cluster:
        yield f"{cluster}/postgres"


@pytest.fixture
async def two(address: str, tmp_path: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two servers, and a function with an active deployment that both have run."""
    async with AsyncExitStack() as stack:
        here, there = [await stack.enter_async_context(node(address, tmp_path / name)) for name in ("a", "b")]
        if await here.store.projects.get("p") is None:
            await here.store.projects.insert(project())
        async with here.store.begin("p") as unit:
            await unit.functions.insert(function())
            await unit.deployments.insert(deployment("d", status=DeploymentStatus.READY))
            await unit.functions.update("f", deployment_id="d")
        await until(lambda: "functions.f.update" in there.told)
        there.told.clear()
        for each in (here, there):
            assert await each.runnables.get("p", "f") is not None
        yield here, there
        async with here.store.begin("p") as unit:
            await unit.functions.delete("f")
            await unit.function_settings.delete("f")
            await unit.deployments.delete("d")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - nobody tells; bounded above
            await asyncio.sleep(0.005)


async def test_settings_schedules_and_events_that_one_server_changes_are_known_to_the_other(
    two: tuple[Node, Node],
) -> None:
    here, there = two
    async with here.store.begin("p") as unit:
        await unit.functions.update("f", schedule="* * * * *", events=("users.*.create",))
        await unit.function_settings.put("f", FunctionSettings(store_bodies=True))
    await until(lambda: len(there.scheduler) == 1)
    assert there.triggers._book.is_wanted("p", "users.ann.create")
    known = await there.runnables.get("p", "f")
    assert known is not None
    assert known.settings.store_bodies
    async with here.store.begin("p") as unit:
        await unit.function_settings.put("f", FunctionSettings(schedule_paused=True))
    await until(lambda: len(there.scheduler) == 0)
    async with here.store.begin("p") as unit:
        await unit.functions.delete("f")
    await until(lambda: not there.triggers._book.is_wanted("p", "users.ann.create"))
    assert await there.runnables.get("p", "f") is None
    assert there.told[-1] == "functions.f.delete"
    assert here.told == [], "its own changes were told by their events"


async def test_variables_and_deployments_make_the_other_server_read_the_function_again(two: tuple[Node, Node]) -> None:
    here, there = two
    async with here.store.begin("p") as unit:
        await unit.variables.insert(variable("own", resource_type="function", resource_id="f", key="A", value="1"))
    await until(lambda: there.runnables.peek("p", "f") is None)
    known = await there.runnables.get("p", "f")
    assert known is not None
    assert known.template is not None
    assert known.template.environment["A"] == "1"
    await until(lambda: there.told == ["functions.f.update"])
    async with here.store.begin("p") as unit:
        await unit.variables.insert(variable("all", resource_type="project", resource_id="", key="B", value="2"))
    await until(lambda: there.told == ["functions.f.update"] * 2)
    assert there.runnables.peek("p", "f") is None
    await there.runnables.get_deployment("p", "f", "other")
    async with here.store.begin("p") as unit:
        await unit.deployments.insert(deployment("other", status=DeploymentStatus.BUILDING))
        await unit.deployments.move("other", DeploymentStatus.READY)
    await until(lambda: len(there.told) == 3)
    async with here.store.begin("p") as unit:
        await unit.deployments.delete("other")
        await unit.variables.delete("own")
        await unit.variables.delete("all")
    await until(lambda: len(there.told) >= 4)


async def test_rules_keys_and_people_are_forgotten_and_read_again(two: tuple[Node, Node]) -> None:
    here, there = two
    async with here.store.begin("p") as unit:
        await unit.rules.insert(rule("r", domain="one.functions.localhost"))
        await unit.keys.insert(key("k"))
        await unit.users.insert(User("u", "p", NOW, NOW, NOW))
    await until(lambda: there.rules.has("one.functions.localhost"))
    assert there.forgotten == [], "what is new is in nobody's memory"
    async with here.store.begin("p") as unit:
        await unit.rules.delete("r")
        await unit.keys.delete("k")
        await unit.users.update("u", status=False)
    await until(lambda: not there.rules.has("one.functions.localhost"))
    assert sorted(there.forgotten) == ["keys", "people"]
    async with here.store.begin("p") as unit:
        await unit.users.delete("u")


async def test_what_was_committed_while_nobody_listened_is_read_when_the_connection_is_back(
    two: tuple[Node, Node], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    monkeypatch.setattr(postgres, "_RECONNECT_S", 0.01)
    monkeypatch.setattr(postgres.PostgresBackend, "announce_changes", _unheard)
    async with here.store.begin("p") as unit:
        await unit.functions.update("f", schedule="* * * * *", events=("users.*.create",))
        await unit.rules.insert(rule("r", domain="two.functions.localhost"))
    there.heard.clear()
    connection = await asyncpg.connect(address)
    ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1"
    assert len(await connection.fetch(ending, postgres.LISTENER_NAME)) == 2
    await connection.close()
    await until(lambda: ANYTHING_CHANGED in there.heard)
    await until(lambda: len(there.scheduler) == 1 and there.rules.has("two.functions.localhost"))
    assert there.triggers._book.is_wanted("p", "users.ann.create")
    monkeypatch.undo()
    async with here.store.begin("p") as unit:
        await unit.rules.delete("r")


async def _unheard(*_: object) -> None:
    return


async def test_a_write_of_this_server_while_rules_are_read_has_them_read_once_more() -> None:
    reads: list[int] = []
    going, read = asyncio.Event(), asyncio.Event()

    async def reload_hosting() -> None:
        reads.append(1)
        going.set()
        await read.wait()

    elsewhere = ChangesElsewhere(
        store=cast(Any, None),
        clock=FakeClock(),
        runnables=cast(Any, None),
        forget_keys=lambda: None,
        forget_people=lambda: None,
        reload_hosting=reload_hosting,
        follow=(),
        reload=(),
    )
    own = ChangedElsewhere("p", frozenset(), frozenset({MemoryKind.HOSTING}), is_own=True)
    elsewhere.start()
    elsewhere.heard(own)
    assert not elsewhere._wake.is_set(), "it knows its own writes"
    elsewhere.heard(ChangedElsewhere("p", frozenset(), frozenset({MemoryKind.HOSTING})))
    await going.wait()
    elsewhere.heard(own)
    read.set()
    await until(lambda: len(reads) == 2)
    await elsewhere.close()


def test_a_notice_says_what_changed_within_the_length_that_postgresql_takes() -> None:
    kinds = {MemoryKind.KEYS, MemoryKind.HOSTING}
    notice = changes.encode("me", "p", {"f", "g"}, kinds)
    assert changes.decode(notice, "other") == ChangedElsewhere("p", frozenset({"f", "g"}), frozenset(kinds))
    own = changes.decode(notice, "me")
    assert own is not None
    assert own.is_own
    long = changes.encode("me", "p" * 36, {f"{number:036}" for number in range(500)}, set())
    assert len(long) < 8_000
    assert changes.decode(long, "other") == ChangedElsewhere("p" * 36, None, frozenset())
    assert changes.decode("{}", "me") is None
    assert changes.decode(notice.replace("keys", "newer"), "other") is None


async def test_an_event_trigger_book_read_anew_keeps_what_was_heard_meanwhile(tmp_path: Path) -> None:
    class Listeners:
        async def page(self, after: int, limit: int, project_id: str = "") -> tuple[Any, ...]:
            triggers.heard(
                Occurrence("p", "functions.f.update", Function("f", "p", NOW, NOW, "n", "r", events=("a.*",)))
            )
            return ()

    class Store:
        listeners = Listeners()

    triggers = EventTriggers(
        store=cast(Any, Store()), clock=FakeClock(), queued=cast(Any, None), payload_of=lambda _: None
    )
    await triggers.load()
    assert triggers._book._events == {"p": {"f": ("a.*",)}}
