"""The privileged spawner: the one process that stays root, starts sandboxes and ends them. `python -m` this module.

Single-threaded (it forks by raw clone), stdlib only, parses nothing that users wrote. It serves the API process over
one SOCK_SEQPACKET socket and ends, with everything it started, as soon as that socket closes.
"""

import contextlib
import fcntl
import gc
import os
import resource
import signal
import socket
import sys
import time
from typing import Any

from hearth.executor.sandbox import cgroups, docker, facilities, messages, syscalls, trees, userns
from hearth.executor.sandbox.config import SpawnerConfig, spawner_config
from hearth.executor.sandbox.disks import Disks
from hearth.executor.sandbox.errands import Errands
from hearth.executor.sandbox.later import Later
from hearth.executor.sandbox.lives import Lives
from hearth.executor.sandbox.loop import Loop
from hearth.executor.sandbox.messages import BadMessage
from hearth.executor.sandbox.oci import start_guard

LOCK_WAIT_S = 15.0
END_WAIT_S = 10.0
DELETIONS_AT_ONCE = 4
VISITS_AT_ONCE = 32
"""Child processes at work in running sandboxes; each takes a millisecond or two."""
RETRY_S = 0.005


class Spawner:
    """The loop, and what the API process may ask for. One per process; the sandboxes are in `lives`."""

    def __init__(self, control: socket.socket, config: SpawnerConfig) -> None:
        """Prepare the machine (see `Lives`). Raises OSError or CgroupError when that is not possible."""
        self.loop = Loop(control, self._on_message)
        self.config = config
        watch, unwatch = self.loop.watch, self.loop.unwatch
        self.deletions = Errands(control.fileno(), watch, unwatch, DELETIONS_AT_ONCE)
        self.visits = Errands(control.fileno(), watch, unwatch, VISITS_AT_ONCE)
        self.lives = lives = Lives(self.loop, config, self.deletions)
        self.disks = Disks(config.data_folder, self.deletions)
        lives.bases.disks = self.disks
        self.later = Later(
            lives.boxes,
            config,
            lives.bases,
            lives.cgroups,
            self.visits,
            lives.mounter,
            lives.group_limits,
            self._answer,
        )

    # ------------------------------------------------------------------------------------------ loop

    def run(self) -> None:
        """Serve until the API process is gone, then end every sandbox."""
        while self.loop.open:
            self._turn(self._timeout())
        deadline = time.monotonic() + END_WAIT_S
        for box in list(self.lives.boxes.values()):
            self.lives.end(box)
        self.deletions.end()
        self.visits.end()
        self.lives.mounter.end()
        while self.lives.boxes and time.monotonic() < deadline:
            self._turn(0.02)
        self.lives.close()

    def _turn(self, timeout_s: float) -> None:
        self.loop.turn(timeout_s)
        now = time.monotonic()
        self.lives.look(now)
        self.deletions.end(now)
        self.visits.end(now)
        if self.loop.open:
            self.lives.make_blank()

    def _timeout(self) -> float:
        if any(box.status is not None for box in self.lives.boxes.values()):
            return RETRY_S
        timeout_s = 1.0 if self.deletions.busy or any(box.starting for box in self.lives.boxes.values()) else -1.0
        until_blank_s = self.lives.blanks.wait_s()
        if until_blank_s is None:
            return timeout_s
        return until_blank_s if timeout_s < 0 else min(timeout_s, until_blank_s)

    # ------------------------------------------------------------------------------------------ API process

    def _on_message(self, data: bytes, descriptors: list[int], flags: int) -> None:
        sequence: Any = None
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise BadMessage("truncated message")
            message = messages.decode(data)
            sequence = messages.whole(message.get("seq"), "seq", 0, 1 << 53)
            match message.get("op"):
                case "start":
                    self.lives.start(message, descriptors)
                case "kill":
                    box = self.lives.boxes.get(messages.sandbox_id(message.get("id")))
                    if box is not None:
                        self.lives.end(box)
                    self.loop.send({"seq": sequence})
                case "freeze":
                    self._freeze(message)
                    self.loop.send({"seq": sequence})
                case "make_disk":
                    self._make_disk(sequence, *messages.disk_request(message, self.config))
                case "remove_tree":
                    path = messages.data_path(message.get("path"), self.config, "path")
                    self.disks.drop(path)
                    self.deletions.run(lambda: self._delete(path), lambda problem: self._answer(sequence, problem))
                case "mount":
                    self.later.mount(sequence, message)
                case "retune":
                    self.later.retune(sequence, message)
                case "facilities":
                    found = facilities.probe_facilities(self.config)
                    self.loop.send({"seq": sequence, "facilities": [facilities.to_list(one) for one in found]})
                case other:
                    raise BadMessage(f"unknown operation {str(other)[:40]!r}")
        except (BadMessage, OSError, cgroups.CgroupError) as problem:
            self.loop.send({"seq": sequence, "error": str(problem)[:800]})

    def _answer(self, sequence: int, problem: str) -> None:
        self.loop.send({"seq": sequence, "error": problem[:800]} if problem else {"seq": sequence})

    def _make_disk(self, sequence: int, path: str, size_bytes: int) -> None:
        def answer(problem: str) -> None:
            self.loop.send({"seq": sequence, "made": not problem, "why": problem[:800]})

        if not self.config.use_disks:
            answer("no disks on this machine")
            return
        try:
            self.disks.make(path, size_bytes, answer)
        except OSError as problem:
            answer(str(problem))

    # ------------------------------------------------------------------------------------------ others

    def _delete(self, path: str) -> None:
        """In a child process: delete a folder below the data folder."""
        with contextlib.suppress(FileNotFoundError):
            trees.delete(self.lives.bases.open_parent(path), os.path.basename(path))

    def _freeze(self, message: dict[str, Any]) -> None:
        box = self.lives.boxes.get(messages.sandbox_id(message.get("id")))
        frozen = message.get("frozen")
        if not isinstance(frozen, bool):
            raise BadMessage("frozen: not true or false")
        if box is None or box.status is not None:
            return
        if box.group is None or self.lives.cgroups is None:
            raise BadMessage("freeze: cgroups are weakened")
        self.lives.cgroups.freeze(box.group, frozen)


def _lock(config: SpawnerConfig) -> int:
    """Take the data folder for this spawner, waiting for one that is still ending a dead server's sandboxes."""
    fd = os.open(config.data_folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(f"{config.data_folder} is in use by another running server") from None
            time.sleep(0.02)
        else:
            return fd


def main() -> int:
    """Serve the API process on the descriptor named by the argument: its first message is the configuration."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the API process decides when to end; its end is ours
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    config = spawner_config(control.recv(messages.MESSAGE_BYTES))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        if config.outer_uids:
            userns.enter(config)
        lock = _lock(config)
        if config.driver != "ns":
            start_guard(config, lock, lambda: docker.sweep(config) if config.driver == "docker" else None)
        control.setblocking(False)
        spawner = Spawner(control, config)
    except (OSError, cgroups.CgroupError) as problem:
        control.setblocking(True)
        control.send(messages.encode({"event": "failed", "why": str(problem)[:800]}))
        return 78
    gc.collect()
    gc.disable()  # a short-lived copy per sandbox must not touch every page
    gc.freeze()
    spawner.loop.send({"event": "ready"})
    spawner.run()
    os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
