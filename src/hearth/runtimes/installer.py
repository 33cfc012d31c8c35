"""Installs, fetches and removes packs: staged, verified, and then there with one rename.

One installation at a time works in a folder of packs; another waits for it and finds what it has installed.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hearth.runtimes import debian
from hearth.runtimes.downloads import DownloadFailed, Sources, fetch
from hearth.runtimes.pack_table import Archive, PackEntry, PackTable
from hearth.runtimes.prebuilt import prebuild
from hearth.runtimes.shelf import (
    DOWNLOADS,
    FILES,
    LOCK,
    REMOVED,
    ROOT,
    STAGING,
    Manifest,
    alone,
    installed,
    prepare_folder,
)
from hearth.runtimes.unpack import ArchiveRefused, unpack_archive, unpack_root

#: Unpacked files are about this many times their archive (measured: 2.3 to 4.1), and lie beside it for a moment.
SPACE_FACTOR = 5
#: How long to wait for another installation, s.
LOCK_WAIT_S = 3_600.0
_LOCK_LOOK_S = 0.2
#: The top folders of a root that sandboxes are shown parts of. Everything else of a suite stays out.
ROOT_FOLDERS = ("usr", "etc", "lib", "lib64", "bin", "sbin")


class InstallFailed(Exception):
    """A pack could not be installed; the text says why and what to do. What was installed before is untouched."""


@dataclass(frozen=True, slots=True)
class Reporter:
    """Hears how an installation goes on: a line for people, and bytes of a file (name, done, of all)."""

    say: Callable[[str], None] = lambda _: None
    bytes: Callable[[str, int, int], None] = lambda _name, _done, _all: None


def needed(entries: Iterable[PackEntry], present: Iterable[Manifest], *, force: bool = False) -> list[PackEntry]:
    """Of these packs the ones to install: not there yet, or there in another version. A decision without I/O.

    The version of what a suite has is known after it is made only: any that is there counts, unless `force`.
    """
    have = {manifest.id: manifest for manifest in present}
    return [
        entry
        for entry in entries
        if force or entry.id not in have or (not entry.is_suite_version and not _has_archives(have[entry.id], entry))
    ]


def _has_archives(manifest: Manifest, entry: PackEntry) -> bool:
    """Whether a pack was made of the archives there are now; before them is the digest of its root, if it has one."""
    wanted = tuple(str(part.digest) for part in entry.archives)
    return manifest.digests[1 if entry.debian else 0 :] == wanted


def install(
    ids: Sequence[str],
    packs: Path,
    table: PackTable,
    sources: Sources,
    reporter: Reporter | None = None,
    *,
    force: bool = False,
) -> list[Manifest]:
    """Install the packs of these runtimes into the folder `packs`; returns what was installed now.

    Blocks, for minutes if need be; interrupted, it leaves no half pack, and called again it continues downloads.
    Raises PackUnknown, InstallFailed.
    """
    tell = reporter or Reporter()
    entries = table.require(ids)
    try:
        prepare_folder(packs)
        with _locked(packs, tell):
            _clean(packs)
            todo = needed(entries, installed(packs), force=force)
            _require_space(packs, todo)
            done = [_install(entry, packs, table.machine, sources, tell) for entry in todo]
            _delete_removed(packs)
            return done
    except OSError as error:
        raise InstallFailed(_os_problem(packs, error)) from error


def fetch_archives(ids: Sequence[str], folder: Path, table: PackTable, sources: Sources, reporter: Reporter) -> None:
    """Put the archives of these packs into `folder`, for `install` on a machine without network (`Sources.mirror`).

    Raises PackUnknown, InstallFailed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry in table.require(ids):
            for archive in entry.archives:
                _fetch(archive, sources, folder, reporter)
            if entry.debian:
                path = _fetch_root(entry, table.machine, sources, folder, reporter)
                Path(f"{path}.sha256").write_text(f"{_sha256(path)}  {path.name}\n", "utf-8")
    except DownloadFailed as error:
        raise InstallFailed(str(error)) from error
    except OSError as error:
        raise InstallFailed(_os_problem(folder, error)) from error


def remove(ids: Sequence[str], packs: Path) -> tuple[list[str], bool]:
    """Remove installed packs. Returns their ids, and whether their space is free already.

    A running server offers them no more from now on; what runs of them goes on, and the next start of a server, or
    the next command once none runs, frees the space. Raises InstallFailed.
    """
    present = {manifest.id for manifest in installed(packs)}
    missing = [id for id in ids if id not in present]
    if missing:
        there = ", ".join(sorted(present)) or "none"
        raise InstallFailed(f"Not installed as a pack: {', '.join(missing)}. Installed are: {there}.")
    try:
        with _locked(packs, Reporter()):
            for id in ids:
                _put_away(packs, id)
            return list(ids), _delete_removed(packs)
    except OSError as error:
        raise InstallFailed(_os_problem(packs, error)) from error


def sweep(packs: Path) -> None:
    """Free the space of removed packs unless a server runs. For the start of one, before it marks the folder."""
    if not (packs / REMOVED).is_dir():
        return
    with contextlib.suppress(OSError):
        _delete_removed(packs)


# ---------------------------------------------------------------------------------------------- steps


def _install(entry: PackEntry, packs: Path, machine: str, sources: Sources, tell: Reporter) -> Manifest:
    downloads = packs / DOWNLOADS
    downloads.mkdir(mode=0o755, exist_ok=True)
    stage = packs / STAGING / f"{entry.id}-{secrets.token_hex(4)}"
    stage.mkdir(parents=True, mode=0o755)
    try:
        if entry.debian:
            manifest, used = _stage_root(entry, machine, sources, downloads, stage, tell)
        else:
            manifest, used = _stage_files(entry, sources, downloads, stage, tell)
        manifest.write(stage)
        if (packs / entry.id).exists():
            _put_away(packs, entry.id)
        stage.chmod(0o755)
        stage.rename(packs / entry.id)
    except (ArchiveRefused, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise InstallFailed(f"The pack {entry.id} cannot be unpacked: {error}.") from error
    except DownloadFailed as error:
        raise InstallFailed(f"{entry.id}: {error}") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    for path in used:
        path.unlink(missing_ok=True)
    tell.say(f"{entry.id}: {manifest.version} installed, {manifest.size_bytes / 1e6:.0f} MB")
    return manifest


def _stage_files(
    entry: PackEntry, sources: Sources, downloads: Path, stage: Path, tell: Reporter
) -> tuple[Manifest, list[Path]]:
    used = [_fetch(archive, sources, downloads, tell) for archive in entry.archives]
    files = stage / FILES
    files.mkdir(mode=0o755)
    size = 0
    for archive, path in zip(entry.archives, used, strict=True):
        size += unpack_archive(path, files, archive.take, archive.into)
    program = files / "bin" / entry.family
    if not program.is_file():
        raise InstallFailed(f"{used[0].name} holds no {program.name}: the table of packs is wrong. Tell its authors.")
    program.chmod(0o755)  # some packages leave that to a script that npm would run
    if entry.family == "go":
        tell.say(f"{entry.id}: compiling the standard library, so that builds of functions need not")
        size += prebuild(files)
    digests = tuple(str(archive.digest) for archive in entry.archives)
    return _manifest(entry, entry.version, size, "", digests), used


def _stage_root(
    entry: PackEntry, machine: str, sources: Sources, downloads: Path, stage: Path, tell: Reporter
) -> tuple[Manifest, list[Path]]:
    assert entry.debian is not None  # noqa: S101 - asked by the caller
    path = _fetch_root(entry, machine, sources, downloads, tell)
    version = debian.package_version(path, entry.debian.version_of) if entry.is_suite_version else entry.version
    root = stage / ROOT
    root.mkdir(mode=0o755)
    size = unpack_root(path, root, ROOT_FOLDERS)
    used = [_fetch(archive, sources, downloads, tell) for archive in entry.archives]
    for archive, archive_path in zip(entry.archives, used, strict=True):
        size += unpack_archive(archive_path, root, archive.take, archive.into)
    if not (root / entry.debian.program.lstrip("/")).exists():
        raise InstallFailed(f"{path.name} holds no {entry.debian.program}: the suite has another version now.")
    digests = (f"sha256:{_sha256(path)}", *(str(archive.digest) for archive in entry.archives))
    return _manifest(entry, version, size, entry.debian.program, digests), [path, *used]


def _manifest(entry: PackEntry, version: str, size_bytes: int, program: str, digests: tuple[str, ...]) -> Manifest:
    level = str(entry.level)
    return Manifest(entry.id, entry.family, entry.provider, version, level, entry.licence, size_bytes, program, digests)


def _fetch(archive: Archive, sources: Sources, folder: Path, tell: Reporter) -> Path:
    def progress(done: int) -> None:
        tell.bytes(archive.file, done, archive.size_bytes)

    try:
        return fetch(archive, sources, folder, progress)
    except DownloadFailed as error:
        raise InstallFailed(str(error)) from error


def root_file(entry: PackEntry, machine: str) -> str:
    """The name of a root's archive in a mirror folder."""
    return f"debian-{entry.id}-{machine}.tar"


def _fetch_root(entry: PackEntry, machine: str, sources: Sources, folder: Path, tell: Reporter) -> Path:
    assert entry.debian is not None  # noqa: S101 - asked by the caller
    path = folder / root_file(entry, machine)
    if sources.mirror is None:
        debian.make_root(entry.debian, machine, path, lambda line: tell.say(f"{entry.id}: {line}"))
        return path
    source = sources.mirror / path.name
    stated = Path(f"{source}.sha256")
    if not source.is_file() or not stated.is_file():
        raise DownloadFailed(
            f"{source.name} and {stated.name} are not both in the folder {sources.mirror}. "
            f"On a machine with a network: `hearth runtimes fetch --to FOLDER {entry.id}`, then bring the folder here."
        )
    shutil.copyfile(source, path)
    if _sha256(path) != stated.read_text("utf-8").split(" ")[0].strip():
        path.unlink()
        raise DownloadFailed(f"{source} is damaged: it is not the file with the digest in {stated.name}.")
    return path


def _put_away(packs: Path, id: str) -> None:
    (packs / REMOVED).mkdir(mode=0o755, exist_ok=True)
    (packs / id).rename(packs / REMOVED / f"{id}-{secrets.token_hex(4)}")


def _delete_removed(packs: Path) -> bool:
    """Delete what was removed if no server can be using it; returns whether nothing is left."""
    if not (packs / REMOVED).exists():
        return True
    with alone(packs) as is_alone:
        if is_alone:
            shutil.rmtree(packs / REMOVED)
        return is_alone


def _clean(packs: Path) -> None:
    """Delete the stages of installations that were killed. Called with the lock."""
    shutil.rmtree(packs / STAGING, ignore_errors=True)


def _require_space(packs: Path, entries: Sequence[PackEntry]) -> None:
    size = sum(entry.size_bytes * (2 if entry.debian else SPACE_FACTOR) for entry in entries)
    free = shutil.disk_usage(packs).free
    if free < size:
        raise InstallFailed(
            f"{', '.join(entry.id for entry in entries)} may need {size / 1e6:.0f} MB and {packs} has "
            f"{free / 1e6:.0f} MB left. Make room, or install fewer at a time."
        )


@contextlib.contextmanager
def _locked(packs: Path, tell: Reporter) -> Iterator[None]:
    """Hold the lock of a folder of packs, waiting for whoever has it. Raises InstallFailed, OSError."""
    descriptor = os.open(packs / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + LOCK_WAIT_S
        is_told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not is_told:
                    tell.say(f"Another installation works in {packs}: waiting for it.")
                    is_told = True
                if time.monotonic() > deadline:
                    raise InstallFailed(f"Another installation has worked in {packs} for too long.") from None
                time.sleep(_LOCK_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _os_problem(folder: Path, error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"{folder} cannot be written ({error.strerror}): run the command as the user who starts the server."
    return f"{folder}: {error.strerror or error}"


__all__ = ["InstallFailed", "Reporter", "fetch_archives", "install", "needed", "remove", "sweep"]
