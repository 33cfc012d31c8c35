"""A sandbox that runs already is given one folder and other limits, from outside, once."""

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hearth.executor.sandbox import runsc
from hearth.executor.sandbox.ns import NsDriver, NsSandbox
from hearth.executor.sandbox.spec import Limits, Mount, SandboxFailed
from tests.sandbox import harness, modes
from tests.sandbox.harness import LIMITS, output_of, spec

pytestmark = pytest.mark.anyio

POINT = "/usr/local/server/code"
ASKED = """
import ctypes, json, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)

def attempt(action):
    try:
        return repr(action())
    except OSError as problem:
        return problem.strerror

def umount():
    if libc.umount2(sys.argv[1].encode(), 2) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def look(point):
    return {
        "names": sorted(os.listdir(point)),
        "content": attempt(lambda: open(point + "/hello.txt").read()),
        "module": attempt(lambda: __import__("runpy").run_path(point + "/module.py")["answer"]),
        "program": attempt(lambda: subprocess.run([point + "/program"], capture_output=True).stdout.decode()),
        "write": attempt(lambda: open(point + "/new", "w")),
        "overwrite": attempt(lambda: open(point + "/hello.txt", "w")),
        "unlink": attempt(lambda: os.unlink(point + "/hello.txt")),
        "rename": attempt(lambda: os.rename(point, point + "2")),
        "remove": attempt(lambda: os.rmdir(point)),
        "umount": attempt(umount),
        "mounts": [line.split(" - ")[0].split()[4:6] for line in open("/proc/self/mountinfo") if point in line],
        "meminfo": open("/proc/meminfo").readline().split()[1],
        "tmp": os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize,
    }

while os.read(3, 1):
    os.write(3, json.dumps(look(sys.argv[1])).encode())
"""


async def started(driver: NsDriver, **changes: Any) -> NsSandbox:
    argv = (harness.PYTHON, "-I", "-S", "-c", ASKED, POINT)
    return await driver.start(spec("", argv=argv, channel=True, mount_point=POINT, **changes))


async def ask(box: NsSandbox) -> dict[str, Any]:
    assert box.channel is not None
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(box.channel, b"?")
    async with asyncio.timeout(10):
        found: dict[str, Any] = json.loads(await loop.sock_recv(box.channel, 65_536))
    return found


@pytest.fixture(name="code")
def code_folder(data_folder: Path) -> Path:
    folder = data_folder / "cache" / "code"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hello.txt").write_text("hello")
    (folder / "module.py").write_text("answer = 42\n")
    (folder / "program").write_text("#!/bin/sh\necho ran\n")
    (folder / "program").chmod(0o755)
    for path in (folder.parent, folder):
        path.chmod(0o755)
    return folder


async def test_a_folder_mounted_later_can_be_read_and_run_but_not_changed(
    driver: NsDriver, code: Path, owner: modes.Owner
) -> None:
    """Landlock rules were made before the mount: they must neither hide it nor open it for writing."""
    box = await started(driver)
    before = await ask(box)
    assert before["names"] == []
    assert before["write"] in ("Read-only file system", "Permission denied")
    assert before["mounts"] == []
    await box.mount(Mount(str(code), POINT))
    found = await ask(box)
    assert found["names"] == ["hello.txt", "module.py", "program"]
    assert (found["content"], found["module"], found["program"]) == ("'hello'", "42", "'ran\\n'")
    for attempt in ("write", "overwrite", "unlink", "rename", "remove", "umount"):
        assert found[attempt] in (
            "Read-only file system",
            "Permission denied",
            "Operation not permitted",
            "Device or resource busy",
            "Function not implemented",
            "Invalid cross-device link",
        ), f"{attempt}: {found[attempt]}"
    if owner.has_gvisor:
        assert found["mounts"] == [], "its kernel sees another folder, and no mount"
    else:
        ((point, options),) = found["mounts"]
        assert point == POINT
        assert {"ro", "nosuid", "nodev"} <= set(options.split(","))
    assert (code / "hello.txt").read_text() == "hello"
    await box.kill()
    await output_of(box)


async def test_a_folder_is_given_once_and_only_where_it_was_meant(driver: NsDriver, code: Path) -> None:
    box = await started(driver)
    for mount, reason in (
        (Mount(str(code), "/usr/local/server"), "is not"),
        (Mount(str(code), "/etc"), "mount target"),
        (Mount("/etc", POINT), "below no folder"),
        (Mount(str(code / "hello.txt"), POINT), "no folder"),
        (Mount(str(code / "missing"), POINT), "No such file"),
        (Mount(str(code), POINT, writable=True), "read-only"),
    ):
        with pytest.raises(SandboxFailed, match=reason):
            await box.mount(mount)
    await box.mount(Mount(str(code), POINT))
    with pytest.raises(SandboxFailed, match="already"):
        await box.mount(Mount(str(code), POINT))
    await box.kill()
    with pytest.raises(SandboxFailed, match="runs"):
        await box.mount(Mount(str(code), POINT))
    await output_of(box)


async def test_a_link_of_the_code_is_not_followed_to_the_host(driver: NsDriver, data_folder: Path) -> None:
    link = data_folder / "link"
    link.symlink_to("/etc")
    box = await started(driver)
    with pytest.raises(SandboxFailed, match="symbolic link"):
        await box.mount(Mount(str(link), POINT))
    await box.kill()
    await output_of(box)


async def test_a_sandbox_started_whole_is_not_changed(driver: NsDriver, code: Path) -> None:
    box = await driver.start(
        spec("", argv=(harness.PYTHON, "-I", "-S", "-c", "import os; os.read(3, 1)"), channel=True)
    )
    with pytest.raises(SandboxFailed, match="started whole"):
        await box.mount(Mount(str(code), "/mnt"))
    with pytest.raises(SandboxFailed, match="started whole"):
        await box.retune(LIMITS)
    await box.kill()
    await output_of(box)


async def test_limits_are_changed_in_the_kernel_and_shown_inside(driver: NsDriver, owner: modes.Owner) -> None:
    box = await started(driver)
    assert driver.alive
    pids, small = (LIMITS.pids, LIMITS.tmp_bytes) if owner.has_gvisor else (99, 8 << 20)
    for memory, cpus, tmp in ((128 << 20, 0.5, LIMITS.tmp_bytes), (512 << 20, 1.5, small), (96 << 20, 0.25, small)):
        limits = replace(LIMITS, memory_bytes=memory, cpus=cpus, tmp_bytes=tmp, pids=pids)
        await box.retune(limits)
        held = runsc.group_limits(limits) if owner.has_gvisor else limits
        assert limits_of(box) == {"memory": held.memory_bytes, "cpu": cpus, "pids": held.pids}
        found = await ask(box)
        assert int(found["meminfo"]) == memory // 1024
        assert found["tmp"] == tmp
    impossibles = [replace(LIMITS, open_files=99), replace(LIMITS, pids=LIMITS.pids + 1)]
    if owner.has_gvisor:
        impossibles += [replace(LIMITS, tmp_bytes=8 << 20), replace(LIMITS, pids=99)]
    for impossible in impossibles:
        with pytest.raises(SandboxFailed, match="fixed at the start"):
            await box.retune(impossible)
    await box.kill()
    await output_of(box)


async def test_the_changed_memory_limit_is_the_one_that_ends_it(driver: NsDriver) -> None:
    code = "import os; os.read(3, 1); held = [bytes([1]) * (1 << 20) for _ in range(150)]; os.write(3, b'held')"
    argv = (harness.PYTHON, "-I", "-S", "-c", code)
    loop = asyncio.get_running_loop()
    for limit_bytes, is_enough in ((64 << 20, False), (256 << 20, True)):
        limits = Limits(memory_bytes=128 << 20, cpus=1.0)
        box = await driver.start(spec("", argv=argv, channel=True, mount_point=POINT, limits=limits))
        await box.retune(replace(limits, memory_bytes=limit_bytes))
        assert box.channel is not None
        await loop.sock_sendall(box.channel, b"?")
        assert (await loop.sock_recv(box.channel, 10) == b"held") is is_enough
        how = await box.wait() if not is_enough else await box.kill()
        assert how.out_of_memory is not is_enough
        await output_of(box)


async def test_the_child_that_mounts_holds_nothing_of_a_sandbox_and_may_die(
    driver: NsDriver, code: Path, owner: modes.Owner
) -> None:
    """A copy of a pipe in it would hide the end of a sandbox; without it a mount takes longer, and that is all."""
    boxes = [await started(driver) for _ in range(4)]
    seen = []
    for box in boxes[:3]:
        child = await mounting_child(driver, owner)
        seen.append(child)
        if box is boxes[2]:
            os.kill(int(child.name), signal.SIGKILL)
            await harness.until(lambda: ended(child), 5, "the child is dead")
        await box.mount(Mount(str(code), POINT))
        assert "hello.txt" in (await ask(box))["names"]
    assert seen[0] == seen[1]
    await boxes[3].mount(Mount(str(code), POINT))
    for box in boxes:
        await box.kill()
        await output_of(box)


async def test_a_mount_that_fails_in_the_child_is_told_and_the_next_one_works(
    driver: NsDriver, code: Path, owner: modes.Owner
) -> None:
    gone, other = await started(driver), await started(driver)
    child = await mounting_child(driver, owner)
    os.kill(int(child.name), signal.SIGSTOP)
    mounts = [asyncio.create_task(box.mount(Mount(str(code), POINT))) for box in (gone, other)]
    # both are on their way to the child once an answer to what was asked after them is here
    with pytest.raises(SandboxFailed, match="fixed at the start"):
        await other.retune(replace(LIMITS, open_files=99))
    await gone.kill()
    os.kill(int(child.name), signal.SIGCONT)
    failed, done = await asyncio.gather(*mounts, return_exceptions=True)
    assert "setns" in str(failed)
    assert done is None
    assert "hello.txt" in (await ask(other))["names"]
    assert await mounting_child(driver, owner) == child
    await other.kill()
    for box in (gone, other):
        await output_of(box)


async def mounting_child(driver: NsDriver, owner: modes.Owner) -> Path:
    """The child of the spawner that mounts: at home, with 0 to 2, its socket, and a mount namespace, and nothing else.

    There may be others that come and go (runc).
    """
    spawner = Path("/proc", str(driver._spawner.process.pid))
    found: list[Path] = []

    def look() -> bool:
        found.clear()
        for pid in (spawner / "task" / spawner.name / "children").read_text().split():
            child = Path("/proc", pid)
            with contextlib.suppress(OSError):
                held = [os.readlink(link) for link in (child / "fd").iterdir()]
                is_home = os.readlink(child / "ns/mnt") == os.readlink(spawner / "ns/mnt")
                is_ours = child.stat().st_uid in (0, owner.uid) and is_home
                if is_ours and len(held) == 5 and sum(one.startswith("mnt:") for one in held) == 1:
                    found.append(child)
        return len(found) == 1

    await harness.until(look, 20, "no child waits with its socket and mount namespace alone")
    return found[0]


def ended(process: Path) -> bool:
    try:
        return "State:\tZ" in (process / "status").read_text()
    except OSError:
        return True


async def test_a_hundred_changes_leave_nothing_in_the_spawner(driver: NsDriver, code: Path, owner: modes.Owner) -> None:
    spawner = driver._spawner.process.pid

    async def one() -> None:
        box = await started(driver)
        await box.retune(replace(LIMITS, **({"cpus": 1.0} if owner.has_gvisor else {"tmp_bytes": 8 << 20})))
        await box.mount(Mount(str(code), POINT))
        await box.kill()
        await output_of(box)

    def open_files() -> int:
        return len(os.listdir(f"/proc/{spawner}/fd"))

    def children() -> list[str]:
        return Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split()

    await one()
    await harness.until(lambda: len(children()) <= 1, 20, "children are left")
    before = open_files()
    for _ in range(10):
        await asyncio.gather(*(one() for _ in range(10)))
    await harness.until(lambda: open_files() == before, 5, "descriptors are left")
    assert len(children()) <= 1


def limits_of(box: NsSandbox) -> dict[str, float]:
    """Memory, CPUs and processes as the kernel holds them for the sandbox."""
    found: dict[str, float] = {}
    places = {}
    for line in Path(f"/proc/{box.pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(",") or [""]:
            places[name] = path
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2"):
            mounts[""] = left.split()[4]
        elif right.startswith("cgroup "):
            for name in right.split()[2].split(","):
                mounts[name] = left.split()[4]
    for name in ("memory", "cpu", "pids"):
        where = name if name in places else ""
        folder = Path(mounts[where] + places[where])
        folder = folder.parent if folder.name.startswith("box-") else folder  # below it runc has made its own
        if name == "memory":
            found[name] = int((folder / ("memory.limit_in_bytes" if where else "memory.max")).read_text())
        elif name == "cpu" and where:
            quota, period = ((folder / f"cpu.cfs_{part}_us").read_text() for part in ("quota", "period"))
            found[name] = int(quota) / int(period)
        elif name == "cpu":
            quota, period = (folder / "cpu.max").read_text().split()
            found[name] = int(quota) / int(period)
        else:
            found[name] = int((folder / "pids.max").read_text())
    return found
