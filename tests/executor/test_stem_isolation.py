"""Cases S6 and S9 on real sandboxes: what is in a stem cell before it is assigned, and what many leave behind."""

import asyncio
import gc
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.executor.sandbox.ns import NsDriver, NsSandbox
from hearth.model.running import InstanceTemplate, Outcome
from tests.executor.conftest import LIMITS, STEMS
from tests.support.drivers import make_driver
from tests.support.executors import Bench, open_bench
from tests.support.leftovers import footprint

pytestmark = [pytest.mark.anyio, pytest.mark.sandbox]

#: How many instances are made and killed; HEARTH_TEST_CYCLES=10000 is the whole measurement, some ten minutes.
CYCLES = int(os.environ.get("HEARTH_TEST_CYCLES", "200"))
#: How many are made before the first count: caches fill and the allocator finds its size in the first few hundred.
WARM_UP = min(500, max(50, CYCLES // 10))

#: After so many, what instances leave in reference cycles is collected: by itself Python does that when a quarter of
#: all objects of the process are new, the test runner's included, and 2 or 3 MB wait for it until then (measured).
COLLECT_EVERY = 250

SECRET = "b7a6-secret-of-a-variable-41d0"
MARK = "e5c3-mark-in-the-code-97fa"
CODE = {
    "python-3.11": ("main.py", f"MARK = '{MARK}'\ndef main(context):\n    return context.res.text(MARK)\n"),
    "node-20": ("main.js", f"const MARK = '{MARK}';\nmodule.exports = ({{ res }}) => res.text(MARK);\n"),
}


@pytest.fixture(name="stems", scope="module")
async def stem_bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("isolation")
    async with open_bench(make_driver("ns", folder), folder, replace(LIMITS, stems=STEMS)) as opened:
        yield opened


def deploy(bench: Bench, runtime: str) -> InstanceTemplate:
    entrypoint, source = CODE[runtime]
    files = {entrypoint: source, "number.txt": str(bench.deployments)}
    return bench.deploy(runtime, entrypoint, files, {"SECRET": SECRET})


def ready_stems(bench: Bench) -> list[NsSandbox]:
    return [started.sandbox for started in bench.executor._stems._started.values()]


def memory_holds(pid: int, *texts: str) -> list[str]:
    """Which of the texts are anywhere in the readable memory of a process."""
    wanted = [text.encode() for text in texts]
    found: set[bytes] = set()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            if rights[0] != "r" or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            kept = b""
            for at in range(start, end, 4 << 20):
                try:
                    data = kept + os.pread(memory.fileno(), min(4 << 20, end - at), at)
                except OSError:
                    break  # reserved, nothing there
                found.update(text for text in wanted if text in data)
                kept = data[-64:]
    return sorted(text.decode() for text in found)


@pytest.mark.parametrize("runtime", ["python-3.11", "node-20"])
async def test_a_stem_holds_no_secret_no_code_and_no_connection(stems: Bench, runtime: str) -> None:
    """Other functions of the runtime have run before it was started, and the next one is waiting for it."""
    for _ in range(2):
        template = deploy(stems, runtime)
        await stems.executor.prepare(template)
        result = await stems.run(template)
        assert (result.outcome, result.body) == (Outcome.COMPLETED, MARK.encode())
    await stems.executor.prepare(deploy(stems, runtime))
    boxes = {box.pid: box for box in ready_stems(stems)}
    pid = next(pid for pid in boxes if runtime[:4] in Path(f"/proc/{pid}/cmdline").read_text())
    root = Path(f"/proc/{pid}")

    assert memory_holds(pid, SECRET, MARK, template.key.deployment_id, template.artifact.digest) == []
    environment = dict(item.split("=", 1) for item in (root / "environ").read_text().split("\0") if item)
    assert set(environment) <= {"PATH", "HOME", "LANG", "LD_LIBRARY_PATH"}
    assert "/usr/local/server/src/function" not in (root / "mountinfo").read_text()
    assert list((root / "root/usr/local/server/src/function").iterdir()) == []
    assert list((root / "root/tmp").iterdir()) == []

    links = {int(entry.name): str(entry.readlink()) for entry in (root / "fd").iterdir()}
    assert links[0] == "/dev/null"
    assert links[1] == links[2]
    assert links[1].startswith("pipe:")
    sockets = [number for number, link in links.items() if link.startswith("socket:")]
    others = {link for number, link in links.items() if number > 3 and number not in sockets}
    # Node's own loop: epoll, its pipes and events, /dev/null
    assert all(re.match(r"anon_inode:|pipe:|/dev/null$", link) for link in others), links
    assert sockets == [3]
    for table in ("tcp", "tcp6", "udp", "udp6"):
        # the gate's two sockets listen in the namespace; no process of the stem holds them
        lines = (root / "net" / table).read_text().splitlines()[1:]
        assert not [line for line in lines if line.split()[3] not in ("0A", "07")], f"a connection: {lines}"

    control = next(member for member in stems.executor._instances.pool.members if member.template.runtime == runtime)
    held = stems.executor._instances._by_id[control.id]._sandbox
    assert isinstance(held, NsSandbox)
    assert memory_holds(held.pid, SECRET, MARK) == sorted([SECRET, MARK]), "the search finds what is there"


@pytest.mark.slow
async def test_many_stems_assigned_and_ended_leave_counts_as_they_were(stems: Bench) -> None:
    """Case S9: processes, mounts, control groups, descriptors and memory, within 2 %."""
    driver = stems.driver
    assert isinstance(driver, NsDriver)
    spawner = driver._spawner.process.pid
    template = deploy(stems, "python-3.11")

    async def cycle() -> None:
        await stems.executor.prepare(template)
        assert (await stems.run(template)).outcome is Outcome.COMPLETED
        await stems.executor.retire(template.key.deployment_id)

    async def counts() -> dict[str, int]:
        for member in list(stems.executor._instances.pool.members):  # other tests' instances, idle for a minute yet
            await stems.executor.retire(member.template.key.deployment_id)
        for _ in range(500):
            shown = repr(stems.executor)
            if "no instance" in shown and "starting" not in shown and "stopping" not in shown:
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError(shown)
        await driver.facilities()  # the spawner has done what was asked of it before
        mine = footprint(os.getpid())
        return {
            "processes": len(mine.processes),
            "control groups": len(mine.cgroups),
            "mounts": len(Path(f"/proc/{spawner}/mountinfo").read_text().splitlines()),
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "spawner's descriptors": len(list(Path(f"/proc/{spawner}/fd").iterdir())),
            "spawner's memory": resident_kb(spawner),
            "our memory": resident_kb(os.getpid()),
        }

    async def cycles(count: int) -> None:
        for number in range(count):
            await cycle()
            if number % COLLECT_EVERY == 0:
                gc.collect()
        gc.collect()

    await cycles(WARM_UP)
    before = await counts()
    taken = stems.executor._stems.taken
    await cycles(CYCLES)
    after = await counts()
    assert stems.executor._stems.taken - taken > 0.9 * CYCLES, "most of them were stems"
    grown = {name: (count, after[name]) for name, count in before.items() if after[name] > count * 1.02}
    assert grown == {}


def resident_kb(pid: int) -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))  # type: ignore[union-attr]
