"""The interpreters of this machine and those that `scripts/setup test` keeps in `.cache/interpreters`."""

import os
from functools import cache
from pathlib import Path

import pytest

from hearth.runtimes.host import discover_host_packs
from hearth.runtimes.packs import Pack

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "interpreters"


@cache
def installed_packs() -> tuple[Pack, ...]:
    """Every pack there is, the cached ones first."""
    folders = sorted(str(path) for path in CACHE.glob("*/bin"))
    return tuple(discover_host_packs(search_path=os.pathsep.join([*folders, os.environ.get("PATH", "")])).all())


def pack_of(family: str) -> Pack:
    """The first pack of a family; skips the test that asks if there is none."""
    found = next((pack for pack in installed_packs() if pack.family == family), None)
    if found is None:
        pytest.skip(f"facility: no {family} is installed here (see `scripts/setup test`)")
    return found
