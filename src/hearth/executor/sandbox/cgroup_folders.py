"""What is read from and written into the folder of one control group, on v1 and v2 (spawner side)."""

import contextlib
import os
import time
from collections.abc import Iterator

CPU_PERIOD_US = 100_000
SOCKET_MEMORY_BYTES_MAX = 64 << 20


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def write(path: str, value: object) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def counter(path: str, key: str) -> int:
    """A value of a flat-keyed file (`key value` lines); 0 when the file or key is missing."""
    try:
        for line in read(path).splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        return 0
    return 0


def limit_cpu(folder: str, cpus: float, unified: bool) -> None:
    quota = max(1_000, int(cpus * CPU_PERIOD_US))
    if unified:
        write(f"{folder}/cpu.max", f"{quota} {CPU_PERIOD_US}")
    else:
        write(f"{folder}/cpu.cfs_period_us", CPU_PERIOD_US)
        write(f"{folder}/cpu.cfs_quota_us", quota)


def limit_memory(folder: str, limit: int, unified: bool) -> int:
    """Set the memory limit, swap included; returns (v1) an eventfd that tells of out-of-memory, else -1.

    On v2 the kernel ends the whole group together (memory.oom.group); on v1 the spawner does when the event comes.
    """
    if unified:
        write(f"{folder}/memory.max", limit)
        write(f"{folder}/memory.oom.group", 1)
        with contextlib.suppress(FileNotFoundError):  # kernels without swap accounting
            write(f"{folder}/memory.swap.max", 0)
        return -1
    write(f"{folder}/memory.limit_in_bytes", limit)
    with contextlib.suppress(FileNotFoundError):  # kernels without IPv4
        write(f"{folder}/memory.kmem.tcp.limit_in_bytes", socket_memory(limit))
    try:
        write(f"{folder}/memory.memsw.limit_in_bytes", limit)
    except FileNotFoundError:
        write(f"{folder}/memory.swappiness", 0)
    event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    control = os.open(f"{folder}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
    try:
        write(f"{folder}/cgroup.event_control", f"{event} {control}")
    except OSError:
        os.close(event)
        event = -1
    finally:
        os.close(control)
    return event


def socket_memory(limit: int) -> int:
    """The bytes that a sandbox's sockets may hold in the kernel where they do not count as its memory (v1).

    Without a limit of their own they count for nobody, and what TCP may take of the machine is one for all.
    """
    return min(limit, SOCKET_MEMORY_BYTES_MAX)


def change_memory(folder: str, old: int, new: int, unified: bool) -> None:
    """Raise or lower the memory limit; v1 insists that the one with swap is never the smaller one."""
    if unified:
        write(f"{folder}/memory.max", new)
        return
    with contextlib.suppress(FileNotFoundError):
        write(f"{folder}/memory.kmem.tcp.limit_in_bytes", socket_memory(new))
    names = ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]
    for name in names if new < old else reversed(names):
        with contextlib.suppress(FileNotFoundError):  # kernels without swap accounting
            write(f"{folder}/{name}", new)


def named(folder: str, name: str, depth: int) -> Iterator[str]:
    """Every group folder called `name` at most `depth` levels below `folder`."""
    try:
        entries = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in entries:
        path = os.path.join(folder, entry)
        if entry == name:
            yield path
        elif depth > 1:
            yield from named(path, name, depth - 1)


def end(folder: str, deadline: float) -> bool:
    """Kill what is in one group and delete it, waiting for the kernel until `deadline` (monotonic seconds)."""
    while True:
        if os.path.exists(f"{folder}/cgroup.kill"):
            with contextlib.suppress(OSError):
                write(f"{folder}/cgroup.kill", 1)
        with contextlib.suppress(OSError):
            write(f"{folder}/freezer.state", "THAWED")
        kill_listed(folder)
        if remove_folder(folder):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)


def kill_listed(folder: str) -> None:
    """Kill the processes of one group, one by one."""
    with contextlib.suppress(OSError, ValueError):
        for pid in read(f"{folder}/cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)


def remove_folder(folder: str) -> bool:
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
