"""The interpreters of this machine and the packs that `scripts/setup test` keeps in `.cache/packs`."""

import contextlib
import hashlib
import os
import re
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


def any_pack_of(family: str) -> Pack:
    """The same for what makes sandboxes: if there is no other, also one with a system of its own."""
    found = [pack for pack in installed_packs() if pack.family == family]
    return min(found, key=_rank) if found else pack_of(family)


def _rank(pack: Pack) -> tuple[bool, bool, list[int]]:
    """What is on the machine goes first, then the newest: what another test installs meanwhile changes nothing."""
    version = [-int(number) for number in re.findall(r"\d+", pack.version)]
    return bool(pack.root), pack.provider != "host", version


@cache
def _host_packs() -> tuple[Pack, ...]:
    """The interpreters of this machine, also where a pack is installed that goes before them."""
    return tuple(discover_host_packs().all())


def pack_of(family: str, *more: Pack) -> Pack:
    """The pack of a family that goes first by `_rank`, of the installed ones and `more`; skips the test if none is.

    Not one with a system of its own: that runs in a sandbox only, and not every driver of the tests makes sandboxes.
    """
    found = [pack for pack in (*installed_packs(), *more) if pack.family == family and not pack.root]
    if not found:
        pytest.skip(f"facility: no {family} is installed here (see `scripts/setup test`)")
    return min(found, key=_rank)


def built(
    family: str, sources: Mapping[str, str | bytes], entrypoint: str, wanted: Pack | None = None
) -> dict[str, bytes]:
    """The files that a build adds to the sources of a function; kept in the cache, because it takes seconds.

    As in a build, but without its sandbox; with a system of its own, in that. Nothing is downloaded. `wanted` is the
    pack they are for (default: the first one that needs no system of its own).
    """
    pack = pack_of(family, *_host_packs()) if wanted is None else wanted
    interpreter = pack.interpreter
    for source, target in pack.mounts:
        if interpreter.startswith(target):
            interpreter = source + interpreter.removeprefix(target)
    kept = CACHE / "built" / _digest_of(family, f"{pack.id} {pack.version}", sources, entrypoint)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(f".{os.getpid()}")
        _build(pack, interpreter, sources, entrypoint, partial)
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
    pack: Pack,
    interpreter: str,
    sources: Mapping[str, str | bytes],
    entrypoint: str,
    target: Path,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout(build=f"{folder}/build", home=f"{folder}/home")
        Path(layout.temporary).mkdir(parents=True)
        for name, content in sources.items():
            path = Path(layout.build, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bytes(content))
        if pack.root:
            command = [*_inside(pack.root, folder), "python3", "-I", "-c", _BUILD_INSIDE]
            command += [str(SHIMS_FOLDER), pack.family, layout.build, layout.home, entrypoint, interpreter, pack.id]
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        else:
            command = ["bash", "-c", COMPILERS[pack.family](layout, layout.build, entrypoint, interpreter, pack.id)]
            environment = {
                "PATH": f"{Path(interpreter).parent}:/usr/bin:/bin",
                "HOME": layout.home,
                **language_environment(pack.family, layout, interpreter, {}),
                "GOPROXY": "off",
                "GOCACHE": str(CACHE / "go-build"),
            }
        done = subprocess.run(command, cwd=layout.build, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        shutil.copytree(Path(layout.build, OUTPUT), target)


#: The same inside a root; its arguments are those of the list above.
_BUILD_INSIDE = """
import os, sys
shims, family, build, home, entrypoint, interpreter, runtime = sys.argv[1:]
sys.path.insert(0, shims)
from build.languages import COMPILERS, language_environment
from build.layout import Layout
layout = Layout(build=build, home=home)
os.chdir(build)
os.environ.update({"HOME": home, **language_environment(family, layout, interpreter, {})})
os.execvp("bash", ["bash", "-c", COMPILERS[family](layout, build, entrypoint, interpreter, runtime)])
"""
#: Shows the folders of a root ($1), of the work ($2) and of the shims ($3) in an empty one, in a place that only this
#: process and its children see, and runs the rest there.
_ENTER = """
set -e
top="$2/root"; mkdir "$top"
mount -t tmpfs none "$top"
for path in "$1"/*; do
  name=$(basename "$path")
  if [ -L "$path" ]; then cp -P "$path" "$top/$name"; else mkdir "$top/$name"; mount --bind "$path" "$top/$name"; fi
done
mkdir -p "$top/proc" "$top/dev" "$top/tmp" "$top$2" "$top$3"
mount --rbind /proc "$top/proc"; mount --rbind /dev "$top/dev"
mount --bind "$2" "$top$2"; mount --bind "$3" "$top$3"
shift 3
exec chroot "$top" "$@"
"""


def _inside(root: str, folder: str) -> list[str]:
    """What to put before a command so that it runs in the system of a pack and sees a folder; for root only."""
    return ["unshare", "--mount", "bash", "-c", _ENTER, "enter", root, folder, str(SHIMS_FOLDER)]
