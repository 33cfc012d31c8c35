"""What only sandboxes with a kernel of their own (gVisor) have: its processes on this machine, and what it costs."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.executor.sandbox import inside
from hearth.executor.sandbox.ns import NsDriver, NsSandbox
from tests.sandbox import harness, modes
from tests.sandbox.harness import LIMITS, output_of, run, spec, until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("mode", [modes.GVISOR], indirect=True, scope="session")]
MEBIBYTE = 1 << 20


@pytest.fixture
async def box(driver: NsDriver) -> AsyncIterator[NsSandbox]:
    """A sandbox with programs that ignore signals, beside a second one."""
    made = await driver.start(spec("linger", {"stay": True}))
    reading = asyncio.ensure_future(output_of(made))
    await until(lambda: len(harness.processes_of(made.uid)) >= 6, 10, "its programs run")
    yield made
    await made.kill()
    await reading


def rows_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


async def test_all_processes_of_gvisor_have_one_host_uid_and_no_new_privileges(box: NsSandbox) -> None:
    below = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_below(int(pid), box.pid)]
    assert len(below) >= 4, "its kernel, its file server, and what they run programs in"
    host = os.readlink("/proc/self/ns/pid")
    for pid in (box.pid, *below):
        rows = rows_of(pid)
        assert set(rows["Uid"].split()) == set(rows["Gid"].split()) == {str(box.uid)}
        assert os.readlink(f"/proc/{pid}/ns/pid") != host
    names = {Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]: pid for pid in below}
    sentry, gofer = names[b"runsc-sandbox"], names[b"runsc-gofer"]
    for pid in (box.pid, sentry, gofer):
        assert (rows_of(pid)["Seccomp"], rows_of(pid)["NoNewPrivs"]) == ("2", "1"), pid
        text = Path(f"/proc/{pid}/limits").read_text()
        assert pid == box.pid or f"Max core file size        {inside.CORE_BYTES} " in text
    assert rows_of(box.pid)["CapBnd"].strip("0") == ""
    for pid in (sentry, gofer):
        assert os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user"), "its rights are none here"
    assert os.listdir(f"/proc/{box.pid}/fd") == [], "a copy of a pipe would hide the end of the others"


def is_below(pid: int, top: int) -> bool:
    """Whether a process is a descendant of another."""
    while pid > 1 and pid != top:
        try:
            pid = int(rows_of(pid)["PPid"])
        except OSError:
            return False
        if pid == top:
            return True
    return False


async def test_the_kernel_that_programs_see_is_not_this_machines(driver: NsDriver) -> None:
    ran = await run(driver, "read_all", {"paths": ["/proc/version", "/proc/self/cgroup"]})
    assert os.uname().release not in ran.text
    assert "gvisor" in (await run(driver, "read_all", {"paths": ["/proc/cmdline"]})).text


async def test_standard_error_waits_for_its_reader_as_standard_output_does(driver: NsDriver) -> None:
    code = "import os\nfor fd in (1, 2):\n    for _ in range(64):\n        os.write(fd, b'x' * 65536)"
    ran = await run(driver, "", argv=(harness.PYTHON, "-I", "-S", "-c", code))
    assert (ran.exit.code, len(ran.text)) == (0, 2 * 64 * 65_536)


async def test_the_channel_and_a_descriptor_come_through_at_their_numbers(driver: NsDriver) -> None:
    ours, theirs = socket.socketpair()
    code = "import os\nos.write(3, b'channel')\nos.write(9, os.read(9, 10).upper())"
    with ours, theirs:
        argv = (harness.PYTHON, "-I", "-S", "-c", code)
        made = await driver.start(spec("", argv=argv, channel=True, descriptors={9: theirs.fileno()}))
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(ours, b"passed")
        assert await loop.sock_recv(ours, 10) == b"PASSED"
        assert made.channel is not None
        assert await loop.sock_recv(made.channel, 10) == b"channel"
        assert (await made.wait()).code == 0
        await output_of(made)


async def test_files_in_memory_without_end_meet_the_memory_limit(driver: NsDriver) -> None:
    """Its folders in memory count no inodes: what they cost counts as memory."""
    limits = replace(LIMITS, memory_bytes=32 * MEBIBYTE)
    ran = await run(driver, "fill", {"folder": "/tmp", "bound": 1, "files": 400_000}, limits=limits, timeout_s=120)
    assert ran.exit.out_of_memory
    assert (await run(driver, "say")).exit.code == 0


@pytest.mark.parametrize(("code", "expected"), [(0, (0, None)), (7, (7, None)), (128, (128, None))])
async def test_exit_codes_are_the_programs(driver: NsDriver, code: int, expected: tuple[int, None]) -> None:
    ran = await run(driver, "", argv=("/bin/sh", "-c", f"exit {code}"))
    assert (ran.exit.code, ran.exit.signal) == expected


@pytest.mark.parametrize("number", [9, 11, 15])
async def test_a_signal_is_told_by_its_number(driver: NsDriver, number: int) -> None:
    ran = await run(driver, "", argv=("/bin/sh", "-c", f"sh -c 'kill -{number} $$'; exit $?"))
    assert (ran.exit.code, ran.exit.signal) == (None, number), "also where a shell tells it of its child, as 128 + N"
