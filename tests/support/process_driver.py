"""A driver for tests: plain processes in a mount namespace of their own, and no isolation worth the name.

It exists so that executor, shims and extraction can be tested without root's real sandboxes: what a spec mounts is
where it says, a process group stands for the process tree, and nothing else of `SandboxSpec` is enforced.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from hearth.executor.sandbox.spec import Facility, Limits, Mount, Sandbox, SandboxExit, SandboxFailed, SandboxSpec

#: Mounts lie below these folders; each is covered by a tmpfs of the namespace first.
_COVERED = ("/usr/local", "/mnt", "/opt")

_SCRIPT = """
set -e
folder=$1; point=$2; count=$3; shift 3
for covered in $COVERED; do mount -t tmpfs none $covered; done
while [ "$count" -gt 0 ]; do
    if [ -d "$1" ]; then mkdir -p "$2"; else mkdir -p "${2%/*}"; : >"$2"; fi
    mount --bind "$1" "$2"; [ "$3" = rw ] || mount -o remount,bind,ro "$2"
    shift 3; count=$((count - 1))
done
[ -z "$point" ] || mkdir -p "$point"
mkdir -p "$folder"; cd "$folder"; unset COVERED PWD OLDPWD SHLVL _
exec "$@"
"""


class ProcessSandbox:
    """Implements `Sandbox` with one process group."""

    def __init__(self, id: str, pid: int, channel: socket.socket | None, output: int, mount_point: str) -> None:
        self.id = id
        self.mount_point = mount_point
        self.limits: list[Limits] = []
        """What it was retuned to."""
        self.pid = pid
        self.channel = channel
        self.output = output
        self.meter = None
        self._exit: asyncio.Future[SandboxExit] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = os.waitpid(self.pid, 0)[1]
        self._kill_group()
        if os.WIFSIGNALED(status):
            self._exit.set_result(SandboxExit(code=None, signal=os.WTERMSIG(status)))
        else:
            self._exit.set_result(SandboxExit(code=os.WEXITSTATUS(status), signal=None))

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    async def wait(self) -> SandboxExit:
        return await asyncio.shield(self._exit)

    async def kill(self) -> SandboxExit:
        if not self._exit.done():
            self._kill_group()
        return await self.wait()

    async def freeze(self, frozen: bool) -> None:
        os.killpg(self.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    async def mount(self, mount: Mount) -> None:
        if self.mount_point != mount.target:
            raise SandboxFailed("mount: not possible, or done already")
        self.mount_point = ""
        if not Path(mount.source).is_dir():
            raise SandboxFailed(f"mount: {mount.source} is no folder")
        script = 'mount --bind "$0" "$1" && mount -o remount,bind,ro "$1"'
        command = ["nsenter", "--target", str(self.pid), "--mount", "--user", "--preserve-credentials"]
        command = ["nsenter", "--target", str(self.pid), "--mount"] if os.geteuid() == 0 else command
        process = await asyncio.create_subprocess_exec(*command, "sh", "-c", script, mount.source, mount.target)
        if await process.wait():
            raise SandboxFailed(f"mount: exit code {process.returncode}")

    async def limit_egress(self, allow: Sequence[str]) -> None:
        """There is no gate: what this driver runs may connect anywhere."""

    async def retune(self, limits: Limits) -> None:
        self.limits.append(limits)


class ProcessDriver:
    """Implements `Driver`. `started` keeps every spec; `sandboxes` what has been started."""

    def __init__(self) -> None:
        self.started: list[SandboxSpec] = []
        self.sandboxes: list[ProcessSandbox] = []

    async def start(self, spec: SandboxSpec) -> Sandbox:
        self.started.append(spec)
        for mount in spec.mounts:
            if mount.writable:
                Path(mount.source).mkdir(parents=True, exist_ok=True)
            elif not Path(mount.source).exists():
                raise SandboxFailed(f"mount: {mount.source} does not exist")
        ours, theirs = socket.socketpair() if spec.channel else (None, None)
        output, output_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        wanted = {1: output_write, 2: output_write, **spec.descriptors}
        if theirs is not None:
            wanted[3] = theirs.fileno()
        # Out of the way of the numbers they are to have.
        moved = {number: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 200) for number, source in wanted.items()}
        actions: list[tuple[object, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, source, number) for number, source in moved.items()]
        try:
            pid = os.posix_spawn(  # noqa: ASYNC221 - returns at once
                "/usr/bin/unshare",
                _command(spec),
                {**spec.environment, "COVERED": " ".join(_COVERED)},
                file_actions=actions,
                setsid=True,
            )
        except OSError as problem:
            raise SandboxFailed(f"spawn: {problem}") from problem
        finally:
            for descriptor in (*moved.values(), output_write):
                os.close(descriptor)
            if theirs is not None:
                theirs.close()
        if ours is not None:
            ours.setblocking(False)
        sandbox = ProcessSandbox(spec.id, pid, ours, output, spec.mount_point)
        self.sandboxes.append(sandbox)
        return sandbox

    async def make_disk(self, path: str, size_bytes: int) -> bool:
        return False

    async def remove_tree(self, path: str) -> None:
        shutil.rmtree(path)

    async def facilities(self) -> Sequence[Facility]:
        return ()

    async def close(self) -> None:
        for sandbox in self.sandboxes:
            await sandbox.kill()


def _command(spec: SandboxSpec) -> list[str]:
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mounts = [word for mount in spec.mounts for word in (mount.source, mount.target, "rw" if mount.writable else "ro")]
    return [
        "/usr/bin/unshare", *as_root, "--mount", "/bin/sh", "-c", _SCRIPT, "sh",
        spec.working_folder, spec.mount_point, str(len(spec.mounts)), *mounts, *spec.argv,
    ]  # fmt: skip
