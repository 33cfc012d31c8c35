"""The Linux calls that Python 3.11 lacks, each as a plain function that raises OSError naming the call.

Stdlib and ctypes only: the privileged spawner imports this and little else. Raw system call numbers above 423 are
the same on x86-64 and arm64; the few older ones are looked up per machine.
"""

import ctypes
import fcntl
import os
import platform
import resource
import socket
import struct
from typing import Any

CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000
CLONE_PIDFD = 0x0000_1000
CLONE_VFORK = 0x0000_4000
CLONE_INTO_CGROUP = 0x2_0000_0000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_REC = 0x4000
MS_PRIVATE = 0x4_0000
MS_SLAVE = 0x8_0000
MS_SHARED = 0x10_0000
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_NOATIME = 0x10

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 0x4

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08

PR_SET_PDEATHSIG = 1
PR_GET_PDEATHSIG = 2
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2
SECUREBITS_ALL_LOCKED = 0xEF
"""NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE with their locks, KEEP_CAPS locked off (linux/securebits.h)."""

IOCTL_SIOCSIFFLAGS = 0x8914
IFF_UP_RUNNING = 0x41

MACHINE = platform.machine()

_OLD_NUMBERS = {  # name -> (x86-64, arm64)
    "capset": (126, 91),
    "pivot_root": (155, 41),
    "seccomp": (317, 277),
}
_CLONE3, _CLOSE_RANGE, _OPENAT2 = 435, 436, 437
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR, _PIDFD_OPEN, _PIDFD_SEND_SIGNAL = 428, 429, 442, 434, 424
_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _call(name: str, number: int, *arguments: Any) -> int:
    words = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *words), name)


def _old(name: str) -> int:
    return _OLD_NUMBERS[name][MACHINE != "x86_64"]


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2). The old interface: used for new file systems and propagation, never for binds."""
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        None if kind is None else kind.encode(),
        ctypes.c_ulong(flags),
        data.encode() or None,
    )
    _check(result, f"mount {kind or ''} on {target}")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new: str, old: str) -> None:
    _call("pivot_root", _old("pivot_root"), os.fsencode(new), os.fsencode(old))


def open_tree(path: str, folder_fd: int = AT_FDCWD, recursive: bool = False) -> int:
    """A detached private copy of the mount at `path` (with `recursive`, of the mounts below it too), as a descriptor.

    An empty `path` means the file that `folder_fd` itself is.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return _call(f"open_tree {path}", _OPEN_TREE, folder_fd, os.fsencode(path), flags)


def move_mount(mount_fd: int, target: str) -> None:
    """Attach a mount made by `open_tree` at `target` of the current mount namespace."""
    _call(f"move_mount to {target}", _MOVE_MOUNT, mount_fd, b"", AT_FDCWD, os.fsencode(target), MOVE_MOUNT_F_EMPTY_PATH)


def mount_setattr(mount_fd: int, path: str, attributes: int, recursive: bool = False) -> None:
    """Add mount attributes (read-only, nosuid, ...) to a mount: of `mount_fd` when `path` is empty."""
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    request = struct.pack("=QQQQ", attributes, 0, 0, 0)
    _call(f"mount_setattr {path}", _MOUNT_SETATTR, mount_fd, os.fsencode(path), flags, request, len(request))


def fsopen(kind: str) -> int:
    """Begin a new file system of a kind: a context for `fsconfig`; close it after `fsmount`."""
    return _call(f"fsopen {kind}", _FSOPEN, kind.encode(), 1)


def fsconfig(context: int, name: str, value: str) -> None:
    """Set an option of a file system to be; an empty `value` sets a flag."""
    command = 1 if value else 0  # FSCONFIG_SET_STRING, FSCONFIG_SET_FLAG
    _call(f"fsconfig {name}", _FSCONFIG, context, command, name.encode(), value.encode() or None, 0)


def fsconfig_create(context: int) -> None:
    """Make the file system, or take the one that is in use already on the same device."""
    _call("fsconfig create", _FSCONFIG, context, 6, None, None, 0)


def fsmount(context: int, attributes: int) -> int:
    """A mount of the file system that is attached nowhere yet, as a descriptor."""
    return _call("fsmount", _FSMOUNT, context, 1, attributes)


def openat2(folder_fd: int, path: str, flags: int, resolve: int) -> int:
    """Open `path` relative to `folder_fd` under `RESOLVE_*` rules; close-on-exec."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _call(f"open {path}", _OPENAT2, folder_fd, os.fsencode(path), how, len(how))


_CloneArguments = ctypes.c_char * 88
"""Held here: a type that is made anew for a call is garbage of the kind that only the collector finds, and the spawner
has it switched off."""


def clone(flags: int, cgroup_fd: int = -1) -> tuple[int, int]:
    """Fork into new namespaces; (0, -1) in the child, (pid, pidfd) in the parent.

    Only for a single-threaded process: the child is a copy that Python does not know to be one. With `cgroup_fd`
    (a cgroup v2 folder) the child starts in that group.
    """
    pidfd = ctypes.c_int(-1)
    into = CLONE_INTO_CGROUP if cgroup_fd >= 0 else 0
    request = _CloneArguments.from_buffer_copy(
        struct.pack(
            "=11Q",
            flags | CLONE_PIDFD | into,
            ctypes.addressof(pidfd),
            0,
            0,
            17,  # SIGCHLD
            0,
            0,
            0,
            0,
            0,
            max(cgroup_fd, 0),
        )
    )
    pid = _call("clone3", _CLONE3, request, 88)
    return pid, pidfd.value if pid else -1


def pidfd_open(pid: int) -> int:
    return _call("pidfd_open", _PIDFD_OPEN, pid, 0)


def pidfd_kill(pidfd: int, number: int = 9) -> None:
    """Send a signal to the process of `pidfd`; fine when it has ended."""
    try:
        _call("pidfd_send_signal", _PIDFD_SEND_SIGNAL, pidfd, number, None, 0)
    except ProcessLookupError:
        return


def close_range(first: int, last: int = 0xFFFF_FFFF) -> None:
    _call("close_range", _CLOSE_RANGE, first, last, 0)


def prctl(option: int, *arguments: Any) -> int:
    words = [ctypes.c_ulong(item) if isinstance(item, int) else item for item in arguments]
    words += [ctypes.c_ulong(0)] * (4 - len(words))
    return _check(_libc.prctl(ctypes.c_int(option), *words), f"prctl {option}")


def drop_bounding_set() -> None:
    """Empty the capability bounding set: needs CAP_SETPCAP, so before any change of uid."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:
            if capability < 20:  # below the oldest kernel's last capability an error is a real refusal
                raise
            return


def clear_capabilities() -> None:
    """Empty the ambient, effective, permitted and inheritable capability sets of this thread."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("=Ii", 0x2008_0522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    _call("capset", _old("capset"), header, bytes(24))


def is_subreaper() -> bool:
    """Whether orphans below this process become its children."""
    value = ctypes.c_int(0)
    prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(value))
    return bool(value.value)


def parent_death_signal() -> int:
    """The signal this process gets when its parent ends, 0 = none."""
    signal = ctypes.c_int(0)
    prctl(PR_GET_PDEATHSIG, ctypes.byref(signal))
    return signal.value


def become(uid: int, gid: int, is_bounded: bool = False) -> None:
    """Change to `uid`/`gid` for good: no groups, no capabilities in any set, no new privileges by exec.

    `is_bounded` where `drop_bounding_set` was called before.
    """
    if not is_bounded:
        drop_bounding_set()
    prctl(PR_SET_SECUREBITS, SECUREBITS_ALL_LOCKED)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    clear_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load_seccomp(program: bytes) -> None:
    """Install a seccomp filter (array of `struct sock_filter`); needs no_new_privs."""
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(_FilterProgram(len(program) // 8, program)))


def seccomp_action_available(action: int) -> bool:
    """Whether the kernel knows a filter's return action (SECCOMP_GET_ACTION_AVAIL)."""
    try:
        _call("seccomp", _old("seccomp"), 2, 0, struct.pack("=I", action))
    except OSError:
        return False
    return True


def landlock_abi() -> int:
    """The Landlock version of this kernel, 0 when it has none or it is off."""
    try:
        return _call("landlock", _LANDLOCK_CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def landlock_create(handled_files: int, handled_network: int, scoped: int, abi: int) -> int:
    attributes = struct.pack("=QQQ", handled_files, handled_network, scoped)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    return _call("landlock_create_ruleset", _LANDLOCK_CREATE_RULESET, attributes, size, 0)


def landlock_allow(ruleset: int, path_fd: int, access: int) -> None:
    _call("landlock_add_rule", _LANDLOCK_ADD_RULE, ruleset, 1, struct.pack("=Qi", access, path_fd), 0)


def landlock_restrict(ruleset: int) -> None:
    _call("landlock_restrict_self", _LANDLOCK_RESTRICT_SELF, ruleset, 0)


def loopback_up() -> None:
    """Bring `lo` of the current network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        fcntl.ioctl(probe, IOCTL_SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))


def set_limit(kind: int, value: int) -> None:
    """Set a resource limit, soft and hard."""
    resource.setrlimit(kind, (value, value))
