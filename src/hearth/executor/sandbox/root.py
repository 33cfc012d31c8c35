"""The root folder of sandboxes: a template mount namespace made once, and the paths shown in each sandbox.

The template is a small read-only tmpfs with the host's /usr, a minimal /etc and six device nodes; it never contains
the host's root. A sandbox's first process enters it, takes a private copy and adds what is its own. A runtime that
brings a system of its own (a Debian suite) has a template of its own, with that system's /usr.
"""

import contextlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from hearth.executor.sandbox import disks, messages, netlink, syscalls
from hearth.executor.sandbox.config import API_NAME, API_PSEUDO_ADDRESS, SpawnerConfig
from hearth.executor.sandbox.disks import Disks
from hearth.executor.sandbox.spec import Mount

HOST_NAME = "sandbox"
DEVICES = ("null", "zero", "full", "random", "urandom")
MASKED_BELOW_USR = ("local", "src")
EMPTY_FOLDER = "/var/empty"
OWN_FOLDER = "/run"
"""Where a sandbox's own small tmpfs is while it is set up; empty afterwards."""
STAGE = "/tmp"  # noqa: S108 - a mount point in a private namespace, not a file

READ_ONLY = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
WRITABLE = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
DEVICE = syscalls.MOUNT_ATTR_RDONLY | syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC

PROC_MASKS = (
    *("acpi", "asound", "bus", "cmdline", "config.gz", "diskstats", "driver", "dynamic_debug", "fs", "interrupts"),
    *("iomem", "ioports", "irq", "kallsyms", "kcore", "key-users", "keys", "kmsg", "kpagecgroup", "kpagecount"),
    *("kpageflags", "latency_stats", "locks", "modules", "mtrr", "pagetypeinfo", "partitions", "pressure"),
    *("sched_debug", "scsi", "slabinfo", "softirqs", "sysrq-trigger", "sysvipc", "timer_list", "timer_stats", "tty"),
    *("version_signature", "vmallocinfo"),
)
"""What of /proc says something of the host or of its other users, and no program here needs."""

COPIED_FROM_ETC = ("ld.so.cache", "localtime", "mime.types", "protocols", "services", "ssl/openssl.cnf")
OF_THE_HOST = ("localtime",)
"""What of these is the host's also where the system is another."""

HOSTS = f"""127.0.0.1 localhost {HOST_NAME}
::1 localhost ip6-localhost ip6-loopback
{API_PSEUDO_ADDRESS} {API_NAME}
"""
_NSSWITCH = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n"
RESOLV_CONF = f"nameserver {netlink.DNS_ADDRESS[0]}\noptions timeout:5 attempts:2\n"


@dataclass(frozen=True, slots=True)
class Template:
    """The template namespace (a descriptor that keeps it alive), and what of /proc there is to mask."""

    namespace_fd: int
    masked_files: tuple[str, ...]
    masked_folders: tuple[str, ...]
    in_user_namespace: bool = False
    """Whether the host's /proc lies at OWN_FOLDER: without it in sight, the kernel lets no user namespace mount one."""


def build_template(in_user_namespace: bool = False, system: int = -1) -> Template:
    """Make a template in a child process and return it; `system` as in `assemble`, closed here.

    Called by a single-threaded process. Raises OSError.
    """
    reader, writer = os.pipe()
    done_reader, done_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            os.close(done_writer)
            _become_template(in_user_namespace, system)
            os.write(writer, b"+")
            os.read(done_reader, 1)
        except BaseException as problem:  # noqa: BLE001 - the parent raises it again
            os.write(writer, f"{problem}".encode()[:400])
        os._exit(0)
    os.close(writer)
    os.close(done_reader)
    if system >= 0:
        os.close(system)
    try:
        answer = os.read(reader, 400)
        if answer != b"+":
            raise OSError(f"build the root template: {answer.decode(errors='replace') or 'ended'}")
        namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.close(done_writer)
        os.waitpid(pid, 0)
    files = tuple(f"/proc/{name}" for name in PROC_MASKS if os.path.isfile(f"/proc/{name}"))
    folders = tuple(f"/proc/{name}" for name in PROC_MASKS if os.path.isdir(f"/proc/{name}"))
    return Template(namespace, files, folders, in_user_namespace)


def copy_of(path: str, attributes: int, recursive: bool = False) -> int:
    mount = syscalls.open_tree(path, recursive=recursive)
    syscalls.mount_setattr(mount, "", attributes, recursive=recursive)
    return mount


def _become_template(in_user_namespace: bool, system: int) -> None:
    """In a process of its own: build the tree at STAGE and make it the root of this mount namespace."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    assemble(STAGE, in_user_namespace, system)
    os.chdir(STAGE)
    syscalls.pivot_root(".", ".")
    syscalls.umount(".")
    os.chdir("/")


def assemble(stage: str, in_user_namespace: bool = False, system: int = -1) -> None:
    """Build the root folder of sandboxes at `stage`, in this (private) mount namespace. Raises OSError.

    `system` is a detached mount whose /usr and /etc are taken instead of the host's (-1 = the host's). Certificates
    and the time zone are the host's in any case.
    """
    os.umask(0o022)
    top = ""
    if system >= 0:
        top = stage
        syscalls.move_mount(system, stage)
    copies = [("/usr", copy_of(f"{top}/usr", READ_ONLY, recursive=True))]
    copies += [(f"/dev/{name}", copy_of(f"/dev/{name}", DEVICE)) for name in DEVICES]
    copies += [
        (path, copy_of(source, READ_ONLY))
        for path, source in (("/etc/ssl/certs", "/etc/ssl/certs"), ("/etc/alternatives", f"{top}/etc/alternatives"))
        if os.path.isdir(source)
    ]
    copies += [
        (f"/etc/{name}", copy_of(f"{top}/etc/{name}", READ_ONLY))
        for name in sorted(os.listdir(f"{top}/etc"))
        if name.startswith(("java-", "php")) and os.path.isdir(f"{top}/etc/{name}")
    ]
    files = _files_of_etc(top)
    links = {
        f"/{name}": os.readlink(f"{top}/{name}") for name in os.listdir(top or "/") if _is_usr_link(f"{top}/{name}")
    }
    if top:
        syscalls.umount(stage)
    empty = "tmpfs"
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount(empty, stage, "tmpfs", flags, "size=8m,nr_inodes=4k,mode=755")
    for folder in ("/proc", "/tmp", "/mnt", "/opt", "/dev/shm", OWN_FOLDER, EMPTY_FOLDER, "/etc", "/usr"):  # noqa: S108
        os.makedirs(stage + folder, 0o755, exist_ok=True)
    for folder in ("/tmp", "/dev/shm"):  # noqa: S108 - runc gives what it mounts the mode of what was there
        os.chmod(stage + folder, 0o1777)  # noqa: S103 - as /tmp is anywhere
    os.symlink("/tmp", f"{stage}/var/tmp")  # noqa: S108
    for path, target in links.items():
        os.symlink(target, stage + path)
    for path, content in files.items():
        os.makedirs(os.path.dirname(stage + path), exist_ok=True)
        with open(stage + path, "wb") as file:
            file.write(content)
    link_streams(stage)
    for path, mount in copies:
        attach(mount, stage + path, folder=not path.startswith("/dev/"))
    for name in MASKED_BELOW_USR:
        if os.path.isdir(f"{stage}/usr/{name}"):
            attach(copy_of(stage + EMPTY_FOLDER, READ_ONLY), f"{stage}/usr/{name}", folder=True)
    if in_user_namespace:
        attach(syscalls.open_tree("/proc", recursive=True), stage + OWN_FOLDER, folder=True)
    syscalls.mount_setattr(syscalls.AT_FDCWD, stage, READ_ONLY)


def link_streams(stage: str) -> None:
    """The links in the /dev below `stage` that lead to a process's own descriptors."""
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(f"/proc/self/{target}", f"{stage}/dev/{name}")


def attach(mount: int, target: str, folder: bool) -> None:
    """Attach a detached mount at `target`, making the mount point if it is missing; closes the descriptor."""
    if not os.path.lexists(target):
        if folder:
            os.makedirs(target, 0o755)
        else:
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    syscalls.move_mount(mount, target)
    os.close(mount)


def _is_usr_link(path: str) -> bool:
    return os.path.islink(path) and os.readlink(path).lstrip("/").startswith("usr/")


def _files_of_etc(top: str) -> dict[str, bytes]:
    files = {
        "/etc/hosts": HOSTS.encode(),
        "/etc/hostname": f"{HOST_NAME}\n".encode(),
        "/etc/nsswitch.conf": _NSSWITCH.encode(),
        "/etc/resolv.conf": b"",
        "/etc/passwd": b"",
        "/etc/group": b"",
    }
    for name in COPIED_FROM_ETC:
        source = f"/etc/{name}" if name in OF_THE_HOST else f"{top}/etc/{name}"
        if top and name not in OF_THE_HOST and os.path.islink(source):
            continue  # it would be followed in the host's root
        try:
            with open(source, "rb") as file:
                files[f"/etc/{name}"] = file.read(1 << 20)
        except OSError:
            continue
    return files


# ---------------------------------------------------------------------------------------------- host side of mounts


@dataclass(frozen=True, slots=True)
class OpenMount:
    """A mount ready to be attached inside: a detached copy of its source with its attributes set."""

    fd: int
    target: str
    folder: bool
    writable: bool
    on_disk: str = ""
    """Where on its disk the folder is, when `fd` is the whole disk."""


class Bases:
    """The host folders that sandboxes may be shown parts of, held open so that no link can lead out of them."""

    def __init__(self, config: SpawnerConfig) -> None:
        self._config = config
        self._data = os.open(config.data_folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.disks: Disks | None = None
        self._read_only = [(base, os.open(base, os.O_PATH | os.O_CLOEXEC)) for base in config.read_only_bases]

    def open_data(self, path: str, flags: int) -> int:
        """Open a path below the data folder, through no symbolic link: its owner may have put links there."""
        relative = os.path.relpath(path, self._config.data_folder)
        return syscalls.openat2(self._data, relative, flags, syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS)

    def open_source(self, path: str) -> int:
        """Open the source of a read-only mount (O_PATH)."""
        if messages.below(path, self._config.data_folder):
            return self.open_data(path, os.O_PATH)
        for base, fd in self._read_only:
            if path == base:
                return os.dup(fd)
            if messages.below(path, base):
                resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS
                return syscalls.openat2(fd, os.path.relpath(path, base), os.O_PATH, resolve)
        raise PermissionError(f"{path} is below no allowed folder")

    def open_system(self, path: str) -> tuple[int, tuple[int, int]]:
        """A detached copy of a folder that holds a system for sandboxes, and (device, inode) of that folder.

        What is in it becomes their /usr and parts of their /etc, so nobody but root, or the ordinary user whose
        server this is, may have put it there. Raises OSError.
        """
        source = self.open_source(path)
        try:
            status = os.fstat(source)
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(f"root: {path} is no folder")
            is_trusted = status.st_uid == os.geteuid() or bool(self._config.outer_uids)
            if not is_trusted or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise PermissionError(f"root: {path} can be changed by others than root; install the runtime as root")
            copy = syscalls.open_tree("", source)
        finally:
            os.close(source)
        return copy, (status.st_dev, status.st_ino)

    def open_parent(self, path: str) -> int:
        """Open the folder that holds `path`, itself in the data folder, for listing and deleting."""
        parent = os.path.dirname(path)
        flags = os.O_RDONLY | os.O_DIRECTORY
        if parent == self._config.data_folder:
            return os.open(".", flags | os.O_CLOEXEC, dir_fd=self._data)
        return self.open_data(parent, flags)

    def make_folder(self, path: str) -> int:
        """Open the folder `path` below the data folder, making what is missing as the server's own (O_PATH)."""
        current = os.dup(self._data)
        try:
            for name in os.path.relpath(path, self._config.data_folder).split("/"):
                try:
                    os.mkdir(name, 0o755, dir_fd=current)
                    os.chown(
                        name,
                        self._config.server_uid,
                        self._config.server_gid,
                        dir_fd=current,
                        follow_symlinks=False,
                    )
                except FileExistsError:
                    pass
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                following = os.open(name, flags, dir_fd=current)
                os.close(current)
                current = following
        except BaseException:
            os.close(current)
            raise
        return current

    def open_mounts(self, mounts: Sequence[Mount]) -> list[OpenMount]:
        """Detached copies of the mounts' sources, to be attached by the sandbox's first process. Raises OSError."""
        opened: list[OpenMount] = []
        try:
            for mount in mounts:
                found = self.disks.find(mount.source) if mount.writable and self.disks is not None else None
                if found is not None:
                    disk, place = found
                    opened.append(OpenMount(disks.mount(disk.device), mount.target, True, True, place))
                    continue
                source = self.make_folder(mount.source) if mount.writable else self.open_source(mount.source)
                try:
                    folder = stat.S_ISDIR(os.fstat(source).st_mode)
                    copy = syscalls.open_tree("", source)
                finally:
                    os.close(source)
                opened.append(OpenMount(copy, mount.target, folder, mount.writable))
                syscalls.mount_setattr(copy, "", WRITABLE if mount.writable else READ_ONLY)
        except BaseException:
            close_mounts(opened)
            raise
        return opened


def attach_from_disk(mount: OpenMount, stage: str, owner: int, target: str = "") -> None:
    """In the sandbox's mount namespace: show the folder that is on a disk at the mount's target.

    The folder is made, as the uid `owner`'s, if it is missing; links on the disk, which only sandboxes have written,
    are not followed. The disk itself is shown nowhere. `target` is where the mount's target is if not at its path.
    """
    syscalls.move_mount(mount.fd, stage)
    try:
        top = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(mount.on_disk, 0o755, dir_fd=top)
                os.chown(mount.on_disk, owner, owner, dir_fd=top, follow_symlinks=False)
            resolve = syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_SYMLINKS
            folder = syscalls.openat2(top, mount.on_disk, os.O_PATH | os.O_DIRECTORY, resolve)
        finally:
            os.close(top)
        copy = syscalls.open_tree("", folder)
        os.close(folder)
        syscalls.move_mount(copy, target or mount.target)
        os.close(copy)
    finally:
        syscalls.umount(stage)


def close_mounts(mounts: Sequence[OpenMount]) -> None:
    for mount in mounts:
        os.close(mount.fd)
