"""The runsc that tests use: one that setup unpacked for them, or that of the machine; skipped where neither will do."""

import functools
from pathlib import Path

from hearth.executor.sandbox import runsc

UNPACKED = Path(__file__).parents[2] / ".cache/runsc/usr/bin/runsc"
"""Where `scripts/setup test` unpacks Debian's package, on machines whose own release has none that is new enough."""
PLACES = (UNPACKED, Path("/usr/bin/runsc"))


@functools.cache
def program() -> str:
    """The path of a runsc that can be used; `""` = there is none here."""
    return next((str(path) for path in PLACES if path.exists() and runsc.facility(str(path)).ok), "")


@functools.cache
def why_not() -> str:
    """Why there is none, as skips quote it; `""` when there is one."""
    if program():
        return ""
    found = [runsc.facility(str(path)).detail for path in PLACES if path.exists()]
    return found[0] if found else "not installed"
