"""Deleting folders for the API process, each in a child of its own: a large one must not hold up the spawner."""

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hearth.executor.sandbox import syscalls, trees
from hearth.executor.sandbox.root import Bases

AT_ONCE_MAX = 4
TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Deletion:
    """One child process at work; what it writes to the pipe is what went wrong."""

    sequence: int
    pid: int
    pidfd: int
    result_fd: int
    deadline: float


class Deletions:
    """The deletions under way and waiting. Part of the spawner's loop, which lends it `watch`, `unwatch` and `send`."""

    def __init__(
        self,
        bases: Bases,
        control_fd: int,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        send: Callable[[dict[str, Any]], None],
    ) -> None:
        self._bases = bases
        self._control_fd = control_fd
        self._watch = watch
        self._unwatch = unwatch
        self._send = send
        self._running: dict[int, Deletion] = {}
        self._waiting: deque[tuple[int, str]] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._running)

    def start(self, sequence: int, path: str) -> None:
        """Delete the folder at `path` (checked to lie below the data folder) soon, and answer request `sequence`."""
        self._waiting.append((sequence, path))
        self._next()

    def end(self, now: float | None = None) -> None:
        """Kill the children that took too long at `now` (monotonic seconds), or all of them."""
        for one in self._running.values():
            if now is None or now > one.deadline:
                syscalls.pidfd_kill(one.pidfd)

    def _next(self) -> None:
        while self._waiting and len(self._running) < AT_ONCE_MAX:
            self._begin(*self._waiting.popleft())

    def _begin(self, sequence: int, path: str) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid, pidfd = syscalls.clone(0)
        if pid == 0:
            self._delete_and_exit(path, writer)
        os.close(writer)
        one = Deletion(sequence, pid, pidfd, reader, time.monotonic() + TIMEOUT_S)
        self._running[pidfd] = one
        self._watch(pidfd, lambda: self._on_exit(one))

    def _delete_and_exit(self, path: str, writer: int) -> None:
        """In the child: delete, say what went wrong if anything did, exit."""
        try:
            os.close(self._control_fd)  # else the API process would not see the spawner's end
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
            trees.delete(self._bases.open_parent(path), os.path.basename(path))
        except FileNotFoundError:
            os._exit(0)
        except BaseException as problem:  # noqa: BLE001 - told to the parent
            with contextlib.suppress(OSError):
                os.write(writer, str(problem).encode(errors="replace")[:800] or b"failed")
        finally:
            os._exit(0)

    def _on_exit(self, one: Deletion) -> None:
        _, status = os.waitpid(one.pid, 0)
        problem = os.read(one.result_fd, 1_024).decode(errors="replace")
        os.close(one.result_fd)
        self._unwatch(one.pidfd)
        del self._running[one.pidfd]
        if status and not problem:
            problem = f"the deletion ended with status {status}"
        self._send({"seq": one.sequence, "error": problem} if problem else {"seq": one.sequence})
        self._next()
