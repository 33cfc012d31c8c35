"""CPU time of whole process trees, as the kernel counts it in /proc."""

import os
from pathlib import Path

from tests.support.leftovers import footprint

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU time so far of a process and all its descendants, to a hundredth of a second.

    Includes threads that have ended and children that were waited for, so it never runs backwards while no
    process is orphaned.
    """
    return sum(_ticks(process.pid) for process in footprint(pid).processes) / TICKS_PER_S


def _ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0  # it ended between the two looks
    # utime, stime, cutime, cstime: fields 14 to 17 of proc_pid_stat(5), counted after the command's parenthesis.
    return sum(int(field) for field in text[text.rindex(")") + 2 :].split()[11:15])
