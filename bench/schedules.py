"""`python -m bench.schedules`: 100,000 active schedules: memory, lateness of what is due, wake-ups where nothing is.

The real store, scheduler and alarm in one process; nothing runs. Each lateness is the time from a planned time to the
committed execution of it. Two minutes are measured: 7,000 functions whose runs are spread over the minute by their
jitter, and 7,000 that are due in the same second. About four minutes in all, most of it waiting for whole minutes.
"""

import argparse
import asyncio
import gc
import sqlite3
import statistics
import sys
import tempfile
import time
import tracemalloc
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from bench.report import Target, machine, show_targets, write_json
from hearth.auth.secrets import VariableCipher
from hearth.clock import SystemClock
from hearth.control.environment import Environment
from hearth.control.events import EventBus
from hearth.control.gates import Gates
from hearth.control.kept_bodies import KeptBodies
from hearth.control.queued import QueuedExecutions
from hearth.control.runnables import Runnables
from hearth.control.specifications import Specifications
from hearth.model.events import Occurrence
from hearth.model.resources import Execution
from hearth.ports import Executor, Store
from hearth.store import open_store
from hearth.triggers.alarm import Alarm
from hearth.triggers.planner import Plan, Planner, jitter_ms
from hearth.triggers.scheduler import Scheduler
from tests.store.samples import function, project

RESULTS = Path("bench-results")
ACTIVE, DUE = 100_000, 7_000
MEMORY_MB, LATE_P99_MS, BURST_P99_MS, TICK_MS = 60.0, 250.0, 1_000.0, 5.0
JITTER_S = 58
QUIET_S = 10.0


@dataclass(slots=True)
class Found:
    """What was measured; milliseconds but for `loaded_s` and `memory_mb`."""

    active: int = 0
    memory_mb: float = 0.0
    loaded_s: float = 0.0
    longest_tick_ms: float = 0.0
    quiet_wake_ups: int = 0
    spread_ms: list[float] = field(default_factory=list)
    burst_ms: list[float] = field(default_factory=list)


class CountingAlarm(Alarm):
    """Counts how often it is set: once per round of the scheduler."""

    rounds = 0

    def set(self, moment: datetime | None) -> None:
        CountingAlarm.rounds += 1
        super().set(moment)


def main() -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(prog="bench.schedules", description=__doc__)
    parser.add_argument("--active", type=int, default=ACTIVE)
    parser.add_argument("--due", type=int, default=DUE)
    given = parser.parse_args()
    console, on = Console(), machine()
    found = Found(active=given.active, memory_mb=memory_mb(given.active))
    asyncio.run(measure(found, given.active, given.due))
    targets = judge(found, given.due)
    show(console, found, given.due)
    show_targets(console, targets, on)
    document = {"machine": on, "found": asdict(found), "targets": [asdict(target) for target in targets]}
    console.print(f"written to {write_json(RESULTS, 'schedules', document, on)}")
    return 0


def memory_mb(active: int) -> float:
    """What the planner holds of so many schedules, each with a rule of few others and an id of its own."""
    now = datetime.now(UTC)
    planner = Planner()
    gc.collect()
    tracemalloc.start()
    for number in range(active):
        planner.put(Plan("default", f"{number:020x}", f"{number % 60} {number // 60 % 24} * * *"), now)
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used / 1e6


async def measure(found: Found, active: int, due: int) -> None:
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        store = await open_store("", data_dir=Path(folder), secret=VariableCipher(bytes(32)), clock=clock)
        try:
            await store.projects.insert(project())
            async with store.begin("p") as unit:
                await unit.functions.insert(function())
            first = next_minute(clock.now() + timedelta(seconds=45))
            fill(Path(folder) / "hearth.db", active, due, first)
            await run(found, store, clock, due)
        finally:
            await store.close()


def next_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0) + timedelta(minutes=1)


def fill(database: Path, active: int, due: int, first: datetime) -> None:
    """Copies of a function: the first due in the first minute with jitter, as many in the next at once, the rest never
    while we look (a leap day)."""
    second = first + timedelta(minutes=1)
    with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(functions)") if row[1] != "sequence"]
        chosen = {
            "id": "printf('%020x', value)",
            "deployment_id": "'d'",
            "schedule": f"CASE WHEN value < {due} THEN '{first.minute} {first.hour} * * *'"
            f" WHEN value < {2 * due} THEN '{second.minute} {second.hour} * * *'"
            " ELSE (value % 60) || ' ' || (value / 60 % 24) || ' 29 2 *' END",
        }
        picked = ", ".join(chosen.get(name, name) for name in columns)
        connection.execute(
            "WITH RECURSIVE numbers(value) AS"
            f" (SELECT 0 UNION ALL SELECT value + 1 FROM numbers WHERE value < {active - 1})"
            f" INSERT INTO functions ({', '.join(columns)})"
            f" SELECT {picked} FROM functions, numbers WHERE functions.id = 'f'"
        )
        connection.execute(
            "INSERT INTO function_settings (project_id, function_id, updated_at, settings) SELECT 'p', id, updated_at,"
            f" '{{\"schedule_jitter_s\": {JITTER_S}}}' FROM functions WHERE id != 'f' AND sequence <= 1 + {due}"
        )


async def run(found: Found, store: Store, clock: SystemClock, due: int) -> None:
    bus = EventBus()
    late: dict[str, float] = {}
    everything = asyncio.Event()

    def heard(occurrence: Occurrence) -> None:
        execution = occurrence.subject
        if isinstance(execution, Execution) and execution.scheduled_at is not None:
            late[execution.function_id] = time.time() - execution.scheduled_at.timestamp()
            if len(late) == 2 * due:
                everything.set()

    bus.subscribe(heard)
    common: dict[str, Any] = {"store": store, "clock": clock, "events": bus}
    environment = Environment(endpoint="", region="", runtimes=(), mint_key=lambda *_: "key")
    queued = QueuedExecutions(
        executor=cast(Executor, None),
        runnables=Runnables(store, Specifications(0, 0), environment),
        mint_key=lambda *_: "key",
        mint_user_jwt=lambda *_: "jwt",
        gates=Gates(),
        bodies=KeptBodies(store),
        **common,
    )
    scheduler = Scheduler(store=store, clock=clock, queued=queued, make_alarm=CountingAlarm)
    ticks = asyncio.create_task(watch_ticks(found))
    began = time.perf_counter()
    scheduler.start()
    await scheduler.loaded()
    found.loaded_s = time.perf_counter() - began
    ticks.cancel()
    assert len(scheduler) == found.active, len(scheduler)
    await asyncio.sleep(1)
    rounds = CountingAlarm.rounds
    await asyncio.sleep(QUIET_S)
    found.quiet_wake_ups = CountingAlarm.rounds - rounds
    try:
        async with asyncio.timeout(300):
            await everything.wait()
    finally:
        await scheduler.close()
    for id, seconds in late.items():
        if int(id, 16) < due:
            found.spread_ms.append(seconds * 1e3 - jitter_ms(id, JITTER_S))
        else:
            found.burst_ms.append(seconds * 1e3)


async def watch_ticks(found: Found) -> None:
    """By how much the event loop came late at most, looking every millisecond."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late_ms = (time.perf_counter() - began) * 1e3 - 1
        found.longest_tick_ms = max(found.longest_tick_ms, late_ms)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def judge(found: Found, due: int) -> list[Target]:
    """The figures that were promised."""
    return [
        Target(
            f"memory of {found.active:,} active schedules, MB",
            f"{found.memory_mb:.1f}",
            found.memory_mb <= MEMORY_MB,
        ),
        Target(
            f"lateness p99 with {due:,} due in one minute, ms",
            f"{p99(found.spread_ms):.1f}",
            p99(found.spread_ms) <= LATE_P99_MS,
        ),
        Target(
            f"lateness p99 with {due:,} due in one second, ms",
            f"{p99(found.burst_ms):.1f}",
            p99(found.burst_ms) <= BURST_P99_MS,
        ),
        Target("wake-ups where nothing is due", str(found.quiet_wake_ups), found.quiet_wake_ups == 0),
    ]


def show(console: Console, found: Found, due: int) -> None:
    table = Table(title="schedules")
    for title in ("what", "measured"):
        table.add_column(title)
    table.add_row("active", f"{found.active:,}")
    table.add_row("memory", f"{found.memory_mb:.1f} MB")
    table.add_row("read at the start in", f"{found.loaded_s:.1f} s, longest tick {found.longest_tick_ms:.1f} ms")
    for name, values in ((f"{due:,} within a minute", found.spread_ms), (f"{due:,} in one second", found.burst_ms)):
        table.add_row(
            name, f"late p50 {statistics.median(values):.1f} ms, p99 {p99(values):.1f} ms, max {max(values):.1f} ms"
        )
    table.add_row(f"wake-ups in {QUIET_S:g} s without anything due", str(found.quiet_wake_ups))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
