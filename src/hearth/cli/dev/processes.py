"""A driver without sandboxes: an instance is a child process with the developer's own rights.

What a sandbox would show at a path inside is read at its real path: a path that begins with that of a mount is
rewritten. Nothing else of a `SandboxSpec` holds: no limits, no network rules, no user of its own.
"""

import asyncio
import fcntl
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hearth.executor.sandbox.spec import Facility, Limits, Mount, Sandbox, SandboxExit, SandboxFailed, SandboxSpec


class PlainProcess:
    """Implements `Sandbox` with one session of processes."""

    def __init__(self, id: str, pid: int, channel: socket.socket, output: int) -> None:
        self.id = id
        self.channel: socket.socket | None = channel
        self.output = output
        self.meter = None
        self._pid = pid
        self._exit: asyncio.Future[SandboxExit] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    async def wait(self) -> SandboxExit:
        return await asyncio.shield(self._exit)

    async def kill(self) -> SandboxExit:
        if not self._exit.done():
            self._end_session()
        return await self.wait()

    async def freeze(self, frozen: bool) -> None:
        os.killpg(self._pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    async def mount(self, mount: Mount) -> None:
        raise SandboxFailed("mount: a plain process has no folders of its own")

    async def limit_egress(self, allow: Sequence[str]) -> None:
        raise SandboxFailed("egress: a plain process has no gate")

    async def retune(self, limits: Limits) -> None:
        raise SandboxFailed("retune: a plain process has no limits")

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self._end_session()
        self._exit.set_result(SandboxExit(None, -code) if code < 0 else SandboxExit(code, None))

    def _end_session(self) -> None:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            return


class PlainDriver:
    """Implements `Driver`. `replaced` are words of a command to be exchanged, `environment` is added to each."""

    def __init__(
        self, working_folder: Path, replaced: Mapping[str, Sequence[str]], environment: Mapping[str, str]
    ) -> None:
        self._working_folder = working_folder
        self._replaced = replaced
        self._environment = environment
        self._started: list[PlainProcess] = []

    async def start(self, spec: SandboxSpec) -> Sandbox:
        if spec.root:
            raise SandboxFailed("this runtime needs a sandbox")
        argv = [real_path(word, spec.mounts) for each in spec.argv for word in self._replaced.get(each, (each,))]
        environment = {name: real_path(value, spec.mounts) for name, value in spec.environment.items()}
        ours, theirs = socket.socketpair()
        output, output_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(output, False)
        # Out of the way of the numbers they are to have.
        wanted = {1: output_write, 2: output_write, 3: theirs.fileno()}
        moved = {number: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, 10) for number, source in wanted.items()}
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, source, number) for number, source in moved.items()]
        try:
            pid = os.posix_spawn(  # noqa: ASYNC221 - returns at once
                "/bin/sh",
                ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(self._working_folder), *argv],
                {**environment, **self._environment},
                file_actions=actions,
                setsid=True,
            )
        except OSError as error:
            ours.close()
            os.close(output)
            raise SandboxFailed(f"{argv[0]}: {error}") from error
        finally:
            for descriptor in (*moved.values(), output_write):
                os.close(descriptor)
            theirs.close()
        ours.setblocking(False)
        started = PlainProcess(spec.id, pid, ours, output)
        self._started = [each for each in self._started if not each._exit.done()] + [started]
        return started

    async def make_disk(self, path: str, size_bytes: int) -> bool:
        return False

    async def remove_tree(self, path: str) -> None:
        raise SandboxFailed("a plain driver makes no folders")

    async def facilities(self) -> Sequence[Facility]:
        return ()

    async def close(self) -> None:
        for each in self._started:
            await each.kill()


def real_path(text: str, mounts: Sequence[Mount]) -> str:
    """Each part of a `:` list that lies below a mount, at its path outside."""
    return ":".join(_outside(part, mounts) for part in text.split(":"))


def _outside(path: str, mounts: Sequence[Mount]) -> str:
    for mount in sorted(mounts, key=lambda mount: -len(mount.target)):
        if path == mount.target or path.startswith(f"{mount.target}/"):
            return mount.source + path[len(mount.target) :]
    return path
