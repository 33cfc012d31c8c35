"""The log of a running build on its way out: decoded, bounded, handed on a few times a second."""

import asyncio
import codecs
import os
from collections import deque
from collections.abc import Callable

from hearth.runtimes.shims.build import lines

#: Seconds between two pieces of a log; what a command prints is out within twice that.
FLUSH_S = 0.05
#: Characters held between two pieces: all that the deployment keeps of a log (contract: functions-api 4).
PENDING_CHARS = 1_000_000
#: After this many characters a build is taken to flood its log, and only `FLOOD_CHARS` of each piece go on.
QUIET_CHARS = 4_000_000
FLOOD_CHARS = 16_384
#: Bytes read from a build between two pieces; one that prints faster waits in its write.
READ_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 64 * 1024


class LogFlow:
    """Collects output and hands it to `on_log`; of what is too much the end is kept, with a line that says so."""

    def __init__(self, on_log: Callable[[str], None]) -> None:
        self._on_log = on_log
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: deque[str] = deque()
        self._pending_chars = 0
        self._left_out = 0
        self._sent_chars = 0

    @property
    def is_pending(self) -> bool:
        """Whether there is something to flush."""
        return self._pending_chars > 0

    def say(self, text: str, colour: int = lines.INFO) -> None:
        """Put a line of the platform's own after what came so far, and hand everything on at once."""
        self._append(lines.line(text, colour))
        self.flush()

    def feed(self, data: bytes) -> None:
        """Take output of the build. NUL is dropped: no database takes it in a text."""
        self._append(self._decoder.decode(data).replace("\0", ""))

    def flush(self) -> None:
        """Hand on what there is."""
        if not self._pending:
            return
        text = "".join(self._pending)
        if self._left_out:
            text = lines.line(f"{self._left_out:,} characters of output left out.", lines.WARNING) + text
        self._pending.clear()
        self._pending_chars = self._left_out = 0
        self._sent_chars += len(text)
        self._on_log(text)

    def _append(self, text: str) -> None:
        if not text:
            return
        limit = FLOOD_CHARS if self._sent_chars > QUIET_CHARS else PENDING_CHARS
        self._pending.append(text)
        self._pending_chars += len(text)
        while self._pending_chars > limit:
            first = self._pending.popleft()
            excess = min(self._pending_chars - limit, len(first))
            if excess < len(first):
                self._pending.appendleft(first[excess:])
            self._pending_chars -= excess
            self._left_out += excess


class OutputPump:
    """Reads a sandbox's output pipe into a LogFlow on the event loop, no faster than the flow hands on.

    `descriptor` is non-blocking and stays the caller's; call `finish` before closing it.
    """

    def __init__(self, descriptor: int, flow: LogFlow) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptor = descriptor
        self._flow = flow
        self._timer: asyncio.TimerHandle | None = None
        self._read_bytes = 0
        self._loop.add_reader(descriptor, self._readable)

    def finish(self) -> None:
        """Take what is still in the pipe, hand everything on and stop. Its writers have ended by now."""
        self._loop.remove_reader(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()
        while self._read() > 0:
            pass
        self._flow.flush()

    def _readable(self) -> None:
        if self._read() < 0 or self._read_bytes >= READ_BYTES:
            self._loop.remove_reader(self._descriptor)  # until the next tick
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._flow.flush()
        if self._read_bytes >= READ_BYTES:
            self._loop.add_reader(self._descriptor, self._readable)
        self._read_bytes = 0

    def _read(self) -> int:
        """Read one piece: its size in bytes, 0 if there is none now, -1 at the end."""
        try:
            data = os.read(self._descriptor, _PIECE_BYTES)
        except BlockingIOError:
            return 0
        except OSError:
            return -1
        self._read_bytes += len(data)
        self._flow.feed(data)
        return len(data) or -1
