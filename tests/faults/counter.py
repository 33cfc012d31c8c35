"""A counter outside the sandboxes: functions tell it that they began, and it keeps that over every kill.

It listens on an address of this machine that is not its loopback, because a sandbox has a loopback of its own;
what is sent there never leaves the machine. A line without the secret is not counted.
"""

import contextlib
import secrets
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.faults.checker import Run

#: Nothing is sent there: the route tells which of our addresses would be used.
_ELSEWHERE = ("192.0.2.1", 9)

# `/hold` keeps it running for a while after it has been counted: the moment for a kill.
SOURCE = """
import socket, time
def main(context):
    headers = context.req.headers
    told = ' '.join(('{secret}', headers['x-appwrite-execution-id'], headers.get('x-appwrite-event') or '-'))
    with socket.create_connection(('{host}', {port}), 10) as counter:
        counter.sendall(told.encode() + b'\\n')
        if counter.recv(2) != b'ok':
            raise RuntimeError('not counted')
    if context.req.path == '/hold':
        time.sleep(0.4)
    return context.res.text('done')
"""


class Counter:
    """Keeps what it is told, in order."""

    def __init__(self, host: str, port: int, secret: str) -> None:
        self.host, self.port, self._secret = host, port, secret
        self._runs: list[Run] = []
        self._lock = threading.Lock()

    @property
    def source(self) -> str:
        """A Python function that tells this counter of each of its runs."""
        return SOURCE.format(host=self.host, port=self.port, secret=self._secret)

    @property
    def runs(self) -> tuple[Run, ...]:
        """What was told so far."""
        with self._lock:
            return tuple(self._runs)

    def take(self, line: str) -> bool:
        """Count a line `secret execution event`."""
        secret, id, event = (*line.split(), "", "", "")[:3]
        if secret != self._secret:
            return False
        with self._lock:
            self._runs.append(Run(id, "" if event == "-" else event))
        return True


def own_address() -> str:
    """An IPv4 address of this machine besides its loopback; skips the test where there is none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
        except OSError:
            pytest.skip("this machine has no address besides its loopback, which sandboxes do not share")
        return str(probe.getsockname()[0])


@contextlib.contextmanager
def running_counter() -> Iterator[Counter]:
    """A counter that listens until the end of the block."""

    class Handler(socketserver.StreamRequestHandler):
        timeout = 10

        def handle(self) -> None:
            with contextlib.suppress(OSError):
                if counter.take(self.rfile.readline(1_000).decode(errors="replace")):
                    self.wfile.write(b"ok")

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 256

    with Listener((own_address(), 0), Handler) as listener:
        host, port = listener.server_address[:2]
        counter = Counter(str(host), int(port), secrets.token_hex(8))
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        thread.start()
        try:
            yield counter
        finally:
            listener.shutdown()
            thread.join()
