"""The fetcher: brings a source from git into the file store as an archive, in a sandbox of its own.

No byte of a repository is parsed in this process, and nothing of it is checked out: see `hearth.runtimes.shims.fetch`.
Credentials for the templates' host or of an installation reach the sandbox over its channel only.
"""

import asyncio
import os
import re
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hearth.build.flow import LogFlow
from hearth.build.git_sandbox import FetchSettings, GitSandbox, LocalRepositories
from hearth.build.starters import NoStarter, starter_archive
from hearth.executor.sandbox.spec import Driver
from hearth.model.pushes import PLATFORM_AUTHOR
from hearth.model.refusals import PlatformFault
from hearth.model.sources import STARTERS_URL, Commit, Fetched, FetchRequest, PublishRequest, ReferenceKind
from hearth.ports import Files, SourceUnavailable
from hearth.runtimes.shims.fetch import layout

#: Nobody's: a host must not take commits of the platform for those of one of its users.
_AUTHOR_ADDRESS = "noreply@hearth.invalid"
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


class SandboxFetcher:
    """Implements `hearth.ports.Fetcher`. Safe for concurrent fetches on one event loop.

    `data_dir` is the server's data folder; a mirror's folder and those of `local` have to be ones that `driver` may
    show to sandboxes. `local` is what installations may name by `file://`.
    """

    def __init__(
        self,
        driver: Driver,
        files: Files,
        data_dir: Path,
        templates: TemplatesHost,
        settings: FetchSettings | None = None,
        local: LocalRepositories | None = None,
    ) -> None:
        self._files = files
        self._templates = templates
        self._settings = settings or FetchSettings()
        self._sandbox = GitSandbox(driver, data_dir, self._settings)
        self._local = local or LocalRepositories()

    async def fetch(self, request: FetchRequest, on_log: Callable[[str], None]) -> Fetched:
        """See the port. The sandbox is ended and its folder removed before a cancellation goes on."""
        flow = LogFlow(on_log)
        if request.source.url == STARTERS_URL:
            return await self._starter(request, flow)
        asked, folder = self._asked(request)
        async with self._files.scratch() as path:
            descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                answer = await self._sandbox.run(
                    request.deployment_id, asked, folder, flow, timeout_s=request.timeout_s, archive=descriptor
                )
            finally:
                os.close(descriptor)
            size = path.stat().st_size
            fetched = _fetched(answer, size)
            await self._files.adopt(request.key, path)
            return fetched

    async def publish(self, request: PublishRequest, on_log: Callable[[str], None]) -> str:
        """See the port. The archive goes into the sandbox as a descriptor, the credentials over its channel."""
        flow = LogFlow(on_log)
        settings, access = self._settings, request.clone.access
        if request.clone.url.startswith("file://"):
            raise SourceUnavailable(
                "The connected repository is in a folder of this machine, where nothing is ever written. Put the "
                "template's code there yourself."
            )
        asked = layout.Request(
            url=request.clone.url,
            mirror_path="",
            kind=ReferenceKind.BRANCH.value,
            reference=request.branch,
            root_directory=request.root_directory,
            username=access.username,
            password=access.password,
            content_bytes=settings.content_bytes,
            entries=settings.entries,
            archive_bytes=0,
            disk_bytes=settings.disk_bytes,
            operation="publish",
            private_key=access.private_key,
            known_hosts=access.known_hosts,
            is_connected=True,
            message=request.message,
            author=f"{PLATFORM_AUTHOR} <{_AUTHOR_ADDRESS}>",
        )
        async with self._files.local(request.archive_key) as path:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                answer = await self._sandbox.run(
                    request.deployment_id, asked, "", flow, timeout_s=request.timeout_s, archive=descriptor
                )
            finally:
                os.close(descriptor)
        commit = str(answer.get("commit", ""))
        if not _COMMIT_HASH.match(commit):
            raise PlatformFault("The fetch program ended well but told no commit.")
        return commit

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

    def _asked(self, request: FetchRequest) -> tuple[layout.Request, str]:
        """What the program is asked, and the folder of repositories it is shown (`""` = none)."""
        source, settings, templates = request.source, self._settings, self._templates
        folder = below = ""
        if source.url.startswith("file://"):
            folder, below = self._mirrored(source.url) if request.access is None else self._local.find(source.url)
        access = request.access
        if access is None and not below and templates.password and templates.is_host_of(source.url):
            username, password = templates.username, templates.password
        else:
            username, password = (access.username, access.password) if access else ("", "")
        return (
            layout.Request(
                url="" if below else source.url,
                mirror_path=below,
                kind=source.kind.value,
                reference=source.reference,
                root_directory=source.root_directory,
                username=username,
                password=password,
                content_bytes=settings.content_bytes,
                entries=settings.entries,
                archive_bytes=request.limit_bytes or settings.content_bytes,
                disk_bytes=settings.disk_bytes,
                private_key=access.private_key if access else "",
                known_hosts=access.known_hosts if access else "",
                is_connected=access is not None,
                shares_access=request.shares_access and (access is not None or bool(password)),
            ),
            folder,
        )

    def _mirrored(self, url: str) -> tuple[str, str]:
        """The mirror and the repository's path below it. Raises SourceUnavailable for another mirror than today's."""
        mirror = self._templates.mirror
        below = LocalRepositories((mirror,)).below(url) if mirror else None
        if below is None:
            raise SourceUnavailable(
                "The folder of repositories that this deployment was made from is not this server's mirror any more "
                "(HEARTH_TEMPLATES_URL). Create a new deployment from the template."
            )
        return below


def _fetched(answer: dict[str, Any], size: int) -> Fetched:
    """What the program says, believed as far as it makes sense: it read a stranger's repository."""
    commit = str(answer.get("commit", ""))
    if size == 0 or not _COMMIT_HASH.match(commit):
        raise PlatformFault("The fetch program ended well but told no commit or wrote no archive.")
    author, message = str(answer.get("author", "")), str(answer.get("message", ""))
    return Fetched(size, str(answer.get("reference", "")), Commit(commit, author, message))
