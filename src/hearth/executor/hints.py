"""What a failed function's own words say about the limits it met; the kernel tells nobody but the function. Pure."""

import re

from hearth.executor.limits import MIB
from hearth.executor.sandbox.spec import Limits

#: How much of the end of an output is looked through, in bytes.
LOOKED_THROUGH_BYTES = 8 * 1024

_DISK = re.compile(rb"No space left on device|\bENOSPC\b")
_PROCESSES = re.compile(
    rb"can't start new thread|\bspawn \S+ EAGAIN|uv_thread_create|fork: (?:retry: )?Resource temporarily unavailable"
    rb"|BlockingIOError: \[Errno 11\]|can't create Thread|unable to create (?:native )?thread"
)
_OPEN_FILES = re.compile(rb"Too many open files|\bEMFILE\b")


def met_limit(output: bytes | bytearray, limits: Limits) -> str:
    """A sentence about the limit that the end of an output speaks of, `""` if it speaks of none.

    The text is the function's own, so it is a hint to its author and nothing is decided by it.
    """
    end = bytes(output[-LOOKED_THROUGH_BYTES:])
    if _DISK.search(end):
        return f"It had no space left: its folder /tmp holds {limits.tmp_bytes // MIB} MB."
    if _PROCESSES.search(end):
        return f"It may have met its limit of {limits.pids} processes and threads."
    if _OPEN_FILES.search(end):
        return f"It had met its limit of {limits.open_files} open files."
    return ""
