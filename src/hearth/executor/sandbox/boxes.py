"""The spawner's record of each sandbox, and the pool of host uids."""

import os
import socket
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from hearth.executor.sandbox.cgroups import Group, Usage
from hearth.executor.sandbox.spec import Limits, SandboxSpec

REMOVALS_MAX = 400
"""Attempts to delete a cgroup before it is left to the next sweep (2 s at the loop's pace)."""


@dataclass(slots=True)
class Box:
    """One sandbox as the spawner sees it: starting, running, or ended and being cleared away."""

    id: str
    sequence: int
    uid: int
    pid: int
    pidfd: int
    report: socket.socket | None
    group: Group | None
    limits: Limits
    mount_point: str
    """Where a folder may be mounted into it, once; "" = nowhere, and its limits stay."""
    deadline: float
    """Monotonic seconds by which it must have started."""
    starting: bool = True
    launching: bool = False
    """Whether `pid` is still that of the program that makes the sandbox (runc, or what speaks to Docker)."""
    is_blank: bool = False
    """Whether it was made ahead and is nobody's yet; `starting` while it is being made."""
    holder_fd: int = -1
    """The process that keeps its container there (driver `docker`), the first of its process namespace; else -1."""
    is_container: bool = False
    entered: bool = False
    announced: bool = False
    """Whether the driver was told that it runs; then it is told of its end too."""
    problem: str = ""
    status: int | None = None
    """Wait status of the first process once it has ended."""
    out_of_memory: bool = False
    usage: Usage = field(default_factory=Usage)
    removals: int = 0
    gate_fds: list[int] = field(default_factory=list)
    meminfo_fd: int = -1
    """Its /proc/meminfo, to be written when its limits are changed."""
    root: str = ""
    """Where its root folder is in the mounts of its first process; `""` = that is its root."""
    is_filled: bool = False
    """Whether it has been given the folder for its mount point."""

    def become(self, spec: SandboxSpec, sequence: int, deadline: float) -> None:
        """A blank has been told what it is for."""
        self.is_blank = False
        self.starting = True
        self.id, self.sequence, self.deadline = spec.id, sequence, deadline
        self.limits, self.mount_point = spec.limits, spec.mount_point

    def exit_message(self) -> dict[str, Any]:
        """What the driver is told at the end."""
        code = os.waitstatus_to_exitcode(self.status) if self.status is not None else -1
        return {
            "event": "exit",
            "id": self.id,
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "out_of_memory": self.out_of_memory or self.usage.out_of_memory,
            "pids_exhausted": self.usage.pids_exhausted,
            "cpu_s": self.usage.cpu_s,
            "peak_memory_bytes": self.usage.peak_memory_bytes,
        }


class UidPool:
    """Host uids for live sandboxes; a freed one is used again as late as possible."""

    def __init__(self, first: int, count: int, each: int = 1) -> None:
        """`each` is how many a sandbox has; the first of them is taken for all."""
        self._free = deque(range(first, first + count - each + 1, each))

    def take(self) -> int:
        """Raises OSError when every uid is in use."""
        if not self._free:
            raise OSError("every uid of the range is in use")
        return self._free.popleft()

    def give_back(self, uid: int) -> None:
        """Only once no process of this uid is left."""
        self._free.append(uid)
