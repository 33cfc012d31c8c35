"""Rounds of faults: load, a SIGKILL at a random moment, a restart, and the question what became of every promise."""

import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from hearth.jobs.reaper import INTERVAL_S
from hearth.jobs.worker import LEASE_S
from hearth.store.sql.inspection import inspect_database
from tests.faults.checker import FOR_GOOD, History, Violation, violations
from tests.faults.counter import Counter as RunCounter
from tests.faults.counter import running_counter
from tests.faults.database import Database, Postgres, Sqlite, records, set_back
from tests.faults.load import Load
from tests.support.api import create_function, deploy, ok
from tests.support.leftovers import Process
from tests.support.postgres import Cluster, cluster
from tests.support.runtimes import runtime_of
from tests.support.server import Server, server_folder

VICTIMS = ("server", "spawner", "gate", "instance", "sandbox", "build", "database")
CRON = ("cron1", "cron2")
MINUTE_MS = 60_000
#: The latest moment of a kill after the load began; the load goes on for `AFTER_S` beyond it.
KILL_WITHIN_S = 1.5
AFTER_S = 0.3
VICTIM_WAIT_S = 5.0
END_WAIT_S = 90.0
POLL_S = 0.25
#: How long what was accepted may take to end after a restart: one lease, and until the reaper has looked.
SETTLE_S = LEASE_S + INTERVAL_S
_COMMANDS = {
    "spawner": "hearth.executor.sandbox.spawner",
    "gate": "hearth.executor.sandbox.gate",
    "instance": "/shims/python/",
    "sandbox": "hearth.executor.sandbox.spawner",  # its first process, which has come of the spawner
    "build": "sleep 0.77",
}


@dataclass(frozen=True, slots=True)
class Round:
    """What one round did and found."""

    number: int
    victim: str
    settled_s: float
    violations: list[Violation]


@dataclass(slots=True)
class Campaign:
    """Rounds on one data folder; counts are of all of them."""

    engine: str
    seed: int
    rounds: list[Round] = field(default_factory=list)
    accepted: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    runs: int = 0

    @property
    def found(self) -> list[str]:
        """Every violation, with what is needed to see it again."""
        return [
            f"{self.engine}, seed {self.seed}, round {it.number}, {it.victim} killed: {one.rule}: {one.detail}"
            for it in self.rounds
            for one in it.violations
        ]


@dataclass(slots=True)
class World:
    """One server under test, with what surrounds it."""

    server: Server
    database: Database
    cluster: Cluster | None
    counter: RunCounter
    load: Load
    spread: random.Random
    settle_s: float
    planned_since: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CRON, 0))


def run(
    engine: str,
    seed: int,
    count: int,
    *,
    settle_s: float = SETTLE_S,
    until_s: float = float("inf"),
    victims: tuple[str, ...] = VICTIMS,
    settings: Mapping[str, str] | None = None,
    planted: str = "",
    progress: bool = False,
) -> Campaign:
    """At most `count` rounds, none begun after `until_s` (monotonic); ends with the first one that finds something.

    `planted` names a bug of `tests.faults.planted` the server is started with.
    """
    campaign = Campaign(engine, seed)
    victims = tuple(it for it in victims if it != "database" or engine == "postgresql")
    with _world(engine, seed, settle_s, settings or {}, planted) as world:
        order: list[str] = []
        for number in range(1, count + 1):
            if time.monotonic() > until_s:
                break
            order = order or world.spread.sample(victims, len(victims))
            done = _round(world, number, order.pop())
            campaign.rounds.append(done)
            if progress:
                print(f"{engine} {number:3} {done.victim:9} settled after {done.settled_s:5.1f} s", flush=True)
            if done.violations:
                break
        campaign.accepted = world.load.counts()
        campaign.records = Counter(f"{it.kind} {it.trigger or it.status}" for it in records(world.database))
        campaign.runs = len(world.counter.runs)
        if not campaign.found:
            world.server.stop()
            world.server.assert_nothing_left()
    return campaign


@contextlib.contextmanager
def _world(engine: str, seed: int, settle_s: float, given: Mapping[str, str], planted: str) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        counter = stack.enter_context(running_counter())
        folder = stack.enter_context(server_folder())
        settings = {
            "HEARTH_EGRESS_ALLOW": f"{counter.host}:{counter.port}",
            "HEARTH_ASYNC_CONCURRENCY": "8",
            "HEARTH_STEMS_PER_RUNTIME": "1",
            "HEARTH_GRACE": "5",
            **given,
        }
        made: Cluster | None = None
        if engine == "postgresql":
            made = stack.enter_context(cluster())
            settings["HEARTH_DATABASE_URL"] = f"{made.address}/postgres"
        program = Path(__file__).with_name("planted.py")
        server = Server(folder, settings, program=(sys.executable, str(program), planted) if planted else ())
        database: Database = (
            Sqlite(server.data_dir / "hearth.db") if made is None else Postgres(f"{made.address}/postgres")
        )
        server.start()
        stack.callback(_end, server)
        load = Load(server, counter.source, seed)
        world = World(server, database, made, counter, load, random.Random(seed), settle_s)
        _deploy(world)
        yield world


def _end(server: Server) -> None:
    if server.is_running:
        server.kill()


def _deploy(world: World) -> None:
    python, source = runtime_of("python"), {"main.py": world.counter.source}
    with world.server.client() as client:
        for id in ("f", "b", "listener", *CRON):
            rules = {"events": ["users.*.create"]} if id == "listener" else {}
            create_function(client, id, python, entrypoint="main.py", timeout=20, **rules)
            if id != "b":
                assert deploy(client, id, source)["status"] == "ready"
        for id in CRON:
            ok(client.patch(f"/functions/{id}/settings", json={"scheduleMissedRuns": "once"}))
            ok(client.put(f"/functions/{id}", json={"name": id, "entrypoint": "main.py", "schedule": "* * * * *"}))


def _round(world: World, number: int, victim: str) -> Round:
    server = world.server
    with world.load.running():
        time.sleep(world.spread.uniform(0.05, KILL_WITHIN_S))
        was_killed = _kill(world, victim)
        time.sleep(AFTER_S)
    if not server.is_running:
        set_back(world.database, world.spread.randint(1, 5) * 3_600_000)
        world.load.delayed_are_due()
        # The newest missed planned time is due with the start.
        world.planned_since = dict.fromkeys(CRON, int(time.time() * 1_000) // MINUTE_MS * MINUTE_MS)
        server.start()
    world.load.finish_uploads()
    began = time.monotonic()
    # What ended while the database was away is recorded soon after it is back; any other run is on record by now.
    for_good = FOR_GOOD - {"ran unrecorded"} if victim == "database" else FOR_GOOD
    found = _violations(world)
    while found and time.monotonic() - began < world.settle_s and not any(it.rule in for_good for it in found):
        time.sleep(POLL_S)
        found = _violations(world)
    return Round(number, victim if was_killed else f"{victim} (none ran)", time.monotonic() - began, found)


def _kill(world: World, victim: str) -> bool:
    """SIGKILL the victim; whatever the server does about it has been done on return. False if there was none."""
    server = world.server
    if victim == "server":
        server.kill()
        return True
    if victim == "database":
        assert world.cluster is not None
        world.cluster.kill()
        time.sleep(world.spread.uniform(0.0, 1.0))
        world.cluster.start()
        return True
    process = _find(world, victim)
    if process is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    if victim in ("spawner", "gate"):
        server.wait_for_end(END_WAIT_S)
    return True


def _find(world: World, victim: str) -> Process | None:
    """A process of this kind below the server; waits for one for a while."""
    deadline = time.monotonic() + VICTIM_WAIT_S
    while time.monotonic() < deadline:
        members = world.server.note_footprint().processes
        found = sorted((it for it in members if _COMMANDS[victim] in it.command), key=lambda it: (it.started, it.pid))
        if victim in ("spawner", "gate"):
            found = found[:1]  # the helper itself was there before all that came of it
        elif victim == "sandbox":
            found = found[1:]
        if found:
            return world.spread.choice(found)
        time.sleep(0.02)
    return None


def _violations(world: World) -> list[Violation]:
    """What does not hold yet, or any more."""
    runs = world.counter.runs  # before the records: what begins in between is on record already
    return violations(
        History(
            accepted=world.load.accepted(is_due=False),
            records=records(world.database),
            runs=runs,
            events_sent=world.load.events_sent,
            events_accepted=world.load.events_accepted,
            planned_since=world.planned_since,
            unfinished=_unfinished(world.server),
            leftovers=world.server.leftovers(),
        )
    )


def _unfinished(server: Server) -> list[str]:
    """What `hearth doctor` would list, without executions whose time has not come."""
    url = server.environment.get("HEARTH_DATABASE_URL") or f"sqlite:///{server.data_dir / 'hearth.db'}"

    async def inspect() -> list[str]:
        found = await inspect_database(url, data_dir=server.data_dir)
        return [
            f"{row.kind} {row.id} is {row.status}"
            for row in found.unfinished
            if not (row.status == "scheduled" and row.job is not None)
        ]

    return anyio.run(inspect)
