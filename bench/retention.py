"""`python -m bench.retention`: a sweep of very many executions, and what others notice of it meanwhile.

On SQLite and on a real PostgreSQL: a function with many executions and one with few. Measured are the transactions of
the sweep (each holds the writer), how long records wait for their commit with and without it, and get and list with
many executions beside those with few.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table
from sqlalchemy import text

from bench.report import Target, machine, show_targets, write_json
from hearth.control import sweeping
from hearth.model.queries import ListQuery, Order
from hearth.model.statuses import ExecutionStatus
from hearth.store import SqlStore
from tests.store.conftest import opened
from tests.store.samples import FakeClock, execution, function, project
from tests.support.many import copies
from tests.support.postgres import running_postgres

FEW, MANY, SWEPT = 10_000, 1_000_000, 100_000
TURNS = 100
HELD_MS, TIMES = 20.0, 1.5
#: Records written per second beside the sweep.
RATE = 100
RESULTS = Path("bench-results")


@dataclass(slots=True)
class Row:
    """What was measured on one database; milliseconds."""

    database: str
    held_ms: list[float] = field(default_factory=list)
    alone_ms: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    few_ms: dict[str, list[float]] = field(default_factory=dict)
    many_ms: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    def times(self, question: str) -> float:
        """How much longer an answer takes with many, by the medians."""
        return statistics.median(self.many_ms[question]) / statistics.median(self.few_ms[question])


def main() -> int:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(prog="bench.retention", description=__doc__)
    parser.add_argument("--rows", type=int, default=MANY)
    parser.add_argument("--swept", type=int, default=SWEPT)
    parser.add_argument("--database", choices=("sqlite", "postgresql", "both"), default="both")
    given = parser.parse_args()
    console, on = Console(), machine()
    rows = []
    if given.database != "postgresql":
        rows.append(asyncio.run(measure("SQLite", "", given.rows, given.swept)))
    if given.database != "sqlite":
        with running_postgres() as cluster:
            asyncio.run(_create(f"{cluster}/postgres"))
            rows.append(asyncio.run(measure("PostgreSQL", f"{cluster}/hearth", given.rows, given.swept)))
    table = Table(
        "database", "transactions", "held p50", "held p99", "held max", "record alone p99", "beside p99", "rows/s"
    )
    for row in rows:
        held = [f"{percentile(row.held_ms, share):.1f} ms" for share in (0.5, 0.99, 1.0)]
        waits = [f"{percentile(each, 0.99):.1f} ms" for each in (row.alone_ms, row.beside_ms)]
        table.add_row(row.database, str(len(row.held_ms)), *held, *waits, f"{given.swept / row.seconds:,.0f}")
    console.print(table)
    targets = [target for row in rows for target in judge(row, given.rows)]
    show_targets(console, targets, on)
    document = {"machine": on, "rows": [asdict(row) for row in rows], "targets": [asdict(each) for each in targets]}
    console.print(f"written to {write_json(RESULTS, 'retention', document, on)}")
    return 0


def judge(row: Row, rows: int) -> list[Target]:
    """What was promised, and what came of it."""
    held = percentile(row.held_ms, 1.0)
    found = [
        Target(
            f"{row.database}: no transaction of a sweep over {HELD_MS:g} ms at {rows:,} executions",
            f"{held:.1f} ms",
            held <= HELD_MS,
        )
    ]
    for question in row.few_ms:
        times = row.times(question)
        what = f"{row.database}: {question} at {rows:,} executions <= {TIMES:g}x that at {FEW:,}"
        found.append(Target(what, f"{times:.2f}x", times <= TIMES))
    return found


async def _create(address: str) -> None:
    connection = await asyncpg.connect(address)
    await connection.execute("CREATE DATABASE hearth")
    await connection.close()


async def measure(name: str, address: str, rows: int, swept: int) -> Row:
    """Fill a database of its own and measure everything on it."""
    row = Row(name)
    with tempfile.TemporaryDirectory(prefix="hearth-bench-") as folder:
        async with opened(address, Path(folder), FakeClock()) as store:
            await fill(store, rows)
            for question, ask in questions(store).items():
                await ask("few", FEW), await ask("many", rows)  # warm
                few: list[float] = []
                many: list[float] = []
                for _ in range(TURNS):
                    few.append(await timed(ask("few", FEW)))
                    many.append(await timed(ask("many", rows)))
                row.few_ms[question], row.many_ms[question] = few, many
            async with recording(store, row.alone_ms):
                await asyncio.sleep(3)
            async with recording(store, row.beside_ms):
                started = time.perf_counter()
                await sweeping.delete_all(sweeper(store, row.held_ms, swept), "bench")
                row.seconds = time.perf_counter() - started
    return row


def sweeper(store: SqlStore, held_ms: list[float], swept: int) -> Callable[[int], Awaitable[int]]:
    """Deletes the oldest `swept` executions of the function `many`, noting how long each transaction was open."""
    left = swept

    async def some(limit: int) -> int:
        nonlocal left
        async with store.begin("p") as unit:
            began = time.perf_counter()
            went = await unit.executions.delete_up_to("many", 2**62, min(limit, left))
        held_ms.append((time.perf_counter() - began) * 1e3)  # with the commit
        left -= went
        return went if left else 0

    return some


@asynccontextmanager
async def recording(store: SqlStore, waits_ms: list[float]) -> Any:
    """Record executions at `RATE` meanwhile, noting how long each waits for its commit."""

    async def work() -> None:
        for number in range(1_000_000):
            record = replace(execution("x"), id=f"{id(waits_ms)}-{number}", function_id="few")
            waits_ms.append(await timed(store.execution_log.record(record)))
            await asyncio.sleep(1 / RATE)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        waits_ms[:] = waits_ms or [0.0]


async def fill(store: SqlStore, rows: int) -> None:
    """A project with the functions `few` and `many` and their executions, with logs of 400 bytes."""
    template = replace(execution("e", status=ExecutionStatus.COMPLETED), logs="a line of the log " * 22)
    await store.projects.insert(project())
    async with store.begin("p") as unit:
        await unit.executions.insert(template)
        for id in ("few", "many"):
            await unit.functions.insert(function(id))
    for id, count in (("few", FEW), ("many", rows)):
        async with store._backend.writer.begin() as connection:
            await connection.execute(text(copies("e", function_id=id, prefix=id, rows=count)))
    if store._backend.writer.dialect.name == "postgresql":
        async with store._backend.writer.begin() as connection:
            await connection.execute(text("ANALYZE executions"))


def questions(store: SqlStore) -> dict[str, Callable[[str, int], Awaitable[None]]]:
    """What is asked of a function with so many executions."""

    async def get(id: str, rows: int) -> None:
        async with store.view("p") as unit:
            assert await unit.executions.get(id, f"{id}{rows // 2}") is not None

    def listing(**query: Any) -> Callable[[str, int], Awaitable[None]]:
        async def ask(id: str, rows: int) -> None:
            async with store.view("p") as unit:
                page = await unit.executions.list(id, ListQuery(**query), None)
                assert len(page.items) == 25

        return ask

    newest = (Order("$createdAt", True),)
    return {"get": get, "first page": listing(), "newest first": listing(orders=newest)}


async def timed(work: Awaitable[Any]) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    await work
    return (time.perf_counter() - started) * 1e3


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


if __name__ == "__main__":
    raise SystemExit(main())
