"""`python -m bench.machine`: what a server takes of its machine, and what it does when there is much in it.

An idle server and each further idle instance; many functions, each called once; a function that calls the platform's
own API from many executions at once, beside the same function without the call. Bounded by `--functions`; about five
minutes with 1,000 of them.
"""

import argparse
import http.client
import itertools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
from rich.console import Console

from bench.cold import LANGUAGES, RESULTS, Caller, private_mb, shim_pids
from bench.cpu import cpu_seconds
from bench.load import BenchFailed
from bench.report import Target, machine, show_targets, write_json
from hearth.settings import load
from hearth.settings_parts import executor_limits
from tests.support.api import built, create_function, deploy, ok, upload
from tests.support.archives import archive
from tests.support.leftovers import footprint
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server

SETTLE_S = 8.0
"""After a start or a load, before what is idle is measured."""
IDLE_S = 20.0
FUNCTIONS = 1_000
BUILDS_AT_ONCE = 8
CALLERS = 8
INSTANCES = 6
"""Of each language, for the memory of one: the middle one of so many."""
AT_ONCE = 32
ROUND_S = 4.0
ROUNDS = 3

SERVER_MB = 120.0
IDLE_CPU = 0.005
INSTANCE_MB = {"python": 8.0, "node": 12.0}
OF_WITHOUT_CALL = 0.3

OWN_API = {
    "node": (
        "main.js",
        """const http = require('http');
const agent = new http.Agent({ keepAlive: true });
const get = (url, headers) => new Promise((resolve, reject) => {
  http.get(url, { agent, headers }, (answer) => {
    const parts = [];
    answer.on('data', (part) => parts.push(part));
    answer.on('end', () => resolve(JSON.parse(Buffer.concat(parts))));
  }).on('error', reject);
});
module.exports = async ({ req, res }) => {
  if (req.body !== 'call') return res.json({ id: 'none' });
  const key = req.headers['x-appwrite-key'];
  const headers = { 'x-appwrite-project': process.env.APPWRITE_FUNCTION_PROJECT_ID, 'x-appwrite-key': key };
  const id = process.env.APPWRITE_FUNCTION_ID;
  const found = await get(`${process.env.APPWRITE_FUNCTION_API_ENDPOINT}/functions/${id}`, headers);
  return res.json({ id: found.$id });
};
""",
    ),
    "python": (
        "main.py",
        """import http.client, json, os, urllib.parse
address = urllib.parse.urlsplit(os.environ['APPWRITE_FUNCTION_API_ENDPOINT'])
connection = http.client.HTTPConnection(address.hostname, address.port or 80)
def main(context):
    if context.req.body != 'call':
        return context.res.json({'id': 'none'})
    headers = {'x-appwrite-project': os.environ['APPWRITE_FUNCTION_PROJECT_ID'],
               'x-appwrite-key': context.req.headers['x-appwrite-key']}
    connection.request('GET', f"{address.path}/functions/{os.environ['APPWRITE_FUNCTION_ID']}", headers=headers)
    return context.res.json({'id': json.loads(connection.getresponse().read())['$id']})
""",
    ),
}


@dataclass(slots=True)
class Found:
    """Everything measured; MB are of 1024 * 1024 bytes."""

    server_mb: float = 0.0
    """Proportional memory of server, spawner and gate, the pool apart."""
    idle_cpu: float = 0.0
    """Cores, over `IDLE_S`."""
    instance_mb: dict[str, float] = field(default_factory=dict)
    stem_mb: dict[str, float] = field(default_factory=dict)
    functions: int = 0
    calls_per_s: float = 0.0
    slowest_ms: float = 0.0
    tree_mb_max: float = 0.0
    """Proportional memory of everything of the server, the highest seen while all functions were called."""
    instances_max: int = 0
    room: int = 0
    """How many processes the server's limits leave room for: instances of the default size, and stem cells."""
    with_call: dict[str, float] = field(default_factory=dict)
    without_call: dict[str, float] = field(default_factory=dict)
    """Executions per second, the best round."""


def main() -> int:
    """Run everything and print it; 1 if a measurement could not be taken."""
    parser = argparse.ArgumentParser(prog="bench.machine", description=__doc__)
    parser.add_argument("--functions", type=int, default=FUNCTIONS, help="how many are called once each; 0 = none")
    given = parser.parse_args()
    console = Console()
    on = machine()
    found = Found(functions=given.functions)
    try:
        with running_server() as server, server.client() as client:
            console.print("an idle server")
            measure_idle(server, found)
            console.print("idle instances")
            measure_instances(server, client, found)
            console.print(f"its own API, {AT_ONCE} at once")
            for family in OWN_API:
                measure_own_api(server, client, family, found)
        if given.functions:
            with running_server() as server, server.client() as client:
                console.print(f"{given.functions} functions, each called once")
                measure_many(server, client, given.functions, found)
    except (BenchFailed, AssertionError) as error:
        console.print(f"[red]not measured:[/] {error}")
        return 1
    targets = judge(found)
    show(console, found)
    show_targets(console, targets, on)
    document = {"machine": on, "found": asdict(found), "targets": [asdict(target) for target in targets]}
    console.print(f"written to {write_json(RESULTS, 'machine', document, on)}")
    return 0


def measure_idle(server: Server, found: Found) -> None:
    """Memory and CPU of a server to which nothing happens."""
    time.sleep(SETTLE_S)
    found.server_mb = tree_mb(server, lambda pid: not is_of_the_pool(pid))
    before = cpu_seconds(server.pid)
    time.sleep(IDLE_S)
    found.idle_cpu = (cpu_seconds(server.pid) - before) / IDLE_S


def measure_instances(server: Server, client: httpx.Client, found: Found) -> None:
    """Private memory of the instances of several functions and of stem cells, all idle."""
    for family in INSTANCE_MB:
        ids = [f"{family}-{number}" for number in range(INSTANCES)]
        prepare_many(client, [(id, family) for id in ids])
        time.sleep(1.0)
        stems = set(shim_pids(server, family))
        for id in ids:
            call_once(server, id)
        time.sleep(SETTLE_S / 2)
        pids = set(shim_pids(server, family))
        found.stem_mb[family] = private_mb(sorted(pids - stems))
        found.instance_mb[family] = private_mb(sorted(pids & stems) or sorted(pids))


def measure_own_api(server: Server, client: httpx.Client, family: str, found: Found) -> None:
    """Throughput of a function that calls the API, in turns with the same one that does not. No call may fail."""
    id = f"own-api-{family}"
    entrypoint, source = OWN_API[family]
    create_function(client, id, runtime_of(family), entrypoint=entrypoint, scopes=["functions.read"])
    if deploy(client, id, {entrypoint: source})["status"] != "ready":
        raise BenchFailed(f"the build of {id} failed")
    rate(server, id, "call", id, ROUND_S / 2)  # instances start
    for _ in range(ROUNDS):
        with_call, without = rate(server, id, "call", id), rate(server, id, "", "none")
        found.with_call[family] = max(found.with_call.get(family, 0.0), with_call)
        found.without_call[family] = max(found.without_call.get(family, 0.0), without)


def rate(server: Server, id: str, body: str, expected: str, for_s: float = ROUND_S) -> float:
    """Executions per second from `AT_ONCE` callers. Raises BenchFailed for one that did not answer `expected`."""
    counts = [0] * AT_ONCE
    started = time.monotonic()
    until = started + for_s

    def call(number: int, caller: "Executor") -> None:
        while time.monotonic() < until:
            answer = caller.execute(id, body)
            if answer != {"id": expected}:
                raise BenchFailed(f"{id} answered {answer}")
            counts[number] += 1

    in_threads(server, AT_ONCE, call)
    return sum(counts) / (time.monotonic() - started)


def measure_many(server: Server, client: httpx.Client, count: int, found: Found) -> None:
    """Call many functions once each, and watch what the machine has to give for it."""
    families = itertools.cycle(INSTANCE_MB)
    functions = [(f"one-of-many-{number}", next(families)) for number in range(count)]
    prepare_many(client, functions)
    found.room = room_for(client)
    ids = iter(id for id, _ in functions)
    taking = threading.Lock()
    slowest: list[float] = []

    def call(number: int, caller: "Executor") -> None:
        while True:
            with taking:
                id = next(ids, None)
            if id is None:
                return
            started = time.perf_counter()
            if caller.execute(id, "") != {"hello": "world"}:
                raise BenchFailed(f"{id} answered something else")
            slowest.append((time.perf_counter() - started) * 1e3)

    started = time.monotonic()
    with watched(server, found):
        in_threads(server, CALLERS, call)
    found.calls_per_s = count / (time.monotonic() - started)
    found.slowest_ms = max(slowest)


def room_for(client: httpx.Client) -> int:
    """Processes that a server with default settings keeps: functions of the default size, which is the largest."""
    limits = executor_limits(load({}, {}).settings)
    memory_mb = max(each["memory"] for each in ok(client.get("/functions/specifications"))["specifications"])
    return min(limits.pool.max_instances, limits.pool.memory_mb // memory_mb) + limits.stems.max_stems


@contextmanager
def watched(server: Server, found: Found) -> Iterator[None]:
    """Meanwhile look at the memory of everything and the number of instances, twice a second."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            found.tree_mb_max = max(found.tree_mb_max, tree_mb(server))
            instances = sum(len(shim_pids(server, family)) for family in INSTANCE_MB)
            found.instances_max = max(found.instances_max, instances)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Executor:
    """One open connection on which a function is run again and again."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=90)
        self._headers = {**server.headers, "content-type": "application/json"}
        self._connection.connect()

    def execute(self, id: str, body: str) -> object:
        """The JSON a function answered. Raises BenchFailed if it did not."""
        path, request = f"/v1/functions/{id}/executions", json.dumps({"body": body, "method": "POST"})
        self._connection.request("POST", path, request, self._headers)
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status != 201:
            raise BenchFailed(f"{id}: {answer.status} {text[:500]!r}")
        execution = json.loads(text)
        if execution["status"] != "completed":
            raise BenchFailed(f"{id}: {execution['status']}, {execution['errors'] or execution['logs']}")
        return json.loads(execution["responseBody"] or "null")

    def close(self) -> None:
        self._connection.close()


def in_threads(server: Server, count: int, call: Callable[[int, Executor], None]) -> None:
    """Run `call` in so many threads, each with a connection of its own. Raises what the first of them raised."""
    problems: list[BaseException] = []
    with ExitStack() as stack:
        callers = [Executor(server) for _ in range(count)]
        for caller in callers:
            stack.callback(caller.close)

        def run(number: int) -> None:
            try:
                call(number, callers[number])
            except BaseException as problem:
                problems.append(problem)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if problems:
        raise problems[0]


def prepare_many(client: httpx.Client, functions: list[tuple[str, str]]) -> None:
    """Deploy functions (id, family), each with code of its own, some at a time."""
    for at in range(0, len(functions), BUILDS_AT_ONCE):
        begun = []
        for id, family in functions[at : at + BUILDS_AT_ONCE]:
            files = LANGUAGES[family].files
            create_function(client, id, runtime_of(family), entrypoint=next(iter(files)))
            begun.append((id, ok(upload(client, id, archive({**files, "id.txt": id})))["$id"]))
        for id, deployment in begun:
            done = built(client, id, deployment)
            if done["status"] != "ready":
                raise BenchFailed(f"the build of {id} {done['status']}: {done['buildLogs'][-500:]}")


def call_once(server: Server, id: str) -> None:
    caller = Caller(server)
    caller.execute_ms(id)
    caller.close()


def tree_mb(server: Server, counts: Callable[[int], bool] = lambda pid: True) -> float:
    """Proportional memory of a server's processes: what several share counts for each by its part."""
    return sum(_pss_kb(process.pid) for process in footprint(server.pid).processes if counts(process.pid)) / 1024


def is_of_the_pool(pid: int) -> bool:
    """Whether a process is in a sandbox: it has a process namespace of its own."""
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    except OSError:
        return True


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def judge(found: Found) -> list[Target]:
    """The promises of the project, held against what was measured."""
    targets = [
        Target(
            f"an idle server, its pool apart, within {SERVER_MB:g} MB",
            f"{found.server_mb:.0f} MB",
            found.server_mb <= SERVER_MB,
        ),
        Target(f"an idle server within {IDLE_CPU:.1%} of a core", f"{found.idle_cpu:.2%}", found.idle_cpu <= IDLE_CPU),
    ]
    for family, most in INSTANCE_MB.items():
        size = found.instance_mb[family]
        targets.append(
            Target(f"each further idle instance, {family}, within {most:g} MB", f"{size:.1f} MB", size <= most)
        )
    for family, with_call in found.with_call.items():
        share = with_call / found.without_call[family]
        text = f"{family}, calling the platform's API from {AT_ONCE} at once: >= {OF_WITHOUT_CALL:g} of without"
        targets.append(Target(text, f"{share:.2f}, no error", share >= OF_WITHOUT_CALL))
    if found.functions:
        text = f"{found.functions} functions each called once: no failure, no more processes than {found.room}"
        seen = f"{found.tree_mb_max:.0f} MB, {found.instances_max} processes at most"
        targets.append(Target(text, seen, found.instances_max <= found.room))
    return targets


def show(console: Console, found: Found) -> None:
    """Print what no promise is made of."""
    console.print(f"\nidle server {found.server_mb:.1f} MB, {found.idle_cpu:.2%} of a core")
    for family, size in found.instance_mb.items():
        console.print(f"{family}: instance {size:.1f} MB, stem cell {found.stem_mb[family]:.1f} MB, private")
    for family, with_call in found.with_call.items():
        console.print(f"{family}: {with_call:.0f}/s with a call of the API, {found.without_call[family]:.0f}/s without")
    if found.functions:
        console.print(
            f"{found.functions} functions once each: {found.calls_per_s:.0f} calls/s, slowest {found.slowest_ms:.0f} ms"
        )


if __name__ == "__main__":
    sys.exit(main())
