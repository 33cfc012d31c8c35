"""What time it is, for everything that is told a clock."""

import time

from hearth.model import times


class SystemClock:
    """The real time (`hearth.ports.Clock`)."""

    now = staticmethod(times.now)
    monotonic = staticmethod(time.monotonic)
