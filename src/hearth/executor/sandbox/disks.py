"""Disks of a fixed size for builds: what is written there can never be more than that, in bytes or in files.

A disk is an ext4 file system in a file without a name, on a loop device, mounted in sandboxes only. Nothing of the
API process can reach the file, and it is gone with its last user, however that ends. Spawner side; needs root, loop
devices and mkfs.ext4; without them a build is watched instead (`hearth.runtimes.shims.build.disk`).
"""

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from hearth.executor.sandbox import messages, syscalls
from hearth.executor.sandbox.errands import Errands

MKFS = "/usr/sbin/mkfs.ext4"
BYTES_PER_INODE = 4_096
INODES_MAX = 524_288
"""A little more than a build may hold files (`hearth.runtimes.shims.build.disk.MAX_ENTRIES`)."""
DISKS_MAX = 256
ATTEMPTS = 8
"""Another process may take the loop device that was free a moment ago."""
PROBE_BYTES = 1 << 20

_FEATURES = "^has_journal,^resize_inode"
ATTRIBUTES = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV | syscalls.MOUNT_ATTR_NOATIME
_OPTIONS = (("nobarrier", ""), ("discard", ""), ("noinit_itable", ""), ("errors", "remount-ro"))
"""Nothing here has to survive a crash; what is deleted inside is given back outside."""

# linux/loop.h
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_AUTOCLEAR, _DIRECT_IO = 4, 16


@dataclass(frozen=True, slots=True)
class Disk:
    """One disk: the descriptors that keep it alive, and its device."""

    device: str
    loop_fd: int
    image_fd: int
    mount_fd: int
    """A mount that nobody sees: the file system stays in use between two sandboxes."""


def make_file_system(image_fd: int, size_bytes: int) -> None:
    """Put an empty file system on an open file. Raises OSError with what mkfs said."""
    os.ftruncate(image_fd, size_bytes)
    inodes = min(INODES_MAX, size_bytes // BYTES_PER_INODE)
    command = [MKFS, "-q", "-F", "-b", "4096", "-O", _FEATURES, "-m", "0", "-N", str(inodes)]
    command += ["-E", "lazy_itable_init=1,nodiscard", f"/proc/self/fd/{image_fd}"]
    done = subprocess.run(
        command,
        pass_fds=[image_fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise OSError(f"mkfs.ext4: {done.stderr.decode(errors='replace').strip()[-200:]}")


def attach(image_fd: int) -> tuple[str, int]:
    """Give an open file a loop device that is freed with its last user: its path, and a descriptor. Raises OSError."""
    with open("/dev/loop-control", "rb") as control:
        for attempt in range(ATTEMPTS):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            loop_fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            try:
                # struct loop_config: fd, block size, struct loop_info64 (flags at 52 of it), reserved
                information = struct.pack("=40xIII4x160x16x", 0, 0, 0)
                information = information[:52] + struct.pack("=I", _AUTOCLEAR | _DIRECT_IO) + information[56:]
                fcntl.ioctl(loop_fd, _LOOP_CONFIGURE, struct.pack("=II", image_fd, 0) + information + bytes(64))
            except OSError:
                os.close(loop_fd)
                if attempt == ATTEMPTS - 1:
                    raise
                continue
            return device, loop_fd
    raise OSError("no free loop device")


def mount(device: str) -> int:
    """A mount of the device that is nowhere yet (for `syscalls.move_mount`): writable, nosuid, nodev."""
    context = syscalls.fsopen("ext4")
    try:
        syscalls.fsconfig(context, "source", device)
        for name, value in _OPTIONS:
            syscalls.fsconfig(context, name, value)
        syscalls.fsconfig_create(context)
        return syscalls.fsmount(context, ATTRIBUTES)
    finally:
        os.close(context)


def probe() -> None:
    """Make, mount and drop a small disk in memory; raises OSError with the reason it cannot be done here."""
    if not os.access(MKFS, os.X_OK):
        raise OSError(f"{MKFS} is not installed")
    image_fd = os.memfd_create("hearth-probe", os.MFD_CLOEXEC)
    try:
        make_file_system(image_fd, PROBE_BYTES)
        device, loop_fd = attach(image_fd)
        try:
            os.close(mount(device))
        finally:
            os.close(loop_fd)
    finally:
        os.close(image_fd)


class Disks:
    """The disks of one spawner, by the path below the data folder that each stands for."""

    def __init__(self, data_folder: str, errands: Errands) -> None:
        self._data_folder = data_folder
        self._errands = errands
        self._disks: dict[str, Disk] = {}

    def make(self, path: str, size_bytes: int, answer: Callable[[str], None]) -> None:
        """Make the disk for `path`; `answer` gets the reason it could not be made, "" when it is there.

        Raises OSError at once when that is known already.
        """
        if path in self._disks:
            raise FileExistsError(f"{path} is a disk already")
        if len(self._disks) >= DISKS_MAX:
            raise OSError(f"{DISKS_MAX} disks are in use")
        image_fd = os.open(self._data_folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)

        def work() -> None:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            make_file_system(image_fd, size_bytes)

        def report(problem: str) -> None:
            if not problem:
                try:
                    self._disks[path] = self._open(image_fd)
                except OSError as error:
                    problem = str(error)
            if problem:
                os.close(image_fd)
            answer(problem)

        self._errands.run(work, report)

    def _open(self, image_fd: int) -> Disk:
        device, loop_fd = attach(image_fd)
        try:
            return Disk(device, loop_fd, image_fd, mount(device))
        except OSError:
            os.close(loop_fd)
            raise

    def find(self, path: str) -> tuple[Disk, str] | None:
        """The disk that `path` lies on, and where on it."""
        for place, disk in self._disks.items():
            if messages.below(path, place):
                return disk, os.path.relpath(path, place)
        return None

    def drop(self, path: str) -> None:
        """Give up the disks at and below `path`: each is freed once no sandbox has it any more."""
        for place in [place for place in self._disks if messages.below(place, path, itself=True)]:
            disk = self._disks.pop(place)
            for fd in (disk.mount_fd, disk.loop_fd, disk.image_fd):
                with contextlib.suppress(OSError):
                    os.close(fd)
