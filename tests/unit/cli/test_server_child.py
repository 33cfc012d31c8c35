"""The server as a child: it is waited for, its end is reported, and it never outlives its parent."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hearth.cli.server_child import NotReady, ServerChild, refuse_busy_port

pytestmark = pytest.mark.slow  # each test starts an interpreter

STAND_IN = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"version": "9.9.9"}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(port: int) -> Iterator[ServerChild]:
    child = ServerChild([sys.executable, "-c", STAND_IN, str(port)])
    yield child
    child.stop(5)


def test_a_server_is_ready_when_it_names_its_version(server: ServerChild, port: int) -> None:
    assert server.wait_until_ready(f"http://127.0.0.1:{port}/v1", 10) == "9.9.9"
    assert server.stop(5) == -signal.SIGTERM


def test_a_server_that_ends_early_is_reported_with_its_code_and_words(port: int) -> None:
    child = ServerChild([sys.executable, "-c", "print('no cgroups here'); raise SystemExit(78)"])
    with pytest.raises(NotReady, match="no cgroups here") as caught:
        child.wait_until_ready(f"http://127.0.0.1:{port}/v1", 10)
    assert caught.value.exit_code == 78


def test_a_port_in_use_is_refused_before_anything_is_started() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(NotReady, match="--port") as caught:
            refuse_busy_port("127.0.0.1", taken.getsockname()[1])
    assert caught.value.exit_code == 78


def test_a_server_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\n"
        "from hearth.cli.server_child import ServerChild\n"
        "child = ServerChild([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.02)
