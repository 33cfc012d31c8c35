"""Server-sent events: how they are written, and which requests ask for them (WHATWG HTML, 9.2)."""

from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode

#: Headers of every answer that is a stream of events: nobody in between may keep or gather it.
HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def event(name: str, data: Any, id: str = "") -> bytes:
    """One event. `data` becomes JSON, which has no line ends, so it is one line."""
    head = f"id: {id}\nevent: {name}\n" if id else f"event: {name}\n"
    return b"".join((head.encode(), b"data: ", _encode(data), b"\n\n"))


def comment(text: str) -> bytes:
    """A line that clients ignore; it keeps a quiet connection open."""
    return f": {text}\n\n".encode()


def wants_events(accept: str) -> bool:
    """Whether a client asks for events: the media type is named, and not refused by a weight of zero."""
    for entry in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        if kind == "text/event-stream":
            weights = [part[2:] for part in parameters if part.startswith("q=")]
            return not weights or weights[0].strip("0.") != ""
    return False
