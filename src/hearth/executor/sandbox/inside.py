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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hearth.executor.sandbox import cgroups, furnishing, netlink, root, syscalls
from hearth.executor.sandbox.plan import ENTERED, FAILED, GO, SOCKETS, Plan
from hearth.executor.sandbox.spec import Limits

PARKED_DESCRIPTORS = 256
"""Descriptors wait above this number while the numbers the program sees are put in order."""
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
            furnishing.furnish(plan, report)
        else:
            furnishing.furnish_ahead(plan)
        step = "network"
        network(plan, report)
        step = "cgroup"
        if report.recv(1) != GO:
            return  # the spawner gave up or died
        if plan.use_cgroups:
            cgroups.namespace()
        if wait is not None:
            step = "capabilities"
            syscalls.drop_bounding_set()
            step = "order"
            guessed = plan.request.spec.limits
            ordered = wait()
            if ordered is None:
                return
            plan = ordered
            step = "mounts"
            furnishing.furnish_rest(plan, guessed, report)
        confine_and_run(plan, progress, plan.request.spec.environment, is_bounded=wait is not None)
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
    plan: Plan,
    progress: Progress,
    environment: Mapping[str, str],
    dies_with_parent: bool = True,
    is_bounded: bool = False,
) -> None:
    """The last part of every start, in the namespaces and over the mounts of the sandbox: confine itself, exec.

    Raises OSError at the step in `progress`. `dies_with_parent` where the parent is the spawner; `is_bounded` where the
    capability bounding set is empty already.
    """
    argv = plan.request.spec.argv
    progress.step = "descriptors"
    progress.kept = kept = arrange_descriptors(plan, progress.kept)
    progress.step = "limits"
    for kind, value in resource_limits(plan.request.spec.limits, plan.use_cgroups):
        syscalls.set_limit(kind, value)
    progress.step = "identity"
    ruleset = _landlock_rules(plan) if plan.landlock_abi else -1
    syscalls.become(plan.uid, plan.uid, is_bounded)
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
    furnishing.mask_proc(template)


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
