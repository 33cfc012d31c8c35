"""A `hearth serve` run as a child process by another command of ours, with signals passed on to it."""

import contextlib
import ctypes
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import httpx

READY_WAIT_S = 60.0
POLL_S = 0.1
KEPT_LINES = 200
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class NotReady(Exception):
    """The server did not come up; `exit_code` is its own if it ended by itself, else 1."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class Interrupted(Exception):
    """SIGINT or SIGTERM arrived; it has been passed on to the server already."""


class ServerChild:
    """One server process. Its output is kept back until `show_output`, then goes to our standard error.

    The server gets SIGTERM from the kernel if we die without stopping it, as long as it keeps its user: the kernel
    forgets that signal when a process changes credentials. Use it from the main thread only: the signal is tied to
    the thread that started the process.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._lines: deque[bytes] = deque(maxlen=KEPT_LINES)
        self._shown = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Its own session: a Ctrl-C in the terminal reaches it once, through us, and not twice.
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - runs before our first thread exists
        )
        self._pump = threading.Thread(target=self._read_output, name="server-output", daemon=True)
        self._pump.start()

    def wait_until_ready(self, endpoint: str, timeout_s: float = READY_WAIT_S) -> str:
        """Wait until the API answers and return the version it names. Raises NotReady."""
        deadline = time.monotonic() + timeout_s
        with httpx.Client(timeout=2.0, trust_env=False) as client:
            while True:
                code = self._process.poll()
                if code is not None:
                    self._pump.join(2.0)
                    raise NotReady(f"the server ended with exit code {code}:\n{self.last_lines()}", max(code, 1))
                with contextlib.suppress(httpx.TransportError, ValueError):
                    answer = client.get(f"{endpoint}/health/version")
                    if answer.status_code == 200:
                        return str(answer.json()["version"])
                if time.monotonic() > deadline:
                    raise NotReady(f"the server was not ready within {timeout_s:.0f} s:\n{self.last_lines()}")
                time.sleep(POLL_S)

    def last_lines(self, count: int = 40) -> str:
        """The end of what the server has said so far."""
        with self._lock:
            lines = list(self._lines)[-count:]
        return b"".join(lines).decode("utf-8", "replace").rstrip()

    def show_output(self) -> None:
        """From now on pass the server's output on as it comes."""
        self._shown.set()

    def send_signal(self, number: int) -> None:
        """Pass a signal on; a server that has ended is left alone."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end and return its exit code (negative: the signal that ended it)."""
        code = self._process.wait()
        self._pump.join(2.0)
        return code

    def stop(self, grace_s: float) -> int:
        """Ask it to end, wait up to `grace_s`, kill it after that; returns its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self.wait()

    def _read_output(self) -> None:
        stream = self._process.stdout
        if stream is None:
            raise RuntimeError("the server was started without a pipe for its output")
        with stream:
            for line in stream:
                with self._lock:
                    self._lines.append(line)
                if self._shown.is_set():
                    sys.stderr.buffer.write(line)
                    sys.stderr.buffer.flush()


@contextlib.contextmanager
def passing_signals_on(server: ServerChild) -> Iterator[None]:
    """Within this context SIGINT and SIGTERM are passed on to the server and raise Interrupted here, once."""
    seen = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        server.send_signal(number)
        if not seen:
            seen = True
            raise Interrupted

    before: dict[int, Any] = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse_busy_port(host: str, port: int) -> None:
    """Raise NotReady if something listens there: its answers would be taken for our server's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NotReady(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port or HEARTH_PORT", 78
            ) from error


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
