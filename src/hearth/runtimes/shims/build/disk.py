"""How much disk a build holds, and a watcher that acts when it is too much.

Measured from inside, where every file is ours to look at. Counts what is on disk, not what files claim (sparse
files), each hard-linked file once, and files that are deleted but still open.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Sequence

#: Files and folders a build may hold, its caches included; each takes an inode of the server's disk.
MAX_ENTRIES = 500_000
#: A look takes at most this part of the time, so that a tree of many files does not cost the build its processor.
_DUTY = 0.1
_ROOM_BYTES = 256 * 1024
_SHORTEST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


class TooMuch(Exception):
    """The look was ended because the limit is exceeded; the text says by what."""


def measure(folders: Sequence[str], limit_bytes: int) -> int:
    """Bytes on disk below `folders` and in deleted files still open; raises TooMuch as soon as a limit is exceeded.

    A disk of the build's own that is full counts as exceeded: what was written last is not whole.
    """
    if is_full(folders, limit_bytes):
        raise TooMuch(disk_limit(limit_bytes))
    used = 0
    entries = 0
    seen: set[tuple[int, int]] = set()
    open_folders = list(folders)
    while open_folders:
        folder = open_folders.pop()
        for item in _scan(folder):
            try:
                status = item.stat(follow_symlinks=False)
            except OSError:
                continue  # gone meanwhile
            entries += 1
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            used += status.st_blocks * 512
            if stat.S_ISDIR(status.st_mode):
                open_folders.append(item.path)
            _judge(used, entries, limit_bytes)
    used += _deleted_but_open(folders)
    _judge(used, entries, limit_bytes)
    return used


def is_full(folders: Sequence[str], limit_bytes: int) -> bool:
    """Whether one of the folders is on a disk of the build's own (no larger than its limit) that has no room left."""
    for folder in folders:
        try:
            status = os.statvfs(folder)
        except OSError:
            continue
        if status.f_blocks * status.f_frsize > limit_bytes:
            continue
        if status.f_bavail * status.f_frsize < _ROOM_BYTES or status.f_favail == 0:
            return True
    return False


def disk_limit(limit_bytes: int) -> str:
    """The limit on bytes, as messages name it."""
    return f"its limit of {limit_bytes // (1024 * 1024)} MB of disk space"


def _judge(used: int, entries: int, limit_bytes: int) -> None:
    if used > limit_bytes:
        raise TooMuch(disk_limit(limit_bytes))
    if entries > MAX_ENTRIES:
        raise TooMuch(f"its limit of {MAX_ENTRIES:,} files and folders")


def _scan(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder. One that was closed to hide something is opened: it belongs to the build's own user."""
    for attempt in (1, 2):
        try:
            with os.scandir(folder) as items:
                return list(items)
        except PermissionError:
            if attempt == 2:
                return []
            try:
                os.chmod(folder, 0o700)
            except OSError:
                return []
        except OSError:
            return []
    return []


def _deleted_but_open(folders: Sequence[str]) -> int:
    """Bytes on disk of files of these folders' file systems that have no name any more but are open somewhere."""
    devices = set()
    for folder in folders:
        try:
            devices.add(os.stat(folder).st_dev)
        except OSError:
            continue
    found: dict[tuple[int, int], int] = {}
    for pid in os.listdir("/proc"):
        if not pid.isdigit():
            continue
        try:
            with os.scandir(f"/proc/{pid}/fd") as descriptors:
                for descriptor in descriptors:
                    try:
                        status = descriptor.stat()
                    except OSError:
                        continue
                    if status.st_nlink == 0 and status.st_dev in devices and stat.S_ISREG(status.st_mode):
                        found[(status.st_dev, status.st_ino)] = status.st_blocks * 512
        except OSError:
            continue  # ended meanwhile
    return sum(found.values())


class Watcher:
    """Measures in a thread of its own until stopped; calls `on_excess` once, with what was exceeded."""

    def __init__(self, folders: Sequence[str], limit_bytes: int, on_excess: Callable[[str], None]) -> None:
        self._folders = folders
        self._limit = limit_bytes
        self._on_excess = on_excess
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="disk", daemon=True)

    def start(self) -> None:
        """Begin to look, at once and then again and again."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when no look is under way any more."""
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        wait = 0.0
        while not self._stopped.wait(wait):
            began = time.monotonic()
            try:
                measure(self._folders, self._limit)
            except TooMuch as excess:
                self._on_excess(str(excess))
                return
            took = time.monotonic() - began
            wait = min(max(took / _DUTY, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
