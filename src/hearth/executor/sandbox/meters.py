"""What a sandbox has used, told by the kernel while it runs: counters of its control groups, read through descriptors.

The spawner opens the files and hands them over with the sandbox, so that whoever reads needs neither a path nor a
right, and opens nothing.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence

from hearth.executor.sandbox.cgroups import Group

#: Files that count CPU time or keep the highest memory use, with what each begins with; of v2 first.
CPU_FILES: Mapping[str, bytes] = {"cpu.stat": b"usage_usec ", "cpuacct.usage": b""}
MEMORY_FILES: Mapping[str, bytes] = {"memory.peak": b"", "memory.max_usage_in_bytes": b""}
_READ_BYTES = 40


def open_meters(group: Group) -> dict[str, int]:
    """The files of a sandbox's groups that are to be read: name -> descriptor, at most one of each kind (spawner side).

    Where several groups count (runc makes its own inside), the inner one if it holds the processes: the outer one may
    have counted more until now, for what started them, and then counts no more.
    """
    found: dict[str, int] = {}
    for files in (CPU_FILES, MEMORY_FILES):
        best, known = "", (False, -1)
        for name, beginning in files.items():
            for folder in (*group.folders, *group.inner):
                counted = _read_path(f"{folder}/{name}", beginning)
                rank = folder in group.inner and counted >= 0 and _holds_processes(folder), counted
                if rank > known and (not best or os.path.basename(best) == name):
                    best, known = f"{folder}/{name}", rank
        if best:
            with contextlib.suppress(OSError):
                found[os.path.basename(best)] = os.open(best, os.O_RDONLY | os.O_CLOEXEC)
    return found


def _holds_processes(folder: str) -> bool:
    try:
        with open(f"{folder}/cgroup.procs", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _read_path(path: str, beginning: bytes) -> int:
    """What a file counts; -1 where there is none, or where it counts something else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        text = os.pread(fd, _READ_BYTES, 0)
        return _first_number(text, len(beginning)) if text.startswith(beginning) else -1
    except (OSError, ValueError):
        return -1
    finally:
        os.close(fd)


def _first_number(text: bytes, start: int) -> int:
    return int(text[start : text.index(b"\n")])


class GroupMeter:
    """Reads what one sandbox has used. Owned by the driver, which closes it at the sandbox's end.

    A reading costs one system call and about 1.5 microseconds. None = this machine does not count it, or it is over.
    """

    __slots__ = ("_cpu", "_memory", "_start", "_unit_s")

    def __init__(self, names: Sequence[str], descriptors: Sequence[int]) -> None:
        """Take over the descriptors of these files, as `open_meters` gave them."""
        self._cpu = self._memory = -1
        self._start = 0
        self._unit_s = 1e-9
        for name, fd in zip(names, descriptors, strict=True):
            if name in CPU_FILES:
                self._cpu, self._start = fd, len(CPU_FILES[name])
                self._unit_s = 1e-6 if self._start else 1e-9
            else:
                self._memory = fd

    def cpu_s(self) -> float | None:
        """CPU time of all its processes since it was started, children that have ended included, in seconds."""
        try:
            return _first_number(os.pread(self._cpu, _READ_BYTES, 0), self._start) * self._unit_s
        except (OSError, ValueError):  # closed, or its groups are gone
            return None

    def peak_memory_bytes(self) -> int | None:
        """The most memory it has ever used, caches and kernel objects included."""
        try:
            return _first_number(os.pread(self._memory, _READ_BYTES, 0), 0)
        except (OSError, ValueError):
            return None

    def close(self) -> None:
        """Read no more. Fine to call twice."""
        for fd in (self._cpu, self._memory):
            if fd >= 0:
                os.close(fd)
        self._cpu = self._memory = -1
