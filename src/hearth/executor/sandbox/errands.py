"""Work of the spawner in short-lived child processes: what would hold up its loop, or must happen in a namespace.

The spawner stays single-threaded and in its own namespaces; a child does one thing, says how it went, and exits.
"""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from hearth.executor.sandbox import syscalls

TIMEOUT_S = 900.0
DONE = b"+"
PROBLEM_BYTES_MAX = 800

Work = Callable[[], None]
Report = Callable[[str], None]


@dataclass(slots=True)
class _Child:
    pid: int
    pidfd: int
    answer_fd: int
    report: Report
    deadline: float = field(default_factory=lambda: time.monotonic() + TIMEOUT_S)
    has_answered: bool = False


class Errands:
    """Children of the spawner, at most `at_once`; more wait for their turn. Part of the spawner's loop, which lends it
    `watch` and `unwatch` (which closes). `control_fd` is closed in a child, else the API process would not see the
    spawner's end.
    """

    def __init__(
        self,
        control_fd: int,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        at_once: int,
    ) -> None:
        self._control_fd = control_fd
        self._watch = watch
        self._unwatch = unwatch
        self._at_once = at_once
        self._children: dict[int, _Child] = {}
        self._waiting: deque[tuple[Work, Report]] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._children)

    def run(self, work: Work, report: Report) -> None:
        """Do `work` in a child; `report` gets the reason it failed, "" if it did not.

        Descriptors that `work` uses must stay open until it has reported if it may have to wait for its turn.
        """
        if len(self._children) >= self._at_once:
            self._waiting.append((work, report))
        else:
            self._start(work, report)

    def end(self, now: float | None = None) -> None:
        """Kill the children that took too long at `now` (monotonic seconds), or all of them."""
        for child in self._children.values():
            if now is None or now > child.deadline:
                syscalls.pidfd_kill(child.pidfd)

    def _start(self, work: Work, report: Report) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            pid, pidfd = syscalls.clone(0)
        except OSError as problem:
            os.close(reader)
            os.close(writer)
            report(str(problem))
            return
        if pid == 0:
            self._be_child(work, writer)
        os.close(writer)
        child = _Child(pid, pidfd, reader, report)
        self._children[pidfd] = child
        self._watch(reader, lambda: self._on_answer(child))
        self._watch(pidfd, lambda: self._on_exit(child))

    def _be_child(self, work: Work, writer: int) -> None:
        try:
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            os.close(self._control_fd)
            work()
            os.write(writer, DONE)
        except BaseException as problem:  # noqa: BLE001 - reported to the parent
            with contextlib.suppress(OSError):
                os.write(writer, str(problem).encode(errors="replace")[:PROBLEM_BYTES_MAX] or b"failed")
        finally:
            os._exit(0)

    def _on_answer(self, child: _Child) -> None:
        """The answer counts, not the exit, which takes as long again; without one the child was killed."""
        if child.has_answered:
            return
        child.has_answered = True
        data = os.read(child.answer_fd, PROBLEM_BYTES_MAX + 1)
        self._unwatch(child.answer_fd)
        child.report("" if data == DONE else data.decode(errors="replace") or "the helper process was ended")

    def _on_exit(self, child: _Child) -> None:
        os.waitpid(child.pid, 0)
        self._on_answer(child)
        self._unwatch(child.pidfd)
        del self._children[child.pidfd]
        if self._waiting and len(self._children) < self._at_once:
            self._start(*self._waiting.popleft())
