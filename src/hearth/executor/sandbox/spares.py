"""A child process of the spawner that is forked ahead and waits for one errand: the fork is most of what one takes.

It holds nothing but its socket, does what it is asked, says how it went, and exits; the next one is forked then.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from hearth.executor.sandbox import syscalls
from hearth.executor.sandbox.errands import DONE, PROBLEM_BYTES_MAX, Report

REQUEST_BYTES_MAX = 8_192
DESCRIPTORS_MAX = 4
FIRST_OTHER_DESCRIPTOR = 3

Work = Callable[[str, Sequence[int]], None]


@dataclass(slots=True)
class _Spare:
    pid: int
    pidfd: int
    channel: socket.socket
    report: Report | None = None
    """Who waits for its answer; None while it has not been asked anything, or has answered."""


class Spares:
    """Keeps one child ready that will do `work(text, descriptors)` once. Part of the spawner's loop, which lends it
    `watch` and `unwatch` (which closes).
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
        self._ready: _Spare | None = None
        self._children: set[int] = set()
        """Pidfds of all that have not been collected."""

    def prepare(self) -> None:
        """Have a child ready; nothing happens if there is one or none can be had."""
        if self._ready is not None:
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
        self._ready = spare = _Spare(pid, pidfd, ours)
        self._children.add(pidfd)
        self._watch(ours.fileno(), lambda: self._on_answer(spare))
        self._watch(pidfd, lambda: self._on_exit(spare))

    def run(self, text: str, descriptors: Sequence[int], report: Report) -> bool:
        """Let the ready child do its work; `report` gets the reason it failed, "" if it did not. False: there is none.

        The descriptors are the caller's to close as soon as this returns.
        """
        spare, self._ready = self._ready, None
        if spare is None:
            return False
        try:
            socket.send_fds(spare.channel, [text.encode()], list(descriptors), socket.MSG_NOSIGNAL)
        except OSError:
            return False
        spare.report = report
        return True

    def end(self) -> None:
        """Kill every child."""
        for pidfd in self._children:
            syscalls.pidfd_kill(pidfd)

    def _be_child(self, channel: socket.socket) -> NoReturn:
        try:
            number = channel.fileno()
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            # it lives for long: a copy of a pipe or socket in it would hide the end of the other side
            if number > FIRST_OTHER_DESCRIPTOR:
                syscalls.close_range(FIRST_OTHER_DESCRIPTOR, number - 1)
            syscalls.close_range(number + 1)
            data, descriptors, _, _ = socket.recv_fds(channel, REQUEST_BYTES_MAX, DESCRIPTORS_MAX)
            if data:
                self._work(data.decode(), descriptors)
                channel.send(DONE)
        except BaseException as problem:  # noqa: BLE001 - reported to the parent
            with contextlib.suppress(OSError):
                channel.send(str(problem).encode(errors="replace")[:PROBLEM_BYTES_MAX] or b"failed")
        finally:
            os._exit(0)

    def _on_answer(self, spare: _Spare) -> None:
        if spare.channel.fileno() < 0:
            return
        try:
            data = spare.channel.recv(PROBLEM_BYTES_MAX + 1)
        except OSError:
            data = b""
        self._unwatch(spare.channel.detach())
        report, spare.report = spare.report, None
        if report is not None:
            report("" if data == DONE else data.decode(errors="replace") or "the helper process was ended")

    def _on_exit(self, spare: _Spare) -> None:
        os.waitpid(spare.pid, 0)
        self._on_answer(spare)
        self._children.discard(spare.pidfd)
        self._unwatch(spare.pidfd)
        if self._ready is spare:
            self._ready = None
