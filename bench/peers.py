"""What the numbers are compared with, answering a document of equal size.

The barest HTTP server of each language, and functions-framework, which is how others serve a Python function.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.load import BenchFailed
from tests.support.server import free_port

READY_WAIT_S = 10.0

NAMES = {"node": "bare node http", "python": "bare python http", "framework": "functions-framework"}
#: Where `scripts/setup bench` has put functions-framework.
FRAMEWORK = Path(__file__).resolve().parent.parent / ".cache" / "bench" / "functions-framework"

NODE = """
const answer = Buffer.alloc(Number(process.argv[2]), 'x');
const head = { 'content-type': 'application/json', 'content-length': answer.length };
require('http').createServer((req, res) => {
  req.on('data', () => {});
  req.on('end', () => { res.writeHead(201, head); res.end(answer); });
}).listen(Number(process.argv[1]), '127.0.0.1');
"""

PYTHON = """
import http.server, sys
ANSWER = b'x' * int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    disable_nagle_algorithm = True
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        self.send_response(201)
        self.send_header('content-type', 'application/json')
        self.send_header('content-length', str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)
    def log_message(self, *args): pass
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args): pass  # the load generator ends by closing its connections
Server(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
"""


FRAMEWORK_FUNCTION = """
import functions_framework
@functions_framework.http
def main(request):
    request.get_data()
    return b'x' * ANSWER_BYTES, 201, {'content-type': 'application/json'}
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running bare server."""

    name: str
    url: str
    pid: int


@contextlib.contextmanager
def bare_server(family: str, answer_bytes: int) -> Iterator[Peer]:
    """`node` http, Python's http.server or functions-framework, answering every POST with `answer_bytes` bytes."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        environment = None
        if family == "framework":
            if not FRAMEWORK.is_dir():
                raise BenchFailed("functions-framework is not installed: `make setup-bench`")
            source = Path(folder) / "main.py"
            source.write_text(FRAMEWORK_FUNCTION.replace("ANSWER_BYTES", str(answer_bytes)))
            environment = {**os.environ, "PYTHONPATH": str(FRAMEWORK)}
            argv = ["-m", "functions_framework", "--target", "main", "--source", str(source), "--host", "127.0.0.1"]
            argv = [sys.executable, *argv, "--port", str(port)]
        else:
            program = {"node": ["node", "-e", NODE, "--"], "python": [sys.executable, "-I", "-c", PYTHON]}[family]
            argv = [*program, str(port), str(answer_bytes)]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environment)
        url = f"http://127.0.0.1:{port}/"
        try:
            deadline = time.monotonic() + READY_WAIT_S
            while not _answers(url):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise BenchFailed(f"{NAMES[family]} did not start")
                time.sleep(0.02)
            yield Peer(NAMES[family], url, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.post(url, content=b"{}", trust_env=False).status_code == 201
    except httpx.TransportError:
        return False
