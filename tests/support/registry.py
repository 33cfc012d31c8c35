"""A package registry on loopback that asks who is there: PyPI's simple index and npm's interface, one package each."""

import base64
import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

PIP_USER, TOKEN = "deployer", "t0ken-of-the-registry"
WHEEL, TARBALL = "acme_words-1.0-py3-none-any.whl", "words-1.0.0.tgz"


class Registry(http.server.ThreadingHTTPServer):
    """`requests` are the paths that were asked for with the right credentials, `refused` those without."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.refused: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Registry

    def do_GET(self) -> None:
        python = "Basic " + base64.b64encode(f"{PIP_USER}:{TOKEN}".encode()).decode()
        if self.headers.get("authorization") not in (python, f"Bearer {TOKEN}"):
            self.server.refused.append(self.path)
            self._answer(401, b"who are you?", {"www-authenticate": 'Basic realm="registry"'})
            return
        self.server.requests.append(self.path)
        content = self._contents().get(self.path.replace("%2F", "/").replace("%2f", "/"))
        self._answer(404 if content is None else 200, content or b"nothing there", {})

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet: what came in is in `requests`."""

    def _contents(self) -> Mapping[str, bytes]:
        wheel, tarball = _wheel(), _tarball()
        digest = hashlib.sha256(wheel).hexdigest()
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(tarball).digest()).decode()
        address = f"http://{self.headers['host']}/files/{TARBALL}"
        version = {"name": "@acme/words", "version": "1.0.0", "dist": {"tarball": address, "integrity": integrity}}
        packument = {"name": "@acme/words", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        return {
            "/simple/acme-words/": f'<a href="../../files/{WHEEL}#sha256={digest}">{WHEEL}</a>'.encode(),
            f"/files/{WHEEL}": wheel,
            "/@acme/words": json.dumps(packument).encode(),
            f"/files/{TARBALL}": tarball,
        }

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        kind = "text/html" if content.startswith(b"<a") else "application/json"
        for name, value in {"content-type": kind, "content-length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def registry() -> Iterator[Registry]:
    """A running registry; afterwards it is closed."""
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _wheel() -> bytes:
    info = "acme_words-1.0.dist-info"
    files = {
        "acme_words/__init__.py": "WORD = 'private'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: acme-words\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return packed.getvalue()


@functools.cache  # the time it is packed at is in it, and its digest is told before it is fetched
def _tarball() -> bytes:
    files = {
        "package/package.json": json.dumps({"name": "@acme/words", "version": "1.0.0", "main": "index.js"}),
        "package/index.js": "module.exports = 'private';\n",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        for path, text in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return packed.getvalue()
