"""The files, folders and mounts that only one sandbox has, over the template that all share.

Made by the first process while it is root in its own namespaces, under the rules of `inside`.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hearth.executor.sandbox import root, syscalls, trees
from hearth.executor.sandbox.plan import MEMINFO, Plan
from hearth.executor.sandbox.spec import Limits

SHM_BYTES_MAX = 64 << 20


def furnish(plan: Plan, report: socket.socket) -> None:
    """Add this sandbox's own files, folders and mounts."""
    _make_temporary_folders(plan.request.spec.limits)
    own_files(plan, report)
    _attach_mounts(plan)


def furnish_ahead(plan: Plan) -> None:
    """In a blank: as much of that as is the same whatever it will be for; the limits are a guess."""
    _make_temporary_folders(plan.request.spec.limits)
    contents = own_contents(plan)
    del contents["meminfo"]
    _write_own(root.OWN_FOLDER, contents)
    for name in _shown_names(plan):
        cover(f"{root.OWN_FOLDER}/{name}", f"/etc/{name}", read_only=True)


def furnish_rest(plan: Plan, guessed: Limits, report: socket.socket) -> None:
    """In a blank that knows what it is for: the rest of `furnish`."""
    limits = plan.request.spec.limits
    if temporary_folders(limits) != temporary_folders(guessed):
        resize_temporary_folders(limits)
    _write(f"{root.OWN_FOLDER}/meminfo", meminfo(limits.memory_bytes))
    _show_own_files(plan, report, "", root.OWN_FOLDER, ())
    _attach_mounts(plan)


def _make_temporary_folders(limits: Limits) -> None:
    for target, options in temporary_folders(limits):
        syscalls.mount("tmpfs", target, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, f"{options},mode=1777")


def resize_temporary_folders(limits: Limits) -> None:
    """Give the temporary folders other bounds."""
    flags = syscalls.MS_REMOUNT | syscalls.MS_NOSUID | syscalls.MS_NODEV
    for target, options in temporary_folders(limits):
        syscalls.mount("tmpfs", target, "tmpfs", flags, options)


def _attach_mounts(plan: Plan) -> None:
    for mount in plan.mounts:
        if mount.on_disk:
            root.attach_from_disk(mount, root.OWN_FOLDER, plan.server_uid)
        else:
            syscalls.move_mount(mount.fd, mount.target)
    for mount in plan.mounts:
        if mount.writable:
            trees.give(mount.target, plan.uid, plan.server_uid, plan.uid_range)


def mask_proc(template: root.Template, empty: str = root.EMPTY_FOLDER) -> None:
    """Hide what of /proc says something of the host; `empty` is an empty folder."""
    system = syscalls.open_tree("/proc/sys")
    syscalls.mount_setattr(system, "", root.READ_ONLY | syscalls.MOUNT_ATTR_NOEXEC)
    syscalls.move_mount(system, "/proc/sys")
    os.close(system)
    for path in template.masked_files:
        cover("/dev/null", path)
    for path in template.masked_folders:
        cover(empty, path)


def cover(source: str, target: str, read_only: bool = False) -> None:
    """Show one file or folder in another's place; `read_only` where its mount is not."""
    copy = syscalls.open_tree(source)
    if read_only:
        syscalls.mount_setattr(copy, "", root.READ_ONLY)
    syscalls.move_mount(copy, target)
    os.close(copy)


def own_files(
    plan: Plan,
    report: socket.socket,
    top: str = "",
    own: str = root.OWN_FOLDER,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """The files and mount points only this sandbox has, on a small tmpfs that is read-only when the program starts.

    It is mounted at `own`, with the files `more` besides, and its parts shown where they belong in the root folder
    that is at `top`; /proc/meminfo only if the root folder is this process's own.
    """
    _write_own(own, {**own_contents(plan), **more})
    _show_own_files(plan, report, top, own, _shown_names(plan))


def _shown_names(plan: Plan) -> Sequence[str]:
    """The own files that stand in for those of /etc."""
    return ("passwd", "group", "resolv.conf") if plan.use_gate else ("passwd", "group")


def _write_own(own: str, contents: Mapping[str, str]) -> None:
    """Mount the own files' tmpfs, not read-only yet, with these in it."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("tmpfs", own, "tmpfs", flags, "size=1m,nr_inodes=512,mode=755")
    for name, content in contents.items():
        _write(f"{own}/{name}", content)


def _show_own_files(plan: Plan, report: socket.socket, top: str, own: str, names: Sequence[str]) -> None:
    """Make the mount points; then nothing of `own` can be written any more and all is shown where it belongs.

    `names` are the files for /etc that are not there yet.
    """
    shown = [(name, f"/etc/{name}") for name in names]
    if not top:
        shown.append(("meminfo", "/proc/meminfo"))
    points = [(mount.target, mount.folder) for mount in plan.mounts]
    if plan.request.spec.mount_point:
        points.append((plan.request.spec.mount_point, True))
        lend_meminfo(f"{own}/meminfo", report)
    for name, folder in (("mnt", "/mnt"), ("opt", "/opt"), ("local", "/usr/local")):
        targets = [point for point in points if point[0] == folder or point[0].startswith(folder + "/")]
        if not targets:
            continue
        os.mkdir(f"{own}/{name}", 0o755)
        for target, is_folder in targets:
            point = f"{own}/{name}" + target[len(folder) :]
            if is_folder:
                os.makedirs(point, 0o755, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(point), 0o755, exist_ok=True)
                _write(point, "")
        shown.append((name, folder))
    syscalls.mount_setattr(syscalls.AT_FDCWD, own, root.READ_ONLY)
    for name, target in shown:
        cover(f"{own}/{name}", top + target)
    if not top:
        syscalls.umount(own)


def own_contents(plan: Plan) -> dict[str, str]:
    """The files that only this sandbox has: name -> content."""
    uid = plan.uid
    return {
        "passwd": f"root:x:0:0:root:/:/bin/sh\nsandbox:x:{uid}:{uid}:sandbox:/tmp:/bin/sh\n",
        "group": f"root:x:0:\nsandbox:x:{uid}:\n",
        "meminfo": meminfo(plan.request.spec.limits.memory_bytes),
        "hosts": root.HOSTS,
        "resolv.conf": root.RESOLV_CONF if plan.use_gate else "",
    }


def meminfo(limit_bytes: int) -> str:
    """/proc/meminfo of a machine that has just the sandbox's memory: runtimes size their heaps by it."""
    total_kb = limit_bytes // 1024
    rows = {"MemTotal": total_kb, "MemFree": total_kb, "MemAvailable": total_kb}
    rows |= dict.fromkeys(("Buffers", "Cached", "SwapCached", "SwapTotal", "SwapFree", "Shmem", "Slab"), 0)
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows.items())


def lend_meminfo(path: str, report: socket.socket) -> None:
    """Give the spawner a way to rewrite the file when the limits change.

    Opened through another copy of the mount: one with a writer could not be made read-only.
    """
    copy = syscalls.open_tree(os.path.dirname(path))
    writer = os.open(os.path.basename(path), os.O_WRONLY | os.O_CLOEXEC, dir_fd=copy)
    os.close(copy)
    socket.send_fds(report, [MEMINFO], [writer])
    os.close(writer)


def _write(path: str, content: str) -> None:
    with open(path, "w") as file:
        file.write(content)


def temporary_folders(limits: Limits) -> tuple[tuple[str, str], ...]:
    """The tmpfs of a sandbox and the options that bound them."""
    size, inodes = limits.tmp_bytes, limits.tmp_inodes
    shared = min(size, SHM_BYTES_MAX)
    return ("/tmp", f"size={size},nr_inodes={inodes}"), ("/dev/shm", f"size={shared},nr_inodes=1024")  # noqa: S108
