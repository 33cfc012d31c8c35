"""The folder of installed packs, and what of it can run here.

```
<packs>/<id>/pack.json   what is installed           <packs>/<id>/files/   mounted into sandboxes
<packs>/.lock            held by an installation     <packs>/<id>/root/    or the root folder of its sandboxes
<packs>/.in-use          held by running servers     <packs>/.removed/     deleted once no server runs
<packs>/.downloads/      archives, also partial      <packs>/.staging/     packs not finished yet
```

A pack appears and disappears with one rename, so a running server that looks again sees all of it or nothing.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hearth.runtimes.families import family_of, has_shim, shim_command
from hearth.runtimes.packs import Level, Pack, Packs

MANIFEST = "pack.json"
FILES, ROOT = "files", "root"
LOCK, IN_USE = ".lock", ".in-use"
DOWNLOADS, STAGING, REMOVED = ".downloads", ".staging", ".removed"
#: Where the files of a pack are shown in a sandbox: one folder per runtime.
PACKS_INSIDE = "/opt/runtimes"
#: A folder changed within this many seconds may change again without its time stamp telling: it is read anew.
FRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is installed, as written to `pack.json`. `program` is the interpreter of a root, else `""`.

    `digests` are those of the archives it was made of; `size_bytes` is what it takes on the disk.
    """

    id: str
    family: str
    provider: str
    version: str
    level: str
    licence: str
    size_bytes: int
    program: str = ""
    digests: tuple[str, ...] = ()

    def write(self, folder: Path) -> None:
        """Put it into the pack's folder, on the disk before anything is renamed."""
        path = folder / MANIFEST
        with path.open("w", encoding="utf-8") as file:
            json.dump(asdict(self), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        path.chmod(0o644)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a pack's folder, None where there is none that can be understood."""
    try:
        fields: Mapping[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        return Manifest(**{**fields, "digests": tuple(fields.get("digests", ()))})
    except (OSError, ValueError, TypeError):
        return None


def installed(packs: Path) -> list[Manifest]:
    """What is installed in this folder, by id; nothing where there is no such folder."""
    try:
        names = sorted(entry.name for entry in os.scandir(packs) if not entry.name.startswith("."))
    except OSError:
        return []
    found = (read_manifest(packs / name) for name in names)
    return [
        manifest for name, manifest in zip(names, found, strict=True) if manifest is not None and manifest.id == name
    ]


def pack_of(manifest: Manifest, packs: Path) -> Pack | None:
    """The pack to run, None if functions of its language cannot be run by this version."""
    if not has_shim(manifest.family):
        return None
    folder = packs / manifest.id
    mounts: tuple[tuple[str, str], ...] = ()
    certificates = ""
    if manifest.program:
        program, path, root = manifest.program, "/usr/bin", str(folder / ROOT)
        own = family_of(manifest.family).certificates
        if own and (folder / ROOT / own).is_dir():
            # What is at their place inside are the host's certificates, which may lack this form.
            certificates = f"{PACKS_INSIDE}/{manifest.id}/certificates"
            mounts = ((str(folder / ROOT / own), certificates),)
    else:
        prefix = f"{PACKS_INSIDE}/{manifest.id}"
        program, path, root = f"{prefix}/bin/{manifest.family}", f"{prefix}/bin", ""
        mounts = ((str(folder / FILES), prefix),)
    return Pack(
        id=manifest.id,
        family=manifest.family,
        version=manifest.version,
        level=Level(manifest.level),
        provider=manifest.provider,
        interpreter=program,
        shim=shim_command(manifest.family, program, certificates),
        path=(path,),
        mounts=mounts,
        root=root,
    )


class Shelf:
    """Implements `hearth.runtimes.packs.Packs`: the packs of a folder as it is now, then those of `host`.

    A pack that was installed on purpose goes before an interpreter that happens to be there. `folder` is absolute.
    """

    def __init__(self, folder: Path, host: Packs) -> None:
        self._folder = folder
        self._host = host
        self._seen: tuple[int, int] | None = None
        self._packs: dict[str, Pack] = {}

    def get(self, id: str) -> Pack | None:
        """The pack that serves runtime `id` here, or None. Looks at the folder's time stamp only, unless it changed."""
        self._refresh()
        return self._packs.get(id)

    def all(self) -> Sequence[Pack]:
        """Every pack, those of the folder first."""
        self._refresh()
        return tuple(self._packs.values())

    def _refresh(self) -> None:
        try:
            status = self._folder.stat()
            seen = (status.st_ino, status.st_mtime_ns)
            is_fresh = abs(time.time() - status.st_mtime) < FRESH_S
        except OSError:
            seen, is_fresh = (0, 0), False
        if seen == self._seen:
            return
        found = [pack for manifest in installed(self._folder) if (pack := pack_of(manifest, self._folder)) is not None]
        packs = {pack.id: pack for pack in found}
        for pack in self._host.all():
            packs.setdefault(pack.id, pack)
        self._packs = packs
        self._seen = None if is_fresh else seen


def prepare_folder(packs: Path) -> None:
    """Make the folder of packs if it is missing, readable by everybody. Raises OSError."""
    packs.mkdir(mode=0o755, parents=True, exist_ok=True)
    with contextlib.suppress(PermissionError):  # one of root's, used by an ordinary user
        packs.chmod(0o755)
        (packs / IN_USE).touch(0o644)


def mark_in_use(packs: Path) -> int:
    """For a server: keep what is removed from now on until it ends. Returns the descriptor to hold. Raises OSError."""
    descriptor = os.open(packs / IN_USE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextlib.contextmanager
def alone(packs: Path) -> Iterator[bool]:
    """Whether no server uses the folder, and none can begin to while the body runs."""
    descriptor = os.open(packs / IN_USE, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
