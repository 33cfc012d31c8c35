"""Which runtimes the installed command says can run here."""

import json
import subprocess
from functools import cache

from tests.support.server import HEARTH


@cache
def available_runtimes() -> tuple[str, ...]:
    """Ids of the runtimes that can run on this machine."""
    done = subprocess.run(
        [HEARTH, "runtimes", "list", "--json"], capture_output=True, text=True, timeout=60, check=True
    )
    return tuple(entry["id"] for entry in json.loads(done.stdout) if entry["available"])


def runtime_of(family: str) -> str:
    """The first runtime of a language that can run here; a machine without one cannot run these tests."""
    found = [id for id in available_runtimes() if id.rpartition("-")[0] == family]
    assert found, f"no {family} runtime can run here; see `hearth doctor`"
    return found[0]
