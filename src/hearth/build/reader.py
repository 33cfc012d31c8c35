"""Looks into git repositories without a host's API, each time in a sandbox (`hearth.ports.GitReader`)."""

import base64
import binascii
import re
from pathlib import Path
from typing import Any

from hearth.build.flow import LogFlow
from hearth.build.git_sandbox import FetchSettings, GitSandbox, LocalRepositories
from hearth.executor.sandbox.spec import Driver
from hearth.model.sources import CloneSource, ReferenceKind
from hearth.model.vcs import Branch, Content, HostedCommit
from hearth.ports import GitHostFailed, SourceUnavailable
from hearth.runtimes.shims.fetch import layout

#: Seconds one look may take.
LOOK_TIMEOUT_S = 30.0
#: Bytes git may hold on disk for a look: trees of a large repository, never its files.
LOOK_DISK_BYTES = 256 * 1024 * 1024

_HASH = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")


class SandboxGitReader:
    """See the port. What a repository says is believed as far as it makes sense: anybody may have made it."""

    def __init__(self, driver: Driver, data_dir: Path, local: LocalRepositories) -> None:
        self._settings = FetchSettings(disk_bytes=LOOK_DISK_BYTES)
        self._sandbox = GitSandbox(driver, data_dir, self._settings)
        self._local = local

    async def branches(self, source: CloneSource) -> tuple[tuple[Branch, ...], str]:
        """See the port."""
        answer = await self._ask(source, "branches")
        branches = tuple(
            Branch(str(name), str(commit)) for name, commit in answer["branches"] if _HASH.match(str(commit))
        )
        return branches, str(answer["default"])

    async def contents(self, source: CloneSource, path: str, ref: str) -> tuple[Content, ...]:
        """See the port. Sizes are not known."""
        answer = await self._ask(source, "contents", path=path, ref=ref)
        return tuple(Content(str(name), bool(is_directory)) for name, is_directory in answer["entries"])

    async def file(self, source: CloneSource, path: str, ref: str) -> bytes:
        """See the port."""
        answer = await self._ask(source, "file", path=path, ref=ref)
        try:
            return base64.b64decode(str(answer["content"]), validate=True)
        except binascii.Error as error:
            raise GitHostFailed("The file could not be read.") from error

    async def commit(self, source: CloneSource, ref: str) -> HostedCommit:
        """See the port."""
        answer = await self._ask(source, "commit", ref=ref)
        hash = str(answer["commit"])
        if not _HASH.match(hash):
            raise GitHostFailed("The repository told no commit.")
        return HostedCommit(hash, str(answer["message"]), str(answer["author"]))

    async def changed_files(self, source: CloneSource, before: str, after: str) -> tuple[str, ...] | None:
        """See the port."""
        answer = await self._ask(source, "changes", ref=after, before=before)
        changes = answer["changes"]
        return None if changes is None else tuple(map(str, changes))

    async def host_keys(self, url: str) -> str:
        """See the port."""
        keys = str((await self._ask(CloneSource(url), "keys"))["keys"])
        if not keys:
            raise GitHostFailed("The ssh host shows no key: it cannot be reached from this server, or is none.")
        return keys

    async def _ask(
        self, source: CloneSource, operation: str, *, path: str = "", ref: str = "", before: str = ""
    ) -> dict[str, Any]:
        folder = below = ""
        flow = LogFlow(lambda text: None)  # the log of a look is nobody's: its answer says what went wrong
        try:
            if source.url.startswith("file://"):
                folder, below = self._local.find(source.url)
            kind = ReferenceKind.COMMIT if _HASH.match(ref) else ReferenceKind.BRANCH
            return await self._sandbox.run(
                f"look-{operation}",
                layout.Request(
                    url="" if below else source.url,
                    mirror_path=below,
                    kind=kind.value,
                    reference=ref,
                    root_directory="",
                    username=source.access.username,
                    password=source.access.password,
                    content_bytes=self._settings.content_bytes,
                    entries=self._settings.entries,
                    archive_bytes=0,
                    disk_bytes=self._settings.disk_bytes,
                    operation=operation,
                    path=path,
                    before=before,
                    private_key=source.access.private_key,
                    known_hosts=source.access.known_hosts,
                    is_connected=True,
                ),
                folder,
                flow,
                timeout_s=LOOK_TIMEOUT_S,
            )
        except SourceUnavailable as problem:
            raise GitHostFailed(str(problem)) from problem
