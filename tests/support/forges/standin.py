"""A git host's HTTP interface for tests, on loopback: knows which requests its documentation allows, notes all others.

Not the real thing: it was written from each host's published documentation, and holds our requests against that
(method, path, headers, names and types of parameters and fields). What was not as documented is in `violations`.
"""

import base64
import http.server
import json
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, ClassVar, TypeVar

from tests.support.forges.backing import Backing
from tests.support.forges.world import World
from tests.support.git import http_backend, sent_body

Answer = tuple[int, Any, Mapping[str, str]]
Handler = Callable[[Any, "Request"], Any]
H = TypeVar("H", bound=Callable[..., Any])


@dataclass
class Request:
    """`parts` are the decoded groups of the path's pattern, `body` the JSON that was sent."""

    method: str
    path: str
    parts: dict[str, str]
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any

    def number(self, name: str, default: int) -> int:
        return int(self.query.get(name, default))


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    query: frozenset[str]
    required: Mapping[str, type]
    optional: Mapping[str, type]
    name: str


def route(
    method: str,
    path: str,
    *,
    query: str = "",
    required: Mapping[str, type] | None = None,
    optional: Mapping[str, type] | None = None,
) -> Callable[[H], H]:
    """Mark a method as the handler of a path; `{x}` is one part of it, `{x*}` any number of parts."""
    pattern = re.sub(r"\{(\w+)\*\}", r"(?P<\1>.*)", path)
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)

    def mark(handler: H) -> H:
        routes = getattr(handler, "routes", [])
        made = (method, re.compile(pattern + r"\Z"), frozenset(query.split()), required or {}, optional or {})
        handler.routes = [*routes, made]  # type: ignore[attr-defined]
        return handler

    return mark


@dataclass
class Fault:
    """One answer that is given instead of the right one."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


class StandIn(http.server.ThreadingHTTPServer):
    """Base of all stand-ins. `faults` are answered first, one each; `requests` is what came in (`GET /path`)."""

    daemon_threads = True
    #: Prefix of the interface in paths.
    prefix: ClassVar[str] = ""

    def __init__(self, world: World) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.world = world
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()
        self.backing: Backing | None = None
        self.routes: list[Route] = []
        for name in dir(type(self)):
            for method, pattern, query, required, optional in getattr(getattr(type(self), name), "routes", []):
                self.routes.append(Route(method, pattern, query, required, optional, name))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no news; anything else is a fault of the stand-in."""
        error = sys.exception()
        if not isinstance(error, ConnectionError):
            self.violations.append(f"the stand-in failed: {error!r}")

    def authorized(self, request: Request) -> bool:
        """Whether a request shows the credentials as documented."""
        raise NotImplementedError

    def opens(self, username: str, password: str) -> bool:
        """Whether a user name and password, as documented for git over https, open every repository."""
        raise NotImplementedError

    def git(self, method: str, target: str, headers: Message, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """What git is answered: public repositories are read by everybody."""
        assert self.backing is not None
        path = target.partition(".git/")[0].strip("/")
        with self.lock:
            found = self.world.named(path)
            pair = headers.get("authorization", "").removeprefix("Basic ")
            username, _, password = base64.b64decode(pair).decode().partition(":")
            is_open = found is not None and not found.private and "git-receive-pack" not in target
            if not is_open and not self.opens(username, password):
                return 401, {"www-authenticate": 'Basic realm="git"'}, b""
        answer = http_backend(self.backing.folder, method, target, headers, body)
        if found is not None and target.endswith("/git-receive-pack"):
            with self.lock:
                self.backing.read(found)
        return answer

    def answer(self, request: Request) -> Answer:
        """The answer to a request, its form checked."""
        with self.lock:
            self.requests.append(f"{request.method} {request.path}")
            if self.faults:
                fault = self.faults.pop(0)
                return fault.status, fault.body, fault.headers
            return self._answer(request)

    def note(self, request: Request, problem: str) -> None:
        self.violations.append(f"{request.method} {request.path}: {problem}")

    def _answer(self, request: Request) -> Answer:
        matching = [
            (found, match)
            for found in self.routes
            if found.method == request.method and (match := found.pattern.match(request.path))
        ]
        if not matching:
            self.note(request, "no such request is documented")
            return 404, {"message": "Not Found"}, {}
        # `{x*}` also fits what a more exact pattern is for.
        found, match = min(matching, key=lambda pair: pair[0].pattern.pattern.count(".*"))
        request.parts = {name: urllib.parse.unquote(text) for name, text in match.groupdict().items()}
        if unknown := set(request.query) - found.query:
            self.note(request, f"unknown parameters {sorted(unknown)}")
        if request.method in ("POST", "PUT", "PATCH"):
            self._check_body(request, found)
        if not self.authorized(request):
            return 401, {"message": "Bad credentials"}, {}
        made = getattr(self, found.name)(request)
        if made is None:
            return 404, {"message": "Not Found"}, {}
        if isinstance(made, tuple):
            return made if len(made) == 3 else (*made, {})
        return 200, made, {}

    def _check_body(self, request: Request, found: Route) -> None:
        body = request.body if isinstance(request.body, dict) else {}
        if request.body is not None and request.headers.get("content-type") != "application/json":
            self.note(request, "the body is not declared as JSON")
        for name in found.required:
            if name not in body:
                self.note(request, f"{name} is missing")
        for name, value in body.items():
            kind = found.required.get(name) or found.optional.get(name)
            if kind is None:
                self.note(request, f"unknown field {name}")
            elif not isinstance(value, kind):
                self.note(request, f"{name} is not {kind.__name__}")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def _serve(self) -> None:
        sent = sent_body(self)
        if self.server.backing is not None and ".git/" in self.path:
            self._send(*self.server.git(self.command, self.path, self.headers, sent))
            return
        target = urllib.parse.urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(
            self.command,
            target.path,
            {},
            dict(urllib.parse.parse_qsl(target.query, keep_blank_values=True)),
            headers,
            json.loads(sent) if sent else None,
        )
        status, content, more = self.server.answer(request)
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self._send(status, more, body)

    def _send(self, status: int, more: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in more.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def log_message(self, format: str, *arguments: object) -> None:
        """Quiet: what came in is in `requests`."""


@contextmanager
def serving(server: StandIn) -> Iterator[StandIn]:
    """The server while it serves; every request must have been as documented."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert server.violations == []


@contextmanager
def silent(server: StandIn) -> Iterator[StandIn]:
    """The server while it answers nobody."""
    try:
        yield server
    finally:
        server.server_close()


def page_of(items: list[Any], page: int, size: int) -> list[Any]:
    return items[(page - 1) * size : page * size]
