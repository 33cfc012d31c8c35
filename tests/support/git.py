"""Git for tests: repositories made here, and a real smart HTTP server for them on loopback."""

import base64
import http.server
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.message import Message
from pathlib import Path

GIT = "/usr/bin/git"
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


class Repository:
    """A bare repository with a branch `main`; commits are made from contents, without a working tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "--quiet", "--bare", "--initial-branch=main")
        # What git hosts allow, and plain git servers do not by default.
        self.git("config", "uploadpack.allowFilter", "true")
        self.git("config", "http.receivepack", "false")

    def git(self, *arguments: str, send: bytes = b"") -> str:
        """Run a command in it and return what it printed."""
        done = subprocess.run(
            [GIT, *arguments],
            input=send,
            capture_output=True,
            check=False,
            env={**_ENVIRONMENT, "GIT_DIR": str(self.folder)},
            cwd="/",
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def blob(self, content: bytes) -> str:
        return self.git("hash-object", "-w", "--stdin", send=content)

    def commit(
        self,
        files: Mapping[str, str | bytes],
        message: str = "a message",
        *,
        links: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        branch: str = "main",
    ) -> str:
        """Commit exactly these files, symbolic links (name -> target) and submodules (name -> commit)."""
        lines = [
            ("100755" if name.endswith(".sh") else "100644", self.blob(_bytes(text)), name)
            for name, text in files.items()
        ]
        lines += [("120000", self.blob(target.encode()), name) for name, target in (links or {}).items()]
        lines += [("160000", commit, name) for name, commit in (modules or {}).items()]
        return self.commit_entries(lines, message, branch=branch)

    def commit_entries(
        self, entries: Sequence[tuple[str, str, str]], message: str, *, branch: str = "main", parent: str = ""
    ) -> str:
        """Commit (mode, object, name) entries through the index."""
        self.git("read-tree", "--empty")
        listed = "".join(f"{mode} {blob}\t{name}\n" for mode, blob, name in entries)
        self.git("update-index", "--add", "--index-info", send=listed.encode())
        before = ["-p", parent] if parent else []
        commit = self.git("commit-tree", self.git("write-tree"), *before, send=message.encode())
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def tag(self, *names: str, commit: str = "refs/heads/main", annotated: bool = False) -> None:
        for name in names:
            if annotated:
                self.git("tag", "-a", "-m", f"release {name}", name, commit)
            else:
                self.git("update-ref", f"refs/tags/{name}", self.git("rev-parse", commit))


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class GitServer(http.server.ThreadingHTTPServer):
    """Serves the repositories below a folder by `git http-backend`. `requests` are the lines that came in.

    With `credentials` (`user:password`) it asks for them; `hold` is waited for before every answer.
    """

    daemon_threads = True

    def __init__(self, root: Path, credentials: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Backend)
        self.root = root
        self.credentials = credentials
        self.requests: list[str] = []
        self.authorizations: list[str] = []
        self.received = 0
        self.sent = 0
        self.asked = threading.Event()
        self.hold = threading.Event()
        self.hold.set()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def sent_body(handler: http.server.BaseHTTPRequestHandler) -> bytes:
    """The body of a request, however it is framed."""
    if handler.headers.get("transfer-encoding", "").lower() != "chunked":
        return handler.rfile.read(int(handler.headers.get("content-length") or 0))
    body = b""
    while size := int(handler.rfile.readline().strip(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


def http_backend(
    root: Path, method: str, target: str, headers: Message, body: bytes
) -> tuple[int, dict[str, str], bytes]:
    """What git's own server answers to a request: status, headers, content."""
    path, _, query = target.partition("?")
    environment = {
        **_ENVIRONMENT,
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
        "HTTP_GIT_PROTOCOL": headers.get("git-protocol", ""),
        "REMOTE_ADDR": "127.0.0.1",
    }
    done = subprocess.run([GIT, "http-backend"], input=body, capture_output=True, check=False, env=environment)
    head, _, content = done.stdout.partition(b"\r\n\r\n")
    told = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
    return int(told.pop("Status", "200").split()[0]), told, content


class _Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: GitServer

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(sent_body(self))

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet: what came in is in `requests`."""

    def _serve(self, body: bytes) -> None:
        server = self.server
        server.requests.append(self.requestline)
        server.asked.set()
        server.hold.wait(60)
        authorization = self.headers.get("authorization", "")
        server.authorizations.append(authorization)
        expected = "Basic " + base64.b64encode(server.credentials.encode()).decode()
        if server.credentials and authorization != expected:
            self._answer(401, {"www-authenticate": 'Basic realm="git"'}, b"")
            return
        self._answer(*http_backend(server.root, self.command, self.path, self.headers, body))

    def _answer(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.server.sent += len(content)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        try:
            self.wfile.write(content)
        except OSError:
            self.close_connection = True  # the client has gone


@contextmanager
def git_server(root: Path, credentials: str = "") -> Iterator[GitServer]:
    """A running server; afterwards it is closed."""
    with GitServer(root, credentials) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.hold.set()
            server.shutdown()
            thread.join()


def open_to_all(folder: Path) -> None:
    """Make a folder readable for every user, as a mirror has to be."""
    for path, _, files in os.walk(folder):
        Path(path).chmod(0o755)
        for name in files:
            (Path(path) / name).chmod(0o644)
