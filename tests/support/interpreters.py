"""The interpreters of this machine and the packs that `scripts/setup test` keeps in `.cache/packs`."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from hearth.runtimes.host import discover_host_packs
from hearth.runtimes.locations import SHIMS_FOLDER
from hearth.runtimes.packs import Pack
from hearth.runtimes.shelf import Shelf
from hearth.runtimes.shims.build.languages import COMPILERS, language_environment
from hearth.runtimes.shims.build.layout import Layout

CACHE = Path(__file__).resolve().parents[2] / ".cache"
PACKS = Path(os.environ.get("HEARTH_TEST_PACKS_DIR") or CACHE / "packs")
#: Where builds of compiled languages put what they make.
OUTPUT = ".hearth"


@cache
def installed_packs() -> tuple[Pack, ...]:
    """Every pack there is, the installed ones first."""
    return tuple(Shelf(PACKS, discover_host_packs()).all())


@cache
def _host_packs() -> tuple[Pack, ...]:
    """The interpreters of this machine, also where a pack is installed that goes before them."""
    return tuple(discover_host_packs().all())


def pack_of(family: str, *more: Pack) -> Pack:
    """The first pack of a family, of the installed ones and `more`; skips the test that asks if there is none.

    Not one with a system of its own: that runs in a sandbox only, and not every driver of the tests makes sandboxes.
    """
    found = next((pack for pack in (*installed_packs(), *more) if pack.family == family and not pack.root), None)
    if found is None:
        pytest.skip(f"facility: no {family} is installed here (see `scripts/setup test`)")
    return found


def built(
    family: str, sources: Mapping[str, str | bytes], entrypoint: str, wanted: Pack | None = None
) -> dict[str, bytes]:
    """The files that a build adds to the sources of a function; kept in the cache, because it takes seconds.

    As in a build, but without its sandbox. Nothing is downloaded. `wanted` is the pack they are for (default: the first
    one); for one with a system of its own another one compiles.
    """
    pack = pack_of(family, *_host_packs()) if wanted is None or wanted.root else wanted
    older = {}
    if wanted is not None and wanted.root and family == "java":
        older["JDK_JAVAC_OPTIONS"] = "--release 8"  # what every version runs
    interpreter = pack.interpreter
    for source, target in pack.mounts:
        if interpreter.startswith(target):
            interpreter = source + interpreter.removeprefix(target)
    kept = CACHE / "built" / _digest_of(family, f"{pack.version} {older}", sources, entrypoint)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        _build(family, interpreter, sources, entrypoint, partial, older)
        with contextlib.suppress(OSError):  # another process was quicker
            partial.rename(kept)
        shutil.rmtree(partial, ignore_errors=True)
    return {
        f"{OUTPUT}/{path.relative_to(kept)}": path.read_bytes() for path in sorted(kept.rglob("*")) if path.is_file()
    }


def _digest_of(family: str, version: str, sources: Mapping[str, str | bytes], entrypoint: str) -> str:
    shim_files = [path for path in (SHIMS_FOLDER / family).rglob("*") if path.is_file()]
    digest = hashlib.sha256(f"{family} {version} {entrypoint}".encode())
    for data in (path.read_bytes() for path in sorted([*shim_files, *(SHIMS_FOLDER / "build").glob("*.py")])):
        digest.update(data)
    for name, content in sorted(sources.items()):
        digest.update(name.encode() + b"\0" + _bytes(content))
    return digest.hexdigest()


def _bytes(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _build(
    family: str,
    interpreter: str,
    sources: Mapping[str, str | bytes],
    entrypoint: str,
    target: Path,
    variables: Mapping[str, str],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(build=f"{folder}/build", home=f"{folder}/home")
        Path(layout.temporary).mkdir(parents=True)
        for name, content in sources.items():
            path = Path(layout.build, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bytes(content))
        command = COMPILERS[family](layout, layout.build, entrypoint, interpreter)
        environment = {
            "PATH": f"{Path(interpreter).parent}:/usr/bin:/bin",
            "HOME": layout.home,
            **language_environment(family, layout, interpreter, {}),
            "GOPROXY": "off",
            "GOCACHE": str(CACHE / "go-build"),
            **variables,
        }
        done = subprocess.run(
            ["bash", "-c", command], cwd=layout.build, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        shutil.copytree(Path(layout.build, OUTPUT), target)
