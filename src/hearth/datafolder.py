"""The data folder: made, owned and locked by one server at a time.

```
hearth.db        the database (SQLite)            keys/           the installation's secrets, 0600
credentials.json what the first start made        files/          sources and artifacts of deployments
cache/code/      unpacked code, may be deleted     work/           folders of running builds
lock             held by the running server       intents.log     executions that are running
packs/           installed runtimes, the installer's (unless `packs_dir` says otherwise)
backup-*         a backup being written            backup.lock     held by `hearth backup`
restoring/       a restore being made              replaced-*      what a restore took the place of
```
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


class FolderRefused(Exception):
    """The data folder cannot be used; the message says why and what to do."""


class DataFolder:
    """Holds the lock of one data folder for the life of the process (the kernel frees it, however that ends)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def open(self, uid: int, gid: int) -> None:
        """Make the folder if need be, give it to `uid` and `gid`, and lock it. Raises FolderRefused."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            self._give_to(uid, gid)
        except OSError as error:
            raise FolderRefused(f"The data folder {self.path} cannot be used: {error.strerror}.") from error

    def _take_lock(self) -> None:
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self._lock, 32).decode("ascii", "replace").strip() or "unknown"
            raise FolderRefused(
                f"Another hearth server (pid {pid}) uses the data folder {self.path}. "
                "Stop it, or choose another --data-dir."
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _give_to(self, uid: int, gid: int) -> None:
        """Change owners when the server is to run as another user than last time (only root can)."""
        if os.geteuid() != 0 or self.path.stat().st_uid == uid:
            os.chown(self.path / "lock", uid, gid)
            return
        former = self.path.stat().st_uid
        for folder, names, files in os.walk(self.path):
            if Path(folder) == self.path and "packs" in names:
                names.remove("packs")  # belongs to whoever installed it: sandboxes have their root folders from there
            for name in [*names, *files]:
                entry = Path(folder, name)
                with suppress(FileNotFoundError):
                    # Folders that sandboxes wrote belong to uids of their own range and stay theirs.
                    if entry.lstat().st_uid in (former, 0):
                        os.lchown(entry, uid, gid)
        os.chown(self.path, uid, gid)
