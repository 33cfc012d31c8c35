"""One run of the fetch program in a sandbox of its own: how it is started, bounded, and how its end is judged."""

import asyncio
import json
import os
import re
import secrets
import urllib.parse
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from hearth.build.builder import FREE_DISK_BYTES, MEBIBYTE, PYTHON, BuildSettings
from hearth.build.flow import LogFlow
from hearth.build.sandboxed import TIMEOUT, Ran, run_sandbox, settled
from hearth.executor.sandbox.spec import Driver, Limits, Mount, Network, Profile, SandboxFailed, SandboxSpec
from hearth.model.refusals import PlatformFault
from hearth.model.sources import normal_folder
from hearth.ports import SourceUnavailable
from hearth.runtimes.locations import SHIMS_FOLDER, SHIMS_INSIDE
from hearth.runtimes.shims.fetch import layout

log = structlog.get_logger(__name__)

_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
_LOST = -1  # SandboxExit.code of a sandbox nobody knows the end of
_DISK_FULL = "disk"
_MEMORY_BYTES = 1024 * MEBIBYTE
_PIDS = 64


@dataclass(frozen=True, slots=True)
class FetchSettings:
    """Limits of one fetch beside those of its request: no more is fetched than a build unpacks.

    `disk_bytes` bounds what git holds on disk meanwhile.
    """

    content_bytes: int = BuildSettings().source_bytes
    entries: int = BuildSettings().source_entries
    disk_bytes: int = 768 * MEBIBYTE


@dataclass(frozen=True, slots=True)
class LocalRepositories:
    """The folders of this machine below which repositories may be named by `file://`: the operator's choice."""

    folders: tuple[str, ...] = ()

    def below(self, url: str) -> tuple[str, str] | None:
        """The folder and the path below it that `url` names; None if it is in none of them."""
        path = urllib.parse.unquote(url.removeprefix("file://"))
        for folder in self.folders:
            below = path[len(folder) + 1 :] if path.startswith(f"{folder}/") else ""
            if below and normal_folder(below) == below:
                return folder, below
        return None

    def find(self, url: str) -> tuple[str, str]:
        """As `below`. Raises SourceUnavailable for what is in none of them."""
        found = self.below(url)
        if found is None:
            raise SourceUnavailable(
                "Repositories in folders of this machine are fetched only where its operator allows it "
                "(HEARTH_GIT_LOCAL_PATHS), and this one is in none of those folders."
            )
        return found


class GitSandbox:
    """Runs the fetch program. Safe for concurrent use on one event loop. `data_dir` is the server's data folder."""

    def __init__(self, driver: Driver, data_dir: Path, settings: FetchSettings) -> None:
        self._driver = driver
        self._work = data_dir.resolve() / "work"
        self._settings = settings

    async def run(
        self,
        subject: str,
        request: layout.Request,
        folder: str,
        flow: LogFlow,
        *,
        timeout_s: float,
        archive: int | None = None,
    ) -> dict[str, Any]:
        """Ask one question about `subject` (for names in logs) and return the program's answer.

        `folder` is shown to it as its mirror, `""` = none; `archive` is a descriptor to write a source to. Raises
        SourceUnavailable, PlatformFault. The sandbox is ended and its folder removed before a cancellation goes on.
        """
        work = self._work / _work_name(subject)
        await asyncio.to_thread(work.mkdir, parents=True)
        try:
            ran = await run_sandbox(
                self._driver,
                self._spec(folder, work, archive),
                flow,
                deadline=asyncio.get_running_loop().time() + timeout_s,
                request=json.dumps(asdict(request)).encode(),
                stop_if=_disk_guard(work),
            )
        except SandboxFailed as failed:
            raise PlatformFault(f"The sandbox of a fetch could not be started: {failed}") from failed
        finally:
            await settled(self._remove(work))
        return _judged(timeout_s, ran)

    def _spec(self, folder: str, work: Path, archive: int | None) -> SandboxSpec:
        shown = [Mount(folder, layout.MIRROR)] if folder else []
        return SandboxSpec(
            id=f"{work.name}-f",
            profile=Profile.BUILD,
            argv=(*PYTHON, f"{SHIMS_INSIDE}/fetch/fetch.py"),
            environment=_ENVIRONMENT,
            limits=Limits(memory_bytes=_MEMORY_BYTES, cpus=1.0, pids=_PIDS, file_size_bytes=self._settings.disk_bytes),
            mounts=(
                Mount(str(SHIMS_FOLDER), SHIMS_INSIDE),
                *shown,
                Mount(str(work / "objects"), layout.OBJECTS, writable=True),
            ),
            # Also for a mirror: submodules may be elsewhere.
            network=Network.GATE,
            descriptors={} if archive is None else {layout.ARCHIVE: archive},
        )

    async def _remove(self, work: Path) -> None:
        try:
            await self._driver.remove_tree(str(work))
        except Exception as error:
            # What was fetched stands; the folder goes at the next start (`SandboxBuilder.sweep`).
            log.exception("work folder not removed", folder=str(work), error=str(error))


def _judged(timeout_s: float, ran: Ran) -> dict[str, Any]:
    """The program's answer if it succeeded; raises SourceUnavailable or PlatformFault."""
    answer = _parsed(ran.answer)
    if ran.exit.code == 0 and not ran.stopped and answer.get("ok") is True:
        return answer
    if ran.stopped == TIMEOUT:
        raise SourceUnavailable(
            f"The repository could not be fetched within {timeout_s:g} seconds. Deploy again; if it is large, "
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


def _work_name(subject: str) -> str:
    """A name for a fetch's folder and sandbox: who it is for, and unique."""
    plain = re.sub(r"[^a-z0-9-]", "-", subject.lower())[:36]
    return f"fetch-{plain}-{secrets.token_hex(4)}"
