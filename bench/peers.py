"""What the numbers are compared with: the barest HTTP server of each language, answering a document of equal size."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from tests.support.server import free_port

READY_WAIT_S = 10.0

NAMES = {"node": "bare node http", "python": "bare python http"}

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


@dataclass(frozen=True, slots=True)
class Peer:
    """A running bare server."""

    name: str
    url: str
    pid: int


@contextlib.contextmanager
def bare_server(family: str, answer_bytes: int) -> Iterator[Peer]:
    """`node` http or Python's http.server, answering every POST with `answer_bytes` bytes."""
    port = free_port()
    program = {"node": ["node", "-e", NODE, "--"], "python": [sys.executable, "-I", "-c", PYTHON]}[family]
    process = subprocess.Popen([*program, str(port), str(answer_bytes)], stdin=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"
    try:
        deadline = time.monotonic() + READY_WAIT_S
        while not _answers(url):
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"the bare {family} server did not start")
            time.sleep(0.02)
        yield Peer(NAMES[family], url, process.pid)
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.post(url, content=b"{}", trust_env=False).status_code == 201
    except httpx.TransportError:
        return False
