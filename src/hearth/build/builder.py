"""The builder: source archive in, artifact out, with the user's commands between, all of it in sandboxes.

One build is two sandboxes over one work folder: the first unpacks the archive and has no network, the second runs
the steps of `hearth.runtimes.shims.build`. No byte of the user is unpacked, parsed or run in this process.
"""

import asyncio
import functools
import hashlib
import json
import os
import re
import secrets
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hearth.build.cache import BuildCache, CacheKey
from hearth.build.flow import LogFlow
from hearth.build.masking import Mask, MaskedLog
from hearth.build.sandboxed import TIMEOUT, run_sandbox, settled
from hearth.build.verdicts import BUILD_PIDS, DISK_FULL, Failed, answer_of, how, judged, raise_limits
from hearth.executor.sandbox.spec import Driver, Limits, Mount, Network, Profile, SandboxFailed, SandboxSpec
from hearth.model.refusals import PlatformFault
from hearth.model.running import Artifact, BuildRequest, BuildResult
from hearth.ports import FileNotStored, Files
from hearth.runtimes.families import OPEN_RUNTIMES
from hearth.runtimes.locations import SHIMS_FOLDER, SHIMS_INSIDE
from hearth.runtimes.packs import Pack, Packs
from hearth.runtimes.registries import Registries
from hearth.runtimes.shims.build import layout
from hearth.runtimes.shims.build.installs import is_off
from hearth.runtimes.shims.build.pack import too_large

log = structlog.get_logger(__name__)

MEBIBYTE = 1024 * 1024
#: The programs inside are ours and need the standard library only: the system's own Python, which every root has.
PYTHON = ("/usr/bin/python3", "-I", "-S")
PYTHON_OF_IMAGE = ("/usr/bin/env", "python3", "-I", "-S")  # wherever its PATH leads to
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}

#: Exit code of the extract program for an archive that it refuses; its last line says why.
_REFUSED = 3
#: The last line of a source that names what it wants installed.
_MANIFESTS = re.compile(r"manifests ([0-9a-f]{64})")
_EXTRACT_MEMORY_BYTES = 256 * MEBIBYTE
_BUILD_TMP_BYTES = 256 * MEBIBYTE
#: A variable of a project or function: its builds neither use nor fill the build cache.
CACHE_SWITCH = "HEARTH_BUILD_CACHE"
#: A build is ended before the disk of this server is full for everybody else.
FREE_DISK_BYTES = 256 * MEBIBYTE
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
        cache: BuildCache | None = None,
    ) -> None:
        self._driver = driver
        self._packs = packs
        self._files = files
        self._work = data_dir.resolve() / "work"
        self._registries = registries
        self._settings = settings or BuildSettings()
        self._cache = cache
        self._active: set[str] = set()

    async def build(self, request: BuildRequest, on_log: Callable[[str], None]) -> BuildResult:
        """Run one build to its end. `on_log` gets pieces of the log as they come, with their newlines.

        A build the user's code fails is a BuildResult without artifact whose message is not in the log yet;
        PlatformFault means ours failed. If cancelled, both sandboxes are ended and the work folder is removed
        before the cancellation goes on.
        """
        deadline = asyncio.get_running_loop().time() + request.timeout_s
        mask = Mask(request.secrets)
        masked = MaskedLog(on_log, mask)
        flow = LogFlow(masked.write)
        flow.say("Environment preparation started.")
        pack = self._packs.get(request.runtime)
        if pack is None:
            return BuildResult(None, _no_runtime(request.runtime))
        name = _work_name(request.deployment_id)
        work = self._work / name
        self._active.add(name)
        try:
            await asyncio.to_thread(self._prepare, work)
            await asyncio.to_thread(reads_zstd)  # asked once
            await self._driver.make_disk(str(work / _DISK), self._settings.disk_bytes)
            manifests = await self._extract(request, work, flow, deadline)
            key = self._cache_key(request, pack, manifests)
            return await self._run(request, pack, work, flow, deadline, key)
        except Failed as failed:
            return BuildResult(None, mask.hide(str(failed)))
        except FileNotStored:
            return BuildResult(None, "The source of this deployment is not stored any more. Upload the code again.")
        except SandboxFailed as failed:
            raise PlatformFault(f"The sandbox of a build could not be started: {failed}") from failed
        finally:
            masked.close()
            try:
                await settled(self._remove(work))
            finally:
                self._active.discard(name)

    async def sweep(self) -> None:
        """Remove the work folders that a killed server left, and what is old. Called at the start, before any build."""
        if self._cache is not None:
            await self._cache.sweep()
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

    async def _extract(self, request: BuildRequest, work: Path, flow: LogFlow, deadline: float) -> str:
        """Unpack the source archive into the work folder, without network; raises Failed if it is refused.

        Returns what stands for the source's manifests, `""` if it has none.
        """
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
        last = _last_line("".join(said))
        if ran.exit.code == 0 and not ran.stopped:
            found = _MANIFESTS.fullmatch(last)
            return found[1] if found else ""
        if ran.stopped == TIMEOUT and limit < deadline:
            raise Failed(
                f"The source archive could not be unpacked within {settings.extract_timeout_s:g} seconds. "
                "Upload a smaller one."
            )
        raise_limits(request, ran)
        if ran.exit.code == _REFUSED:
            raise Failed(f"The source archive was refused: {last or 'it cannot be unpacked'}")
        raise PlatformFault(f"Unpacking a source archive ended with {how(ran)}: {last}")

    def _extract_spec(self, request: BuildRequest, work: Path, descriptor: int) -> SandboxSpec:
        settings = self._settings
        bounds = ("--max-bytes", str(settings.source_bytes), "--max-entries", str(settings.source_entries))
        return SandboxSpec(
            id=f"{work.name}-x",
            profile=Profile.EXTRACT,
            argv=(*PYTHON, f"{SHIMS_INSIDE}/build/source.py", str(layout.ARTIFACT), layout.BUILD, *bounds),
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

    def _cache_key(self, request: BuildRequest, pack: Pack, manifests: str) -> CacheKey | None:
        """What the installs of this build are kept under; None if they are not.

        All variables count: any of them may be read by a package manager or named in its configuration.
        """
        if pack.family == OPEN_RUNTIMES:
            return None  # the image's own build decides what is installed where
        if self._cache is None or not self._cache.is_on or not manifests or is_off(request.variables.get(CACHE_SWITCH)):
            return None
        inputs = {
            "runtime": [request.runtime, pack.version, pack.root, pack.image],
            "manifests": manifests,
            "commands": request.commands,
            "variables": dict(request.variables),
        }
        return self._cache.key(request.project_id, inputs)

    async def _run(
        self, request: BuildRequest, pack: Pack, work: Path, flow: LogFlow, deadline: float, key: CacheKey | None
    ) -> BuildResult:
        """Run the steps in the build sandbox, with what is kept under `key`, and take over the artifact."""
        async with AsyncExitStack() as stack:
            path = await stack.enter_async_context(self._files.scratch())
            restored: int | None = None
            kept: Path | None = None
            descriptors = {layout.ARTIFACT: _open_for_writing(stack, path)}
            if self._cache is not None and key is not None:
                if request.use_cache:
                    restored = await stack.enter_async_context(self._cache.entry(key))
                if restored is None:
                    kept = await stack.enter_async_context(self._files.scratch())
                    descriptors[layout.KEPT] = _open_for_writing(stack, kept)
                else:
                    descriptors[layout.RESTORED] = restored
            ran = await run_sandbox(
                self._driver,
                self._build_spec(request, pack, work, descriptors),
                flow,
                deadline=deadline,
                request=json.dumps(self._inside(request, pack, descriptors)).encode(),
                stop_if=self._disk_guard(work),
            )
            try:
                warnings = judged(request, ran)
                artifact = await self._take_over(request, path)
            except Failed:
                if self._cache is not None and key is not None and restored is not None:
                    await self._cache.drop(key)  # it may be to blame: the next build begins without
                raise
            if self._cache is not None and key is not None and kept is not None:
                kept_bytes = answer_of(ran).get("kept_bytes")
                if kept_bytes and kept_bytes == kept.stat().st_size:
                    await self._cache.put(key, kept)
            return BuildResult(artifact, warnings=warnings)

    async def _take_over(self, request: BuildRequest, path: Path) -> Artifact:
        """Store what the build wrote as its artifact; raises Failed if it is none or too large."""
        size = path.stat().st_size
        if size == 0:
            raise Failed("Build produced no output artifact.")
        if size > request.output_limit_bytes:
            raise Failed(too_large(request.output_limit_bytes).message)
        digest = await settled(asyncio.to_thread(_digest, path))
        artifact = Artifact(f"artifacts/{digest}", digest, size)
        await self._files.adopt(artifact.key, path)
        return artifact

    def _build_spec(self, request: BuildRequest, pack: Pack, work: Path, descriptors: Mapping[int, int]) -> SandboxSpec:
        return SandboxSpec(
            id=f"{work.name}-b",
            profile=Profile.BUILD,
            argv=(*_python(pack), f"{SHIMS_INSIDE}/build/build.py"),
            environment=_ENVIRONMENT,
            limits=Limits(
                memory_bytes=request.memory_mb * MEBIBYTE,
                cpus=request.cpus,
                pids=BUILD_PIDS,
                tmp_bytes=_BUILD_TMP_BYTES,
                file_size_bytes=max(self._settings.disk_bytes, request.output_limit_bytes),
            ),
            mounts=(
                Mount(str(SHIMS_FOLDER), SHIMS_INSIDE),
                *(Mount(source, target) for source, target in pack.mounts),
                Mount(str(work / "registries"), layout.REGISTRIES),
                *_areas(work, pack),
                Mount(str(work / _DISK / "home"), layout.HOME, writable=True),
            ),
            network=Network.GATE,
            working_folder=layout.BUILD,
            descriptors=descriptors,
            root=pack.root,
            image=pack.image,
        )

    def _inside(self, request: BuildRequest, pack: Pack, descriptors: Mapping[int, int]) -> dict[str, Any]:
        """The request as the build program gets it (see `hearth.runtimes.shims.build.steps.build`)."""
        return {
            "family": pack.family,
            "runtime": pack.id,
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
            "may_zstd": reads_zstd(),
            "restored": layout.RESTORED if layout.RESTORED in descriptors else None,
            "kept": layout.KEPT if layout.KEPT in descriptors else None,
            "cache_entry_bytes": self._cache.entry_bytes if self._cache is not None else 0,
        }

    def _disk_guard(self, work: Path) -> Callable[[], str]:
        def look() -> str:
            free = os.statvfs(work)
            return DISK_FULL if free.f_bavail * free.f_frsize < FREE_DISK_BYTES else ""

        return look


@functools.cache
def reads_zstd() -> bool:
    """Whether the program that unpacks artifacts, which runs on this machine's own system, can read Zstandard."""
    command = [*PYTHON, str(SHIMS_FOLDER / "zstd.py")]
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False, env=_ENVIRONMENT).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _work_name(deployment_id: str) -> str:
    """A name for a build's folder and sandboxes: who it is for, and unique."""
    plain = re.sub(r"[^a-z0-9-]", "-", deployment_id.lower())[:36]
    return f"build-{plain}-{secrets.token_hex(4)}"


def _no_runtime(id: str) -> str:
    return (
        f"The runtime {id} is not installed on this server, so nothing can be built for it. "
        f"`hearth runtimes install {id}` installs it where there is a pack; `hearth runtimes list` shows what there is."
    )


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:1000] if lines else ""


def _python(pack: Pack) -> Sequence[str]:
    """The Python that runs the steps of a build."""
    return (*pack.python, "-I", "-S") if pack.python else PYTHON_OF_IMAGE if pack.image else PYTHON


def _areas(work: Path, pack: Pack) -> tuple[Mount, ...]:
    """Where a build sees the unpacked source, and the build area if that is another folder."""
    source = str(work / _DISK / "build")
    if pack.family != OPEN_RUNTIMES:
        return (Mount(source, layout.BUILD, writable=True),)
    area = Mount(str(work / _DISK / "area"), layout.BUILD, writable=True)
    return Mount(source, layout.SOURCE, writable=True), area


def _open_for_writing(stack: AsyncExitStack, path: Path) -> int:
    """A descriptor that is closed with `stack`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
