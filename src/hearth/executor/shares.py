"""What one instance uses, split among the executions in it (docs/adr/0033).

The kernel counts whole sandboxes. Between two readings an instance's CPU time is shared evenly by the executions that
ran meanwhile; it is read where one begins beside others and where one ends, so each reading is about those alone.
Nothing is lost: what the instance used while it ran nothing is the next execution's.
"""

from hearth.executor.sandbox.spec import Meter

#: Of several executions at once, those that begin or end within this share a reading: one step of the event loop.
READ_EVERY_S = 0.000_2
#: Executions shorter than this have time for little memory, and share a reading of the peak for longer.
SHORT_S = 0.001
PEAK_EVERY_S = 0.010


class Shares:
    """The account of one instance. Times are seconds of the monotonic clock that the executions are timed by."""

    __slots__ = ("_meter", "_peak_bytes", "_peak_read_at", "_read_at", "_used_s", "share_s")

    def __init__(self) -> None:
        self._meter: Meter | None = None
        self._used_s = 0.0
        self._read_at = 0.0
        self._peak_bytes: int | None = None
        self._peak_read_at = 0.0
        self.share_s = 0.0
        """CPU time of an execution that had run all the time; what one used is how far this moved on meanwhile."""

    def open(self, meter: Meter | None, now: float) -> None:
        """Begin to count: the code is loaded. Without a meter nothing is ever told."""
        used_s = None if meter is None else meter.cpu_s()
        if used_s is not None:
            self._meter, self._used_s, self._read_at = meter, used_s, now

    def begin(self, running: int, now: float) -> float:
        """An execution begins beside `running` others; returns what `end` is to be given."""
        if running and now - self._read_at >= READ_EVERY_S:
            self._read(running, now)
        return self.share_s

    def end(self, begun: float, running: int, started: float, now: float) -> tuple[float | None, int | None]:
        """CPU seconds of an execution that began at `started` and is one of `running` now, and the peak of memory.

        The peak is the instance's so far, in bytes. None for what is not counted.
        """
        meter = self._meter
        if meter is None:
            return None, None
        if running == 1 or now - self._read_at >= READ_EVERY_S:
            self._read(running, now)
        if now - self._peak_read_at >= (READ_EVERY_S if now - started >= SHORT_S else PEAK_EVERY_S):
            peak = meter.peak_memory_bytes()
            if peak is not None:
                self._peak_bytes, self._peak_read_at = peak, now
        return self.share_s - begun, self._peak_bytes

    def close(self, running: int, used_s: float, peak_bytes: int) -> None:
        """The sandbox has ended, having used so much in all (0 = not known); `end` follows for each of `running`."""
        if self._meter is None:
            return
        if running and used_s > self._used_s:
            self.share_s += (used_s - self._used_s) / running
            self._used_s = used_s
        self._peak_bytes = peak_bytes or self._peak_bytes

    def _read(self, running: int, now: float) -> None:
        meter = self._meter
        used_s = None if meter is None else meter.cpu_s()
        if used_s is not None:
            self.share_s += (used_s - self._used_s) / running
            self._used_s, self._read_at = used_s, now
