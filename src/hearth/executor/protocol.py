"""The framed protocol between the executor and a shim (docs/protocol.md): frames to bytes and back.

A frame is: length of the rest (u32, big-endian), length of the header (u32), header (JSON, UTF-8), raw body. What
comes from a shim is written by user code as far as we know, so everything is bounded and checked here.
"""

import struct
from collections.abc import Callable, Mapping

import msgspec

from hearth.executor.limits import MIB

HEADER_MAX_BYTES = MIB
BODY_MAX_BYTES = MIB
FRAME_MAX_BYTES = 4 + HEADER_MAX_BYTES + BODY_MAX_BYTES
#: Larger bodies are split into frames of this size.
BODY_PIECE_BYTES = 512 * 1024


class ProtocolError(Exception):
    """What arrived is not this protocol. The instance it came from has to end."""


class AssignFrame(msgspec.Struct, tag_field="type", tag="assign", gc=False):
    """host -> shim: the one deployment this instance is for. Only this frame carries secrets."""

    environment: Mapping[str, str]
    entrypoint: str
    code: str
    concurrency: int
    window: int
    """Bytes of a streamed body that may be sent before an `ack`."""


class RequestFrame(msgspec.Struct, tag_field="type", tag="request", gc=False):
    """host -> shim: run the handler. `timeout` in seconds; with `more`, body frames follow."""

    id: int
    method: str
    path: str
    headers: Mapping[str, str] | msgspec.Raw
    timeout: float
    logging: bool
    more: bool


class BodyFrame(msgspec.Struct, tag_field="type", tag="body", gc=False, omit_defaults=True):
    """Both directions: a further piece of a body; the last one has `more` false."""

    id: int
    more: bool
    broken: bool = False
    """From a shim, with the last piece of a streamed response: it did not come to its end."""
    timed_out: bool = False
    """The shim gave up waiting for the rest, as in `response`."""


class CancelFrame(msgspec.Struct, tag_field="type", tag="cancel", gc=False):
    """host -> shim: nobody waits for this request any more. It is not answered."""

    id: int


class AckFrame(msgspec.Struct, tag_field="type", tag="ack", gc=False):
    """host -> shim: `size` bytes more of a streamed response have been taken by whoever reads it."""

    id: int
    size: int


class ReadyFrame(msgspec.Struct, tag_field="type", tag="ready", gc=False):
    """shim -> host: the language server is up and holds no code."""

    pid: int
    version: str


class LoadedFrame(msgspec.Struct, tag_field="type", tag="loaded", gc=False):
    """shim -> host: the code is loaded; so many requests at once are welcome."""

    concurrency: int


class LoadFailedFrame(msgspec.Struct, tag_field="type", tag="load_failed", gc=False):
    """shim -> host: the code could not be loaded, and why."""

    error: str


class LogFrame(msgspec.Struct, tag_field="type", tag="log", gc=False):
    """shim -> host: text for one execution; `log`, `error`, or `native` (not from context.log, any piece of text)."""

    id: int
    stream: str


class ResponseFrame(msgspec.Struct, tag_field="type", tag="response", gc=False):
    """shim -> host: the answer, with the first piece of its body. Ends the request unless `more`."""

    id: int
    status: int
    headers: msgspec.Raw
    """An object of texts, or of lists of texts for what is sent several times: see `response_headers`."""
    more: bool
    timed_out: bool = False
    """The shim gave up waiting for the handler, which may still be running."""
    stream: bool = False
    """The handler streams the body: its pieces are sent as they come, within the window."""


FromShim = ReadyFrame | LoadedFrame | LoadFailedFrame | LogFrame | ResponseFrame | BodyFrame
FromHost = AssignFrame | RequestFrame | BodyFrame | CancelFrame | AckFrame

#: Of the frame after its first four bytes, and of its header.
_SIZES = struct.Struct(">II")
_sizes, _pack_sizes = _SIZES.unpack_from, _SIZES.pack
_encode_header = msgspec.json.Encoder().encode
_decode_from_shim: Callable[[bytes | memoryview], FromShim] = msgspec.json.Decoder(FromShim).decode


def encode(frame: FromHost, body: bytes | memoryview = b"") -> bytes:
    """One frame as bytes. Raises ProtocolError if the header is larger than a shim accepts."""
    header = _encode_header(frame)
    size = len(header)
    if size > HEADER_MAX_BYTES:
        raise ProtocolError(f"header of {size} bytes")
    return b"".join((_pack_sizes(4 + size + len(body), size), header, body))


class FrameReader:
    """Cuts the bytes of one shim into frames; holds at most one incomplete frame.

    `on_frame` is called for each frame, in order. Raises ProtocolError, after which it must not be used again.
    """

    __slots__ = ("_on_frame", "_pending", "_size")

    def __init__(self, on_frame: Callable[[FromShim, bytes], None]) -> None:
        self._on_frame = on_frame
        self._pending = bytearray()
        self._size = 0
        """Length of the incomplete frame, its first four bytes included; 0 = not known yet."""

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._pending:
            data = self._complete(data)
        at = 0
        available = len(data)
        while available - at >= 8:
            size, header_size = _sizes(data, at)
            if not 4 <= size <= FRAME_MAX_BYTES:
                raise ProtocolError(f"a frame of {size} bytes")
            end = at + 4 + size
            if end > available:
                break
            self._deliver(data, at + 8 + header_size, at, end)
            at = end
        if at < available:
            if available - at >= 4:
                self._size = _frame_size(data, at)
            self._pending += memoryview(data)[at:]

    def _complete(self, data: bytes) -> bytes:
        """Add `data` to the incomplete frame and deliver it if it is whole; returns what is left over."""
        pending = self._pending
        taken = 0
        if not self._size:
            taken = 4 - len(pending)
            pending += data[:taken]
            if len(pending) < 4:
                return b""
            self._size = _frame_size(pending, 0)
        missing = self._size - len(pending)
        pending += memoryview(data)[taken : taken + missing]
        if len(pending) < self._size:
            return b""
        whole = bytes(pending)
        self._pending = bytearray()
        self._size = 0
        self._deliver(whole, 8 + int.from_bytes(whole[4:8], "big"), 0, len(whole))
        return data[taken + missing :]

    def _deliver(self, data: bytes, head_end: int, at: int, end: int) -> None:
        if head_end > end or head_end - at - 8 > HEADER_MAX_BYTES or end - head_end > BODY_MAX_BYTES:
            raise ProtocolError("a header or body that is too long")
        try:
            frame = _decode_from_shim(data[at + 8 : head_end])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
            raise ProtocolError(f"a header that is not one: {problem}") from problem
        self._on_frame(frame, data[head_end:end])


def _frame_size(data: bytes | bytearray, at: int) -> int:
    size = int.from_bytes(data[at : at + 4], "big")
    if not 4 <= size <= FRAME_MAX_BYTES:
        raise ProtocolError(f"a frame of {size} bytes")
    return 4 + size
