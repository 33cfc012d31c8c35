"""`python -m bench.lists`: lists of executions by filter, order and cursor, with 100 in a function and with 200,000.

One real server on SQLite and one on a real PostgreSQL, asked over loopback. Both functions are in the same database
and take turns, so that a change of the machine's mood hits both. Under a minute in all.
"""

import argparse
import asyncio
import http.client
import json
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
from rich.console import Console
from rich.table import Table

from bench.load import BenchFailed
from bench.report import Target, machine, show_targets, write_json
from tests.support.api import create_function, deploy, execute
from tests.support.many import STEP_MS, copies
from tests.support.postgres import running_postgres
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server

FEW, MANY = 100, 200_000
TURNS = 60
WITHIN_TIMES = 2.0
RESULTS = Path("bench-results")
SOURCE = "def main(context):\n    context.log('a line of the log ' * 10)\n    return context.res.empty()\n"

Fill = Callable[[list[str]], None]


@dataclass(slots=True)
class Row:
    """One question on one database; milliseconds of each answer, as the client sees them."""

    database: str
    question: str
    few_ms: list[float] = field(default_factory=list)
    many_ms: list[float] = field(default_factory=list)

    @property
    def times(self) -> float:
        """How much longer the answer takes with many, by the medians."""
        return statistics.median(self.many_ms) / statistics.median(self.few_ms)


def main() -> int:
    """Run everything and print the table; 1 if a measurement could not be taken."""
    parser = argparse.ArgumentParser(prog="bench.lists", description=__doc__)
    parser.add_argument("--rows", type=int, default=MANY)
    parser.add_argument("--turns", type=int, default=TURNS)
    given = parser.parse_args()
    console = Console()
    on = machine()
    rows: list[Row] = []
    try:
        for name, database in (("SQLite", on_sqlite), ("PostgreSQL", on_postgres)):
            with database() as (server, fill):
                console.print(f"{name}: {given.rows:,} executions")
                rows += measure(name, server, fill, given.rows, given.turns)
    except BenchFailed as error:
        console.print(f"[red]not measured:[/] {error}")
        return 1
    targets = judge(rows, given.rows)
    show(console, rows, given.rows, on)
    show_targets(console, targets, on)
    document = {
        "machine": on,
        "rows": [asdict(row) for row in rows],
        "targets": [asdict(target) for target in targets],
    }
    console.print(f"written to {write_json(RESULTS, 'lists', document, on)}")
    return 0


@contextmanager
def on_sqlite() -> Iterator[tuple[Server, Fill]]:
    """A server on its own SQLite file, and what runs statements in it."""

    def fill(statements: list[str]) -> None:
        with closing(sqlite3.connect(server.data_dir / "hearth.db", timeout=30)) as connection, connection:
            for statement in statements:
                connection.execute(statement)

    with running_server() as server:
        yield server, fill


@contextmanager
def on_postgres() -> Iterator[tuple[Server, Fill]]:
    """A server on a PostgreSQL of its own, and what runs statements in it."""

    async def work(address: str, statements: list[str]) -> None:
        connection = await asyncpg.connect(address)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def fill(statements: list[str]) -> None:
        # Its own maintenance would do the last one a minute later.
        asyncio.run(work(f"{cluster}/hearth", [*statements, "VACUUM ANALYZE executions"]))

    with running_postgres() as cluster:
        asyncio.run(work(f"{cluster}/postgres", ["CREATE DATABASE hearth"]))
        with running_server({"HEARTH_DATABASE_URL": f"{cluster}/hearth"}) as server:
            yield server, fill


def measure(database: str, server: Server, fill: Fill, many: int, turns: int) -> list[Row]:
    """Fill both functions with copies of one real execution and ask each question of both in turns."""
    with server.client() as client:
        for id in ("few", "many"):
            create_function(client, id, runtime_of("python"), entrypoint="main.py")
        if (done := deploy(client, "few", {"main.py": SOURCE}))["status"] != "ready":
            raise BenchFailed(f"the build {done['status']}: {done['buildLogs'][-500:]}")
        first = execute(client, "few", body="{}", headers={"content-type": "application/json"})
    sizes = {"few": FEW, "many": many}
    fill([copies(first["$id"], function_id=id, prefix=id, rows=rows) for id, rows in sizes.items()])
    began = datetime.fromisoformat(first["$createdAt"])
    asked = {id: addresses(id, rows, began) for id, rows in sizes.items()}
    headers, found = server.headers, []
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        for question in asked["few"]:
            row = Row(database, question)
            for _ in range(turns):
                row.few_ms.append(ask(connection, headers, asked["few"][question]))
                row.many_ms.append(ask(connection, headers, asked["many"][question]))
            found.append(row)
    return found


def addresses(id: str, rows: int, began: datetime) -> dict[str, str]:
    """Every question as the address that asks it: the lists, and one execution by its id."""
    lists = {question: listing(id, queries) for question, queries in questions(id, rows, began).items()}
    return {**lists, "one, by its id": f"/v1/functions/{id}/executions/{id}{rows // 2}"}


def questions(id: str, rows: int, began: datetime) -> dict[str, list[dict[str, Any]]]:
    """What is asked of a function with so many executions; each question finds something to show."""
    newest_first = query("orderDesc", "$createdAt")
    failed = query("equal", "status", "failed")
    middle = query("cursorAfter", "", f"{id}{rows // 2}")
    from_middle_back = query("cursorBefore", "", f"{id}{rows // 2}")
    early = (began + timedelta(milliseconds=STEP_MS * moment) for moment in (1, rows * 9 // 10))
    return {
        "first page": [],
        "newest first": [newest_first],
        "after a cursor": [middle],
        "newest first, after a cursor": [newest_first, middle],
        "newest first, before a cursor": [newest_first, from_middle_back],
        "failed": [failed],
        "failed, newest first": [failed, newest_first],
        "failed, newest first, after a cursor": [failed, newest_first, middle],
        "failed, after a cursor": [failed, middle],
        "failed or waiting, newest first, cursor": [
            query("equal", "status", "failed", "waiting"),
            newest_first,
            middle,
        ],
        "code 500, newest first, after a cursor": [query("equal", "responseStatusCode", 500), newest_first, middle],
        "by http, newest first, after a cursor": [query("equal", "trigger", "http"), newest_first, middle],
        "between two dates, newest first, cursor": [
            query("between", "$createdAt", *(moment.isoformat() for moment in early)),
            newest_first,
            middle,
        ],
        "waiting (none is)": [query("equal", "status", "waiting"), newest_first],
        "code 404 (none has)": [query("equal", "responseStatusCode", 404), newest_first],
    }


def query(method: str, attribute: str, *values: object) -> dict[str, Any]:
    """One query as clients send it."""
    return {"method": method, "attribute": attribute, "values": list(values)}


def listing(id: str, queries: list[dict[str, Any]]) -> str:
    """The address of one list call."""
    asked = "&".join(f"queries[{number}]={quote(json.dumps(one))}" for number, one in enumerate(queries))
    return f"/v1/functions/{id}/executions?{asked}"


def ask(connection: http.client.HTTPConnection, headers: dict[str, str], path: str) -> float:
    """Time one call."""
    started = time.perf_counter()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    elapsed_ms = (time.perf_counter() - started) * 1e3
    if answer.status != 200:
        raise BenchFailed(f"{path}: {answer.status} {body[:500]!r}")
    return elapsed_ms


def judge(rows: list[Row], many: int) -> list[Target]:
    """The promise of the project, held against the slowest question of each database."""
    targets = []
    for database in dict.fromkeys(row.database for row in rows):
        worst = max((row for row in rows if row.database == database), key=lambda row: row.times)
        targets.append(
            Target(
                f"{database}: a list of {many:,} answers within {WITHIN_TIMES:g} times the time of {FEW}",
                f"{worst.times:.2f} times ({worst.question})",
                worst.times <= WITHIN_TIMES,
            )
        )
    return targets


def show(console: Console, rows: list[Row], many: int, on: dict[str, str]) -> None:
    """Print one table."""
    title = f"\nLists of executions, median ms over HTTP, {on['date']}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("database", no_wrap=True)
    table.add_column("question", no_wrap=True)
    for column in (f"{FEW}", f"{many:,}", "times"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        few, plenty = statistics.median(row.few_ms), statistics.median(row.many_ms)
        table.add_row(row.database, row.question, f"{few:.2f}", f"{plenty:.2f}", f"{row.times:.2f}")
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
