"""Installed packs for tests, kept in the checkout's .cache across runs."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hearth.runtimes.pack_table import pack_table
from tests.support.interpreters import PACKS
from tests.support.server import HEARTH

#: Set to 1, every pack there is gets installed and tried: gigabytes, and many minutes.
ALL_VARIABLE = "HEARTH_TEST_ALL_PACKS"
INSTALL_TIMEOUT_S = 1_800


def wants_all() -> bool:
    """Whether this run is about every pack there is."""
    return os.environ.get(ALL_VARIABLE, "") not in ("", "0")


def missing_program(ids: Sequence[str]) -> str:
    """Why packs of these runtimes cannot be installed here, `""` if they can."""
    roots = [entry.id for entry in pack_table().require(ids) if entry.debian]
    if roots and shutil.which("mmdebstrap") is None and not all((PACKS / id).is_dir() for id in roots):
        return "mmdebstrap is not installed: no roots of Debian suites"
    return ""


def install_packs(ids: Sequence[str], packs: Path = PACKS) -> str:
    """Install packs by the command and return what it said; AssertionError if it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
    done = subprocess.run(
        [HEARTH, "runtimes", "install", *ids, "--packs-dir", str(packs)],
        capture_output=True,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout
