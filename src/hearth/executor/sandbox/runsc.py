"""The driver `oci` with runsc (gVisor): sandboxes whose programs talk to a kernel of their own, not to this machine's.

The spawner prepares everything as for runc. Its child becomes the first process of a process namespace, has runsc make
the sandbox below itself, gives up every right, and ends as the sandbox's program did; with it the kernel ends the two
parts of gVisor, the one that is the kernel (sentry) and the one that opens files (gofer), and whatever they started.
So the spawner follows one process, as with `ns`. What runsc is told is in `hearth.executor.sandbox.runsc_config`.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
from dataclasses import replace
from typing import NoReturn

from hearth.executor.sandbox import furnishing, inside, root, runsc_config, syscalls
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.oci import LOG_BYTES, PLACE, Oci
from hearth.executor.sandbox.plan import ENTERED, FAILED, GO, Plan
from hearth.executor.sandbox.spec import Facility, Limits, Network

MEMORY_BYTES = 32 << 20
"""What gVisor itself may take of a sandbox's memory limit, over what the program has: measured."""
PIDS_PER_PROCESS, OWN_PIDS = 4, 192
"""Threads on this machine for each process of a sandbox, and for gVisor itself: its kernel counts the sandbox's own."""
START_TIMEOUT_S = 60.0
"""For one start: 0.2 s of processor time, and many may be under way at once."""
UIDS = 2
"""Host uids of a sandbox: of gVisor's processes, and the next one of the program's files."""
SIGNALLED = 128
"""gVisor ends with this and the signal's number where a signal ended the program, as a shell tells it."""
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
PLATFORM = "systrap"
"""How it catches system calls: the way that needs nothing of the machine, virtual machines included."""
_VERSION_TIMEOUT_S, _TRIAL_TIMEOUT_S = 10, 30


def facility(path: str) -> Facility:
    """Is there a runsc that can be used? Only asked when the operator chose it."""
    fix = (
        "install the package runsc of Debian 13 or newer, name another with HEARTH_OCI_RUNTIME=/path/to/runsc, "
        "or use runc (HEARTH_OCI_RUNTIME=runc)"
    )
    if os.geteuid() != 0:
        return Facility("runsc", False, "the driver oci needs root", "start hearth as root, or use the driver ns")
    try:
        if not is_of_root_alone(path):
            return Facility("runsc", False, f"{path} can be changed by others than root, and would run as root", fix)
        version = _said([path, "--version"]).split("\n")[0]
        usage = _said([path, "help", "run"])
    except (OSError, subprocess.SubprocessError) as problem:
        return Facility("runsc", False, str(problem), fix)
    if "-pass-fd" not in usage:
        return Facility("runsc", False, f"{version or path} is too old: it hands no socket to a sandbox", fix)
    if problem_here := _try(path):
        return Facility("runsc", False, f"{version} does not run here: {problem_here}", fix)
    return Facility("runsc", True, f"{version}, platform {PLATFORM}", fix)


def _try(path: str) -> str:
    """Run one program in a sandbox of its own (0.15 s): why that is not possible on this machine, "" if it is.

    Not tried by the spawner, which would inherit what is left of it, and was started only after it had gone well.
    """
    if syscalls.is_subreaper():
        return ""
    folder = f"{PLACE}/hearth-runsc-{os.getpid()}"
    os.mkdir(folder, 0o700)
    try:
        command = [path, f"--root={folder}", f"--platform={PLATFORM}", "--network=none", "--ignore-cgroups"]
        command += ["--overlay2=none", f"--log={folder}/log", "--log-format=json", "do", "/bin/true"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRIAL_TIMEOUT_S, check=False)
        if done.returncode == 0:
            return ""
        return first_error(f"{folder}/log") or done.stderr.strip()[:LOG_BYTES] or f"ended with {done.returncode}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def is_of_root_alone(path: str) -> bool:
    """Whether nobody but root can change a file, which root is to run. Raises OSError."""
    status = os.stat(path)
    return status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=False)
    return done.stdout + done.stderr


def group_limits(limits: Limits) -> Limits:
    """The limits of a sandbox's control group: gVisor itself is in it, with the threads it runs processes on."""
    return replace(
        limits,
        memory_bytes=limits.memory_bytes + MEMORY_BYTES,
        pids=limits.pids * PIDS_PER_PROCESS + OWN_PIDS,
    )


class Runsc(Oci):
    """Where the spawner keeps what runsc works with, and the steps in which a start differs (see `Oci`)."""

    def __init__(self, config: SpawnerConfig) -> None:
        super().__init__(config)
        for name in ("", "/own"):  # on the way to what gVisor shows, which it opens without the rights of root
            os.chmod(self.folder + name, 0o711)  # noqa: S103 - to pass through, nothing to read

    # ------------------------------------------------------------------------------------------ in the child

    def run(self, plan: Plan, report: socket.socket) -> None:
        """Have runsc make the sandbox, then stand for it until it ends. Never returns (see `inside.run`)."""
        step = "enter"
        code = 127
        try:
            inside.restore_signals()
            os.setsid()
            os.umask(0o022)
            step = "mounts"
            syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
            syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            self._lay_mounts(plan, report)
            step = "network"
            inside.network(plan, report)
            step = "cgroup"
            if report.recv(1) != GO:
                return
            step = "runsc"
            sentry = self._launch(plan, report)
            step = "identity"
            syscalls.close_range(0, report.fileno() - 1)  # a copy of a pipe or socket would hide the end of the others
            syscalls.close_range(report.fileno() + 1)
            syscalls.become(plan.host_uid, plan.host_uid)
            syscalls.prctl(syscalls.PR_SET_DUMPABLE, 0)
            syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of uid, which clears it
            os.write(report.fileno(), ENTERED)  # fails if the spawner died before the signal was set
            if plan.seccomp:
                syscalls.load_seccomp(plan.seccomp)
            report.close()
            code = _stand_for(sentry)
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the parent must hear it and this process end
            with contextlib.suppress(OSError):
                report.send(FAILED + f"{step}: {problem}".encode(errors="replace")[:800])
        finally:
            os._exit(code)

    def _lay_mounts(self, plan: Plan, report: socket.socket) -> None:
        """In the mount namespace of this sandbox alone: all that gVisor is to show, in the root folder."""
        spec = plan.request.spec
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
        syscalls.mount("proc", "/proc", "proc", flags | syscalls.MS_NOEXEC)  # of the new process namespace
        own = f"{self.folder}/own"
        document = json.dumps(runsc_config.document(plan, plan.oci_root, own))
        furnishing.own_files(plan, report, plan.oci_root, own, {"config.json": document})
        places = f"{plan.oci_root}/proc"  # gVisor makes what it mounts over, and could not make this
        syscalls.mount("tmpfs", places, "tmpfs", flags, "size=4k,nr_inodes=8,mode=755")
        os.close(os.open(f"{places}/meminfo", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
        syscalls.mount_setattr(syscalls.AT_FDCWD, places, root.READ_ONLY)
        self._mounts(plan)
        if spec.mount_point:
            later = plan.oci_root + runsc_config.folder_of(spec.mount_point)
            syscalls.mount("", later, None, syscalls.MS_REC | syscalls.MS_SHARED)  # what comes later reaches gVisor too

    def _launch(self, plan: Plan, report: socket.socket) -> int:
        """Have runsc make the sandbox: the pid of its kernel, in this namespace. Raises OSError in runsc's words."""
        id = plan.request.spec.id
        told, state = f"{self.folder}/told/{id}", f"{self.folder}/state/{id}"
        os.mkdir(state, 0o700)
        pid, _ = syscalls.clone(0)
        if pid == 0:
            self._become_runsc(plan, report, told, state)
        _, status = os.waitpid(pid, 0)
        if status != 0:
            raise OSError(first_error(f"{told}.log") or f"ended with status {status}")
        with open(f"{told}.pid") as file:
            return int(file.read())

    def _become_runsc(self, plan: Plan, report: socket.socket, told: str, state: str) -> NoReturn:
        kept = report.fileno()
        try:
            spec = plan.request.spec
            kept = inside.arrange_descriptors(plan, kept)
            # gVisor makes what is behind 1 non-blocking and would take that for the program's wish at 2
            os.dup2(os.open("/proc/self/fd/1", os.O_WRONLY | os.O_CLOEXEC), 2)
            syscalls.set_limit(resource.RLIMIT_CORE, inside.CORE_BYTES)
            passed = [*((3,) if spec.channel else ()), *plan.request.numbers]
            command = [self.program, f"--root={state}", f"--platform={PLATFORM}", "--ignore-cgroups"]
            command += [f"--network={'host' if spec.network is Network.GATE else 'none'}", "--overlay2=none"]
            command += ["--oci-seccomp"] if plan.seccomp else []
            command += [f"--log={told}.log", "--log-format=json", "run", "--detach"]
            command += [f"--bundle={self.folder}/own", f"--pid-file={told}.pid"]
            command += [*(f"--pass-fd={number}:{number}" for number in passed), spec.id]
            os.execve(self.program, command, {"PATH": PATH})  # noqa: S606 - without a shell
        except BaseException as problem:  # noqa: BLE001 - the parent process tells it
            with contextlib.suppress(OSError):
                os.write(kept, FAILED + f"runsc: {problem}".encode(errors="replace")[:800])
        finally:
            os._exit(127)


def _stand_for(sentry: int) -> int:
    """As the first process of the namespace: collect what ends in it, until the sandbox's kernel does; its exit code.

    The kernel ends the others with this process.
    """
    while True:
        pid, status = os.wait()
        if pid == sentry:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else SIGNALLED - code


def wait_status(status: int) -> int:
    """What a process that was ended by a signal would have left, of the status that the one that stands for it left."""
    code = os.waitstatus_to_exitcode(status)
    return code - SIGNALLED if SIGNALLED < code < SIGNALLED + signal.NSIG else status


def first_error(path: str) -> str:
    """The first error in runsc's log, objects of JSON that nothing separates: the rest follows from it; "" for none."""
    decoder = json.JSONDecoder()
    try:
        with open(path, errors="replace") as file:
            text = file.read(LOG_BYTES).strip()
        while text:
            line, end = decoder.raw_decode(text)
            if line.get("level") in ("error", "fatal"):
                return str(line.get("msg"))
            text = text[end:].lstrip()
    except (OSError, ValueError, AttributeError):
        return ""
    return ""
