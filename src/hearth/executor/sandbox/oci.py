"""The driver `oci`: sandboxes made by runc, with the spawner, the bounds, the limits and the gate of `ns`.

The spawner prepares everything as for `ns`: the root folder, the sandbox's own files and mounts, its control group and
its network. A child of it then becomes `runc run --detach`, and the container's first process becomes the spawner's
child. Needs root and the program runc; the configuration is written by `hearth.executor.sandbox.oci_config`.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable

from hearth.executor.sandbox import cgroups, furnishing, inside, oci_config, root, syscalls, trees
from hearth.executor.sandbox.boxes import Box
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.plan import ENTERED, FAILED, GO, Plan
from hearth.executor.sandbox.spec import Facility

PLACE = "/run"
LAUNCH_PIDS = 128
"""Processes and threads that runc itself may need while it starts a sandbox; the sandbox's own limit follows."""
LOG_BYTES = 4_096


def facility(path: str) -> Facility:
    """Is there a runc to use? Only asked when the driver is `oci`."""
    fix = "apt-get install runc, or use the driver ns (HEARTH_SANDBOX_DRIVER=ns)"
    if os.geteuid() != 0:
        return Facility("runc", False, "the driver oci needs root", "start hearth as root, or use the driver ns")
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as problem:
        return Facility("runc", False, str(problem), fix)
    return Facility("runc", True, done.stdout.split("\n")[0], fix)


class Oci:
    """Where the spawner keeps what runc works with, and the steps in which a start differs from `ns`.

    `folder` is on the host's /run, for root only: `root` and `root-N` (the root folders of sandboxes), `own` (where a
    sandbox's own files are mounted, in the mount namespace of its start only), `state` (runc's) and `told` (what runc
    says).
    """

    def __init__(self, config: SpawnerConfig) -> None:
        """Remove what a dead server left, and assemble the root folder in a mount namespace of the spawner's own."""
        self.program = config.oci_runtime
        self.folder = f"{PLACE}/{config.group_name()}"
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("", "/root", "/own", "/stage", "/state", "/told"):
            os.mkdir(self.folder + name, 0o700)
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
        self.root = f"{self.folder}/root"
        root.assemble(self.root)
        self._roots = [self.root]
        self._made = 0

    def add_root(self, system: int) -> str:
        """Assemble a root folder with another system (see `root.assemble`); returns where. Raises OSError."""
        self._made += 1
        folder = f"{self.folder}/root-{self._made}"
        os.mkdir(folder, 0o700)
        root.assemble(folder, system=system)
        self._roots.append(folder)
        return folder

    def drop_root(self, folder: str) -> None:
        """Take an assembled root folder down; sandboxes made of it have copies of their own."""
        self._roots.remove(folder)
        with contextlib.suppress(OSError):
            syscalls.umount(folder)

    def close(self) -> None:
        for folder in self._roots:
            with contextlib.suppress(OSError):
                syscalls.umount(folder)
        shutil.rmtree(self.folder, ignore_errors=True)

    # ------------------------------------------------------------------------------------------ in the child

    def run(self, plan: Plan, report: socket.socket) -> None:
        """Become runc, starting the sandbox. Never returns (see `inside.run`)."""
        step = "enter"
        kept = report.fileno()
        try:
            inside.restore_signals()
            os.setsid()
            os.umask(0o022)
            step = "mounts"
            syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
            syscalls.mount("", "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
            own = f"{self.folder}/own"
            highest = max((3 if plan.request.spec.channel else 2, *plan.request.numbers))
            document = json.dumps(oci_config.document(plan, plan.oci_root, own))
            furnishing.own_files(plan, report, plan.oci_root, own, {"config.json": document})
            self._mounts(plan)
            step = "network"
            inside.network(plan, report)
            step = "cgroup"
            if report.recv(1) != GO:
                return
            step = "descriptors"
            kept = inside.arrange_descriptors(plan, report.fileno(), fill=True)
            os.write(kept, ENTERED)
            step = "exec runc"
            id = plan.request.spec.id
            told = f"{self.folder}/told/{id}"
            command = [
                self.program,
                "--root",
                f"{self.folder}/state",
                "--log",
                f"{told}.log",
                "--log-format",
                "json",
                "run",
            ]
            command += ["--detach", "--bundle", own, "--pid-file", f"{told}.pid", "--no-new-keyring"]
            command += ["--preserve-fds", str(highest - 2), id]
            environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR": self.folder}
            os.execve(self.program, command, environment)  # noqa: S606 - without a shell
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the parent must hear it and this process end
            with contextlib.suppress(OSError):
                os.write(kept, FAILED + f"{step}: {problem}".encode(errors="replace")[:800])
        finally:
            os._exit(127)

    def _mounts(self, plan: Plan) -> None:
        """Attach the sandbox's mounts in the root folder, as this process alone sees it."""
        for mount in plan.mounts:
            target = plan.oci_root + mount.target
            if mount.on_disk:
                root.attach_from_disk(mount, f"{self.folder}/stage", plan.server_uid, target)
            else:
                syscalls.move_mount(mount.fd, target)
            if mount.writable:
                trees.give(target, plan.uid, plan.server_uid, plan.uid_range)

    # ------------------------------------------------------------------------------------------ in the spawner

    def adopt(self, box: Box) -> bool:
        """After runc has ended well: make the container's first process the box's; False with its problem set."""
        told = f"{self.folder}/told/{box.id}"
        try:
            with open(f"{told}.pid") as file:
                pid = int(file.read())
            box.pidfd = syscalls.pidfd_open(pid)
            box.pid = pid
        except (OSError, ValueError) as problem:
            box.problem = box.problem or self._said(box.id) or f"runc: {problem}"
            return False
        return True

    def refused(self, box: Box) -> str:
        """Why runc did not start a sandbox, in its own words."""
        return self._said(box.id) or "runc: ended without a word"

    def _said(self, id: str) -> str:
        try:
            with open(f"{self.folder}/told/{id}.log") as file:
                lines = [json.loads(line) for line in file.read(LOG_BYTES).splitlines()]
        except (OSError, ValueError):
            return ""
        failures = [str(line.get("msg")) for line in lines if line.get("level") in ("error", "fatal")]
        return f"runc: {failures[-1]}" if failures else ""

    def forget(self, box: Box) -> None:
        """Remove what runc keeps of a sandbox that has ended."""
        shutil.rmtree(f"{self.folder}/state/{box.id}", ignore_errors=True)
        for kind in ("pid", "log"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.folder}/told/{box.id}.{kind}")


def start_guard(config: SpawnerConfig, keep: int, afterwards: Callable[[], None]) -> None:
    """Start a process that ends every sandbox if this one is killed: containers have no tie to it of their own.

    Called before the spawner adopts orphans. It holds `keep`, the lock of the data folder, until it is done, so that
    the next server waits for it. `afterwards` is called last.
    """
    watched = syscalls.pidfd_open(os.getpid())
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        os.close(watched)
        return
    try:
        if os.fork():
            os._exit(0)  # so that it is no child of the spawner's
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        low, high = sorted((watched, keep))
        if low:
            syscalls.close_range(0, low - 1)
        if high > low + 1:
            syscalls.close_range(low + 1, high - 1)
        syscalls.close_range(high + 1)
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        poll.poll()
        if "cgroups" not in config.weaken:
            cgroups.Cgroups(config.group_name()).sweep()
        shutil.rmtree(f"{PLACE}/{config.group_name()}", ignore_errors=True)
        afterwards()
    finally:
        os._exit(0)
