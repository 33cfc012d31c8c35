"""Careful work on folder trees that untrusted code wrote: give them to another uid, delete them (spawner side).

Everything goes by descriptors from a folder already opened, follows no link, and is bounded in depth and open
descriptors whatever the tree looks like.
"""

import contextlib
import os
import stat

DEPTH_MAX = 256
"""Deepest tree that is handed over; deeper ones are refused."""
DELETE_DEPTH = 32
"""While deleting, folders deeper than this are first moved up, so that depth costs no descriptors."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeTooDeep(OSError):
    """A tree has more levels than DEPTH_MAX."""


def give(folder: str, uid: int, server_uid: int, uid_range: range) -> None:
    """Make the tree at `folder` belong to `uid` (and the group of the same number).

    Only what is the server's or another sandbox's is handed over; anything else raises PermissionError, so that the
    API process cannot use this to get at files of the host. Raises TreeTooDeep.
    """

    def hand_over(name: str, folder_fd: int | None) -> os.stat_result:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        if status.st_uid != uid or status.st_gid != uid:
            if status.st_uid != server_uid and status.st_uid not in uid_range:
                raise PermissionError(f"holds files of uid {status.st_uid}")
            os.chown(name, uid, uid, dir_fd=folder_fd, follow_symlinks=False)
        return status

    def descend(folder_fd: int, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise TreeTooDeep(f"more than {DEPTH_MAX} levels of folders")
        for name in os.listdir(folder_fd):
            if stat.S_ISDIR(hand_over(name, folder_fd).st_mode):
                child = os.open(name, _FOLDER, dir_fd=folder_fd)
                try:
                    descend(child, depth + 1)
                finally:
                    os.close(child)

    hand_over(folder, None)
    top = os.open(folder, _FOLDER)
    try:
        descend(top, 1)
    finally:
        os.close(top)


def delete(parent_fd: int, name: str) -> None:
    """Delete the entry `name` of an open folder with everything below it; fine when there is none. Raises OSError."""
    try:
        os.unlink(name, dir_fd=parent_fd)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise
    top = os.open(name, _FOLDER, dir_fd=parent_fd)
    try:
        _empty(top, top, 1)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent_fd)


def _empty(folder_fd: int, top_fd: int, depth: int) -> None:
    """Delete the entries of a folder. Too deep a subfolder is moved to the top, where the loop meets it again."""
    while names := os.listdir(folder_fd):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _delete_entry(folder_fd, name, top_fd, depth)
        if folder_fd != top_fd:
            return


def _delete_entry(folder_fd: int, name: str, top_fd: int, depth: int) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=folder_fd)
        return
    if depth >= DELETE_DEPTH:
        os.rename(name, f".deep-{os.urandom(8).hex()}", src_dir_fd=folder_fd, dst_dir_fd=top_fd)
        return
    child = os.open(name, _FOLDER, dir_fd=folder_fd)
    try:
        _empty(child, top_fd, depth + 1)
    finally:
        os.close(child)
    os.rmdir(name, dir_fd=folder_fd)
