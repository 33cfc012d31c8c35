"""Starting the two helper processes of a server, before it has threads, an event loop or given up root."""

import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from hearth.executor.sandbox import config, messages
from hearth.executor.sandbox.config import GateConfig, SpawnerConfig

READY_TIMEOUT_S = 40.0
STOP_TIMEOUT_S = 15.0


class LaunchFailed(Exception):
    """A helper process did not come up; the message says which and why."""


@dataclass(slots=True)
class Helper:
    """A running helper process and our end of its control socket. Closing the socket ends the process."""

    name: str
    socket: socket.socket
    process: subprocess.Popen[bytes]
    ready: dict[str, Any] = field(default_factory=dict)
    """Its first message: for the gate, `opened` is what it may let through besides public addresses."""

    def stop(self) -> int | None:
        """Close the control socket and wait for the process; its exit status, None if it did not end in time."""
        self.socket.close()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None


def start_spawner(settings: SpawnerConfig) -> Helper:
    """Start the privileged spawner and wait until it can start sandboxes. Needs root. Raises LaunchFailed.

    It sweeps what a dead server with the same data folder left, and ends itself, with every sandbox, when this
    process closes the socket or dies.
    """
    return _start("spawner", config.to_json(settings))


def start_gate(settings: GateConfig) -> Helper:
    """Start the egress gate, which gives up root before it serves anyone. Needs root. Raises LaunchFailed."""
    return _start("gate", config.to_json(settings))


def _start(name: str, settings: bytes) -> Helper:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-I", "-m", f"hearth.executor.sandbox.{name}", str(theirs.fileno())]
    try:
        process = subprocess.Popen(
            command,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            cwd="/",
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    helper = Helper(name, ours, process)
    try:
        ours.settimeout(READY_TIMEOUT_S)
        ours.send(settings)
        data = ours.recv(messages.MESSAGE_BYTES)
        message = messages.decode(data) if data else {"why": "ended at its start"}
    except (OSError, messages.BadMessage) as problem:
        helper.stop()
        raise LaunchFailed(f"{name}: {problem}") from problem
    if message.get("event") != "ready":
        helper.stop()
        raise LaunchFailed(f"{name}: {message.get('why', 'gave a strange answer')}")
    ours.setblocking(False)
    helper.ready = message
    return helper
