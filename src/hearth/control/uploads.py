"""Receiving a source archive, whole or in chunks of any order (contract: functions-api 5.7 and 8, clients 3).

What has arrived is noted per byte range in the database, so an upload survives a restart and a repeated chunk
changes nothing. The build is queued exactly once, with the last range, in the transaction that completes the row.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

from hearth.control.requiring import require_function
from hearth.control.starting import DeploymentStarter
from hearth.control.views import UPLOAD_CHUNK_BYTES, ControlLimits, UploadedPart
from hearth.model.ids import is_id, unique_id
from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment, Function
from hearth.model.statuses import DeploymentStatus
from hearth.ports import Clock, Conflict, Events, Files, Store

_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})\Z")
_READ_BYTES = 262_144


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `end` (inclusive) of `total`."""

    start: int
    end: int
    total: int

    @property
    def length(self) -> int:
        return self.end - self.start + 1


def parse_content_range(text: str) -> ByteRange:
    """Read `bytes START-END/TOTAL`; an end equal to the total is tolerated. Raises `storage_invalid_content_range`."""
    match = _CONTENT_RANGE.match(text.strip())
    if match is None:
        raise Refusal("storage_invalid_content_range")
    start, end, total = (int(group) for group in match.groups())
    if start > end or end > total or start >= total:
        raise Refusal("storage_invalid_content_range")
    return ByteRange(start, min(end, total - 1), total)


def slice_of_part(part_size: int, wanted: ByteRange | None) -> tuple[int, int]:
    """Where in the sent part the wanted bytes are: (offset, length).

    Some SDK versions send the whole file with every chunk, and one sends a stray byte too many (clients 3);
    a part that is shorter than it announces is refused.
    """
    if wanted is None:
        return 0, part_size
    if part_size == wanted.total and wanted.length != wanted.total:
        return wanted.start, wanted.length
    if part_size < wanted.length:
        raise Refusal(
            "storage_invalid_content_range",
            f"The content-range header announces {wanted.length} bytes but the part `code` holds {part_size}.",
        )
    return 0, wanted.length


def upload_key(project_id: str, deployment_id: str) -> str:
    """Where the source of a deployment lives in the file store, unfinished or not."""
    return f"sources/{project_id}/{deployment_id}"


class Uploads:
    """Use case `create deployment` (upload)."""

    def __init__(
        self,
        *,
        store: Store,
        files: Files,
        clock: Clock,
        events: Events,
        starter: DeploymentStarter,
        limits: ControlLimits,
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._events = events
        self._starter = starter
        self._limits = limits
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def check(self, project_id: str, function_id: str, entrypoint: str | None) -> None:
        """What can be refused before the body is read: `function_not_found`, `function_entrypoint_missing`.

        With `entrypoint` None the field may still come in the body, so it is not missed yet.
        """
        async with self._store.view(project_id) as unit:
            function = await require_function(unit, function_id)
        if entrypoint is not None:
            _entrypoint_of(function, entrypoint)

    async def receive(
        self,
        project_id: str,
        function_id: str,
        *,
        part: UploadedPart | None,
        content_range: str | None,
        upload_id: str,
        activate: bool,
        entrypoint: str | None,
        commands: str | None,
        type: str,
        use_cache: bool = True,
    ) -> Deployment:
        """Take one request of an upload; the last one queues the build. Refusals in the order of section 5.7.

        The `use_cache` of that last one counts.
        """
        async with self._store.view(project_id) as unit:
            function = await require_function(unit, function_id)
        entry = _entrypoint_of(function, entrypoint)
        part = self._require_part(part)
        wanted = None if content_range is None else parse_content_range(content_range)
        total = part.size_bytes if wanted is None else wanted.total
        self._check_size(total)
        offset, length = slice_of_part(part.size_bytes, wanted)
        deployment_id = upload_id if wanted is not None and upload_id else unique_id()
        if not is_id(deployment_id):
            raise Refusal("storage_invalid_appwrite_id")
        async with self._locked(deployment_id):
            deployment = await self._open(
                function,
                deployment_id,
                entry,
                function.commands if commands is None else commands,
                activate,
                type,
                total,
            )
            if deployment.source_key or deployment.status is not DeploymentStatus.WAITING:
                return deployment  # a chunk of a finished (or ended) upload, sent again
        start = 0 if wanted is None else wanted.start
        await self._files.write_at(upload_key(project_id, deployment_id), start, _slice(part.path, offset, length))
        async with self._locked(deployment_id):
            return await self._note(function, deployment_id, start, start + length - 1, total, use_cache)

    def _require_part(self, part: UploadedPart | None) -> UploadedPart:
        if part is None or part.size_bytes == 0:
            raise Refusal("storage_file_empty")
        if not part.filename.lower().endswith(".gz"):
            raise Refusal("storage_file_type_unsupported")
        return part

    def _check_size(self, total: int) -> None:
        limit = self._limits.source_size_bytes
        if limit and total > limit:
            raise Refusal(
                "deployment_invalid_file_size",
                f"The code archive has {total} bytes; this server accepts at most {limit} bytes "
                "(HEARTH_SOURCE_SIZE_LIMIT). Leave out what the build can install, such as node_modules.",
            )

    async def _open(
        self, function: Function, id: str, entrypoint: str, commands: str, activate: bool, type: str, total: int
    ) -> Deployment:
        """The deployment this request belongs to, made if it is the first one."""
        async with self._store.begin(function.project_id) as unit:
            existing = await unit.deployments.get(function.id, id)
            if existing is not None:
                if not existing.source_key and existing.source_total_bytes != total:
                    raise Refusal(
                        "storage_invalid_content_range",
                        f"This upload was begun with a total of {existing.source_total_bytes} bytes, not {total}.",
                    )
                return existing
            now = self._clock.now()
            deployment = Deployment(
                id=id,
                project_id=function.project_id,
                function_id=function.id,
                created_at=now,
                updated_at=now,
                type=type,
                status=DeploymentStatus.WAITING,
                entrypoint=entrypoint,
                commands=commands,
                activate=activate,
                source_total_bytes=total,
                source_chunks_total=-(-total // UPLOAD_CHUNK_BYTES),
            )
            try:
                deployment = await unit.deployments.insert(deployment)
            except Conflict:
                raise Refusal("deployment_not_found") from None  # the id is another function's
            await self._starter.note_latest(unit, function.id)
            return deployment

    async def _note(self, function: Function, id: str, start: int, end: int, total: int, use_cache: bool) -> Deployment:
        """Note an arrived range; when it was the last, complete the source and queue the build."""
        async with self._store.begin(function.project_id) as unit:
            arrived = await unit.deployments.add_chunk(id, start, end)
            chunks = await unit.deployments.chunks(id)
            deployment = await unit.deployments.update(id, source_chunks_uploaded=len(chunks))
        if deployment is None:
            raise Refusal("deployment_not_found")  # deleted meanwhile
        if arrived < total:
            return deployment
        return await self.complete(deployment, use_cache=use_cache)

    async def complete(self, deployment: Deployment, *, use_cache: bool = True) -> Deployment:
        """Turn a fully arrived source into a stored one and queue its build; repeating it changes nothing.

        Also called at start for an upload whose last step a killed server did not reach.
        """
        key = upload_key(deployment.project_id, deployment.id)
        await self._files.finish_upload(key, deployment.source_total_bytes)
        async with self._store.begin(deployment.project_id) as unit:
            current = await unit.deployments.get(deployment.function_id, deployment.id)
            if current is None:
                raise Refusal("deployment_not_found")
            if current.source_key or current.status is not DeploymentStatus.WAITING:
                return current
            function = await require_function(unit, deployment.function_id)
            await unit.deployments.clear_chunks(deployment.id)
            changes = {
                "source_key": key,
                "source_size_bytes": current.source_total_bytes,
                "source_chunks_uploaded": current.source_chunks_total,
            }
            completed = await unit.deployments.update(deployment.id, **changes)
            if completed is None:
                raise Refusal("deployment_not_found")
            await self._starter.queue(unit, function, completed, use_cache=use_cache)
        self._events.emit(
            deployment.project_id, f"functions.{deployment.function_id}.deployments.{deployment.id}.create", completed
        )
        return completed

    @asynccontextmanager
    async def _locked(self, deployment_id: str) -> AsyncIterator[None]:
        """One request at a time may move an upload on. Raises `general_rate_limit_exceeded` after the lock limit."""
        lock = self._locks.setdefault(deployment_id, asyncio.Lock())
        try:
            async with asyncio.timeout(self._limits.upload_lock_s):
                await lock.acquire()
        except TimeoutError:
            raise Refusal(
                "general_rate_limit_exceeded",
                f"Another chunk of this upload has held its lock for {self._limits.upload_lock_s:g} s. Send it again.",
                headers={"retry-after": "5"},
            ) from None
        try:
            yield
        finally:
            lock.release()


def _entrypoint_of(function: Function, sent: str | None) -> str:
    entrypoint = sent or function.entrypoint
    if not entrypoint:
        raise Refusal("function_entrypoint_missing")
    return entrypoint


async def _slice(path: Path, offset: int, length: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while length > 0:
            data = await asyncio.to_thread(file.read, min(length, _READ_BYTES))
            if not data:
                return
            length -= len(data)
            yield data
