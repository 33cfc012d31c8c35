"""Frames: what is sent is what is read, however it is cut; anything else is refused without holding it."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.executor import protocol
from hearth.executor.protocol import (
    BodyFrame,
    FrameReader,
    FromShim,
    LogFrame,
    ProtocolError,
    ReadyFrame,
    RequestFrame,
    ResponseFrame,
    encode,
)


def raw(header: object, body: bytes = b"") -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (4 + len(head) + len(body)).to_bytes(4, "big") + len(head).to_bytes(4, "big") + head + body


def reader() -> tuple[list[tuple[FromShim, bytes]], Callable[[bytes], None]]:
    seen: list[tuple[FromShim, bytes]] = []
    return seen, FrameReader(lambda frame, body: seen.append((frame, body))).feed


RESPONSE = raw({"type": "response", "id": 7, "status": 200, "headers": {"a": "b", "c": ["d"]}, "more": False}, b"body")
MESSAGES = [raw({"type": "ready", "pid": 1, "version": "3"}), RESPONSE, raw({"type": "log", "id": 7, "stream": "log"})]


def test_a_frame_on_the_wire_is_length_header_length_header_body() -> None:
    data = encode(RequestFrame(1, "GET", "/", {"a": "b"}, 1.5, True, False), b"xyz")
    size, head = int.from_bytes(data[:4], "big"), int.from_bytes(data[4:8], "big")
    assert size == len(data) - 4
    assert data[8 + head :] == b"xyz"
    assert json.loads(data[8 : 8 + head]) == {
        "type": "request", "id": 1, "method": "GET", "path": "/", "headers": {"a": "b"}, "timeout": 1.5,
        "logging": True, "more": False,
    }  # fmt: skip


@settings(max_examples=300, deadline=None, database=None)
@given(st.lists(st.integers(min_value=1, max_value=40), max_size=40))
def test_frames_arrive_whole_however_they_are_cut(cuts: list[int]) -> None:
    seen, feed = reader()
    data = b"".join(MESSAGES)
    for cut in cuts:
        feed(data[:cut])
        data = data[cut:]
    feed(data)
    assert [type(frame) for frame, _ in seen] == [ReadyFrame, ResponseFrame, LogFrame]
    response, body = seen[1]
    assert isinstance(response, ResponseFrame)
    assert (response.id, json.loads(bytes(response.headers)), body) == (7, {"a": "b", "c": ["d"]}, b"body")


def test_unknown_fields_are_ignored() -> None:
    """A newer shim may say more."""
    seen, feed = reader()
    feed(raw({"type": "body", "id": 1, "more": True, "new": [1]}, b"x"))
    frame, body = seen[0]
    assert isinstance(frame, BodyFrame)
    assert (frame.more, body) == (True, b"x")


BAD = {
    "no length": b"\0\0\0\0",
    "100 MiB": (100 * 2**20).to_bytes(4, "big"),
    "text": b"Hello, I am a function\n",
    "header longer than its frame": b"\0\0\0\x08\0\0\0\x50abcd",
    "not JSON": raw(b"{nope"),
    "not UTF-8": raw(b'{"type":"\xff"}'),
    "deep JSON": raw(b"[" * 100_000),
    "a list": raw([1]),
    "unknown type": raw({"type": "assign"}),
    "wrong field": raw({"type": "log", "id": "7", "stream": "log"}),
    "missing field": raw({"type": "response", "id": 7}),
    "header of 2 MiB": raw(b'"' + b"x" * (2**20 + 1) + b'"'),
    "body of 2 MiB": raw({"type": "log", "id": 7, "stream": "log"}, bytes(2**20 + 1)),
}


@pytest.mark.parametrize("name", list(BAD))
@pytest.mark.parametrize("piece", [3, 1_000_000])
def test_what_is_not_the_protocol_is_refused(name: str, piece: int) -> None:
    _, feed = reader()
    data = BAD[name]
    with pytest.raises(ProtocolError):
        for at in range(0, len(data), piece if len(data) < 1000 else 1_000_000):
            feed(data[at : at + piece] if len(data) < 1000 else data[at : at + 1_000_000])


def test_a_length_that_is_too_long_is_refused_before_anything_is_kept() -> None:
    _, feed = reader()
    with pytest.raises(ProtocolError):
        feed((protocol.FRAME_MAX_BYTES + 1).to_bytes(4, "big"))


def test_a_header_a_shim_would_refuse_is_not_sent() -> None:
    with pytest.raises(ProtocolError):
        encode(RequestFrame(1, "GET", "/" + "x" * protocol.HEADER_MAX_BYTES, {}, 1, True, False))
