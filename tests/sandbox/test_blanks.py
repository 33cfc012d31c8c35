"""Sandboxes made ahead without a program: what comes of one is what a start from nothing gives."""

import asyncio
import contextlib
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hearth.executor.sandbox.launch import start_gate, start_spawner
from hearth.executor.sandbox.ns import NsDriver, NsSandbox
from hearth.executor.sandbox.spec import Limits, Network
from tests.sandbox import harness, modes
from tests.sandbox.conftest import gate_config, spawner_config
from tests.sandbox.harness import output_of, spec
from tests.sandbox.test_later_mounts import ended as is_ended
from tests.sandbox.test_later_mounts import limits_of

pytestmark = pytest.mark.anyio

BLANKS = 2
LIMITS = Limits(96 << 20, 0.75, pids=77, tmp_bytes=9 << 20, tmp_inodes=999, open_files=333, file_size_bytes=5 << 20)
SHOWN = ("/etc/passwd", "/etc/group", "/etc/resolv.conf", "/proc/meminfo")
FACTS = """
import json, os, resource, socket
DESCRIPTORS = "/proc/self/fd/"
def read(path):
    return open(path).read()
def lines(path):
    return read(path).splitlines()
os.read(3, 1)
status = dict(line.split(":\\t", 1) for line in read("/proc/self/status").splitlines() if ":\\t" in line)
named = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Groups", "SigBlk", "SigIgn")
facts = {
    "status": {name: status[name] for name in named},
    "pid": os.getpid(),
    "session": os.getsid(0),
    "one user": len({*os.getresuid(), *os.getresgid()}),
    "mounts": sorted(mount.split()[3:6] + mount.split(" - ")[1].split() for mount in lines("/proc/self/mountinfo")),
    "limits": {kind: resource.getrlimit(getattr(resource, kind)) for kind in dir(resource) if kind[:7] == "RLIMIT_"},
    "descriptors": [(int(number), os.readlink(DESCRIPTORS + number).split(":")[0])
                    for number in os.listdir(DESCRIPTORS) if os.path.exists(DESCRIPTORS + number)],
    "environment": dict(os.environ),
    "folder": os.getcwd(),
    "host": socket.gethostname(),
    "groups": sorted(line.rpartition(":")[2] for line in read("/proc/self/cgroup").splitlines()),
    "ours": {path: read(path) for path in ("/etc/group", "/etc/resolv.conf", "/etc/hosts", "/proc/meminfo")},
    "listening": sorted(line.split()[1:4] for line in read("/proc/net/tcp").splitlines()[1:]),
    "routes": read("/proc/net/route"),
    "tmp": [os.statvfs(path).f_blocks * os.statvfs(path).f_frsize for path in ("/tmp", "/dev/shm")],
    "inodes": [os.statvfs(path).f_files for path in ("/tmp", "/dev/shm")],
    "processes": sorted(name for name in os.listdir("/proc") if name.isdigit()),
    "oom": read("/proc/self/oom_score_adj"),
    "death signal": __import__("ctypes").CDLL(None).prctl(2, number := __import__("ctypes").c_int()) or number.value,
}
facts["ours"]["/etc/group"] = facts["ours"]["/etc/group"].replace(str(os.getuid()), "UID")
rest = json.dumps(facts).encode() + b"\\n"
while rest:
    rest = rest[os.write(3, rest):]
os.read(3, 1)
"""


@pytest.fixture(name="blank_driver", scope="module")
async def driver_with_blanks(
    data_folder: Path, internet: harness.Internet, owner: modes.Owner
) -> AsyncIterator[NsDriver]:
    if owner.driver != "ns":
        pytest.skip("inexpressible: runc makes sandboxes whole")
    folder = data_folder / "blanks"
    folder.mkdir()
    os.chown(folder, owner.uid, owner.gid)
    pid = internet.process.pid
    with owner.launching():
        config = replace(spawner_config(folder, owner), blanks=BLANKS)
        spawner = harness.in_network(pid, lambda: start_spawner(config))
        gate = harness.in_network(pid, lambda: start_gate(gate_config(("127.0.0.1", 8080), owner.uid)))
    made = NsDriver(spawner, gate)
    with owner.making_pipes():
        yield made
    await made.close()
    assert (spawner.process.returncode, gate.process.returncode) == (0, 0)


def waiting(driver: NsDriver) -> list[int]:
    """Blanks that are ready: first processes of sandboxes in the spawner's own program that hold but a socket."""
    spawner = driver._spawner.process.pid
    found = []
    for name in Path(f"/proc/{spawner}/task/{spawner}/children").read_text().split():
        with contextlib.suppress(OSError):
            is_inside = "blank-" in Path(f"/proc/{name}/cgroup").read_text()
            if is_inside and len(os.listdir(f"/proc/{name}/fd")) == 5:
                found.append(int(name))
    return found


async def blanks_of(driver: NsDriver) -> list[int]:
    """Wait until all are ready, and return their pids."""
    await harness.until(lambda: len(waiting(driver)) == BLANKS, 30, "no blanks are made")
    return waiting(driver)


async def start(driver: NsDriver, **changes: Any) -> NsSandbox:
    fields: dict[str, Any] = {
        "argv": (harness.PYTHON, "-I", "-S", "-c", FACTS),
        "limits": LIMITS,
        "channel": True,
        "network": Network.GATE,
        "working_folder": "/mnt",
    }
    return await driver.start(spec("", **{**fields, **changes}))


async def facts_of(box: NsSandbox) -> Any:
    assert box.channel is not None
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(box.channel, b"?")
    data = b""
    async with asyncio.timeout(20):
        while not data.endswith(b"\n"):
            data += await loop.sock_recv(box.channel, 1 << 20)
    return json.loads(data)


async def ended(*boxes: NsSandbox) -> None:
    for box in boxes:
        await box.kill()
        await output_of(box)
        if box.channel is not None:
            box.channel.close()


async def test_the_inside_is_the_same_as_that_of_a_start_from_nothing(blank_driver: NsDriver) -> None:
    from_nothing = await start(blank_driver, limits=harness.LIMITS)
    whole = await start(blank_driver)
    ready = await blanks_of(blank_driver)
    from_blank = await start(blank_driver)
    assert whole.pid not in ready
    assert from_blank.pid in ready
    assert limits_of(from_blank) == limits_of(whole) == {"memory": 96 << 20, "cpu": 0.75, "pids": 77}
    expected, found = await facts_of(whole), await facts_of(from_blank)
    assert found == expected
    assert expected["status"]["CapBnd"] == "0" * 16, "the facts say something"
    for one in (from_nothing, whole, from_blank):
        assert Path(f"/proc/{one.pid}/stat").exists()
    names = {
        name: os.readlink(f"/proc/{from_blank.pid}/ns/{name}") for name in ("mnt", "pid", "net", "ipc", "uts", "cgroup")
    }
    for other in (whole.pid, os.getpid(), *waiting(blank_driver)):
        shared = [name for name, link in names.items() if os.readlink(f"/proc/{other}/ns/{name}") == link]
        assert shared == []
    await ended(from_nothing, whole, from_blank)


async def test_what_was_made_for_a_guess_is_changed_to_what_is_asked_for(blank_driver: NsDriver) -> None:
    await ended(await start(blank_driver))
    ready = await blanks_of(blank_driver)
    box = await start(blank_driver, limits=replace(LIMITS, memory_bytes=128 << 20, tmp_bytes=5 << 20, tmp_inodes=555))
    assert box.pid in ready
    found = await facts_of(box)
    assert (found["tmp"], found["inodes"]) == ([5 << 20, 5 << 20], [555, 1024])
    assert found["ours"]["/proc/meminfo"].split()[1] == str(128 << 10)
    own = {mount[1]: mount[2].split(",")[0] for mount in found["mounts"] if mount[1] in SHOWN}
    assert own == dict.fromkeys(SHOWN, "ro")
    await ended(box)


async def test_one_that_waits_holds_nothing_and_may_die(blank_driver: NsDriver) -> None:
    await ended(await start(blank_driver))
    for pid in await blanks_of(blank_driver):
        links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in sorted(os.listdir(f"/proc/{pid}/fd"), key=int)]
        assert sum(link.startswith("socket:") for link in links[3:]) == 1, links
        assert links[3:].count("/dev/null") == 1, links
        os.kill(pid, 9)
        await harness.until(lambda process=Path(f"/proc/{pid}"): is_ended(process), 5, "it is dead")
    box = await start(blank_driver)
    assert (await facts_of(box))["pid"] == 1
    await ended(box)


async def test_a_program_that_cannot_be_started_is_told_and_leaves_nothing(blank_driver: NsDriver) -> None:
    await ended(await start(blank_driver))
    await blanks_of(blank_driver)
    with pytest.raises(Exception, match=r"exec /nothing: .*No such file"):
        await start(blank_driver, argv=("/nothing",))
    await ended(await start(blank_driver))


async def test_the_gate_knows_the_sandbox_and_its_list(blank_driver: NsDriver) -> None:
    """What carries a sandbox's connections belongs to it, whenever it was made."""
    targets = {"targets": [["198.51.100.7", 80], ["hearth.internal", 80]]}
    for allow, expected in ((None, 2), (("hearth.internal:80",), 1), ((), 0)):
        await ended(await start(blank_driver))
        ready = await blanks_of(blank_driver)
        box = await blank_driver.start(spec("connects", targets, network=Network.GATE, egress=allow))
        assert box.pid in ready
        found = json.loads((await output_of(box)).strip().splitlines()[-1])
        await box.wait()
        assert sum("200 OK" in str(result) for result, _ in found.values()) == expected, found


async def test_many_leave_nothing(blank_driver: NsDriver) -> None:
    spawner = blank_driver._spawner.process.pid

    async def one() -> None:
        await ended(await start(blank_driver))

    def open_files() -> dict[str, int]:
        """How many of each kind; of the blanks' own, some come only with their last report."""
        links = []
        for name in os.listdir(f"/proc/{spawner}/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/{spawner}/fd/{name}").split(":")[0])
        return dict(Counter(links))

    await one()
    await blanks_of(blank_driver)
    await blank_driver.facilities()
    before = open_files()
    for _ in range(5):
        await asyncio.gather(*(one() for _ in range(6)))
    await blanks_of(blank_driver)
    await harness.until(lambda: open_files() == before, 20, f"descriptors are left: {before} {open_files()}")
