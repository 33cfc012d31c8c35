"""An alarm at a point of the real time that also rings when somebody sets the clock.

Linux's timerfd: nothing wakes up before the time has come, and a step of the clock (or the end of a suspension) does
not go unnoticed as it would with a timer of the event loop. Python has it from 3.13 on; until then by ctypes.
"""

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable
from datetime import datetime

from hearth.model import times

_CLOCK_REALTIME = 0
_TFD_NONBLOCK, _TFD_CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


_libc = ctypes.CDLL(None, use_errno=True)


class Alarm:
    """Calls `ring` on the event loop when the time has come, or the clock was set. `close` it."""

    def __init__(self, ring: Callable[[], None]) -> None:
        """Raises OSError where the machine has no such timers. Called on the event loop."""
        self._ring = ring
        self._fd = _checked(_libc.timerfd_create(_CLOCK_REALTIME, _TFD_NONBLOCK | _TFD_CLOEXEC))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._on_time)

    def set(self, moment: datetime | None) -> None:
        """Ring at `moment` instead of what was set before, at once if it is past; None rings never."""
        value = _TimeSpec(0, 0)
        if moment is not None:
            ms = max(1, times.to_epoch_ms(moment))
            value = _TimeSpec(ms // 1_000, ms % 1_000 * 1_000_000)
        spec = _TimerSpec(_TimeSpec(0, 0), value)
        flags = _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET
        try:
            _checked(_libc.timerfd_settime(self._fd, flags, ctypes.byref(spec), None))
        except OSError as error:
            if error.errno != errno.ECANCELED:  # the clock was set a moment ago; the timer is armed all the same
                raise
            self._ring()

    def close(self) -> None:
        """Ring no more."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _on_time(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._ring()


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
