"""Isolation cases P: other processes and the kernel's interface."""

import asyncio
import ctypes
import os
import platform
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hearth.executor.sandbox.filters.generate import numbers
from hearth.executor.sandbox.ns import NsDriver
from tests.sandbox import harness, modes
from tests.sandbox.harness import output_of, outside, run, spec

pytestmark = pytest.mark.anyio

MACHINE = platform.machine()
NUMBERS = numbers(MACHINE)
ZERO = "0" * 16
REFUSED = {"EPERM", "ENOSYS", "EACCES"}


async def test_P1_no_capability_no_group_no_new_privilege_in_any_thread_or_child(
    driver: NsDriver, owner: modes.Owner
) -> None:
    control = outside("statuses")
    assert control["main"]["CapEff"] != [ZERO], "the control runs as root"
    found = (await run(driver, "statuses")).answer
    assert set(found) == {"main", "thread", "child", "after exec"}
    for where, status in found.items():
        assert {tuple(status[name]) for name in status if name.startswith("Cap")} == {(ZERO,)}, where
        assert (status["Seccomp"], status["Groups"]) == (["2"], []), where
        assert status.get("NoNewPrivs") == (None if owner.has_gvisor else ["1"]), "gVisor does not tell"


async def test_P2_each_live_sandbox_has_a_host_uid_and_gid_of_its_own(driver: NsDriver, owner: modes.Owner) -> None:
    boxes = [await driver.start(spec("linger", {"stay": True})) for _ in range(2)]
    outputs = [asyncio.ensure_future(output_of(box)) for box in boxes]
    try:
        uids = set()
        for box in boxes:
            assert box.pid in harness.processes_of(box.uid)
            for task in os.listdir(f"/proc/{box.pid}/task"):
                text = Path(f"/proc/{box.pid}/task/{task}/status").read_text()
                rows = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
                assert set(rows["Uid"].split()) == set(rows["Gid"].split()) == {str(box.uid)}
            uids.add(box.uid)
        assert len(uids) == 2
        assert not uids & {0, os.getuid(), owner.uid}
        assert min(uids) >= owner.first_uid
    finally:
        for box in boxes:
            await box.kill()
        await asyncio.gather(*outputs)


@pytest.fixture
def host_process() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process of the host with a token in its arguments and environment."""
    token = secrets.token_hex(16)
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, token], env={"TOKEN": token}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield process, token
    process.communicate(timeout=10)


async def test_P3_only_own_processes_are_listed(
    driver: NsDriver, host_process: tuple[subprocess.Popen[bytes], str]
) -> None:
    process, token = host_process
    assert token in outside("processes")[str(process.pid)], "control"
    ran = await run(driver, "processes")
    assert len(ran.answer) == 1, "its own, which is the first one unless Docker's container has another"
    assert token not in ran.text


async def test_P4_no_process_outside_can_be_killed_traced_or_read(
    driver: NsDriver, host_process: tuple[subprocess.Popen[bytes], str], owner: modes.Owner
) -> None:
    process, _ = host_process
    args = {
        "pids": [process.pid, os.getpid()],
        "ptrace": NUMBERS["ptrace"],
        "process_vm_readv": NUMBERS["process_vm_readv"],
    }
    neighbour = await driver.start(spec("linger", {"stay": True}))
    reading = asyncio.ensure_future(output_of(neighbour))
    found = (await run(driver, "attack_pids", args)).answer
    for name, result in found.items():
        if name.startswith(("ptrace", "process_vm", "pidfd_getfd")):
            assert result in REFUSED, (name, result)
        elif name != "kill -1":
            is_unknown = owner.has_gvisor and name.startswith("pidfd_open") and result == "ENOSYS"
            assert result == "ESRCH" or is_unknown, (name, result)
    assert process.poll() is None
    assert harness.processes_of(neighbour.uid)
    await neighbour.kill()
    await reading


async def test_P5_no_namespace_or_mount_can_be_made_or_entered(driver: NsDriver) -> None:
    names = ("unshare", "clone", "setns", "mount", "umount2", "pivot_root", "chroot")
    found = (await run(driver, "namespaces", {name: NUMBERS[name] for name in names})).answer
    assert found.pop("unchanged") is True
    assert set(found.values()) <= REFUSED, found
    assert len(found) > 20


async def test_P6_calls_that_change_the_kernel_or_reach_other_processes_are_refused(driver: NsDriver) -> None:
    names = [
        "bpf",
        "perf_event_open",
        "userfaultfd",
        "io_uring_setup",
        "keyctl",
        "add_key",
        "request_key",
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "reboot",
        "syslog",
        "swapon",
        "swapoff",
        "acct",
        "quotactl",
        "open_by_handle_at",
        "name_to_handle_at",
        "settimeofday",
        "clock_settime",
        "adjtimex",
        "iopl",
        "ioperm",
        "vhangup",
        "fanotify_init",
        "mbind",
        "move_pages",
        "kcmp",
        "process_madvise",
        "seccomp",
        "lookup_dcookie",
        "nfsservctl",
        "statmount",
        "listmount",
        "memfd_secret",
        "io_setup",
    ]
    calls = {name: [NUMBERS[name], 0, 0, 0, 0, 0] for name in names if name in NUMBERS}
    calls["personality"] = [NUMBERS["personality"], 0x0040000]  # ADDR_NO_RANDOMIZE
    calls["prctl death signal"] = [NUMBERS["prctl"], 1, 0, 0, 0]
    calls["ioctl TIOCSTI"] = [NUMBERS["ioctl"], 0, 0x5412, 0]
    found = (await run(driver, "kernel_calls", {"calls": calls})).answer
    assert found.pop("alive") is True
    assert set(found.values()) <= REFUSED, found
    assert len(found) >= len(calls) > 30


@pytest.mark.skipif(MACHINE != "x86_64", reason="x86-64 has these conventions")
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"how": "int80"}, (31, -31)),
        ({"how": "number", "number": 0x4000_0000 | 39}, (31, -31)),
        ({"how": "number", "number": 600}, (0, 38)),
    ],
)
async def test_P7_foreign_conventions_kill_and_unknown_numbers_do_not_exist(
    driver: NsDriver, args: dict[str, object], expected: tuple[int, int], owner: modes.Owner
) -> None:
    found = (await run(driver, "foreign_entry", args)).answer
    if owner.has_gvisor:
        assert (found["signal"], found["code"]) in ((0, 3), (0, 38)), "what its kernel has not is refused"
    else:
        assert (found["signal"], found["code"]) == expected


async def test_P8_only_unix_tcp_and_udp_sockets_exist(driver: NsDriver) -> None:
    sockets = {
        "packet": (17, 3, 768),
        "raw icmp": (2, 3, 1),
        "ping": (2, 2, 1),
        "raw icmp6": (10, 3, 58),
        "vsock": (40, 1, 0),
        "alg": (38, 5, 0),
        "xdp": (44, 3, 0),
        "key": (15, 3, 2),
        "bluetooth": (31, 3, 1),
        "can": (29, 3, 1),
        "tipc": (30, 1, 0),
        "rds": (21, 5, 0),
        "sctp": (2, 1, 132),
        "netlink netfilter": (16, 3, 12),
        "netlink audit": (16, 3, 9),
    }
    good = {"tcp": (2, 1, 0), "udp": (2, 2, 0), "tcp6": (10, 1, 0), "unix": (1, 1, 0), "netlink route": (16, 3, 0)}
    assert outside("socket_families", {"sockets": {"packet": sockets["packet"]}})["packet"] == "ok", "control"
    found = (await run(driver, "socket_families", {"sockets": {**sockets, **good}})).answer
    assert {name: found.pop(name) for name in good} == dict.fromkeys(good, "ok")
    assert "ok" not in found.values(), found


async def test_P9_no_setting_of_the_kernel_or_the_network_can_be_changed(driver: NsDriver, owner: modes.Owner) -> None:
    before = {path: Path(path).read_text() for path in ("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname")}
    writes = {
        "/proc/sys/kernel/core_pattern": "|/tmp/x",
        "/proc/sys/kernel/hostname": "mine",
        "/proc/sys/net/ipv4/ip_forward": "1",
        "/proc/sysrq-trigger": "h",
        "/proc/self/oom_score_adj": "-500",
        "/proc/self/uid_map": "0 0 1",
        "/proc/self/setgroups": "allow",
    }
    found = (await run(driver, "proc_writes", {"writes": writes})).answer
    assert found.pop("/proc/sysrq-trigger") in (1, "EROFS", "EACCES", "ENOENT")  # 1: the null device
    if owner.has_gvisor:
        assert found.pop("/proc/self/oom_score_adj") == 4, "a number of its own kernel that nothing follows"
        found = {name: "EPERM" if result in ("ENOENT", "ENOTTY") else result for name, result in found.items()}
    assert set(found.values()) <= {*REFUSED, "EROFS", "EINVAL"}, found
    assert before == {path: Path(path).read_text() for path in before}


async def test_P10_the_kernel_tells_nothing_of_the_host(driver: NsDriver, owner: modes.Owner) -> None:
    paths = ["/proc/kcore", "/proc/kallsyms", "/proc/kmsg", "/proc/keys", "/proc/cmdline", "/proc/config.gz"]
    paths += ["/proc/timer_list", "/proc/sched_debug", "/proc/modules", "/proc/interrupts", "/proc/iomem"]
    paths += ["/sys/firmware", "/sys/kernel/debug", "/proc/slabinfo", "/proc/diskstats", "/proc/partitions"]
    assert outside("read_all", {"paths": ["/proc/cmdline"]})["/proc/cmdline"], "control"
    found = (await run(driver, "read_all", {"paths": paths})).answer
    if owner.has_gvisor:
        assert "gvisor" in found.pop("/proc/cmdline"), "that of its own kernel"
    assert set(found.values()) <= {"", "ENOENT", "EACCES", "EPERM"}, found


async def test_P11_cgroups_can_neither_be_seen_nor_mounted(driver: NsDriver) -> None:
    found = (await run(driver, "cgroups", {"mount": NUMBERS["mount"]})).answer
    assert found["mounted"] is False
    assert found["sys"] in ("ENOENT", [])
    assert found["mount"] in REFUSED
    own = [line.split(":", 2) for line in found["own"].splitlines()]
    ours = {"", "memory", "cpu", "pids", "cpuacct", "freezer", "cpu,cpuacct"}
    assert all(path == "/" for _, controllers, path in own if controllers in ours), found["own"]
    assert "hearth" not in found["own"]


async def test_P12_ipc_of_the_host_is_out_of_reach_and_own_ipc_works(driver: NsDriver, tmp_path: Path) -> None:
    libc = ctypes.CDLL(None)
    key = int.from_bytes(secrets.token_bytes(3), "big")
    shm, queue = libc.shmget(key, 4096, 0o1666), libc.msgget(key, 0o1666)
    name = f"hearth-{os.getpid()}"
    Path(f"/dev/shm/{name}").write_text("canary")
    path = f"/tmp/hearth-canary-{os.getpid()}.sock"
    try:
        with socket.socket(socket.AF_UNIX) as abstract, socket.socket(socket.AF_UNIX) as named:
            abstract.bind(f"\0{name}")
            named.bind(path)
            abstract.listen()
            named.listen()
            args = {"abstract": name, "path": path, "key": key, "shm": name}
            control = outside("ipc", args)
            assert (control["abstract"], control["path"]) == ("connected", "connected")
            assert (control["shm of host"], control["queue of host"]) == (shm, queue)
            found = (await run(driver, "ipc", args)).answer
    finally:
        libc.shmctl(shm, 0, None)
        libc.shmctl(libc.shmget(key + 1, 0, 0), 0, None)
        libc.msgctl(queue, 0, None)
        Path(f"/dev/shm/{name}").unlink()
        Path(path).unlink()
    assert found["abstract"] in {"ECONNREFUSED", "EPERM"}
    assert found["path"] == "ENOENT"
    assert (found["shm of host"], found["queue of host"], found["posix shm of host"]) == (-1, -1, False)
    assert (found["own shm"], found["own abstract"]) == (True, "connected")


async def test_P13_priorities_locked_memory_and_descriptors_are_bounded(driver: NsDriver, owner: modes.Owner) -> None:
    found = (await run(driver, "bounds")).answer
    assert found["nice"] in ({-5} if owner.has_gvisor else {"EPERM", "EACCES"}), "gVisor's is a number nothing follows"
    assert found["fifo"] == ("EINVAL" if owner.has_gvisor else "EPERM")
    assert found["mlock"] == "refused"
    assert found["files"] == "EMFILE"
    assert found["opened"] <= 4_096
    assert found["raise"] in {"ValueError", "EPERM"}
    assert found["core"] == [1, 1], "and no program of the host that is started for crashes"
