"""Restores what an earlier build installed, and packs what this one did, inside the build's sandbox.

An entry is a tar file that the server gives and takes; the server knows which entry belongs to which build and that
its bytes are whole. Times are kept: package managers and Python's bytecode compare them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field

from .disk import TooMuch
from .installs import home_caches, install_folders
from .layout import Layout

#: In the home folder of an entry: the install commands were all that had to be done.
_COMPLETE = ".hearth-installed"
#: Files and folders a source may hold for its build to be looked at so closely.
_LISTED_MAX = 50_000
_BLOCK_BYTES = 512  # of a tar file


@dataclass
class Installs:
    """The state of one build: `folders` (relative to the build area) are those that installs may write."""

    layout: Layout
    folders: list[str]
    restored_bytes: int = 0
    complete: bool = False
    """Whether what was restored is all that a command that only installs would do."""
    _before: dict[str, tuple[int, int]] = field(default_factory=dict)

    def note(self) -> None:
        """Remember the source as it is, to find out later whether the commands changed anything of it."""
        self._before = self._listing()

    def is_source_untouched(self) -> bool:
        """Whether the commands wrote nothing but what they installed."""
        return 0 < len(self._before) <= _LISTED_MAX and self._listing() == self._before

    def _listing(self) -> dict[str, tuple[int, int]]:
        own = {os.path.join(self.layout.build, name) for name in self.folders}
        listing: dict[str, tuple[int, int]] = {}
        folders = [self.layout.build]
        while folders and len(listing) <= _LISTED_MAX:
            with os.scandir(folders.pop()) as items:
                for item in items:
                    if item.path in own:
                        continue
                    if item.is_dir(follow_symlinks=False):
                        folders.append(item.path)
                        listing[item.path] = (-1, -1)
                    else:
                        status = item.stat(follow_symlinks=False)
                        listing[item.path] = (status.st_size, status.st_mtime_ns)
        return listing


def begin(layout: Layout, family: str, entry: int | None) -> Installs:
    """Look at the source and unpack `entry` (an open descriptor), if any. Where that fails, nothing is restored."""
    installs = Installs(layout, install_folders(layout, family))
    if entry is None:
        return installs
    size = os.fstat(entry).st_size
    done = _tar(["-x", "-p", "--no-same-owner", "-f", "-", "-C", os.path.dirname(layout.build)], stdin=entry)
    mark = os.path.join(layout.home, _COMPLETE)
    if done:
        installs.restored_bytes = size
        installs.complete = os.path.exists(mark)
    else:
        forget(installs)
    if os.path.lexists(mark):
        os.unlink(mark)
    return installs


def forget(installs: Installs) -> None:
    """Remove everything that may have been restored."""
    layout = installs.layout
    paths = [os.path.join(layout.build, name) for name in installs.folders]
    paths += [os.path.join(layout.home, name) for name in home_caches(layout)]
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
    installs.restored_bytes, installs.complete = 0, False


def keep(installs: Installs, entry: int, limit_bytes: int, *, complete: bool) -> int:
    """Pack what was installed into the descriptor `entry`; returns its size in bytes, 0 if there is nothing to keep.

    With `complete`, the caches of package managers are left out, since nothing will ask for them. Raises
    `disk.TooMuch` if it is more than `limit_bytes`.
    """
    layout = installs.layout
    folders = [name for name in installs.folders if _is_filled(os.path.join(layout.build, name))]
    caches = [] if complete and folders else home_caches(layout)
    paths = [os.path.join(layout.build, name) for name in folders]
    paths += [os.path.join(layout.home, name) for name in caches]
    if not paths:
        return 0
    if complete and folders:
        paths.append(os.path.join(layout.home, _COMPLETE))
        with open(paths[-1], "w", encoding="utf-8"):
            pass
    _check_size(paths, limit_bytes)
    parent = os.path.dirname(layout.build)
    names = [os.path.relpath(path, parent) for path in paths]
    if not _tar(["-c", "--format=gnu", "-f", "-", "-C", parent, "--", *names], stdout=entry):
        return 0
    return os.fstat(entry).st_size


def _check_size(paths: list[str], limit_bytes: int) -> None:
    """Raise TooMuch if a tar file of `paths` would be larger; what else is on their disk does not count."""
    size = 0
    seen: set[tuple[int, int]] = set()
    folders = [path for path in paths if os.path.isdir(path)]
    while folders:
        with os.scandir(folders.pop()) as items:
            for item in items:
                size += _BLOCK_BYTES
                if item.is_dir(follow_symlinks=False):
                    folders.append(item.path)
                    continue
                status = item.stat(follow_symlinks=False)
                if (status.st_dev, status.st_ino) not in seen:
                    size += -(-status.st_size // _BLOCK_BYTES) * _BLOCK_BYTES
                if status.st_nlink > 1:
                    seen.add((status.st_dev, status.st_ino))
        if size > limit_bytes:
            raise TooMuch(f"the largest entry, {limit_bytes:,} bytes")


def _is_filled(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path) and bool(os.listdir(path))


def _tar(arguments: list[str], stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL) -> bool:
    """Run tar; whether it succeeded. What it says is for nobody: a build goes on without its cache."""
    program = shutil.which("tar", path="/usr/bin:/bin")
    if program is None:
        return False
    done = subprocess.run([program, *arguments], stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0
