"""`python -m bench.cold`: first executions of code that never ran, beside the bare starts of the same languages.

Three starts take turns: from a stem cell, without any (a second server that keeps none), and a bare process of the
language. Then a burst of functions that never ran, and the private memory of idle stems and instances.
"""

import argparse
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from bench.load import BenchFailed
from bench.report import Target, machine, show_targets, write_json
from hearth.runtimes.packs import Pack
from tests.support.api import built, create_function, ok, upload
from tests.support.archives import archive
from tests.support.interpreters import PACKS, any_pack_of, installed_packs
from tests.support.leftovers import footprint
from tests.support.server import Server, running_server

COUNT = 30
BURST = 20
SETTLE_S = 0.3
"""Between two measurements: stems are started anew, and the machine is quiet again."""
RESULTS = Path("bench-results")
STEM_P90_TIMES = 2.5
"""The promise for the slowest tenth, as a multiple of that for the half."""
WITHOUT_TIMES_BARE = 1.5
STEMLESS = {"HEARTH_STEMS_PER_RUNTIME": "0", "HEARTH_UID_RANGE": "300000-365535"}

GO = """package handler

import "github.com/open-runtimes/types-for-go/v4/openruntimes"

func Main(Context openruntimes.Context) openruntimes.Response {
	return Context.Res.Json(map[string]string{"hello": "world"})
}
"""


CPP = (
    '#include "RuntimeContext.h"\nnamespace runtime {\nstruct Handler {\n'
    "  static RuntimeOutput main(RuntimeContext &context) {\n"
    '    Json::Value hello;\n    hello["hello"] = "world";\n    return context.res.json(hello);\n  }\n};\n}\n'
)
JAVA = """package io.openruntimes.java;

public class Index {
  public RuntimeOutput main(RuntimeContext context) {
    return context.getRes().json(java.util.Collections.singletonMap("hello", "world"));
  }
}
"""


KOTLIN = """package io.openruntimes.kotlin

class Index {
    fun main(context: RuntimeContext): RuntimeOutput = context.res.json(mapOf("hello" to "world"))
}
"""

DART = "Future<dynamic> main(final context) async => context.res.json({'hello': 'world'});\n"


@dataclass(frozen=True, slots=True)
class Language:
    """What is measured of one language. `bare` follows its interpreter; `process` matches the command of its shim.

    `stem_p50_ms` is the promise; `is_judged_bare` holds a start without a stem against the bare one. A language whose
    builds take long is measured `count_max` times.
    """

    files: dict[str, str]
    bare: tuple[str, ...]
    process: str
    stem_p50_ms: float = 15.0
    is_judged_bare: bool = False
    count_max: int = 1000


SCRIPT = "export default ({ res }) => res.json({ hello: 'world' });\n"
LANGUAGES = {
    "node": Language(
        {"main.js": "module.exports = async ({ req, res }) => res.json({ hello: 'world' });\n"},
        ("-e", "0"), r"/node \S+ \S+node/shim\.cjs", 8.0, True,
    ),
    "python": Language(
        {"main.py": "def main(context):\n    return context.res.json({'hello': 'world'})\n"},
        ("-c", "0"), r"python/start\.py", 8.0, True,
    ),
    "php": Language(
        {"index.php": "<?php\nreturn fn ($context) => $context->res->json(['hello' => 'world']);\n"},
        ("-r", ""), r"php/shim\.php",
    ),
    "ruby": Language(
        {"index.rb": "def main(context)\n  context.res.json({ hello: 'world' })\nend\n"}, ("-e", "0"), r"ruby/shim\.rb"
    ),
    "bun": Language({"index.ts": SCRIPT}, ("-e", "0"), r"/bun \S+ \S+node/shim\.cjs"),
    "deno": Language({"mod.ts": SCRIPT}, ("eval", "0"), r"deno/shim\.mjs"),
    "go": Language(
        {"main.go": GO, "go.mod": "module openruntimes/handler\n\ngo 1.23\n"},
        ("version",), r"compiled/launch\.py|\.hearth/handler", 40.0, count_max=10,
    ),
    "cpp": Language(
        {"index.cc": CPP}, ("--version",), r"compiled/launch\.py|\.hearth/handler", 40.0, count_max=10,
    ),
    "java": Language(
        {"Index.java": JAVA}, ("-Xshare:auto", "-version"), r"java/hearth\.jar .*JavaLanguage", 40.0, count_max=10,
    ),
    "dart": Language(
        {"main.dart": DART}, ("--version",), r"compiled/launch\.py|\.hearth/handler", 40.0, count_max=10,
    ),
    "kotlin": Language(
        {"Index.kt": KOTLIN}, ("-Xshare:auto", "-version"), r"java/hearth\.jar .*KotlinLanguage", 40.0, count_max=10,
    ),
}  # fmt: skip


@dataclass(slots=True)
class Starts:
    """First executions of one language, milliseconds as the client sees them; private memory of one process, MB."""

    family: str
    stem_ms: list[float] = field(default_factory=list)
    without_ms: list[float] = field(default_factory=list)
    bare_ms: list[float] = field(default_factory=list)
    stem_mb: float = 0.0
    instance_mb: float = 0.0


class Caller:
    """One open connection to a server: as little between us and it as the standard library has."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        self._headers = {**server.headers, "content-type": "application/json"}
        self.get("/v1/functions?queries[]=" + "%7B%22method%22%3A%22limit%22%2C%22values%22%3A%5B1%5D%7D")

    def get(self, path: str) -> None:
        self._connection.request("GET", path, headers=self._headers)
        self._connection.getresponse().read()

    def execute_ms(self, id: str) -> float:
        """Time one synchronous execution."""
        started = time.perf_counter()
        self._connection.request("POST", f"/v1/functions/{id}/executions", b"{}", self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        elapsed_ms = (time.perf_counter() - started) * 1e3
        if answer.status != 201 or json.loads(body)["status"] != "completed":
            raise BenchFailed(f"the first execution of {id} failed: {body[:500]!r}")
        return elapsed_ms

    def close(self) -> None:
        self._connection.close()


def main() -> int:
    """Run everything and print the tables; 1 if a measurement could not be taken."""
    parser = argparse.ArgumentParser(prog="bench.cold", description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--burst", type=int, default=BURST)
    parser.add_argument("--languages", default=",".join(LANGUAGES), help="comma list; those not installed are left out")
    given = parser.parse_args()
    families = [family for family in given.languages.split(",") if is_installed(family)]
    console = Console()
    on = machine()
    try:
        rows, burst_ms = measure(families, given.count, given.burst, console)
    except BenchFailed as error:
        console.print(f"[red]not measured:[/] {error}")
        return 1
    targets = judge(rows, burst_ms)
    show(console, rows, burst_ms, on)
    show_targets(console, targets, on)
    document = {
        "machine": on,
        "rows": [asdict(row) for row in rows],
        "burst_ms": burst_ms,
        "targets": [asdict(target) for target in targets],
    }
    console.print(f"written to {write_json(RESULTS, 'cold', document, on)}")
    return 0


def is_installed(family: str) -> bool:
    """Whether functions of a language can run here."""
    return any(pack.family == family for pack in installed_packs())


def interpreter_of(pack: Pack) -> str:
    """The program of a language outside of sandboxes."""
    for source, target in pack.mounts:
        if pack.interpreter.startswith(target):
            return source + pack.interpreter.removeprefix(target)
    return pack.interpreter


def measure(families: list[str], count: int, burst: int, console: Console) -> tuple[list[Starts], list[float]]:
    """All measurements: a row per language, and the milliseconds of each execution of the burst."""
    rows = [Starts(family) for family in families]
    counts = {family: min(count, LANGUAGES[family].count_max) for family in families}
    quick = [family for family in families if LANGUAGES[family].count_max >= burst]
    with ExitStack() as stack:
        server = stack.enter_context(running_server({"HEARTH_PACKS_DIR": str(PACKS)}))
        stemless = stack.enter_context(running_server({**STEMLESS, "HEARTH_PACKS_DIR": str(PACKS)}))
        client, other = stack.enter_context(server.client()), stack.enter_context(stemless.client())
        console.print(f"building {2 * sum(counts.values()) + burst} functions that have never run")
        for row in rows:
            prepare(client, row.family, [f"{row.family}-{number}" for number in range(counts[row.family])])
            prepare(other, row.family, [f"{row.family}-{number}" for number in range(counts[row.family])])
        bursting = [(quick[number % len(quick)], f"burst-{number}") for number in range(burst)] if quick else []
        for row in rows:
            prepare(client, row.family, [id for family, id in bursting if family == row.family])
        time.sleep(3.0)
        stems = {row.family: shim_pids(server, row.family) for row in rows}
        for row in rows:
            row.stem_mb = private_mb(stems[row.family] or shim_pids(server, row.family))
        with_stems, without = Caller(server), Caller(stemless)
        stack.callback(with_stems.close)
        stack.callback(without.close)
        console.print(f"{count} first executions of each")
        for number in range(count):
            for row in rows:
                if number >= counts[row.family]:
                    continue
                time.sleep(SETTLE_S)
                row.stem_ms.append(with_stems.execute_ms(f"{row.family}-{number}"))
                time.sleep(SETTLE_S)
                row.without_ms.append(without.execute_ms(f"{row.family}-{number}"))
                row.bare_ms += bare_ms(row.family)
        for row in rows:
            grown = [pid for pid in stems[row.family] if Path(f"/proc/{pid}").exists()]
            row.instance_mb = private_mb(grown or shim_pids(server, row.family))
        console.print(f"a burst of {burst}")
        return rows, burst_of(server, [id for _, id in bursting])


def prepare(client: httpx.Client, family: str, ids: list[str]) -> None:
    """Deploy the same small function under several ids, each with code of its own."""
    files = LANGUAGES[family].files
    runtime = any_pack_of(family).id
    deployments = []
    for id in ids:
        create_function(client, id, runtime, entrypoint=next(iter(files)))
        deployments.append((id, ok(upload(client, id, archive({**files, "id.txt": id})))["$id"]))
        if LANGUAGES[family].count_max < COUNT:
            built(client, *deployments[-1])  # one after the other: each takes long
    for id, deployment in deployments:
        done = built(client, id, deployment)
        if done["status"] != "ready":
            raise BenchFailed(f"the build of {id} {done['status']}: {done['buildLogs'][-500:]}")


def bare_ms(family: str) -> list[float]:
    """Time the barest run of the language itself; nothing where it runs in a system of its own only."""
    pack = any_pack_of(family)
    if pack.root:
        return []
    command = [interpreter_of(pack), *LANGUAGES[family].bare]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return [(time.perf_counter() - started) * 1e3]


def burst_of(server: Server, ids: list[str]) -> list[float]:
    """Run functions that never ran all at once; milliseconds of each."""
    results: list[float] = []
    problems: list[BaseException] = []
    callers = [Caller(server) for _ in ids]

    def one(caller: Caller, id: str) -> None:
        try:
            results.append(caller.execute_ms(id))
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=one, args=pair) for pair in zip(callers, ids, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for caller in callers:
        caller.close()
    if problems:
        raise BenchFailed(f"in a burst of {len(ids)}: {problems[0]}") from problems[0]
    return sorted(results)


def shim_pids(server: Server, family: str) -> list[int]:
    """The processes of a language's stems and instances."""
    found = []
    for process in footprint(server.pid).processes:
        try:
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if re.search(LANGUAGES[family].process, command):
            found.append(process.pid)
    return found


def private_mb(pids: list[int]) -> float:
    """Memory that only this process has, the median of several."""
    sizes = sorted(_private_kb(pid) for pid in pids)
    if not sizes:
        raise BenchFailed("no process to measure the memory of")
    return sizes[len(sizes) // 2] / 1024


def _private_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def percentile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def judge(rows: list[Starts], burst_ms: list[float]) -> list[Target]:
    """The promises of the project, held against what was measured."""
    targets = []
    for row in rows:
        p50, p90 = percentile(row.stem_ms, 0.5), percentile(row.stem_ms, 0.9)
        language = LANGUAGES[row.family]
        p50_max, p90_max = language.stem_p50_ms, language.stem_p50_ms * STEM_P90_TIMES
        targets += [
            Target(f"{row.family}, from a stem: p50 within {p50_max:g} ms", f"{p50:.1f} ms", p50 <= p50_max),
            Target(f"{row.family}, from a stem: p90 within {p90_max:g} ms", f"{p90:.1f} ms", p90 <= p90_max),
        ]
        if language.is_judged_bare and row.bare_ms:
            times_bare = percentile(row.without_ms, 0.5) / percentile(row.bare_ms, 0.5)
            text = f"{row.family}, without a stem: within {WITHOUT_TIMES_BARE:g} times the bare start"
            targets.append(Target(text, f"{times_bare:.2f} times", times_bare <= WITHOUT_TIMES_BARE))
    if not burst_ms:
        return targets
    in_turn_ms = sum(percentile(row.without_ms, 0.5) for row in rows) / len(rows) * len(burst_ms)
    text = f"a burst of {len(burst_ms)} takes no longer than as many starts in turn, {in_turn_ms:.0f} ms"
    targets.append(Target(text, f"last after {burst_ms[-1]:.0f} ms", burst_ms[-1] <= in_turn_ms))
    return targets


def show(console: Console, rows: list[Starts], burst_ms: list[float], on: dict[str, str]) -> None:
    """Print one table."""
    table = Table(title=f"\nFirst executions, ms, {on['date']}", title_justify="left", box=None, pad_edge=False)
    table.add_column("language", no_wrap=True)
    columns = ("from stem\np50", "p90", "without\np50", "p90", "bare start\np50", "p90", "stem\nMB", "instance\nMB")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        series = (row.stem_ms, row.without_ms, row.bare_ms)
        shown = [f"{percentile(values, share):.1f}" if values else "–" for values in series for share in (0.5, 0.9)]
        table.add_row(row.family, *shown, f"{row.stem_mb:.1f}", f"{row.instance_mb:.1f}")
    console.print(table)
    if not burst_ms:
        return
    half = burst_ms[len(burst_ms) // 2]
    console.print(f"burst of {len(burst_ms)}: first {burst_ms[0]:.0f}, median {half:.0f}, last {burst_ms[-1]:.0f} ms")


if __name__ == "__main__":
    sys.exit(main())
