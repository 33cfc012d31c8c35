"""What builds installed, kept for later builds of the same project with the same inputs. See docs/builds.md.

A folder of files, one per entry, that this server alone reads and writes. An entry's name holds the SHA-256 of its
bytes, so one that was cut short or changed is found out before a sandbox sees it. Entries are opaque here: they are
packed and unpacked in the sandboxes of builds. Losing all of it costs time and nothing else.
"""

import asyncio
import hashlib
import hmac
import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from hearth.build.sandboxed import settled

log = structlog.get_logger(__name__)

#: Part of every key: entries of another form are never found.
_FORM = "1"
_NAME = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})\Z")
#: One entry takes at most this part of the whole cache.
_ENTRY_SHARE = 4


@dataclass(frozen=True, slots=True)
class CacheKey:
    """Names the entry of one set of inputs, in its project. Tells nothing of the inputs (keyed digest)."""

    project: str
    inputs: str


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size_bytes: int
    used_at: float
    stored_at: float


class BuildCache:
    """`limit_bytes` bounds all entries together, 0 = nothing is kept; `max_age_s` how long one serves.

    `secret` keys the digests. `clock` is in seconds since the epoch, comparable with times of files.
    """

    def __init__(
        self,
        folder: Path,
        secret: bytes,
        *,
        limit_bytes: int,
        max_age_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._secret = secret
        self._limit = limit_bytes
        self._max_age_s = max_age_s
        self._clock = clock

    @property
    def is_on(self) -> bool:
        """Whether anything is kept at all."""
        return self._limit > 0

    @property
    def entry_bytes(self) -> int:
        """The largest entry."""
        return self._limit // _ENTRY_SHARE

    def key(self, project_id: str, inputs: Mapping[str, object]) -> CacheKey:
        """The key for everything that decides what gets installed; `inputs` is JSON and may hold secrets."""
        text = json.dumps([_FORM, project_id, inputs], sort_keys=True)
        return CacheKey(
            self._project(project_id),
            hmac.new(self._secret, text.encode("utf-8", "surrogatepass"), "sha256").hexdigest(),
        )

    @asynccontextmanager
    async def entry(self, key: CacheKey) -> AsyncIterator[int | None]:
        """An open descriptor at the entry's start, or None. The entry counts as used; a damaged one is dropped."""
        descriptor = await settled(asyncio.to_thread(self._open, key))
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    async def put(self, key: CacheKey, path: Path) -> None:
        """Take over the file `path` as the entry of `key`, in place of an older one; others make room for it.

        Never fails: what cannot be kept is not.
        """
        try:
            await settled(asyncio.to_thread(self._put, key, path))
        except OSError as error:
            log.warning("build cache entry not stored", error=str(error))

    async def drop(self, key: CacheKey) -> None:
        """Forget the entry of `key`."""
        await settled(asyncio.to_thread(self._drop, key))

    async def sweep(self) -> None:
        """Remove what is too old or too much. Called at the start."""
        await settled(asyncio.to_thread(self._make_room))

    def _project(self, project_id: str) -> str:
        return hmac.new(self._secret, b"project:" + project_id.encode(), "sha256").hexdigest()[:32]

    def _find(self, key: CacheKey) -> list[Path]:
        with suppress(FileNotFoundError):
            return sorted((self._folder / key.project).glob(f"{key.inputs}.*"))
        return []

    def _open(self, key: CacheKey) -> int | None:
        for path in self._find(key):
            parts = _NAME.fullmatch(path.name)
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError:
                continue
            with open(descriptor, "rb", closefd=False) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            stored_at = os.fstat(descriptor).st_mtime
            now = self._clock()
            if parts is not None and hmac.compare_digest(parts[2], digest) and now - stored_at <= self._max_age_s:
                os.lseek(descriptor, 0, os.SEEK_SET)
                with suppress(OSError):
                    os.utime(path, (now, stored_at))
                return descriptor
            os.close(descriptor)
            if parts is not None and parts[2] != digest:
                log.warning("damaged build cache entry dropped", entry=path.name)
            path.unlink(missing_ok=True)
        return None

    def _put(self, key: CacheKey, path: Path) -> None:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        folder = self._folder / key.project
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        path.chmod(0o600)
        now = self._clock()
        os.utime(path, (now, now))
        target = folder / f"{key.inputs}.{digest}"
        path.replace(target)
        for other in self._find(key):
            if other != target:
                other.unlink(missing_ok=True)
        self._make_room()

    def _drop(self, key: CacheKey) -> None:
        for path in self._find(key):
            path.unlink(missing_ok=True)

    def _make_room(self) -> None:
        """Delete entries past their age, then those used longest ago, until the rest fits."""
        if not self.is_on:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        now = self._clock()
        left = self._limit
        for entry in sorted(self._entries(), key=lambda entry: entry.used_at, reverse=True):
            left -= entry.size_bytes
            if left < 0 or now - entry.stored_at > self._max_age_s:
                left += entry.size_bytes
                entry.path.unlink(missing_ok=True)

    def _entries(self) -> list[_Entry]:
        found = []
        for path in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append(_Entry(path, status.st_size, status.st_atime, status.st_mtime))
        return found
