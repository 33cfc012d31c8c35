"""The channel to the server: a 4-byte big-endian length and that many bytes of JSON, each way."""

from __future__ import annotations

import json
import socket
from typing import Any

_LENGTH_BYTES = 4
_REQUEST_MAX_BYTES = 1024 * 1024


def receive(channel: socket.socket) -> Any:
    """The server's request. Raises EOFError if it has gone."""
    length = int.from_bytes(_exactly(channel, _LENGTH_BYTES), "big")
    if length > _REQUEST_MAX_BYTES:
        raise ValueError(f"a request of {length} bytes")
    return json.loads(_exactly(channel, length))


def answer(channel: socket.socket, document: Any) -> None:
    """Send the one answer."""
    data = json.dumps(document).encode()
    channel.sendall(len(data).to_bytes(_LENGTH_BYTES, "big") + data)


def _exactly(channel: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = channel.recv(length - len(data))
        if not piece:
            raise EOFError("the server closed the channel")
        data += piece
    return bytes(data)
