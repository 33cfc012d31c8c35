"""The fetcher: brings a source from git into the file store as an archive, in a sandbox of its own.

No byte of a repository is parsed in this process, and nothing of it is checked out: see `hearth.runtimes.shims.fetch`.
Credentials for the templates' host reach the sandbox over its channel only.
"""

import asyncio
import json
import os
import re
import secrets
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import structlog

from hearth.build.builder import FREE_DISK_BYTES, MEBIBYTE, PYTHON, BuildSettings
from hearth.build.flow import LogFlow
from hearth.build.sandboxed import TIMEOUT, Ran, run_sandbox, settled
from hearth.build.starters import NoStarter, starter_archive
from hearth.executor.sandbox.spec import Driver, Limits, Mount, Network, Profile, SandboxFailed, SandboxSpec
from hearth.model.refusals import PlatformFault
from hearth.model.sources import STARTERS_URL, Commit, Fetched, FetchRequest, GitSource, normal_folder
from hearth.ports import Files, SourceUnavailable
from hearth.runtimes.locations import SHIMS_FOLDER, SHIMS_INSIDE
from hearth.runtimes.shims.fetch import layout

log = structlog.get_logger(__name__)

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
_LOST = -1  # SandboxExit.code of a sandbox nobody knows the end of
_DISK_FULL = "disk"
_MEMORY_BYTES = 1024 * MEBIBYTE
_PIDS = 64
_COMMIT_HASH = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class TemplatesHost:
    """Where template repositories are: `url` without credentials, which go to this host and nowhere else."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> "TemplatesHost":
        """From the setting, which may hold `user:password@`."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "file":
            return cls(f"file://{os.path.normpath(urllib.parse.unquote(parts.path))}")
        plain = urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
        return cls(plain, urllib.parse.unquote(parts.username or ""), urllib.parse.unquote(parts.password or ""))

    @property
    def mirror(self) -> str:
        """The folder of repositories, `""` if they are at a host."""
        return self.url.removeprefix("file://") if self.url.startswith("file://") else ""

    def is_host_of(self, url: str) -> bool:
        """Whether `url` is at the host that the credentials are for."""
        ours, theirs = urllib.parse.urlsplit(self.url), urllib.parse.urlsplit(url)
        return (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Limits of one fetch beside those of its request: no more is fetched than a build unpacks.

    `disk_bytes` bounds what git holds on disk meanwhile.
    """

    content_bytes: int = BuildSettings().source_bytes
    entries: int = BuildSettings().source_entries
    disk_bytes: int = 768 * MEBIBYTE


class SandboxFetcher:
    """Implements `hearth.ports.Fetcher`. Safe for concurrent fetches on one event loop.

    `data_dir` is the server's data folder; a mirror's folder has to be one that `driver` may show to sandboxes.
    """

    def __init__(
        self,
        driver: Driver,
        files: Files,
        data_dir: Path,
        templates: TemplatesHost,
        settings: FetchSettings | None = None,
    ) -> None:
        self._driver = driver
        self._files = files
        self._work = data_dir.resolve() / "work"
        self._templates = templates
        self._settings = settings or FetchSettings()

    async def fetch(self, request: FetchRequest, on_log: Callable[[str], None]) -> Fetched:
        """See the port. The sandbox is ended and its folder removed before a cancellation goes on."""
        flow = LogFlow(on_log)
        if request.source.url == STARTERS_URL:
            return await self._starter(request, flow)
        work = self._work / _work_name(request.deployment_id)
        await asyncio.to_thread(work.mkdir, parents=True)
        try:
            async with self._files.scratch() as path:
                answer = await self._run(request, work, path, flow)
                size = path.stat().st_size
                fetched = _fetched(answer, size)
                await self._files.adopt(request.key, path)
                return fetched
        except SandboxFailed as failed:
            raise PlatformFault(f"The sandbox of a fetch could not be started: {failed}") from failed
        finally:
            await settled(self._remove(work))

    async def _starter(self, request: FetchRequest, flow: LogFlow) -> Fetched:
        folder = request.source.root_directory
        try:
            archive = await asyncio.to_thread(starter_archive, folder)
        except NoStarter as problem:
            raise SourceUnavailable(str(problem)) from problem
        async with self._files.scratch() as path:
            await asyncio.to_thread(path.write_bytes, archive)
            await self._files.adopt(request.key, path)
        flow.say(f'Source: the starter "{folder}" of this server.')
        return Fetched(len(archive), request.source.reference)

    async def _run(self, request: FetchRequest, work: Path, path: Path, flow: LogFlow) -> dict[str, Any]:
        """Run the fetch program with `path` as its archive; returns its answer."""
        asked = json.dumps(asdict(self._asked(request))).encode()
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            ran = await run_sandbox(
                self._driver,
                self._spec(request.source, work, descriptor),
                flow,
                deadline=asyncio.get_running_loop().time() + request.timeout_s,
                request=asked,
                stop_if=_disk_guard(work),
            )
        finally:
            os.close(descriptor)
        return _judged(request, ran)

    def _asked(self, request: FetchRequest) -> layout.Request:
        source, settings, templates = request.source, self._settings, self._templates
        mirror_path = ""
        if source.url.startswith("file://"):
            mirror_path = self._mirror_path(source.url)
        sends_credentials = not mirror_path and bool(templates.password) and templates.is_host_of(source.url)
        return layout.Request(
            url="" if mirror_path else source.url,
            mirror_path=mirror_path,
            kind=source.kind.value,
            reference=source.reference,
            root_directory=source.root_directory,
            username=templates.username if sends_credentials else "",
            password=templates.password if sends_credentials else "",
            content_bytes=settings.content_bytes,
            entries=settings.entries,
            archive_bytes=request.limit_bytes or settings.content_bytes,
            disk_bytes=settings.disk_bytes,
        )

    def _mirror_path(self, url: str) -> str:
        """The repository's path below the mirror. Raises SourceUnavailable for one of another mirror than today's."""
        mirror = self._templates.mirror
        path = url.removeprefix("file://")
        below = path[len(mirror) + 1 :] if mirror and path.startswith(f"{mirror}/") else ""
        if not below or normal_folder(below) != below:
            raise SourceUnavailable(
                "The folder of repositories that this deployment was made from is not this server's mirror any more "
                "(HEARTH_TEMPLATES_URL). Create a new deployment from the template."
            )
        return below

    def _spec(self, source: GitSource, work: Path, descriptor: int) -> SandboxSpec:
        mirror = [Mount(self._templates.mirror, layout.MIRROR)] if source.url.startswith("file://") else []
        return SandboxSpec(
            id=f"{work.name}-f",
            profile=Profile.BUILD,
            argv=(*PYTHON, f"{SHIMS_INSIDE}/fetch/fetch.py"),
            environment=_ENVIRONMENT,
            limits=Limits(memory_bytes=_MEMORY_BYTES, cpus=1.0, pids=_PIDS, file_size_bytes=self._settings.disk_bytes),
            mounts=(
                Mount(str(SHIMS_FOLDER), SHIMS_INSIDE),
                *mirror,
                Mount(str(work / "objects"), layout.OBJECTS, writable=True),
            ),
            # Also for a mirror: submodules may be elsewhere.
            network=Network.GATE,
            descriptors={layout.ARCHIVE: descriptor},
        )

    async def _remove(self, work: Path) -> None:
        try:
            await self._driver.remove_tree(str(work))
        except Exception as error:
            # What was fetched stands; the folder goes at the next start (`SandboxBuilder.sweep`).
            log.exception("work folder not removed", folder=str(work), error=str(error))


def _judged(request: FetchRequest, ran: Ran) -> dict[str, Any]:
    """The program's answer if it succeeded; raises SourceUnavailable or PlatformFault."""
    answer = _parsed(ran.answer)
    if ran.exit.code == 0 and not ran.stopped and answer.get("ok") is True:
        return answer
    if ran.stopped == TIMEOUT:
        raise SourceUnavailable(
            f"The repository could not be fetched within {request.timeout_s:g} seconds. Deploy again; if it is large, "
            "name a smaller root directory or remove large files from it."
        )
    if ran.stopped == _DISK_FULL:
        raise SourceUnavailable("The disk of this server is nearly full, so the fetch was ended. Tell its operator.")
    if ran.exit.code == _LOST:
        raise PlatformFault("A fetch's sandbox was lost: the process that keeps sandboxes ended.")
    if answer.get("reason") == "refused":
        raise SourceUnavailable(str(answer.get("message", "")))
    if answer.get("reason") == "broken" and not ran.exit.out_of_memory:
        raise PlatformFault(f"The fetch program failed: {answer.get('message', '')}")
    if ran.exit.out_of_memory:
        raise SourceUnavailable(
            f"Fetching the repository needs more than {_MEMORY_BYTES // MEBIBYTE} MB of memory. Remove large files "
            "from it, or name a smaller root directory."
        )
    raise PlatformFault(f"A fetch ended unexpectedly with code {ran.exit.code}, signal {ran.exit.signal}.")


def _fetched(answer: dict[str, Any], size: int) -> Fetched:
    """What the program says, believed as far as it makes sense: it read a stranger's repository."""
    commit = str(answer.get("commit", ""))
    if size == 0 or not _COMMIT_HASH.match(commit):
        raise PlatformFault("The fetch program ended well but told no commit or wrote no archive.")
    author, message = str(answer.get("author", "")), str(answer.get("message", ""))
    return Fetched(size, str(answer.get("reference", "")), Commit(commit, author, message))


def _parsed(answer: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(answer)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _disk_guard(work: Path) -> Callable[[], str]:
    def look() -> str:
        free = os.statvfs(work)
        return _DISK_FULL if free.f_bavail * free.f_frsize < FREE_DISK_BYTES else ""

    return look


def _work_name(deployment_id: str) -> str:
    """A name for a fetch's folder and sandbox: who it is for, and unique."""
    plain = re.sub(r"[^a-z0-9-]", "-", deployment_id.lower())[:36]
    return f"fetch-{plain}-{secrets.token_hex(4)}"
