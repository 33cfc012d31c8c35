"""`python -m bench`: warm sync executions, first executions and CPU per request, beside the barest servers.

Everything runs on loopback against one real server. Cases take turns within each round, so that a change of the
machine's mood hits all of them; the best round counts. Under four minutes in all.
"""

import argparse
import json
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from bench.cpu import cpu_seconds
from bench.load import BenchFailed, run_load
from bench.peers import NAMES, bare_server
from bench.report import Row, Target, machine, show, write
from tests.support.api import create_function, deploy, ok
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server

ROUNDS = 3
WARM_UP_S = 2
C1_S = 3
C16_S = 4
FIRST_COUNT = 7
RESULTS = Path("bench-results")

C1_P50_MS = 3.0
C16_PER_SECOND = 2_000
FIRST_MS = 150.0

REQUEST = json.dumps(
    {
        "body": '{"hello":"world"}',
        "path": "/some/path?x=1",
        "method": "POST",
        "headers": {"content-type": "application/json"},
    }
)
FUNCTIONS = {
    "node": ("main.js", "module.exports = async ({ req, res }) => res.json({ hello: req.body.hello });\n"),
    "python": ("main.py", "def main(context):\n    return context.res.json({'hello': context.req.body['hello']})\n"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """Something that takes requests: where, with which headers, and whose CPU time it costs."""

    row: Row
    url: str
    headers: dict[str, str]
    pid: int


def main() -> int:
    """Run everything and print the table; 1 if a measurement could not be taken."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    console = Console()
    on = machine()
    try:
        with running_server() as server, ExitStack() as stack:
            rows = measure(server, stack, rounds, console)
    except BenchFailed as error:
        console.print(f"[red]not measured:[/] {error}")
        return 1
    targets = judge(rows)
    show(console, rows, targets, on, {f"hearth {family}": NAMES[family] for family in FUNCTIONS})
    console.print(f"written to {write(RESULTS, rows, targets, on)}")
    return 0


def measure(server: Server, stack: ExitStack, rounds: int, console: Console) -> list[Row]:
    """All measurements on one running server; the rows in the order of the table."""
    client = stack.enter_context(server.client())
    cases: list[Case] = []
    for family, (entrypoint, source) in FUNCTIONS.items():
        row = Row(f"hearth {family}")
        id = f"bench-{family}"
        create_function(client, id, runtime_of(family), entrypoint=entrypoint)
        console.print(f"{row.name}: {FIRST_COUNT} new deployments")
        for number in range(FIRST_COUNT):
            row.first_ms.append(first_execution_ms(client, id, {entrypoint: source, "number.txt": str(number)}))
        path = f"/functions/{id}/executions"
        headers = {**server.headers, "content-type": "application/json"}
        cases.append(Case(row, f"{server.endpoint}{path}", headers, server.pid))
        answer_bytes = len(client.post(path, content=REQUEST, headers=headers).content)
        peer = stack.enter_context(bare_server(family, answer_bytes))
        cases.append(Case(Row(peer.name), peer.url, headers, peer.pid))
    for case in cases:
        run_load(case.url, REQUEST, case.headers, 16, WARM_UP_S)
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds}")
        for case in cases:
            take_turn(case)
    return [case.row for case in cases]


def take_turn(case: Case) -> None:
    """One round of one case; keeps what is better than before."""
    row = case.row
    single = run_load(case.url, REQUEST, case.headers, 1, C1_S)
    before = cpu_seconds(case.pid)
    many = run_load(case.url, REQUEST, case.headers, 16, C16_S)
    cpu_us = (cpu_seconds(case.pid) - before) / many.requests * 1e6
    row.p50_ms = min(row.p50_ms, single.p50_ms)
    row.p99_ms = min(row.p99_ms, single.p99_ms)
    row.per_second = max(row.per_second, many.per_second)
    row.cpu_us = min(row.cpu_us, cpu_us)


def first_execution_ms(client: httpx.Client, id: str, files: dict[str, str | bytes]) -> float:
    """Deploy, wait until it is active, and time the first execution on an open connection."""
    deployment = deploy(client, id, files)
    if deployment["status"] != "ready":
        raise BenchFailed(f"the build of {id} {deployment['status']}: {deployment['buildLogs'][-500:]}")
    while ok(client.get(f"/functions/{id}"))["deploymentId"] != deployment["$id"]:
        time.sleep(0.02)
    started = time.perf_counter()
    answer = client.post(f"/functions/{id}/executions", content=REQUEST, headers={"content-type": "application/json"})
    elapsed_ms = (time.perf_counter() - started) * 1e3
    if ok(answer)["status"] != "completed":
        raise BenchFailed(f"the first execution of {id} failed: {answer.text[:500]}")
    return elapsed_ms


def judge(rows: list[Row]) -> list[Target]:
    """The promises of the project, held against what was measured."""
    targets = []
    for row in rows:
        first = row.first_median_ms
        if first is None:
            continue
        targets += [
            Target(f"{row.name}, c=1: p50 below {C1_P50_MS:g} ms", f"{row.p50_ms:.2f} ms", row.p50_ms < C1_P50_MS),
            Target(
                f"{row.name}, c=16: at least {C16_PER_SECOND:,} req/s",
                f"{row.per_second:,.0f}",
                row.per_second >= C16_PER_SECOND,
            ),
            Target(f"{row.name}, first execution below {FIRST_MS:g} ms", f"median {first:.0f} ms", first < FIRST_MS),
        ]
    return targets


if __name__ == "__main__":
    sys.exit(main())
