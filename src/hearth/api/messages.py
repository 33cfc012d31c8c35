"""One HTTP request and its answer, on plain ASGI. No parsing of parameters, no checks: see `params` and `pipeline`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from hearth.model.refusals import Refusal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Parameters one query string may hold; a list call sends at most 100 queries and a handful of others.
QUERY_FIELDS_MAX = 300
#: Seconds without a byte of a body that is still to come, after which the request is given up.
BODY_IDLE_S = 60.0

JSON_TYPE = b"application/json; charset=UTF-8"
EVENTS_TYPE = b"text/event-stream; charset=UTF-8"
TEXT_TYPE = b"text/plain; charset=UTF-8"
HTML_TYPE = b"text/html; charset=UTF-8"

RawHeader = tuple[bytes, bytes]


class ClientGone(Exception):
    """The client closed the connection; there is nobody to answer."""


@dataclass(slots=True)
class Answer:
    """What goes back: a body in memory, or `stream` of exactly `length` bytes (None = nobody knows yet).

    A stream that has an `aclose` gets it called in every case, also if nobody ever read from it.

    `headers` are beyond the standard ones and content-type. `close` ends the connection after the answer,
    because a body that nobody will read may still be on its way. `is_visit` says that a function's domain was
    visited: then only the function's own headers go out, and no content-type where it is empty.
    """

    status: int
    body: bytes = b""
    content_type: bytes = JSON_TYPE
    headers: list[RawHeader] = field(default_factory=list)
    stream: AsyncIterator[bytes] | None = None
    length: int | None = 0
    close: bool = False
    is_visit: bool = False


_encoder = msgspec.json.Encoder()


def json_answer(status: int, payload: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with `payload` as JSON."""
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()] if headers else []
    return Answer(status, _encoder.encode(payload), JSON_TYPE, raw)


def empty_answer() -> Answer:
    """204. It has a content-type that is not JSON, because clients read it and parse by it (contract: clients 1.3)."""
    return Answer(204, b"", TEXT_TYPE)


def too_large(limit: int) -> Refusal:
    """The refusal of a body over its route's limit."""
    return Refusal(
        "general_argument_invalid", f"The request body is too large: at most {limit} bytes are accepted here."
    )


class Request:
    """One request. Header names are lower-case bytes; a header sent several times is joined into one."""

    __slots__ = (
        "body_done",
        "expects_body",
        "headers",
        "id",
        "method",
        "query_string",
        "receive",
        "route",
        "scope",
        "segments",
    )

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope = scope
        self.receive = receive
        self.method: str = scope["method"]
        raw: list[RawHeader] = scope["headers"]
        self.headers: dict[bytes, bytes] = dict(raw)
        if len(self.headers) != len(raw):
            self.headers = _joined(raw)
        self.query_string: bytes = scope["query_string"]
        self.id = ""
        """Told in the log and in the answer."""
        self.route = ""
        """The name of the route it is for, once it is found; `visit` for a function's domain."""
        # The raw path: ids are decoded after routing, so that `a%2Fb` stays one segment (contract: clients 1.1).
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0].decode("latin-1")
        self.segments: list[str] = path.strip("/").split("/")
        self.body_done = False
        """Whether nothing of the body is still to be received; from then on a receive means disconnect."""
        self.expects_body = True
        """Whether somebody may still want to read the body; its route decides."""

    def header(self, name: bytes) -> str:
        """The text of a header, `""` if it was not sent."""
        value = self.headers.get(name)
        return "" if value is None else value.decode("latin-1").strip()

    def announced_bytes(self) -> int | None:
        """The length of the body as the headers have it; None for one in chunks, whose end nobody knows yet."""
        value = self.headers.get(b"content-length")
        if value is not None and value.isdigit() and len(value) <= 18:
            return int(value)
        return None if b"transfer-encoding" in self.headers else 0

    def query(self) -> dict[str, Any]:
        """The parameters of the query string, PHP style: `name[0]=`, `name[]=` and repeated `name[]` make lists.

        Raises Refusal when there are too many.
        """
        return read_pairs(self.query_string.decode("latin-1")) if self.query_string else {}

    async def chunks(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises Refusal when it is (or says it is) over `limit` bytes, or stalls."""
        announced = self.announced_bytes()
        if announced is not None and announced > limit:
            raise too_large(limit)
        total = 0
        while not self.body_done:
            message = await self._next()
            body = message.get("body", b"")
            total += len(body)
            if total > limit:
                raise too_large(limit)
            if not message.get("more_body", False):
                self.body_done = True
            if body:
                yield body

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises as `chunks`."""
        announced = self.announced_bytes()
        if announced is not None and announced > limit:
            raise too_large(limit)
        message = await self._next()
        first: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            self.body_done = True
            if len(first) > limit:
                raise too_large(limit)
            return first
        parts, total = [first], len(first)
        while not self.body_done:
            if total > limit:
                raise too_large(limit)
            message = await self._next()
            part = message.get("body", b"")
            parts.append(part)
            total += len(part)
            self.body_done = not message.get("more_body", False)
        if total > limit:
            raise too_large(limit)
        return b"".join(parts)

    async def drain(self, limit: int, seconds: float) -> None:
        """Read and drop what is left of the body, within both bounds, so that the client gets to read the answer."""
        try:
            async with asyncio.timeout(seconds):
                while not self.body_done and limit > 0:
                    message = await self.receive()
                    limit -= len(message.get("body", b""))
                    self.body_done = not message.get("more_body", False)
        except TimeoutError:
            return

    async def _next(self) -> Message:
        try:
            async with asyncio.timeout(BODY_IDLE_S):
                message = await self.receive()
        except TimeoutError:
            raise Refusal(
                "general_bad_request", f"Nothing of the request body has arrived for {BODY_IDLE_S:g} seconds."
            ) from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message


def read_pairs(text: str) -> dict[str, Any]:
    """Read form-encoded text (a query string or such a body) into parameters. Raises Refusal if there are too many."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise Refusal("general_argument_invalid", f"At most {QUERY_FIELDS_MAX} parameters may be sent.") from None
    return nest(pairs)


def nest(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Collect `name[...]` fields into lists, in the order they were sent; of a repeated plain name the last wins."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        bracket = name.find("[")
        if bracket > 0 and name.endswith("]"):
            items = fields.setdefault(name[:bracket], [])
            if isinstance(items, list):
                items.append(value)
        else:
            fields[name] = value
    return fields


def _joined(raw: list[RawHeader]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in headers:
            headers[name] += (b"; " if name == b"cookie" else b", ") + value
        else:
            headers[name] = value
    return headers
