"""The builder: source archive in, artifact out, with the user's commands between, all of it in sandboxes.

One build is two sandboxes over one work folder: the first unpacks the archive and has no network, the second runs
the steps of `hearth.runtimes.shims.build`. No byte of the user is unpacked, parsed or run in this process.
"""

import asyncio
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hearth.build.flow import LogFlow
from hearth.build.sandboxed import TIMEOUT, Ran, run_sandbox, settled
from hearth.executor.sandbox.spec import Driver, Limits, Mount, Network, Profile, SandboxFailed, SandboxSpec
from hearth.model.refusals import PlatformFault
from hearth.model.running import Artifact, BuildRequest, BuildResult
from hearth.ports import FileNotStored, Files
from hearth.runtimes.locations import SHIMS_FOLDER, SHIMS_INSIDE
from hearth.runtimes.packs import Pack, Packs
from hearth.runtimes.registries import Registries
from hearth.runtimes.shims.build import layout
from hearth.runtimes.shims.build.pack import too_large

log = structlog.get_logger(__name__)

MEBIBYTE = 1024 * 1024
#: The programs inside are ours and need the standard library only: the system's own Python, which every root has.
PYTHON = ("/usr/bin/python3", "-I", "-S")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

#: Exit code of the extract program for an archive that it refuses; its last line says why.
_REFUSED = 3
_LOST = -1  # SandboxExit.code of a sandbox nobody knows the end of
_EXTRACT_MEMORY_BYTES = 256 * MEBIBYTE
_BUILD_PIDS = 1024
_BUILD_TMP_BYTES = 256 * MEBIBYTE
#: A build is ended before the disk of this server is full for everybody else.
FREE_DISK_BYTES = 256 * MEBIBYTE
_DISK_FULL = "full disk"
#: What a build writes is below this folder of its work folder: a disk of its own where the machine can make one.
_DISK = "disk"


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Limits of one build beside those of its request. `disk_mb` counts source, packages and caches together.

    `output_content_bytes` bounds the files of the output, unpacked: no more than an executor unpacks.
    """

    disk_mb: int = 4096
    output_content_bytes: int = 1024 * MEBIBYTE
    source_bytes: int = 512 * MEBIBYTE
    source_entries: int = 50_000
    extract_timeout_s: float = 30.0

    @property
    def disk_bytes(self) -> int:
        """`disk_mb` in bytes."""
        return self.disk_mb * MEBIBYTE


class _Failed(Exception):
    """The build ends here, by the user's code or a limit; the text is for the user."""


class SandboxBuilder:
    """Implements `hearth.ports.Builder`. Safe for concurrent builds on one event loop.

    `data_dir` is the server's data folder: builds work below `work` in it, and `driver` may show it to sandboxes.
    """

    def __init__(
        self,
        driver: Driver,
        packs: Packs,
        files: Files,
        data_dir: Path,
        registries: Registries,
        settings: BuildSettings | None = None,
    ) -> None:
        self._driver = driver
        self._packs = packs
        self._files = files
        self._work = data_dir.resolve() / "work"
        self._registries = registries
        self._settings = settings or BuildSettings()
        self._active: set[str] = set()

    async def build(self, request: BuildRequest, on_log: Callable[[str], None]) -> BuildResult:
        """Run one build to its end. `on_log` gets pieces of the log as they come, with their newlines.

        A build the user's code fails is a BuildResult without artifact whose message is not in the log yet;
        PlatformFault means ours failed. If cancelled, both sandboxes are ended and the work folder is removed
        before the cancellation goes on.
        """
        deadline = asyncio.get_running_loop().time() + request.timeout_s
        flow = LogFlow(on_log)
        flow.say("Environment preparation started.")
        pack = self._packs.get(request.runtime)
        if pack is None:
            return BuildResult(None, _no_runtime(request.runtime))
        name = _work_name(request.deployment_id)
        work = self._work / name
        self._active.add(name)
        try:
            await asyncio.to_thread(self._prepare, work)
            await self._driver.make_disk(str(work / _DISK), self._settings.disk_bytes)
            await self._extract(request, work, flow, deadline)
            return await self._run(request, pack, work, flow, deadline)
        except _Failed as failed:
            return BuildResult(None, str(failed))
        except FileNotStored:
            return BuildResult(None, "The source of this deployment is not stored any more. Upload the code again.")
        except SandboxFailed as failed:
            raise PlatformFault(f"The sandbox of a build could not be started: {failed}") from failed
        finally:
            try:
                await settled(self._remove(work))
            finally:
                self._active.discard(name)

    async def sweep(self) -> None:
        """Remove the work folders that a killed server left. Called at the start, before the first build."""
        try:
            names = sorted(entry.name for entry in self._work.iterdir())
        except FileNotFoundError:
            return
        for name in names:
            if name not in self._active:
                await self._remove(self._work / name)

    async def _remove(self, work: Path) -> None:
        try:
            await self._driver.remove_tree(str(work))
        except Exception as error:
            # The build's result stands; the folder goes at the next start (`sweep`).
            log.exception("work folder not removed", folder=str(work), error=str(error))

    def _prepare(self, work: Path) -> None:
        """Create the work folder with what the sandboxes read of us, as other users and whatever our umask is."""
        folder = work / "registries"
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        for name, text in self._registries.files(layout.REGISTRIES).items():
            (folder / name).write_text(text, "utf-8")
            (folder / name).chmod(0o644)

    async def _extract(self, request: BuildRequest, work: Path, flow: LogFlow, deadline: float) -> None:
        """Unpack the source archive into the work folder, without network; raises _Failed if it is refused."""
        loop = asyncio.get_running_loop()
        settings = self._settings
        said: list[str] = []
        quiet = LogFlow(said.append)
        limit = min(deadline, loop.time() + settings.extract_timeout_s)
        async with self._files.local(request.source_key) as path:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                ran = await run_sandbox(
                    self._driver,
                    self._extract_spec(request, work, descriptor),
                    quiet,
                    deadline=limit,
                    stop_if=self._disk_guard(work),
                )
            finally:
                os.close(descriptor)
        if ran.exit.code == 0 and not ran.stopped:
            return
        last = _last_line("".join(said))
        if ran.stopped == TIMEOUT and limit < deadline:
            raise _Failed(
                f"The source archive could not be unpacked within {settings.extract_timeout_s:g} seconds. "
                "Upload a smaller one."
            )
        self._raise_limits(request, ran)
        if ran.exit.code == _REFUSED:
            raise _Failed(f"The source archive was refused: {last or 'it cannot be unpacked'}")
        raise PlatformFault(f"Unpacking a source archive ended with {_how(ran)}: {last}")

    def _extract_spec(self, request: BuildRequest, work: Path, descriptor: int) -> SandboxSpec:
        settings = self._settings
        bounds = ("--max-bytes", str(settings.source_bytes), "--max-entries", str(settings.source_entries))
        return SandboxSpec(
            id=f"{work.name}-x",
            profile=Profile.EXTRACT,
            argv=(*PYTHON, f"{SHIMS_INSIDE}/extract/extract.py", str(layout.ARTIFACT), layout.BUILD, *bounds),
            environment=_ENVIRONMENT,
            limits=Limits(
                memory_bytes=_EXTRACT_MEMORY_BYTES,
                cpus=max(request.cpus, 1.0),
                pids=16,
                file_size_bytes=settings.source_bytes,
            ),
            mounts=(
                Mount(str(SHIMS_FOLDER), SHIMS_INSIDE),
                Mount(str(work / _DISK / "build"), layout.BUILD, writable=True),
            ),
            descriptors={layout.ARTIFACT: descriptor},
            channel=False,
        )

    async def _run(self, request: BuildRequest, pack: Pack, work: Path, flow: LogFlow, deadline: float) -> BuildResult:
        """Run the steps in the build sandbox and take over the artifact."""
        async with self._files.scratch() as path:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                ran = await run_sandbox(
                    self._driver,
                    self._build_spec(request, pack, work, descriptor),
                    flow,
                    deadline=deadline,
                    request=json.dumps(self._inside(request, pack)).encode(),
                    stop_if=self._disk_guard(work),
                )
            finally:
                os.close(descriptor)
            warnings = self._judge(request, ran)
            size = path.stat().st_size
            if size == 0:
                raise _Failed("Build produced no output artifact.")
            if size > request.output_limit_bytes:
                raise _Failed(too_large(request.output_limit_bytes).message)
            digest = await settled(asyncio.to_thread(_digest, path))
            key = f"artifacts/{digest}"
            await self._files.adopt(key, path)
            return BuildResult(Artifact(key, digest, size), warnings=warnings)

    def _build_spec(self, request: BuildRequest, pack: Pack, work: Path, descriptor: int) -> SandboxSpec:
        return SandboxSpec(
            id=f"{work.name}-b",
            profile=Profile.BUILD,
            argv=(*PYTHON, f"{SHIMS_INSIDE}/build/build.py"),
            environment=_ENVIRONMENT,
            limits=Limits(
                memory_bytes=request.memory_mb * MEBIBYTE,
                cpus=request.cpus,
                pids=_BUILD_PIDS,
                tmp_bytes=_BUILD_TMP_BYTES,
                file_size_bytes=max(self._settings.disk_bytes, request.output_limit_bytes),
            ),
            mounts=(
                Mount(str(SHIMS_FOLDER), SHIMS_INSIDE),
                *(Mount(source, target) for source, target in pack.mounts),
                Mount(str(work / "registries"), layout.REGISTRIES),
                Mount(str(work / _DISK / "build"), layout.BUILD, writable=True),
                Mount(str(work / _DISK / "home"), layout.HOME, writable=True),
            ),
            network=Network.GATE,
            working_folder=layout.BUILD,
            descriptors={layout.ARTIFACT: descriptor},
            root=pack.root,
        )

    def _inside(self, request: BuildRequest, pack: Pack) -> dict[str, Any]:
        """The request as the build program gets it (see `hearth.runtimes.shims.build.steps.build`)."""
        return {
            "family": pack.family,
            "interpreter": pack.interpreter,
            "path": list(pack.path),
            "pack_environment": dict(pack.environment),
            "commands": request.commands,
            "entrypoint": request.entrypoint,
            "environment": dict(request.environment),
            "registries": self._registries.environment(layout.REGISTRIES),
            "disk_bytes": self._settings.disk_bytes,
            "output_limit_bytes": request.output_limit_bytes,
            "content_bytes": self._settings.output_content_bytes,
        }

    def _judge(self, request: BuildRequest, ran: Ran) -> tuple[str, ...]:
        """The warnings of a build that succeeded; raises _Failed or PlatformFault for one that did not."""
        answer = _parsed(ran.answer)
        if ran.exit.code == 0 and not ran.stopped and answer.get("ok") is True:
            warnings = answer.get("warnings")
            return tuple(str(item) for item in warnings[:20]) if isinstance(warnings, list) else ()
        message = str(answer.get("message", ""))
        if answer.get("reason") == "broken":
            raise PlatformFault(f"The build program failed: {message}")
        code = answer.get("exit_code")
        self._raise_limits(request, ran, f"Build failed with exit code {code}. " if code else "")
        if not message:
            message = f"Build ended unexpectedly with {_how(ran)}. Build again; if it happens again, tell the operator."
        if ran.exit.pids_exhausted:
            message += f" It reached its limit of {_BUILD_PIDS} processes and threads."
        raise _Failed(message)

    def _raise_limits(self, request: BuildRequest, ran: Ran, said: str = "") -> None:
        """Raise _Failed if time, memory or the server's disk ended it; `said` goes before what is said of memory.

        Raises PlatformFault if the sandbox was lost with the driver's processes.
        """
        if ran.stopped == TIMEOUT:
            raise _Failed(
                f"Build timed out after {request.timeout_s:g} seconds, the limit of this server "
                "(HEARTH_BUILD_TIMEOUT). Do less in the build commands or let the operator raise it."
            )
        if ran.stopped == _DISK_FULL:
            raise _Failed("The disk of this server is nearly full, so the build was ended. Tell its operator.")
        if ran.exit.code == _LOST:
            raise PlatformFault("A build's sandbox was lost: the process that keeps sandboxes ended.")
        if ran.exit.out_of_memory:
            raise _Failed(
                f"{said}Build ran out of memory: it may use {request.memory_mb} MB. Choose a larger build "
                "specification for the function, or use less memory in the build commands."
            )

    def _disk_guard(self, work: Path) -> Callable[[], str]:
        def look() -> str:
            free = os.statvfs(work)
            return _DISK_FULL if free.f_bavail * free.f_frsize < FREE_DISK_BYTES else ""

        return look


def _work_name(deployment_id: str) -> str:
    """A name for a build's folder and sandboxes: who it is for, and unique."""
    plain = re.sub(r"[^a-z0-9-]", "-", deployment_id.lower())[:36]
    return f"build-{plain}-{secrets.token_hex(4)}"


def _no_runtime(id: str) -> str:
    return (
        f"The runtime {id} is not installed on this server, so nothing can be built for it. "
        f"`hearth runtimes install {id}` installs it where there is a pack; `hearth runtimes list` shows what there is."
    )


def _parsed(answer: bytes) -> dict[str, Any]:
    """The build program's answer, `{}` if there is none that makes sense: it comes from inside."""
    try:
        parsed = json.loads(answer)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _how(ran: Ran) -> str:
    return f"exit code {ran.exit.code}" if ran.exit.signal is None else f"signal {ran.exit.signal}"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:1000] if lines else ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
