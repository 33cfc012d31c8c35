"""A child process of the spawner that mounts folders into running sandboxes, one after the other.

It enters a sandbox's mount namespace for two system calls and comes back; the spawner itself never leaves its own. A
child for each mount, also one forked ahead, costs more than the mount: `docs/adr/0051-one-mounter.md`.
"""

import contextlib
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from hearth.executor.sandbox import syscalls
from hearth.executor.sandbox.errands import DONE, PROBLEM_BYTES_MAX, Report

REQUEST_BYTES_MAX = 8_192
DESCRIPTORS_MAX = 4
FIRST_OTHER_DESCRIPTOR = 3
ENDED = "the helper process was ended"

Work = Callable[[str, Sequence[int]], None]


@dataclass(slots=True)
class _Child:
    pid: int
    pidfd: int
    channel: socket.socket
    reports: deque[Report] = field(default_factory=deque)
    """Who waits for its answers, in their order."""


class Mounter:
    """Keeps one child that does `work(target, descriptors)`, which may enter a mount namespace, when it is asked to.

    Part of the spawner's loop, which lends it `watch` and `unwatch` (which closes). A child that has died is replaced
    by `prepare`; who waited for it is told.
    """

    def __init__(
        self,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        work: Work,
    ) -> None:
        self._watch = watch
        self._unwatch = unwatch
        self._work = work
        self._child: _Child | None = None
        self._pidfds: set[int] = set()
        """Of all children that have not been collected."""

    def prepare(self) -> None:
        """Have a child ready; nothing happens if there is one or none can be had."""
        if self._child is not None:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid, pidfd = syscalls.clone(0)
        except OSError:
            ours.close()
            theirs.close()
            return
        if pid == 0:
            self._be_child(theirs)
        theirs.close()
        ours.setblocking(False)
        self._child = child = _Child(pid, pidfd, ours)
        self._pidfds.add(pidfd)
        self._watch(ours.fileno(), lambda: self._on_answer(child))
        self._watch(pidfd, lambda: self._on_exit(child))

    def run(self, target: str, descriptors: Sequence[int], report: Report) -> bool:
        """Let the child do its work; `report` gets the reason it failed, "" if it did not. False: it cannot be asked.

        The descriptors are the caller's to close as soon as this returns.
        """
        child = self._child
        if child is None:
            return False
        try:
            socket.send_fds(child.channel, [target.encode()], list(descriptors), socket.MSG_NOSIGNAL)
        except OSError:  # it has died, or so many wait for it that the socket is full
            return False
        child.reports.append(report)
        return True

    def end(self) -> None:
        """Kill every child."""
        for pidfd in self._pidfds:
            syscalls.pidfd_kill(pidfd)

    def _be_child(self, channel: socket.socket) -> NoReturn:
        try:
            number = channel.fileno()
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            # it lives for long: a copy of a pipe or socket in it would hide the end of the other side
            if number > FIRST_OTHER_DESCRIPTOR:
                syscalls.close_range(FIRST_OTHER_DESCRIPTOR, number - 1)
            syscalls.close_range(number + 1)
            home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            while self._serve_one(channel, home):
                pass
        finally:
            os._exit(0)

    def _serve_one(self, channel: socket.socket, home: int) -> bool:
        """In the child: wait for a request, do it, be back in the mount namespace `home`, and say how it went.

        Raises OSError if there is no way back; False once the spawner is gone.
        """
        data, descriptors, _, _ = socket.recv_fds(channel, REQUEST_BYTES_MAX, DESCRIPTORS_MAX)
        if not data:
            return False
        answer = DONE
        try:
            self._work(data.decode(), descriptors)
        except Exception as problem:  # noqa: BLE001 - reported to the parent
            answer = str(problem).encode(errors="replace")[:PROBLEM_BYTES_MAX] or b"failed"
        for fd in descriptors:
            os.close(fd)
        channel.send(answer)
        syscalls.setns(home, syscalls.CLONE_NEWNS)
        return True

    def _on_answer(self, child: _Child) -> None:
        while child.channel.fileno() >= 0:
            try:
                data = child.channel.recv(PROBLEM_BYTES_MAX + 1)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._forget(child)
                return
            child.reports.popleft()("" if data == DONE else data.decode(errors="replace"))

    def _forget(self, child: _Child) -> None:
        """It has let go of its socket: whoever waits for it waits in vain."""
        if self._child is child:
            self._child = None
        self._unwatch(child.channel.detach())
        while child.reports:
            child.reports.popleft()(ENDED)

    def _on_exit(self, child: _Child) -> None:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, 0)
        self._on_answer(child)
        self._pidfds.discard(child.pidfd)
        self._unwatch(child.pidfd)
