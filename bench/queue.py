"""`python -m bench.queue`: asynchronous executions, from the call that accepts one to its start and its end.

The real control, store and dispatcher in one process; what runs is an executor that answers at once and notes when it
was asked, so that only the way there is measured. Beside it the usual queue on PostgreSQL: one INSERT a job, and
workers that take them with SELECT ... FOR UPDATE SKIP LOCKED, woken by NOTIFY. Under a minute in all.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.report import Target, machine, show_targets, write_json
from hearth.auth.secrets import VariableCipher
from hearth.clock import SystemClock
from hearth.control.environment import Environment
from hearth.control.events import EventBus
from hearth.control.executions import ExecutionsControl
from hearth.control.gates import Gates
from hearth.control.kept_bodies import KeptBodies
from hearth.control.queued import QueuedExecutions
from hearth.control.runnables import Runnables
from hearth.control.specifications import Specifications
from hearth.jobs.dispatcher import Dispatcher
from hearth.model.actor import Actor, ActorKind
from hearth.model.running import Invocation, Outcome, Result
from hearth.model.statuses import DeploymentStatus
from hearth.ports import Executor, Store
from hearth.store import open_store
from tests.store.samples import deployment, function, project
from tests.support.postgres import running_postgres

RESULTS = Path("bench-results")
PER_SECOND, SECONDS = 200, 5
BURST = 20_000
#: Calls under way at once in the burst: a server has that many connections open.
CALLERS = 256
PLACES = 64
PEER_WORKERS = 8
DRAIN_WAIT_S = 120.0
START_P50_MS, START_P99_MS, ACCEPTED_PER_S = 2.0, 10.0, 5_000.0
RUNTIMES = ({"$id": "node-22", "name": "Node.js", "version": "22"},)
KEY = Actor(ActorKind.KEY, frozenset(), roles=("keys",))


@dataclass(slots=True)
class Row:
    """What one queue did; milliseconds from the call to the start, executions a second in the burst."""

    name: str
    start_p50_ms: float = 0.0
    start_p99_ms: float = 0.0
    accept_p50_ms: float = 0.0
    accepted_per_s: float = 0.0
    ended_per_s: float = 0.0
    ended: int = 0


class NotingExecutor:
    """Answers at once; when each body was begun is in `started`."""

    def __init__(self) -> None:
        self.started: dict[bytes, float] = {}
        self.result = Result(Outcome.COMPLETED, 200)

    async def invoke(self, invocation: Invocation) -> Result:
        self.started[invocation.body] = time.perf_counter()
        return self.result


class Hearth:
    """Our own queue on one database."""

    def __init__(self, store: Store) -> None:
        clock = SystemClock()
        self.executor = NotingExecutor()
        specifications = Specifications(0, 0)
        environment = Environment(endpoint="http://api/v1", region="r", runtimes=RUNTIMES, mint_key=lambda *_: "key")
        common: dict[str, Any] = {
            "store": store,
            "clock": clock,
            "events": EventBus(),
            "executor": cast(Executor, self.executor),
            "runnables": Runnables(store, specifications, environment),
            "mint_key": lambda *_: "key",
            "mint_user_jwt": lambda *_: "jwt",
            "gates": Gates(),
            "bodies": KeptBodies(store),
        }
        queued = QueuedExecutions(**common)
        self.executions = ExecutionsControl(queued=queued, **common)
        self.dispatcher = Dispatcher(store=store, clock=clock, owner="bench/1", queued=queued, places=PLACES)

    async def accept(self, body: bytes) -> None:
        await self.executions.create("p", KEY, "f", headers={}, body=body, is_async=True)

    def started(self) -> dict[bytes, float]:
        return self.executor.started


@asynccontextmanager
async def hearth(database: str) -> AsyncIterator[Hearth]:
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        clock = SystemClock()
        store = await open_store(database, data_dir=Path(folder), secret=VariableCipher(bytes(32)), clock=clock)
        try:
            await store.projects.insert(project())
            async with store.begin("p") as unit:
                await unit.functions.insert(function())
                await unit.deployments.insert(deployment("d"))
                await unit.deployments.move("d", DeploymentStatus.BUILDING)
                await unit.deployments.move("d", DeploymentStatus.READY, artifact_key="a", artifact_digest="0" * 64)
                await unit.functions.update("f", deployment_id="d")
            queue = Hearth(store)
            queue.dispatcher.start()
            try:
                yield queue
            finally:
                await queue.dispatcher.close()
        finally:
            await store.close()


class Peer:
    """The usual way: a table, single inserts, workers with SKIP LOCKED."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool
        self._started: dict[bytes, float] = {}
        self._wake = asyncio.Event()

    async def accept(self, body: bytes) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO runs (body, status) VALUES ($1, 'waiting')", body)
            await connection.execute("INSERT INTO jobs (body) VALUES ($1)", body)
            await connection.execute("NOTIFY jobs")

    def started(self) -> dict[bytes, float]:
        return self._started

    def wake(self, *_: object) -> None:
        self._wake.set()

    async def work(self) -> None:
        take = (
            "DELETE FROM jobs WHERE id = (SELECT id FROM jobs ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) "
            "RETURNING body"
        )
        while True:
            async with self._pool.acquire() as connection:
                body = await connection.fetchval(take)
                if body is not None:
                    self._started[body] = time.perf_counter()
                    await connection.execute("UPDATE runs SET status = 'completed' WHERE body = $1", body)
                    continue
            self._wake.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._wake.wait()
            except TimeoutError:
                continue


@asynccontextmanager
async def peer(address: str) -> AsyncIterator[Peer]:
    async with asyncpg.create_pool(address, min_size=8, max_size=16) as pool:
        async with pool.acquire() as connection:
            await connection.execute(
                "CREATE TABLE runs (id bigserial PRIMARY KEY, body bytea UNIQUE, status text);"
                "CREATE TABLE jobs (id bigserial PRIMARY KEY, body bytea)"
            )
        queue = Peer(pool)
        listener = await asyncpg.connect(address)
        await listener.add_listener("jobs", queue.wake)
        workers = [asyncio.create_task(queue.work()) for _ in range(PEER_WORKERS)]
        try:
            yield queue
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
            await listener.close()


async def measure(name: str, queue: Hearth | Peer, burst: int) -> Row:
    """First a steady stream, then everything at once."""
    row = Row(name)
    for warm in range(50):
        await queue.accept(b"warm-%d" % warm)
    called: dict[bytes, float] = {}
    accepted_ms: list[float] = []

    async def one(body: bytes) -> None:
        called[body] = begun = time.perf_counter()
        await queue.accept(body)
        accepted_ms.append((time.perf_counter() - begun) * 1_000)

    first = time.perf_counter() + 0.05
    tasks = []
    for number in range(PER_SECOND * SECONDS):
        await asyncio.sleep(max(0.0, first + number / PER_SECOND - time.perf_counter()))
        tasks.append(asyncio.create_task(one(b"steady-%d" % number)))
    await asyncio.gather(*tasks)
    await all_started(queue, called)
    waits_ms = [(queue.started()[body] - begun) * 1_000 for body, begun in called.items()]
    percents = statistics.quantiles(waits_ms, n=100)
    row.start_p50_ms, row.start_p99_ms = percents[49], percents[98]
    row.accept_p50_ms = statistics.median(accepted_ms)

    bodies = [b"burst-%d" % number for number in range(burst)]
    feed = iter(bodies)

    async def caller() -> None:
        for body in feed:
            await queue.accept(body)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    row.accepted_per_s = burst / (time.perf_counter() - begun)
    await all_started(queue, bodies)
    row.ended_per_s = burst / (time.perf_counter() - begun)
    row.ended = sum(body in queue.started() for body in bodies)
    return row


async def all_started(queue: Hearth | Peer, bodies: Any) -> None:
    """Wait until all of these were begun, for a bounded time."""
    last = time.perf_counter() + DRAIN_WAIT_S
    missing = set(bodies)
    while missing and time.perf_counter() < last:
        missing.difference_update(queue.started())
        await asyncio.sleep(0.02)


async def measure_all(burst: int) -> list[Row]:
    rows = []
    async with hearth("") as queue:
        rows.append(await measure("hearth, SQLite", queue, burst))
    with running_postgres() as address:
        for database in ("ours", "theirs"):
            connection = await asyncpg.connect(f"{address}/postgres")
            await connection.execute(f"CREATE DATABASE {database}")
            await connection.close()
        async with hearth(f"{address}/ours") as queue:
            rows.append(await measure("hearth, PostgreSQL", queue, burst))
        async with peer(f"{address}/theirs") as other:
            rows.append(await measure("SKIP LOCKED, single inserts", other, burst))
    return rows


def judge(rows: list[Row], burst: int) -> list[Target]:
    """The promises, of both databases."""
    return [target for row in rows[:2] for target in judge_one(row, burst)]


def judge_one(ours: Row, burst: int) -> list[Target]:
    """The promises, of one of our own rows."""
    return [
        Target(
            f"{ours.name}: enqueue to start at {PER_SECOND}/s: p50 <= {START_P50_MS:g} ms, p99 <= {START_P99_MS:g} ms",
            f"{ours.start_p50_ms:.2f} ms, {ours.start_p99_ms:.2f} ms",
            ours.start_p50_ms <= START_P50_MS and ours.start_p99_ms <= START_P99_MS,
        ),
        Target(
            f"{ours.name}: a burst of {burst:,} is accepted at >= {ACCEPTED_PER_S:,.0f}/s, and all of it ends",
            f"{ours.accepted_per_s:,.0f}/s, {ours.ended:,} ended",
            ours.accepted_per_s >= ACCEPTED_PER_S and ours.ended == burst,
        ),
    ]


def main() -> int:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(prog="bench.queue", description=__doc__)
    parser.add_argument("--burst", type=int, default=BURST)
    given = parser.parse_args()
    console, on = Console(), machine()
    rows = asyncio.run(measure_all(given.burst))
    table = Table(title=f"\nAsynchronous executions, {on['date']}", title_justify="left", box=None, pad_edge=False)
    table.add_column("queue", no_wrap=True)
    for column in ("start\np50 ms", "start\np99 ms", "accept\np50 ms", "burst\naccepted/s", "burst\nended/s", "ended"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            f"{row.start_p50_ms:.2f}",
            f"{row.start_p99_ms:.2f}",
            f"{row.accept_p50_ms:.2f}",
            f"{row.accepted_per_s:,.0f}",
            f"{row.ended_per_s:,.0f}",
            f"{row.ended:,}",
        )
    console.print(table)
    targets = judge(rows, given.burst)
    show_targets(console, targets, on)
    document = {
        "machine": on,
        "rows": [asdict(row) for row in rows],
        "targets": [asdict(target) for target in targets],
    }
    console.print(f"written to {write_json(RESULTS, 'queue', document, on)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
