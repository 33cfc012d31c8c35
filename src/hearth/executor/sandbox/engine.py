"""A client of the Docker Engine API over its Unix socket: the few calls that the driver `docker` makes.

Used by the spawner and its children, so stdlib only, and HTTP by hand: what the library has for it would load TLS into
the process that stays root. Whoever can write to that socket is root on this machine, which is why the spawner speaks
to it and the server never does. Paths name no version, so the daemon's newest is spoken: its oldest is raised now and
then, and what is used here has been there since 1.40 (Docker 19.03).
"""

import json
import socket
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

TIMEOUT_S = 60.0
"""For one call; the longest is the removal of a container."""
SWEEP_WAIT_S, SWEEP_PAUSE_S = 10.0, 0.05
ANSWER_BYTES_MAX = 16 << 20
NOT_FOUND, CONFLICT, FIRST_FAILURE = 404, 409, 400


class EngineError(OSError):
    """The daemon cannot be reached or did not do what it was asked; the text is its own. `status` is 0 or HTTP's."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Engine:
    """One daemon, reached at the Unix socket `path`. Every call opens a connection of its own and blocks.

    Raises EngineError.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def version(self) -> str:
        """The daemon's version, e.g. `20.10.24`."""
        return str(self.call("GET", "/version").get("Version", "?"))

    def has_image(self, image: str) -> bool:
        try:
            self.call("GET", f"/images/{quote(image, safe='')}/json")
        except EngineError as problem:
            if problem.status == NOT_FOUND:
                return False
            raise
        return True

    def image_environment(self, image: str) -> dict[str, str]:
        """The variables that the image sets for what runs in it."""
        found = self.call("GET", f"/images/{quote(image, safe='')}/json")
        settings = (found.get("Config") or {}).get("Env") or []
        return dict(item.split("=", 1) for item in settings if "=" in item)

    def create(self, name: str, configuration: Mapping[str, Any]) -> None:
        """Make a container, not started yet. No image is fetched for it."""
        try:
            self.call("POST", f"/containers/create?{urlencode({'name': name})}", configuration)
        except EngineError as problem:
            if problem.status == NOT_FOUND:
                image = configuration["Image"]
                raise EngineError(f"no image {image} on this machine. Run: docker pull {image}", 404) from problem
            raise

    def start(self, name: str) -> int:
        """Start a container; returns the host pid of its first process."""
        self.call("POST", f"/containers/{name}/start")
        pid = int(self.call("GET", f"/containers/{name}/json")["State"]["Pid"])
        if pid <= 0:
            raise EngineError("the container ended at once")
        return pid

    def remove(self, name: str) -> None:
        """End and delete a container; fine when there is none, or it is being deleted already."""
        try:
            self.call("DELETE", f"/containers/{quote(name)}?force=true&v=true")
        except EngineError as problem:
            if problem.status not in (NOT_FOUND, CONFLICT):
                raise

    def names(self, label: str) -> list[str]:
        """The names of all containers with a label, running or not."""
        query = urlencode({"all": "true", "filters": json.dumps({"label": [label]})})
        return [str(one["Names"][0]).lstrip("/") for one in self.call("GET", f"/containers/json?{query}")]

    def sweep(self, label: str) -> int:
        """Remove every container with a label, waiting for those that go already; returns how many there were."""
        found = names = self.names(label)
        deadline = time.monotonic() + SWEEP_WAIT_S
        while names and time.monotonic() < deadline:
            for name in names:
                self.remove(name)
            names = self.names(label)
            if names:
                time.sleep(SWEEP_PAUSE_S)
        return len(found)

    def call(self, method: str, path: str, content: Mapping[str, Any] | bytes | None = None) -> Any:
        """One request: the JSON that was answered, `{}` for none. `content` is JSON to be, or a tar archive."""
        kind, body = "application/x-tar", content if isinstance(content, bytes) else b""
        if not isinstance(content, bytes):
            kind, body = "application/json", b"" if content is None else json.dumps(content).encode()
        head = f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(self.path)
                connection.sendall(head.encode("ascii") + b"\r\n\r\n" + body)
                with connection.makefile("rb") as answer:
                    data = answer.read(ANSWER_BYTES_MAX)
        except (OSError, UnicodeError) as problem:
            raise EngineError(f"docker: {self.path}: {getattr(problem, 'strerror', '') or problem}") from problem
        head_read, end, rest = data.partition(b"\r\n\r\n")
        words = head_read.split(b" ", 2)
        if not end or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            raise EngineError(f"docker: a strange answer at {self.path}: {data[:60]!r}")
        status = int(words[1])
        if status >= FIRST_FAILURE:
            raise EngineError(f"docker: {_message(rest)}", status)
        lines = rest.strip().splitlines()
        try:
            return json.loads(lines[-1]) if lines else {}  # of a progress report the last line
        except ValueError as problem:
            raise EngineError(f"docker: a strange answer at {self.path}: {rest[:60]!r}") from problem


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace")
