"""What is said to one shim: frames on their way into the channel."""

import asyncio

from hearth.executor.protocol import BODY_PIECE_BYTES, BodyFrame, RequestFrame, encode


class Outgoing:
    """The host's end of a channel. Frames that may wait leave with all others of their tick of the event loop."""

    __slots__ = ("_loop", "_waiting", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[bytes] = []
        self.transport: asyncio.Transport | None = None
        """Set once the channel has been handed to the event loop, which closes it then."""

    @property
    def is_open(self) -> bool:
        """Whether the channel is connected and can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    def send(self, frame: bytes) -> None:
        """Let a frame leave with the others of this tick. The channel must be open."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(frame)

    def send_now(self, frame: bytes) -> None:
        """Write a frame, after those that wait. Nothing is written to a channel that is closed."""
        self._flush()
        if self.transport is not None:
            self.transport.write(frame)

    def send_long(self, frame: RequestFrame, body: bytes) -> None:
        """Write a request whose body is longer than a piece. Raises ProtocolError, and has sent nothing then."""
        view = memoryview(body)
        self.send_now(encode(frame, view[:BODY_PIECE_BYTES]))
        for at in range(BODY_PIECE_BYTES, len(body), BODY_PIECE_BYTES):
            end = at + BODY_PIECE_BYTES
            self.send_now(encode(BodyFrame(frame.id, end < len(body)), view[at:end]))

    def abort(self) -> None:
        """Close the channel at once."""
        if self.transport is not None:
            self.transport.abort()

    def _flush(self) -> None:
        frames, self._waiting = self._waiting, []
        if frames and self.is_open and self.transport is not None:
            self.transport.write(b"".join(frames) if len(frames) > 1 else frames[0])
