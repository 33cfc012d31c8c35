"""What is done to a sandbox that runs already: showing it one more folder, and changing its limits (spawner side).

For sandboxes that were started with a mount point, before it was known what they are for.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hearth.executor.sandbox import furnishing, inside, messages, root, syscalls
from hearth.executor.sandbox.boxes import Box
from hearth.executor.sandbox.cgroups import Cgroups
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.errands import Errands
from hearth.executor.sandbox.messages import BadMessage
from hearth.executor.sandbox.mounter import Mounter
from hearth.executor.sandbox.spec import Limits

Answer = Callable[[int, str], None]


class Later:
    """Carries out `mount` and `retune`. Part of the spawner's loop, which lends it its sandboxes.

    `answer` gets the number of a request and why it failed, "" if it did not.
    """

    def __init__(
        self,
        sandboxes: Mapping[str, Box],
        config: SpawnerConfig,
        bases: root.Bases,
        cgroups: Cgroups | None,
        errands: Errands,
        mounter: Mounter,
        group_limits: Callable[[Limits], Limits],
        answer: Answer,
    ) -> None:
        self._sandboxes = sandboxes
        self._config = config
        self._bases = bases
        self._cgroups = cgroups
        self._errands = errands
        self._mounter = mounter
        self._group_limits = group_limits
        self._answer = answer

    def mount(self, sequence: int, message: dict[str, Any]) -> None:
        """Show a running sandbox the one folder it was started without. Raises BadMessage or OSError."""
        id, mount = messages.mount_request(message, self._config)
        box = self._running(id)
        if box.is_filled:
            raise BadMessage(f"sandbox {id} has been given its folder already")
        if mount.target != box.mount_point:
            raise BadMessage(f"mount target: {mount.target!r} is not {box.mount_point!r}")
        mounts = self._bases.open_mounts([mount])
        if not mounts[0].folder:
            root.close_mounts(mounts)
            raise BadMessage(f"mount source: {mount.source!r} is no folder")
        box.is_filled = True

        target = box.root + mount.target
        if self._mounter.run(target, (box.pidfd, mounts[0].fd), lambda problem: self._answer(sequence, problem)):
            root.close_mounts(mounts)
            return
        self._mounter.prepare()
        pidfd = os.dup(box.pidfd)

        def report(problem: str) -> None:
            os.close(pidfd)
            root.close_mounts(mounts)
            self._answer(sequence, problem)

        self._errands.run(lambda: attach(target, (pidfd, mounts[0].fd)), report)

    def retune(self, sequence: int, message: dict[str, Any]) -> None:
        """Change the limits of a running sandbox. Raises BadMessage, CgroupError or OSError."""
        id, limits = messages.retune_request(message)
        box = self._running(id)
        old = box.limits
        if _fixed(limits) != _fixed(old) or limits.pids > old.pids:
            raise BadMessage("retune: open files, file size and more processes are fixed at the start")
        if box.root and (limits.pids != old.pids or not _have_same_folders(limits, old)):
            raise BadMessage("retune: processes and temporary folders are fixed at the start with gVisor")
        if box.group is not None and self._cgroups is not None:
            self._cgroups.retune(box.group, self._group_limits(old), self._group_limits(limits))
        if self._cgroups is None:
            if limits.memory_bytes > old.memory_bytes:
                raise BadMessage("retune: without control groups more memory cannot be given later")
            resource.prlimit(box.pid, resource.RLIMIT_DATA, (inside.data_limit(limits), inside.data_limit(limits)))
        if limits.memory_bytes != old.memory_bytes:
            text = furnishing.meminfo(limits.memory_bytes).encode()
            os.pwrite(box.meminfo_fd, text, 0)
            os.ftruncate(box.meminfo_fd, len(text))
        box.limits = limits
        if _have_same_folders(limits, old):
            self._answer(sequence, "")
        else:
            pidfd = os.dup(box.pidfd)

            def report(problem: str) -> None:
                os.close(pidfd)
                self._answer(sequence, problem)

            self._errands.run(lambda: _resize(pidfd, limits), report)

    def _running(self, id: str) -> Box:
        box = self._sandboxes.get(id)
        if box is None or not box.announced or box.status is not None:
            raise BadMessage(f"no sandbox {id} runs")
        if not box.mount_point:
            raise BadMessage(f"sandbox {id} was started whole")
        return box


def _have_same_folders(one: Limits, other: Limits) -> bool:
    return furnishing.temporary_folders(one) == furnishing.temporary_folders(other)


def _fixed(limits: Limits) -> tuple[int | None, ...]:
    """Resource limits of processes: to set another uid's takes a capability that root in a container may lack."""
    return limits.open_files, limits.file_size_bytes


def attach(target: str, descriptors: Sequence[int]) -> None:
    """In a child process: attach a mount at `target` in a sandbox. `descriptors` are its pidfd and the mount.

    The folders on the way to the target are root's and read-only there.
    """
    pidfd, mount = descriptors
    syscalls.setns(pidfd, syscalls.CLONE_NEWNS)
    syscalls.move_mount(mount, target)


def _resize(pidfd: int, limits: Limits) -> None:
    """In a child process: give the sandbox's temporary folders other sizes."""
    syscalls.setns(pidfd, syscalls.CLONE_NEWNS)
    furnishing.resize_temporary_folders(limits)
