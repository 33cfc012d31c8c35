"""Isolation cases R: memory, processes, CPU time, and that nothing outlives its sandbox."""

import asyncio
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.executor.sandbox import runsc
from hearth.executor.sandbox.cgroups import hierarchies
from hearth.executor.sandbox.ns import NsDriver
from tests.sandbox import harness, modes
from tests.sandbox.harness import LIMITS, output_of, outside, read_some, run, spec, until

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20


async def test_R_limits_are_in_force_before_the_program_starts(driver: NsDriver, owner: modes.Owner) -> None:
    """Told from outside by the kernel's own files, on v1 and v2."""
    limits = replace(LIMITS, memory_bytes=96 * MEBIBYTE, cpus=0.5, pids=33)
    box = await driver.start(spec("linger", {"stay": True}, limits=limits))
    found: dict[str, str] = {}
    driver_is_ns = owner.driver == "ns"
    for folder in map(Path, cgroup_folders(box.id)):
        if "unified" not in folder.parts or driver_is_ns:
            listed = " ".join(path.read_text() for path in folder.rglob("cgroup.procs"))
            assert str(box.pid) in listed.split()
        for name in ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "pids.max"):
            if (folder / name).exists():
                found[name] = (folder / name).read_text().strip()
    await box.kill()
    await output_of(box)
    expected = runsc.group_limits(limits) if owner.has_gvisor else limits
    assert str(expected.memory_bytes) in (found.get("memory.limit_in_bytes"), found.get("memory.max"))
    assert "50000" in (found.get("cpu.cfs_quota_us"), *found.get("cpu.max", "").split())
    assert found["pids.max"] == str(expected.pids)


@pytest.mark.parametrize(
    "args",
    [{"bound": 512}, {"bound": 512, "tmp": 48}, {"bound": 512, "in_child": True}],
    ids=["R1 heap", "R1 heap and tmp", "R2 in a child"],
)
async def test_R1_R2_memory_ends_at_its_limit_and_the_sandbox_with_it(
    driver: NsDriver, args: dict[str, object], owner: modes.Owner
) -> None:
    limits = replace(LIMITS, memory_bytes=128 * MEBIBYTE)
    of_gvisor = runsc.MEMORY_BYTES // MEBIBYTE if owner.has_gvisor else 0
    started = time.monotonic()
    ran = await run(driver, "eat_memory", args, limits=limits)
    assert time.monotonic() - started < 15, "ended by the limit, not by a timeout"
    assert ran.exit.out_of_memory
    assert ran.exit.signal == 9
    assert "went on" not in ran.text
    assert "bound" not in ran.text
    used = ran.text.count(".")
    assert 128 - 24 <= used <= 128 + of_gvisor, used  # the interpreter itself takes some
    forced = MEBIBYTE if owner.has_gvisor else 0  # v1 lets the kernel add a page for a process that is being ended
    assert ran.exit.peak_memory_bytes <= (128 + of_gvisor) * MEBIBYTE + forced
    after = await run(driver, "say")
    assert (after.exit.code, after.exit.out_of_memory) == (0, False)


@pytest.mark.parametrize("case", ["fork_bomb", "thread_bomb"])
async def test_R3_a_bomb_ends_at_the_process_limit_and_leaves_nothing(
    driver: NsDriver, case: str, owner: modes.Owner
) -> None:
    # in gVisor a process costs some 7 MB
    limits = replace(LIMITS, pids=40, memory_bytes=(512 if owner.has_gvisor else 192) * MEBIBYTE)
    box = await driver.start(spec(case, {"bound": 500}, limits=limits))
    output = asyncio.ensure_future(output_of(box))
    how = await box.wait()
    text = await output
    count = json.loads(text)["children" if case == "fork_bomb" else "threads"]
    assert 1 < count < 40
    assert json.loads(text)["end"] in ("EAGAIN", "refused")
    assert how.pids_exhausted is not owner.has_gvisor, "gVisor counts itself, and does not tell"
    assert not how.out_of_memory
    await until(lambda: not harness.processes_of(box.uid), 1.0, "a process is left")


async def test_R4_busy_loops_get_no_more_than_their_share(driver: NsDriver) -> None:
    limits = replace(LIMITS, cpus=0.5)
    started = time.monotonic()
    ran = await run(driver, "burn", {"seconds": 2, "processes": 4}, limits=limits)
    wall_s = time.monotonic() - started
    assert 0.3 < ran.exit.cpu_s <= 0.55 * wall_s + 0.1, (ran.exit.cpu_s, wall_s)


async def test_R6_no_daemon_outlives_the_first_process(driver: NsDriver) -> None:
    box = await driver.start(spec("linger"))
    output = asyncio.ensure_future(output_of(box))
    how = await box.wait()
    assert how.code == 0
    assert "ready" in await output
    await until(lambda: not harness.processes_of(box.uid), 1.0, "a process is left")


async def test_R6_kill_ends_daemons_that_ignore_signals_within_a_second(driver: NsDriver) -> None:
    box = await driver.start(spec("linger", {"stay": True}))
    assert b"ready" in await read_some(box.output)
    await until(lambda: len(harness.processes_of(box.uid)) >= 4, 5, "the daemons run")
    started = time.monotonic()
    how = await box.kill()
    assert time.monotonic() - started < 1
    assert how.signal == 9
    assert harness.processes_of(box.uid) == []
    assert cgroup_folders(box.id) == []
    assert await box.kill() == how == await box.wait(), "both may be called again"
    os.close(box.output)


async def test_R7_a_frozen_sandbox_uses_no_cpu_time_and_goes_on_when_thawed(driver: NsDriver) -> None:
    box = await driver.start(spec("burn", {"seconds": 60, "processes": 2}))
    output = asyncio.ensure_future(output_of(box))
    await until(lambda: ticks(box.uid) > 5, 5, "it computes")
    await box.freeze(True)
    settled = ticks(box.uid)
    await asyncio.sleep(0.3)  # the time in which a running one would use 30 ticks and more
    assert ticks(box.uid) - settled <= 1
    await box.freeze(False)
    await until(lambda: ticks(box.uid) > settled + 5, 5, "it goes on")
    await box.freeze(True)
    how = await box.kill()
    assert how.signal == 9
    await output


async def test_R1_what_sockets_hold_in_the_kernel_is_bounded_too(driver: NsDriver, owner: modes.Owner) -> None:
    """What TCP may take of a machine is one for all: a sandbox that took it would silence the server."""
    connections = {"connections": 60}
    bound = LIMITS.memory_bytes if owner.has_gvisor else 96 * MEBIBYTE  # in gVisor they are memory as any other
    assert outside("socket_memory", connections)["queued"] > 128 * MEBIBYTE, "control"
    ran = await run(driver, "socket_memory", connections)
    assert ran.exit.out_of_memory or ran.answer["queued"] < bound, "64 MiB and what is on its way"


async def test_R10_no_program_of_the_host_is_started_for_a_crash(driver: NsDriver, owner: modes.Owner) -> None:
    """The kernel starts one, as root, for a limit of 0 core bytes as for any other, but not for 1 (core(5))."""
    if owner.has_gvisor:
        pytest.skip("the guest kernel is gVisor's: it starts nothing, and test_runsc tells of its own limit")
    assert outside("core_limit") == {"tried": None, "limit": [0, 0]}, "control"
    ran = await run(driver, "core_limit")
    assert ran.answer["limit"] == [1, 1]
    assert ran.answer["tried"] in (None, "ValueError"), "refused (EPERM) where runc made the filter"


async def test_R10_a_crash_is_told_by_its_signal_and_leaves_no_core(driver: NsDriver, data_folder: Path) -> None:
    before = set(os.listdir("/tmp")) | set(os.listdir("/"))
    for _ in range(10):
        ran = await run(driver, "crash")
        assert (ran.exit.code, ran.exit.signal) == (None, 11)
        assert not ran.exit.out_of_memory
    new = (set(os.listdir("/tmp")) | set(os.listdir("/"))) - before
    assert not [name for name in new if "core" in name]


def ticks(uid: int) -> int:
    """CPU time used by the live processes of a uid, in clock ticks (10 ms)."""
    total = 0
    for pid in harness.processes_of(uid):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total


def cgroup_folders(id: str) -> list[str]:
    """The groups of a sandbox that exist, in every hierarchy."""
    found = []
    for one in hierarchies(Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()):
        found += [str(path) for place in ("", "hearth-test-*/") for path in Path(one.own).glob(f"{place}hearth-*/{id}")]
    return found
