"""Unpacks the archives of packs. They are verified before, and nothing in them can write outside of the target all
the same: a root of a suite is unpacked by root.
"""

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

#: What one pack may take unpacked, in bytes and in files: far above the largest there is.
UNPACKED_BYTES_MAX = 4 * 1024**3
UNPACKED_FILES_MAX = 500_000


class ArchiveRefused(Exception):
    """An archive holds what no pack may hold; the text names it."""


class _Target:
    """A folder that is being filled; every path is checked against it."""

    def __init__(self, folder: Path) -> None:
        self._top = os.path.realpath(folder)
        self.bytes = 0
        self._files = 0
        self._checked: set[str] = set()

    def path(self, name: PurePosixPath) -> str:
        """The host path for a name, its parent made. Raises ArchiveRefused if it is not below the target."""
        if name.is_absolute() or ".." in name.parts:
            raise ArchiveRefused(f"the name {name} leads out of the pack")
        parent = os.path.join(self._top, *name.parts[:-1])
        if parent not in self._checked:
            os.makedirs(parent, 0o755, exist_ok=True)
            real = os.path.realpath(parent)
            if real != self._top and not real.startswith(self._top + os.sep):
                raise ArchiveRefused(f"a link leads {name} out of the pack")
            self._checked.add(parent)
        return os.path.join(parent, name.name)

    def count(self, size_bytes: int) -> None:
        self.bytes += size_bytes
        self._files += 1
        if self.bytes > UNPACKED_BYTES_MAX or self._files > UNPACKED_FILES_MAX:
            raise ArchiveRefused(
                f"more than {UNPACKED_BYTES_MAX} bytes (unpacked_bytes_max) or {UNPACKED_FILES_MAX} files"
            )

    def folder(self, name: PurePosixPath) -> None:
        path = self.path(name)
        if not os.path.isdir(path):
            _clear(path)
            os.mkdir(path)
        os.chmod(path, 0o755)  # noqa: S103 - sandboxes, which are other users, read it

    def file(self, name: PurePosixPath, source: IO[bytes], size_bytes: int, is_program: bool) -> None:
        self.count(size_bytes)
        path = self.path(name)
        _clear(path)
        with open(path, "xb") as file:
            shutil.copyfileobj(source, file, 1024 * 1024)
        os.chmod(path, 0o755 if is_program else 0o644)

    def link(self, name: PurePosixPath, target: str) -> None:
        self.count(0)
        path = self.path(name)
        _clear(path)
        os.symlink(target, path)
        self._checked.clear()

    def hard_link(self, name: PurePosixPath, target: PurePosixPath) -> None:
        self.count(0)
        source, path = self.path(target), self.path(name)
        if os.path.islink(source) or not os.path.isfile(source):
            raise ArchiveRefused(f"{name} is a link to {target}, which is no file of the pack")
        _clear(path)
        os.link(source, path)


def _clear(path: str) -> None:
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
        os.unlink(path)


def unpack_archive(archive: Path, folder: Path, take: str = "", into: str = "") -> int:
    """Unpack what is below `take` in a `.tgz` or wheel into `folder`/`into`; returns the bytes written.

    Files, folders and links inside of the pack only. Raises ArchiveRefused, tarfile.TarError or
    zipfile.BadZipFile, and OSError.
    """
    target = _Target(folder)
    place = _placing(take, into)
    if archive.name.endswith((".whl", ".zip")):
        _unpack_zip(archive, target, place)
    else:
        _unpack_tar(archive, target, place, absolute_links=False)
    return target.bytes


def unpack_root(archive: Path, folder: Path, keep: Sequence[str]) -> int:
    """Unpack the top folders `keep`, and links at the top, of a root's tar into `folder`; returns the bytes written.

    Links may be absolute, as they are meant inside of the root. Devices are left out. Raises as `unpack_archive`.
    """
    target = _Target(folder)

    def place(name: PurePosixPath) -> PurePosixPath | None:
        return name if name.parts and (len(name.parts) == 1 or name.parts[0] in keep) else None

    _unpack_tar(archive, target, place, absolute_links=True, folders=keep)
    return target.bytes


Place = Callable[[PurePosixPath], PurePosixPath | None]


def _placing(take: str, into: str) -> Place:
    taken = PurePosixPath(take).parts

    def place(name: PurePosixPath) -> PurePosixPath | None:
        if name.parts[: len(taken)] != taken or len(name.parts) == len(taken):
            return None
        return PurePosixPath(into, *name.parts[len(taken) :])

    return place


def _unpack_tar(
    archive: Path, target: _Target, place: Place, *, absolute_links: bool, folders: Sequence[str] | None = None
) -> None:
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            name = place(PurePosixPath(member.name))
            if name is None or (
                folders is not None and len(name.parts) == 1 and not member.issym() and name.name not in folders
            ):
                continue
            if member.isdir():
                target.folder(name)
            elif member.isreg():
                source = tar.extractfile(member)
                assert source is not None  # noqa: S101 - a regular file has content
                target.file(name, source, member.size, bool(member.mode & stat.S_IXUSR))
            elif member.issym():
                if not absolute_links:
                    _check_link(name, member.linkname)
                target.link(name, member.linkname)
            elif member.islnk():
                linked = place(PurePosixPath(member.linkname))
                if linked is None:
                    raise ArchiveRefused(f"{member.name} is a link to {member.linkname}, which is no part of the pack")
                target.hard_link(name, linked)
            elif not absolute_links:
                raise ArchiveRefused(f"{member.name} is neither a file nor a folder nor a link")


def _unpack_zip(archive: Path, target: _Target, place: Place) -> None:
    with zipfile.ZipFile(archive) as file:
        for item in file.infolist():
            name = place(PurePosixPath(item.filename))
            if name is None:
                continue
            mode = item.external_attr >> 16
            if item.is_dir():
                target.folder(name)
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                with file.open(item) as source:
                    target.file(name, source, item.file_size, bool(mode & stat.S_IXUSR))
            else:
                raise ArchiveRefused(f"{item.filename} is neither a file nor a folder")


def _check_link(name: PurePosixPath, target: str) -> None:
    depth = len(name.parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or part == "/":
            raise ArchiveRefused(f"the link {name} leads out of the pack, to {target}")
