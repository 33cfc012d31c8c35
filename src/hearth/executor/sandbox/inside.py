"""What the first process of a sandbox does between its creation and the program: enter, build, confine, exec.

Runs as root in a copy of the spawner that Python does not know to be one, so: no threads, no imports, no locks, and
it ends in exec or exit. Steps are ordered: mounts while still root, identity, Landlock, seccomp, exec.
"""

import contextlib
import fcntl
import os
import resource
import signal
import socket
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from hearth.executor.sandbox import cgroups, netlink, root, syscalls, trees
from hearth.executor.sandbox.messages import StartRequest
from hearth.executor.sandbox.spec import Limits

GO, ENTERED, SOCKETS, MEMINFO, FAILED, BLANK = b"g", b"x", b"s", b"m", b"!", b"b"
"""On the report socket: parent's "you are in your cgroup"; about to exec; the gate's sockets; the file shown as
/proc/meminfo; a step failed; ready, and waiting to be told what for."""

PARKED_DESCRIPTORS = 256
"""Descriptors wait above this number while the numbers the program sees are put in order."""
SHM_BYTES_MAX = 64 << 20
LOCKED_MEMORY_BYTES = 8 << 20
CORE_BYTES = 1
"""No core file is that small, and 1 also tells the kernel not to start the host's program for crashes, which would run
as root and get all that the process held; 0 does not (fs/coredump.c)."""
DATA_EXTRA_BYTES = 256 << 20
"""Room for stacks of threads and what a runtime reserves, which count as data though most is never touched."""
OOM_SCORE_ADJUSTMENT = 500
"""When the host itself is out of memory, sandboxes go before the server."""

# Landlock (linux/landlock.h)
_LANDLOCK_FILES_BY_ABI = ((5, 0xFFFF), (3, 0x7FFF), (2, 0x3FFF), (1, 0x1FFF))
_LANDLOCK_READ = 0x1 | 0x4 | 0x8  # execute, read file, read folder
_LANDLOCK_WRITE_FILE = 0x2
_LANDLOCK_TRUNCATE = 0x4000
_LANDLOCK_IOCTL_DEVICE = 0x8000
_LANDLOCK_SCOPES = 0x3  # abstract unix sockets, signals


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the first process needs, made ready by the spawner beforehand."""

    request: StartRequest
    uid: int
    """Who the program is, and whose its files are."""
    host_uid: int
    """Whose the processes are that it runs in on this machine: another with gVisor, else the same."""
    server_uid: int
    uid_range: range
    mounts: Sequence[root.OpenMount]
    descriptors: Sequence[int]
    """Output pipe, channel if there is one, then one per number of the request."""
    null_fd: int
    template: root.Template
    seccomp: bytes
    """The filter's bytes, empty when seccomp is weakened."""
    landlock_abi: int
    use_cgroups: bool
    use_gate: bool
    oci_root: str
    """Where the driver `oci` has assembled the root folder; `""` with `ns`, which has `template`."""
    own_addresses: Sequence[bytes]
    """The host's own IPv4 addresses, packed; refused by the sandbox's firewall."""


def run(plan: Plan, report: socket.socket, wait: Callable[[], Plan | None] | None = None) -> None:
    """Become the sandbox. Never returns: on failure the reason goes to `report` and the process exits.

    With `wait` it does first what is the same for every program, and then what `wait` returns.
    """
    step = "enter"
    progress = Progress(report.fileno())
    try:
        restore_signals()
        os.setsid()
        step = "mounts"
        _enter(plan.template)
        if wait is None:
            _furnish(plan, report)
        step = "network"
        network(plan, report)
        step = "cgroup"
        if report.recv(1) != GO:
            return  # the spawner gave up or died
        if plan.use_cgroups:
            cgroups.namespace()
        if wait is not None:
            step = "order"
            ordered = wait()
            if ordered is None:
                return
            plan = ordered
            step = "mounts"
            _furnish(plan, report)
        confine_and_run(plan, progress, plan.request.spec.environment)
    except BaseException as problem:  # noqa: BLE001 - whatever it is, the parent must hear it and this process end
        message = f"{progress.step or step}: {problem}".encode(errors="replace")[:800]
        with contextlib.suppress(OSError):
            os.write(progress.kept, FAILED + message)
    finally:
        os._exit(127)


@dataclass(slots=True)
class Progress:
    """How far the last part of a start has come: `kept` is the report socket's number, `step` what is being done."""

    kept: int
    step: str = ""


def confine_and_run(
    plan: Plan, progress: Progress, environment: Mapping[str, str], dies_with_parent: bool = True
) -> None:
    """The last part of every start, in the namespaces and over the mounts of the sandbox: confine itself, exec.

    Raises OSError at the step in `progress`. `dies_with_parent` where the parent is the spawner.
    """
    argv = plan.request.spec.argv
    progress.step = "descriptors"
    progress.kept = kept = arrange_descriptors(plan, progress.kept)
    progress.step = "limits"
    for kind, value in resource_limits(plan.request.spec.limits, plan.use_cgroups):
        syscalls.set_limit(kind, value)
    progress.step = "identity"
    ruleset = _landlock_rules(plan) if plan.landlock_abi else -1
    syscalls.become(plan.uid, plan.uid)
    progress.step = "working folder"
    os.chdir(plan.request.spec.working_folder)
    progress.step = "landlock"
    if ruleset >= 0:
        syscalls.landlock_restrict(ruleset)
        os.close(ruleset)
    progress.step = "death signal"
    if dies_with_parent:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of uid, which clears it
    os.write(kept, ENTERED)  # fails if the spawner died before the signal was set
    progress.step = "seccomp"
    if plan.seccomp:
        syscalls.load_seccomp(plan.seccomp)
    progress.step = f"exec {argv[0]}"
    os.execve(argv[0], list(argv), dict(environment))  # noqa: S606 - the program of the sandbox, without a shell


def restore_signals() -> None:
    """Undo what the spawner and Python ignore: ignored signals would stay so across exec."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.set_wakeup_fd(-1)


def _enter(template: root.Template) -> None:
    """Enter a private copy of the template, with a /proc of its own."""
    syscalls.setns(template.namespace_fd, syscalls.CLONE_NEWNS)
    apart = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWNET
    syscalls.unshare(apart)
    socket.sethostname(root.HOST_NAME)
    os.umask(0o022)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("proc", "/proc", "proc", flags | syscalls.MS_NOEXEC)
    if template.in_user_namespace:
        syscalls.umount(root.OWN_FOLDER)
        syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)  # else our own files in /proc are the host's root's
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(OOM_SCORE_ADJUSTMENT))
    mask_proc(template)


def _furnish(plan: Plan, report: socket.socket) -> None:
    """Add this sandbox's own files, folders and mounts."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    for target, options in temporary_folders(plan.request.spec.limits):
        syscalls.mount("tmpfs", target, "tmpfs", flags, f"{options},mode=1777")
    own_files(plan, report)
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


def cover(source: str, target: str) -> None:
    """Show one file or folder in another's place."""
    copy = syscalls.open_tree(source)
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
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("tmpfs", own, "tmpfs", flags, "size=1m,nr_inodes=512,mode=755")
    for name, content in {**own_contents(plan), **more}.items():
        _write(f"{own}/{name}", content)
    shown = [("passwd", "/etc/passwd"), ("group", "/etc/group")]
    if not top:
        shown.append(("meminfo", "/proc/meminfo"))
    if plan.use_gate:
        shown.append(("resolv.conf", "/etc/resolv.conf"))
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


def network(plan: Plan, report: socket.socket) -> None:
    """Only `lo`; with the gate, its sockets too, sent to the spawner."""
    if not plan.use_gate:
        syscalls.loopback_up()
        return
    listener, dns = netlink.open_gate_sockets(plan.request.opened, plan.own_addresses)
    socket.send_fds(report, [SOCKETS], [listener.fileno(), dns.fileno()])
    listener.close()
    dns.close()


def arrange_descriptors(plan: Plan, report: int, fill: bool = False) -> int:
    """Put the program's descriptors in place and close every other; returns the report socket's new number.

    With `fill` the numbers between them are /dev/null: runc passes on all up to the highest.
    """
    spec = plan.request.spec
    output, *rest = plan.descriptors
    wanted = [(plan.null_fd, 0), (output, 1), (output, 2)]
    if spec.channel:
        wanted.append((rest.pop(0), 3))
    wanted += list(zip(rest, plan.request.numbers, strict=True))
    if fill:
        taken = {number for _, number in wanted}
        wanted += [(plan.null_fd, number) for number in range(3, max(taken)) if number not in taken]
    parked = [(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, PARKED_DESCRIPTORS), number) for fd, number in wanted]
    kept = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, PARKED_DESCRIPTORS)
    following = 0
    for fd, number in sorted(parked, key=lambda pair: pair[1]):
        os.dup2(fd, number, inheritable=True)
        if number > following:
            syscalls.close_range(following, number - 1)
        following = number + 1
    syscalls.close_range(following, kept - 1)
    syscalls.close_range(kept + 1)
    return kept


def temporary_folders(limits: Limits) -> tuple[tuple[str, str], ...]:
    """The tmpfs of a sandbox and the options that bound them."""
    size, inodes = limits.tmp_bytes, limits.tmp_inodes
    shared = min(size, SHM_BYTES_MAX)
    return ("/tmp", f"size={size},nr_inodes={inodes}"), ("/dev/shm", f"size={shared},nr_inodes=1024")  # noqa: S108


def data_limit(limits: Limits) -> int:
    """The memory that each process alone may write to, in bytes: without control groups that is all there is."""
    return limits.memory_bytes + DATA_EXTRA_BYTES


def resource_limits(limits: Limits, use_cgroups: bool) -> Iterator[tuple[int, int]]:
    """The resource limits (kind, value) of a sandbox's processes."""
    yield resource.RLIMIT_CORE, CORE_BYTES
    yield resource.RLIMIT_NOFILE, limits.open_files
    yield resource.RLIMIT_MEMLOCK, LOCKED_MEMORY_BYTES
    yield resource.RLIMIT_NICE, 0
    yield resource.RLIMIT_RTPRIO, 0
    yield resource.RLIMIT_MSGQUEUE, 819_200
    # a second line behind pids.max, which must be met first because it counts what it refused
    yield resource.RLIMIT_NPROC, limits.pids * (2 if use_cgroups else 1)
    if limits.file_size_bytes is not None:
        yield resource.RLIMIT_FSIZE, limits.file_size_bytes
    if not use_cgroups:
        yield resource.RLIMIT_DATA, data_limit(limits)


def _landlock_rules(plan: Plan) -> int:
    """A Landlock ruleset that says once more what the mounts say: read anywhere, write only where it is meant."""
    files = next(mask for abi, mask in _LANDLOCK_FILES_BY_ABI if plan.landlock_abi >= abi)
    scopes = _LANDLOCK_SCOPES if plan.landlock_abi >= 6 else 0
    ruleset = syscalls.landlock_create(files, 0, scopes, plan.landlock_abi)
    write = _LANDLOCK_READ | _LANDLOCK_WRITE_FILE | _LANDLOCK_TRUNCATE | _LANDLOCK_IOCTL_DEVICE
    rules = [("/", _LANDLOCK_READ), ("/dev", write), ("/proc", write), ("/tmp", files), ("/dev/shm", files)]  # noqa: S108
    rules += [(mount.target, files) for mount in plan.mounts if mount.writable]
    rules += [(folder, files) for folder in plan.request.spec.scratch]
    for path, access in rules:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        folder = stat.S_ISDIR(os.fstat(fd).st_mode)
        allowed = access if folder else access & (0x1 | 0x2 | 0x4 | _LANDLOCK_TRUNCATE | _LANDLOCK_IOCTL_DEVICE)
        syscalls.landlock_allow(ruleset, fd, allowed & files)
        os.close(fd)
    return ruleset
