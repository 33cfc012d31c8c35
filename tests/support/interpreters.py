"""The interpreters of this machine and the packs that `scripts/setup test` keeps in `.cache/packs`."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

from hearth.runtimes.families import BINARY
from hearth.runtimes.host import discover_host_packs
from hearth.runtimes.locations import SHIMS_FOLDER
from hearth.runtimes.packs import Pack
from hearth.runtimes.shelf import Shelf
from hearth.runtimes.shims.build.golang import compile_command, go_environment
from hearth.runtimes.shims.build.layout import Layout

CACHE = Path(__file__).resolve().parents[2] / ".cache"
PACKS = CACHE / "packs"


@cache
def installed_packs() -> tuple[Pack, ...]:
    """Every pack there is, the installed ones first."""
    return tuple(Shelf(PACKS, discover_host_packs()).all())


def pack_of(family: str) -> Pack:
    """The first pack of a family; skips the test that asks if there is none.

    Not one with a system of its own: that runs in a sandbox only, and not every driver of the tests makes sandboxes.
    """
    found = next((pack for pack in installed_packs() if pack.family == family and not pack.root), None)
    if found is None:
        pytest.skip(f"facility: no {family} is installed here (see `scripts/setup test`)")
    return found


def go_program(sources: Mapping[str, str | bytes], entrypoint: str) -> bytes:
    """What a build makes of the sources of a Go function; kept in the cache, because it takes seconds.

    As in a build, but without its sandbox. Nothing is downloaded.
    """
    pack = pack_of("go")
    go = pack.interpreter
    for source, target in pack.mounts:
        if go.startswith(target):
            go = source + go.removeprefix(target)
    shim_files = sorted(path for path in (SHIMS_FOLDER / "go").rglob("*") if path.is_file())
    digest = hashlib.sha256(f"{pack.version} {entrypoint}".encode())
    for data in (path.read_bytes() for path in (*shim_files, SHIMS_FOLDER / "build" / "golang.py")):
        digest.update(data)
    for name, content in sorted(sources.items()):
        digest.update(name.encode() + b"\0" + (content.encode() if isinstance(content, str) else content))
    kept = CACHE / "go-programs" / digest.hexdigest()
    if kept.exists():
        return kept.read_bytes()
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(build=f"{folder}/build", home=f"{folder}/home")
        for name, content in sources.items():
            path = Path(layout.build, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        command = compile_command(layout, layout.build, entrypoint, go)
        environment = {
            "PATH": f"{Path(go).parent}:/usr/bin:/bin",
            "HOME": layout.home,
            **go_environment(layout),
            "GOPROXY": "off",
        }
        environment["GOCACHE"] = str(CACHE / "go-build")
        done = subprocess.run(
            ["bash", "-c", command], cwd=layout.build, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        program = Path(layout.build, BINARY).read_bytes()
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_bytes(program)
    partial.replace(kept)
    return program
