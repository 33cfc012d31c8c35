"""The gate's TCP side: bytes both ways between a sandbox and the destination it was allowed, with back pressure."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

BUFFER_BYTES = 256 * 1024
"""How much may wait in one direction before the other side is no longer read."""
CLOSE_TIMEOUT_S = 10.0
"""How long what is buffered may take to leave once a connection ends."""
RESET_LINGER = struct.pack("ii", 1, 0)


def reset(connection: socket.socket) -> None:
    """Close a connection so that the other side sees a reset, not an orderly end."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_LINGER)
    finally:
        connection.close()


class Side(asyncio.Protocol):
    """One of the two ends of a relayed connection."""

    def __init__(self, relay: "Relay") -> None:
        self.relay = relay
        self.transport: asyncio.Transport | None = None
        self.ended = False
        self.early: list[bytes] = []
        """What this end sent before the other one was there (a server that speaks first)."""

    @property
    def other(self) -> "Side":
        return self.relay.outside if self is self.relay.inside else self.relay.inside

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=BUFFER_BYTES)
        if self.relay.closed:
            self.transport.abort()
            return
        for data in self.other.early:
            self.transport.write(data)
        self.other.early.clear()
        if self.other.ended:
            self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self.relay.last_s = self.relay.loop.time()
        target = self.other.transport
        if target is None:
            self.early.append(data)  # one or two reads: the other end is being connected in this very moment
        elif not target.is_closing():
            target.write(data)

    def eof_received(self) -> bool:
        """Pass the end of this direction on; the connection closes when both directions have ended."""
        self.ended = True
        target = self.other.transport
        if target is None and not self.relay.connected:
            return True
        if self.other.ended or target is None or target.is_closing():
            self.relay.close()
            return False
        target.write_eof()
        return True

    def pause_writing(self) -> None:
        source = self.other.transport
        if source is not None and not source.is_closing():
            source.pause_reading()

    def resume_writing(self) -> None:
        source = self.other.transport
        if source is not None and not source.is_closing():
            source.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if exc is not None:
            self.relay.abort()
        else:
            self.relay.close()
        self.relay.check_done()


class Relay:
    """One connection of a sandbox through the gate, from the accepted socket to its end."""

    def __init__(self, connection: socket.socket, idle_timeout_s: float, done: Callable[["Relay"], None]) -> None:
        self.loop = asyncio.get_running_loop()
        self.inside = Side(self)
        self.outside = Side(self)
        self.closed = False
        self.connected = False
        """Whether both ends are there."""
        self.last_s = self.loop.time()
        self._connection: socket.socket | None = connection
        self._idle_timeout_s = idle_timeout_s
        self._done = done
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connect(self, address: str, port: int, timeout_s: float) -> None:
        """Start connecting to the destination; on failure the sandbox sees a reset."""
        self._task = self.loop.create_task(self._run(address, port, timeout_s))

    async def _run(self, address: str, port: int, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.loop.create_connection(lambda: self.outside, address, port)
            connection, self._connection = self._connection, None
            if connection is not None:
                await self.loop.connect_accepted_socket(lambda: self.inside, connection)
            self.connected = True
            self._check_idle()
        except (OSError, TimeoutError):
            self.abort()

    def _check_idle(self) -> None:
        if self.closed:
            return
        left = self.last_s + self._idle_timeout_s - self.loop.time()
        if left <= 0:
            self.abort()
        else:
            self._timer = self.loop.call_later(left, self._check_idle)

    def close(self) -> None:
        """Let both sides end in order, what is buffered included."""
        self._end(lambda transport: transport.close())

    def abort(self) -> None:
        """End both sides at once; also what `close` left buffered."""
        self._end(lambda transport: transport.abort())

    def check_done(self) -> None:
        """Tell the owner once nothing of this connection is left."""
        if self.closed and self.inside.transport is None and self.outside.transport is None:
            if self._timer is not None:
                self._timer.cancel()
            self._done(self)

    def _end(self, end: Callable[[asyncio.Transport], None]) -> None:
        first = not self.closed
        self.closed = True
        if self._task is not None and self._task is not asyncio.current_task(self.loop):
            self._task.cancel()
        if self._connection is not None:
            reset(self._connection)
            self._connection = None
        for side in (self.inside, self.outside):
            if side.transport is not None:
                end(side.transport)
        if first:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(CLOSE_TIMEOUT_S, self.abort)
            self.check_done()
