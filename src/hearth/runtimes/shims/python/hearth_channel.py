"""The framed protocol over descriptor 3 (docs/protocol.md), blocking. Standard library only, Python >= 3.9.

Writes block until the host has taken them: nothing queues up in this process, and what was written before a crash
has left it. No import beyond `os` and the C half of `json`: an instance should be up in a few milliseconds.
"""

from __future__ import annotations

import _thread
import os

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from typing import Any

    from hearth.runtimes.shims.python.hearth_json import decode, encode

    Header = dict[str, Any]
else:
    from hearth_json import decode, encode

CHANNEL = 3
FRAME_MAX_BYTES = 2 * 1024 * 1024 + 4
BODY_PIECE_BYTES = 512 * 1024
READ_BYTES = 64 * 1024


class HostGone(Exception):
    """The host closed the channel: this process has nothing left to do."""


def frame(header: Header, body: bytes = b"") -> bytes:
    """One frame: length of the rest, length of the header, header (JSON), body."""
    head = encode(header).encode()
    return b"".join(((4 + len(head) + len(body)).to_bytes(4, "big"), len(head).to_bytes(4, "big"), head, body))


#: Held while frames are put together and written: user code may log from any thread.
lock = _thread.RLock()
_is_writing = False
_deferred: list[bytes] = []


def write(data: bytes) -> None:
    """Write whole frames; blocks while the host is behind. Fine to call from any thread or signal handler."""
    global _is_writing
    with lock:
        _deferred.append(data)
        if _is_writing:
            return  # a signal handler, in the middle of another frame: that one goes on first
        _is_writing = True
        try:
            while _deferred:
                _write_all(_deferred.pop(0))
        finally:
            _is_writing = False


def _write_all(data: bytes) -> None:
    sent = os.write(CHANNEL, data)
    if sent < len(data):
        rest = memoryview(data)[sent:]
        while rest:
            rest = rest[os.write(CHANNEL, rest) :]


def send_response(header: Header, body: bytes, before: bytes) -> None:
    """Send a response; `before` holds log frames that leave in the same write. A long body is split."""
    first = body if len(body) <= BODY_PIECE_BYTES else body[:BODY_PIECE_BYTES]
    header["more"] = len(first) < len(body)
    write(before + frame(header, first))
    for at in range(len(first), len(body), BODY_PIECE_BYTES):
        end = at + BODY_PIECE_BYTES
        write(frame({"type": "body", "id": header["id"], "more": end < len(body)}, body[at:end]))


class Reader:
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self._buffer = b""

    def take(self) -> tuple[Header, bytes] | None:
        """The next frame that has arrived whole, or None."""
        buffer = self._buffer
        have = len(buffer)
        if have < 4:
            return None
        size = int.from_bytes(buffer[:4], "big")
        if size < 4 or size > FRAME_MAX_BYTES:
            raise ValueError(f"frame of {size} bytes")
        if have < 4 + size:
            return None
        head_end = 8 + int.from_bytes(buffer[4:8], "big")
        header = decode(buffer[8:head_end].decode())
        body = buffer[head_end : 4 + size]
        self._buffer = buffer[4 + size :]
        return header, body

    def read(self) -> None:
        """Wait for more bytes: at least one read, and all of a frame whose length is known. Raises HostGone."""
        data = self._read()
        if not self._buffer:
            self._buffer = data
        else:
            self._buffer += data
        if len(self._buffer) < 4:
            return
        missing = 4 + int.from_bytes(self._buffer[:4], "big") - len(self._buffer)
        if missing <= 0 or missing > FRAME_MAX_BYTES:
            return
        pieces: list[bytes] = [self._buffer]
        while missing > 0:
            data = self._read()
            pieces.append(data)
            missing -= len(data)
        self._buffer = b"".join(pieces)

    @staticmethod
    def _read() -> bytes:
        try:
            data = os.read(CHANNEL, READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            raise HostGone
        return data
