"""Sends a body that a handler gives piece by piece, never more than the host has asked for (docs/protocol.md).

Python >= 3.9. `Outflow` counts what may be sent; who waits for more room, and how, differs by the kind of handler.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from typing import Any

    from hearth.runtimes.shims.python import hearth_channel as channel
    from hearth.runtimes.shims.python.hearth_context import to_bytes
else:
    import hearth_channel as channel
    from hearth_context import to_bytes

PIECE_BYTES = 64 * 1024
SOURCES = "an iterable, an async iterable, or a generator function"


def source_of(result: Any) -> Any | None:
    """What a handler streams: what it gave to `res.stream`, or itself if it is a generator; None otherwise."""
    if isinstance(result, dict):
        return result.get("stream")
    return result if hasattr(result, "__next__") or hasattr(result, "__anext__") else None


def iterate(source: Any) -> tuple[Iterator[Any] | None, AsyncIterator[Any] | None]:
    """An iterator over `source`: a plain one or an async one. Raises TypeError for what cannot be streamed."""
    given = source if hasattr(source, "__iter__") or hasattr(source, "__aiter__") or not callable(source) else source()
    if isinstance(given, (str, bytes, bytearray, memoryview)):
        return iter((given,)), None
    if hasattr(given, "__aiter__"):
        return None, given.__aiter__()
    if hasattr(given, "__iter__"):
        return iter(given), None
    raise TypeError(f"A body that is streamed must be {SOURCES}.")


class Outflow:
    """The body of one execution on its way to the host."""

    __slots__ = ("_before_piece", "_id", "is_open", "room", "waiter")

    def __init__(self, id: int, window: int, before_piece: Callable[[], None]) -> None:
        """`before_piece` is called before each piece leaves: what was logged until then leaves first."""
        self._id = id
        self._before_piece = before_piece
        self.room = window
        self.is_open = True
        self.waiter: Any | None = None
        """A future of the event loop that waits for room."""

    def begin(self, status: int, headers: Any) -> None:
        """Send the head."""
        self._before_piece()
        head = {"type": "response", "id": self._id, "status": status, "headers": headers, "more": True, "stream": True}
        channel.write(channel.frame(head))

    def acknowledge(self, size: int) -> None:
        """The host has taken `size` bytes."""
        self.room += size
        self.wake_up()

    def stop(self) -> None:
        """Send nothing more."""
        self.is_open = False
        self.wake_up()

    def wake_up(self) -> None:
        """Let whoever waits for room look again."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    async def room_for(self, size: int, new_future: Callable[[], Any]) -> bool:
        """Wait until `size` bytes may be sent; False once nothing is to be sent any more."""
        while self.is_open and self.room < size:
            self.waiter = new_future()
            await self.waiter
        return self.is_open

    def end(self, broken: bool = False, timed_out: bool = False) -> None:
        """Send the last frame, also of a response that was canceled: its source has stopped."""
        self._before_piece()
        header = {"type": "body", "id": self._id, "more": False, "broken": broken, "timed_out": timed_out}
        channel.write(channel.frame(header))

    def send(self, piece: bytes) -> None:
        """Send a piece for which there is room."""
        self.room -= len(piece)
        self._before_piece()
        channel.write(channel.frame({"type": "body", "id": self._id, "more": True}, piece))


def pieces(value: Any) -> list[bytes]:
    """What a source gave, cut to what one frame may hold."""
    data = to_bytes(value)
    return [data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)]


def run_plain(outflow: Outflow, source: Iterator[Any], listen: Callable[[bool], None]) -> None:
    """Send everything from the main thread, until the source ends or the host cancels. Raises what the source raises.

    `listen(wait)` takes the frames that have arrived; with `wait`, at least one.
    """
    try:
        for value in source:
            for piece in pieces(value):
                listen(False)
                while outflow.is_open and outflow.room < len(piece):
                    listen(True)
                if not outflow.is_open:
                    return
                outflow.send(piece)
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


async def run_async(
    outflow: Outflow, plain: Iterator[Any] | None, source: AsyncIterator[Any] | None, new_future: Callable[[], Any]
) -> None:
    """Send everything from an event loop. Raises what the source raises; cancelling it closes the source."""
    import asyncio

    try:
        while True:
            try:
                value = next(plain) if plain is not None else await source.__anext__()  # type: ignore[union-attr]
            except (StopIteration, StopAsyncIteration):
                return
            for piece in pieces(value):
                if not await outflow.room_for(len(piece), new_future):
                    return
                outflow.send(piece)
            if plain is not None:
                await asyncio.sleep(0)  # a plain source gives the others their turn here
    finally:
        if plain is not None and hasattr(plain, "close"):
            plain.close()
        if source is not None and hasattr(source, "aclose"):
            await source.aclose()


def has_arrived() -> bool:
    """Whether the host has sent something that was not read yet."""
    import select

    return bool(select.select([channel.CHANNEL], [], [], 0)[0])
