"""The driver `docker`: sandboxes whose system is a Docker image, with the spawner, limits and gate of `ns` around them.

Docker makes a container of the image, whose only process is the holder (see `holder`); it contributes the image's
files and the container's namespaces. A child of the spawner joins it, lays the sandbox's own mounts over the image,
and starts the program in it under the identity, limits, Landlock and seccomp rules of `ns`. A sandbox without an image
(unpacking, fetching sources) is made as by `ns`. Needs root and a daemon on this machine.
"""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterable
from typing import Any

from hearth.executor.sandbox import furnishing, holder, inside, root, syscalls, trees
from hearth.executor.sandbox.boxes import Box
from hearth.executor.sandbox.config import SpawnerConfig
from hearth.executor.sandbox.engine import Engine, EngineError
from hearth.executor.sandbox.errands import Errands
from hearth.executor.sandbox.plan import FAILED, GO, Plan
from hearth.executor.sandbox.spec import Facility, SandboxSpec

PLACE = "/run"
START_TIMEOUT_S = 60.0
"""How long a start may take; the daemon starts containers one after the other."""
LABEL = "hearth.server"
HOLDER_INSIDE = "/.hearth-holder"
HOLDER_MEMORY_BYTES = 16 << 20
HOLDER_USER = 65_534
"""Nobody: a function, which has a uid of its own, can do nothing to the process that holds its container."""
SCRATCH_INODES = 65_536
OWN = "/run"
"""Where a sandbox's own small tmpfs is while it is set up; empty afterwards."""
EMPTY = f"{OWN}/empty"
OWN_FILES = ("passwd", "group", "hosts", "resolv.conf")
HIDDEN_FOLDERS = ("/sys", "/root", "/home", "/boot", "/media", "/srv")
"""Folders of an image that are shown empty: they are no part of a sandbox's documented root."""


def facility(config: SpawnerConfig) -> list[Facility]:
    """Is there a daemon to use, and are the images there? Only asked when the driver is `docker`."""
    other = "or use the driver ns (HEARTH_SANDBOX_DRIVER=ns)"
    if os.geteuid() != 0 or config.outer_uids:
        return [Facility("docker", False, "the driver docker needs root", f"start hearth as root, {other}")]
    engine = Engine(config.docker_socket)
    try:
        version = engine.version()
        missing = [image for image in config.images if not engine.has_image(image)]
    except EngineError as problem:
        fix = f"start Docker, name its socket (HEARTH_DOCKER_SOCKET), {other}"
        return [Facility("docker", False, str(problem), fix)]
    found = [Facility("docker", True, f"Docker {version} at {config.docker_socket}")]
    detail = (
        f"not on this machine: {', '.join(missing)}" if missing else f"{len(config.images)} of {len(config.images)}"
    )
    pull = "; ".join(f"docker pull {image}" for image in missing)
    found.append(Facility("images", not missing, detail, pull, mandatory=False))
    return found


class Docker:
    """Where the spawner keeps what it needs for containers, and the steps in which a start differs from `ns`."""

    def __init__(self, config: SpawnerConfig, errands: Errands) -> None:
        """Remove what a dead server left. Raises OSError."""
        self._label = f"{LABEL}={config.group_name()}"
        self._prefix = config.group_name()
        self._folder = f"{PLACE}/{self._prefix}-docker"
        self._engine = Engine(config.docker_socket)
        self._errands = errands
        self._engine.sweep(self._label)
        shutil.rmtree(self._folder, ignore_errors=True)
        os.mkdir(self._folder, 0o711)
        self._holder = f"{self._folder}/holder"
        with open(self._holder, "wb") as file:
            file.write(holder.program())
        os.chmod(self._holder, 0o555)  # noqa: S103 - a program, for whoever the container's user is
        syscalls.prctl(syscalls.PR_SET_CHILD_SUBREAPER, 1)

    def close(self) -> None:
        """Remove what is left of this server's, once every sandbox has ended."""
        with contextlib.suppress(EngineError):
            self._engine.sweep(self._label)
        shutil.rmtree(self._folder, ignore_errors=True)

    def container_name(self, id: str) -> str:
        return f"{self._prefix}-{id}"

    # ------------------------------------------------------------------------------------------ in the child

    def run(self, plan: Plan, report: socket.socket) -> None:
        """Have a container made, join it and start the sandbox's program in it. Never returns (see `inside.run`)."""
        spec = plan.request.spec
        step = "enter"
        try:
            inside.restore_signals()
            os.setsid()
            os.umask(0o022)
            step = "container"
            told = os.open(f"{self._folder}/{spec.id}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            devices = [(name, root.copy_of(f"/dev/{name}", root.DEVICE)) for name in root.DEVICES]
            name = self.container_name(spec.id)
            self._engine.create(name, self._configuration(plan))
            environment = self._engine.image_environment(spec.image)
            held = self._engine.start(name)
            container = syscalls.pidfd_open(held)
            step = "cgroup"
            if report.recv(1) != GO:
                return
            step = "join"
            syscalls.setns(container, syscalls.CLONE_NEWPID)
            pid, _ = syscalls.clone(syscalls.CLONE_VFORK)  # goes on once the program runs, or could not be started
            if pid == 0:
                self._run_inside(plan, report, container, devices, environment)
            os.write(told, f"{pid} {held}".encode())
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the parent must hear it and this process end
            with contextlib.suppress(OSError):
                report.send(FAILED + f"{step}: {problem}".encode(errors="replace")[:800])
            os._exit(127)
        finally:
            os._exit(0)

    def _run_inside(
        self,
        plan: Plan,
        report: socket.socket,
        container: int,
        devices: Iterable[tuple[str, int]],
        environment: dict[str, str],
    ) -> None:
        """In the container's process namespace: join the others and become the program. Never returns."""
        step = "join"
        progress = inside.Progress(report.fileno())
        try:
            others = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS
            syscalls.setns(container, others)
            step = "network"
            inside.network(plan, report)
            step = "mounts"
            _lay_mounts(plan, report, devices)
            step = "start"
            if plan.use_cgroups:
                syscalls.unshare(syscalls.CLONE_NEWCGROUP)
            inside.confine_and_run(plan, progress, _merged(environment, plan.request.spec), dies_with_parent=False)
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the parent must hear it and this process end
            with contextlib.suppress(OSError):
                os.write(progress.kept, FAILED + f"{progress.step or step}: {problem}".encode()[:800])
        finally:
            os._exit(127)

    def _configuration(self, plan: Plan) -> dict[str, Any]:
        """What Docker is told of a container: places for mounts, and nothing that the holder could use."""
        spec = plan.request.spec
        folders = {OWN, "/tmp", *spec.scratch, *(m.target for m in plan.mounts if m.folder)}  # noqa: S108 - inside
        if spec.mount_point:
            folders.add(spec.mount_point)
        files = ["/etc/passwd", "/etc/group", *(mount.target for mount in plan.mounts if not mount.folder)]
        return {
            "Image": spec.image,
            "Entrypoint": [HOLDER_INSIDE],
            "Cmd": [],
            "User": f"{HOLDER_USER}:{HOLDER_USER}",
            "WorkingDir": "/",
            "Hostname": root.HOST_NAME,
            "Labels": {LABEL: self._prefix},
            "Healthcheck": {"Test": ["NONE"]},
            "HostConfig": {
                "AutoRemove": True,
                "Binds": [f"{self._holder}:{target}:ro" for target in (HOLDER_INSIDE, *files)],
                "Tmpfs": dict.fromkeys(sorted(folders), "size=4k,mode=755"),
                "NetworkMode": "none",
                "IpcMode": "private",
                "CgroupnsMode": "private",
                "UsernsMode": "host",
                "ReadonlyRootfs": True,
                "CapDrop": ["ALL"],
                "SecurityOpt": ["no-new-privileges:true"],
                "Memory": HOLDER_MEMORY_BYTES,
                "PidsLimit": 8,
                "OomScoreAdj": inside.OOM_SCORE_ADJUSTMENT,
                "LogConfig": {"Type": "none"},
            },
        }

    # ------------------------------------------------------------------------------------------ in the spawner

    def adopt(self, box: Box) -> bool:
        """After the launching child has ended well: make the program the box's process; False with its problem set."""
        try:
            with open(f"{self._folder}/{box.id}") as file:
                pid, held = map(int, file.read().split())
            box.holder_fd = syscalls.pidfd_open(held)
            box.pidfd = syscalls.pidfd_open(pid)
            box.pid = pid
        except (OSError, ValueError) as problem:
            box.problem = box.problem or f"docker: {problem}"
            return False
        return True

    def forget(self, box: Box) -> None:
        """Remove the container of a sandbox that has ended, in a child process."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._folder}/{box.id}")
        name = self.container_name(box.id)
        self._errands.run(lambda: self._engine.remove(name), lambda problem: None)


def end_holder(box: Box) -> None:
    """Kill the first process of a container, if there is one: the kernel ends all others with it."""
    if box.holder_fd >= 0:
        syscalls.pidfd_kill(box.holder_fd)
        os.close(box.holder_fd)
        box.holder_fd = -1


def sweep(config: SpawnerConfig) -> None:
    """Remove every container of this data folder's server: after the spawner's death."""
    with contextlib.suppress(EngineError):
        Engine(config.docker_socket).sweep(f"{LABEL}={config.group_name()}")
    shutil.rmtree(f"{PLACE}/{config.group_name()}-docker", ignore_errors=True)


def _merged(image: dict[str, str], spec: SandboxSpec) -> dict[str, str]:
    """The environment of the program: the image's, then the sandbox's, but the PATH is the image's if it has one."""
    merged = image | dict(spec.environment)
    if "PATH" in image:
        merged["PATH"] = image["PATH"]
    return merged


def _lay_mounts(plan: Plan, report: socket.socket, devices: Iterable[tuple[str, int]]) -> None:
    """Make of the container's files the root of a sandbox: read-only, with a /dev, /proc and files of our own.

    What Docker has mounted (its own /etc/hosts, volumes of the image) stays below and becomes read-only too.
    """
    spec = plan.request.spec
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    for folder in ("/proc", "/sys", "/dev"):
        syscalls.umount(folder)  # with all below it, control groups among it
    syscalls.mount_setattr(syscalls.AT_FDCWD, "/", root.READ_ONLY, recursive=True)
    syscalls.mount("tmpfs", OWN, "tmpfs", flags, "size=1m,nr_inodes=512,mode=755")
    os.mkdir(EMPTY, 0o755)
    contents = furnishing.own_contents(plan)
    for name, content in contents.items():
        with open(f"{OWN}/{name}", "w") as file:
            file.write(content)
    if spec.mount_point:
        furnishing.lend_meminfo(f"{OWN}/meminfo", report)
    # a function does not see the process that holds its container, which is another user's
    syscalls.mount("proc", "/proc", "proc", flags | syscalls.MS_NOEXEC, "hidepid=2")
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(inside.OOM_SCORE_ADJUSTMENT))
    syscalls.mount_setattr(syscalls.AT_FDCWD, OWN, root.READ_ONLY)
    _make_devices(devices)
    furnishing.mask_proc(plan.template, EMPTY)
    for name in OWN_FILES:
        if os.path.isfile(f"/etc/{name}"):
            furnishing.cover(f"{OWN}/{name}", f"/etc/{name}")
    furnishing.cover(f"{OWN}/meminfo", "/proc/meminfo")
    for folder in HIDDEN_FOLDERS:
        if os.path.isdir(folder) and not os.path.islink(folder):
            furnishing.cover(EMPTY, folder)
    places = {*(mount.target for mount in plan.mounts), *spec.scratch, *filter(None, (spec.mount_point, "/tmp"))}  # noqa: S108
    for target in places:
        syscalls.umount(target)  # what Docker was told to mount there, so that there is a place
    scratch = f"size={spec.limits.memory_bytes},nr_inodes={SCRATCH_INODES}"
    for target, options in (*furnishing.temporary_folders(spec.limits), *((one, scratch) for one in spec.scratch)):
        syscalls.mount("tmpfs", target, "tmpfs", flags, f"{options},mode=1777")
    for mount in plan.mounts:
        if mount.on_disk:
            root.attach_from_disk(mount, OWN, plan.server_uid)
        else:
            syscalls.move_mount(mount.fd, mount.target)
    syscalls.umount(OWN)
    for mount in plan.mounts:
        if mount.writable:
            trees.give(mount.target, plan.uid, plan.server_uid, plan.uid_range)


def _make_devices(devices: Iterable[tuple[str, int]]) -> None:
    """A /dev with the same few nodes as everywhere, over the container's."""
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.mount("tmpfs", "/dev", "tmpfs", flags, "size=64k,nr_inodes=64,mode=755")
    os.mkdir("/dev/shm", 0o1777)  # noqa: S108
    root.link_streams("")
    for name, device in devices:
        root.attach(device, f"/dev/{name}", folder=False)
    syscalls.mount_setattr(syscalls.AT_FDCWD, "/dev", root.READ_ONLY)
