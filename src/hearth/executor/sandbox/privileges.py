"""Giving root up for good, while keeping the folders the program lives in reachable at their paths.

For the API process and the gate, each before it has threads or an event loop.
"""

import os
import stat
from collections.abc import Iterator, Sequence

from hearth.executor.sandbox import syscalls

LINKS_MAX = 40


def drop_privileges(uid: int, gid: int, keep: Sequence[str] = ()) -> None:
    """Become `uid`/`gid` with no way back; what is at the paths `keep` stays reachable at the same paths.

    Where `uid` could not get to a kept path (an interpreter or checkout below a closed /root, say), this process gets
    a mount namespace of its own in which the first closed folder on the way is covered by an empty root-owned one
    that holds the kept paths only. All capability sets are emptied, supplementary groups dropped and no_new_privs
    set. Needs root and a single-threaded process; raises OSError naming what failed. An ordinary user has nothing to
    give up but what programs he starts could gain.
    """
    if os.geteuid() != 0:
        syscalls.prctl(syscalls.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
        return
    # The kernel forgets at a change of uid that this process wants to end with its parent (a quickstart, say).
    parent, signal = os.getppid(), syscalls.parent_death_signal()
    covers = _covers(uid, gid, keep)
    if covers:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        here = _working_folder()
        for closed, kept in covers.items():
            _cover(closed, kept)
        if here:
            os.chdir(here if os.path.isdir(here) else "/")  # the old one is under a cover
    syscalls.become(uid, gid)
    if signal:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal)
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)  # no other process of this uid may read our memory


def _working_folder() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def _covers(uid: int, gid: int, keep: Sequence[str]) -> dict[str, list[str]]:
    """First folder that `uid` cannot traverse -> kept paths (and links on the way to them) below it."""
    found: dict[str, list[str]] = {}
    for path in dict.fromkeys(os.path.abspath(item) for item in keep):
        for step in _steps(path):
            closed = _first_closed(step, uid, gid)
            if closed is not None and step not in found.setdefault(closed, []):
                found[closed].append(step)
    return found


def _steps(path: str) -> Iterator[str]:
    """The symbolic links met on the way to `path`, then its real path; raises FileNotFoundError if it is missing."""
    os.stat(path)
    links: list[str] = []
    for _ in range(LINKS_MAX):
        parts = path.split("/")
        prefixes = ["/".join(parts[:end]) for end in range(2, len(parts) + 1)]
        link = next((prefix for prefix in prefixes if os.path.islink(prefix)), None)
        if link is None:
            break
        links.append(link)
        rest = path[len(link) :].lstrip("/")
        path = os.path.normpath(os.path.join(os.path.dirname(link), os.readlink(link), rest))
    yield from links
    yield path


def _first_closed(path: str, uid: int, gid: int) -> str | None:
    """The first folder above `path` that a process of `uid`/`gid` without groups cannot go through."""
    groups = os.getgroups()
    own_uid, own_gid = os.geteuid(), os.getegid()
    os.setgroups([])
    os.setegid(gid)
    os.seteuid(uid)  # the kernel answers, access lists and all
    try:
        parts = path.split("/")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end]) or "/"
            if not os.access(folder, os.X_OK, effective_ids=True):
                return folder
    finally:
        os.seteuid(own_uid)
        os.setegid(own_gid)
        os.setgroups(groups)
    return None


def _cover(closed: str, kept: Sequence[str]) -> None:
    """Cover the folder `closed` by a tmpfs that holds copies of the mounts at `kept` and the links among them."""
    links = {path: os.readlink(path) for path in kept if os.path.islink(path)}
    outermost = [
        path
        for path in kept
        if path not in links and not any(path.startswith(other + "/") for other in kept if other not in links)
    ]
    copies = [
        (path, syscalls.open_tree(path, recursive=True), stat.S_ISDIR(os.stat(path).st_mode)) for path in outermost
    ]
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("tmpfs", closed, "tmpfs", flags, "size=1m,nr_inodes=4k,mode=755")
    for path, copy, is_folder in copies:
        os.makedirs(path if is_folder else os.path.dirname(path), 0o755, exist_ok=True)
        if not is_folder:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        syscalls.move_mount(copy, path)
        os.close(copy)
    for path, target in links.items():
        if not os.path.lexists(path):
            os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
            os.symlink(target, path)
    syscalls.mount_setattr(syscalls.AT_FDCWD, closed, syscalls.MOUNT_ATTR_RDONLY)
