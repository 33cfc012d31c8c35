"""Heads of requests that may take the hot lane: read once, and known again by their bytes.

A client sends the same head with every execution of a function, but for the length of the body. So what a head says
is kept by its bytes, and the parser (httptools, as everywhere) sees each only once. What is kept is what the head says,
never a decision about its sender.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import httptools

from hearth.api.formats import Version, parse_version
from hearth.api.messages import JSON_TYPE, RawHeader

#: Longest body taken; larger ones are counted against the memory budget, which is the ordinary way's.
BODY_MAX_BYTES = 64 * 1024
#: Longest head that is kept, and how many are: together at most 4 MiB.
HEAD_MAX_BYTES = 4 * 1024
HEADS_MAX = 1_024

START = b"POST /v1/functions/"
END = b"\r\n\r\n"
_PREFIX, _SUFFIX = b"/v1/functions/", b"/executions"
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")

#: Headers that change nothing about the answer, and those read here. Any other one means the ordinary way.
_HARMLESS = frozenset(
    {
        *(b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"connection", b"keep-alive"),
        *(b"content-length", b"content-type", b"sec-fetch-mode", b"x-appwrite-locale"),
        *(b"x-appwrite-project", b"x-appwrite-key", b"x-appwrite-response-format"),
        *(b"x-sdk-name", b"x-sdk-platform", b"x-sdk-language", b"x-sdk-version", b"x-sdk-graphql"),
    }
)


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a plain create execution says. `length` is the body's, in bytes."""

    function_id: str
    project_id: str
    key: str
    host: str
    version: Version | None
    length: int


T = TypeVar("T")


class Heads(Generic[T]):
    """Reads heads with `reader`, and remembers what they say. The memory is dropped whole when it is full."""

    def __init__(self, reader: Callable[[bytes], T | None]) -> None:
        self._reader = reader
        self._known: dict[bytes, T | None] = {}

    def read(self, head: bytes) -> T | None:
        """What a head (with its empty line) says; None for every request that goes the ordinary way."""
        try:
            return self._known[head]
        except KeyError:
            found = self._reader(head) if len(head) <= HEAD_MAX_BYTES else None
            if len(head) <= HEAD_MAX_BYTES:
                if len(self._known) >= HEADS_MAX:
                    self._known.clear()
                self._known[head] = found
            return found


def function_of(url: bytes) -> str | None:
    """The function id of `/v1/functions/{functionId}/executions`; None for any other address, or an id with escapes."""
    if not url.startswith(_PREFIX) or not url.endswith(_SUFFIX):
        return None
    id = url[len(_PREFIX) : -len(_SUFFIX)]
    return id.decode("ascii") if id and _PLAIN.issuperset(id) else None


def is_plain(headers: Sequence[RawHeader]) -> bool:
    """Whether a request has only headers that the hot lane understands, with a body of known, small length."""
    names = [name for name, _ in headers]
    seen = frozenset(names)
    return len(seen) == len(names) and seen <= _HARMLESS and b"x-appwrite-key" in seen and b"content-length" in seen


class _Collector:
    """Takes what the parser says of one head."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[RawHeader] = []
        self.is_complete = False
        self.has_body = False
        self.keeps_alive = False
        self.parser: httptools.HttpRequestParser | None = None

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_complete = True
        # Asked now: where there is no body the message ends with its head, and the parser forgets.
        if self.parser is not None:
            self.keeps_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.has_body = True


@dataclass(frozen=True, slots=True)
class Parsed:
    """A whole head, names in lower case. Its connection stays open after the answer."""

    method: bytes
    url: bytes
    headers: list[RawHeader]


def parse(head: bytes) -> Parsed | None:
    """Take a head (with its empty line) apart; None for one that is not whole, wrong, or of a connection that ends."""
    seen = _Collector()
    parser = seen.parser = httptools.HttpRequestParser(seen)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None  # whatever is wrong, the ordinary way says it
    finally:
        seen.parser = None
    if not seen.is_complete or seen.has_body or not seen.keeps_alive or parser.get_http_version() != "1.1":
        return None
    return Parsed(parser.get_method(), seen.url, seen.headers)


def read_plain(head: bytes) -> Head | None:
    """What the head of a plain create execution says; None for any other."""
    seen = parse(head)
    if seen is None or seen.method != b"POST":
        return None
    function_id = function_of(seen.url)
    if function_id is None or not is_plain(seen.headers):
        return None
    headers = dict(seen.headers)
    length, accept = headers[b"content-length"], headers.get(b"accept", b"")
    if not length.isdigit() or len(length) > 6 or int(length) > BODY_MAX_BYTES:
        return None
    if not headers.get(b"content-type", JSON_TYPE).startswith(b"application/json"):
        return None
    if b"multipart" in accept or b"event-stream" in accept:
        return None
    return Head(
        function_id,
        headers.get(b"x-appwrite-project", b"").decode("latin-1"),
        headers[b"x-appwrite-key"].decode("latin-1"),
        headers.get(b"host", b"").decode("latin-1"),
        parse_version(headers.get(b"x-appwrite-response-format", b"").decode("latin-1")),
        int(length),
    )
