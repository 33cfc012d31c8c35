"""Requests and responses that functions have kept (`storeBodies`): written behind their executions, in batches.

Functions that do not ask for it never come here. A body is on its way for a moment after its record is there; until
then it is found in memory. Of a synchronous run it may be lost with a killed server; a background run ends when it is
stored.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime

import msgspec
import structlog

from hearth.control.invocations import RunRequest
from hearth.model.bodies import Bodies, Body, KeptRequest, KeptResponse, kept_body
from hearth.model.function_settings import FunctionSettings
from hearth.model.refusals import PlatformFault
from hearth.model.resources import Execution
from hearth.model.running import Result
from hearth.ports import Store

log = structlog.get_logger(__name__)

#: Bytes of bodies that wait in memory to be written, at most; what comes beyond that is not kept.
PENDING_MAX_BYTES = 64 * 1024 * 1024
#: Bytes of one transaction, unless a single execution has more: so none holds SQLite's writer for long.
BATCH_BYTES = 1024 * 1024
#: Executions of one transaction.
BATCH_MAX = 100
#: How long bodies collect before they are written: few transactions, whatever the rate of executions.
COLLECT_S = 0.02
#: How long the end of a background run waits for its bodies to be stored; then it goes ahead of them.
STORED_WAIT_S = 2.0
_PAUSE_S, _PAUSE_MAX_S = 0.25, 5.0
#: Made anew for each run, so never kept: what they were good for is over, or somebody else's.
_NOT_KEPT = frozenset({"x-appwrite-key", "x-appwrite-user-jwt"})

#: Project and execution.
Key = tuple[str, str]


class RawBodies(msgspec.Struct, frozen=True):
    """What is to be kept of one run, not cut to size yet; `limit` is in bytes of each body.

    `streamed` is the body of a response that went by in pieces, `result` is None where there was no response.
    """

    execution: Execution
    created_at: datetime
    request: RunRequest
    limit: int
    result: Result | None = None
    streamed: Body | None = None

    @property
    def key(self) -> Key:
        """What it is found by."""
        return self.execution.project_id, self.execution.id

    @property
    def weight(self) -> int:
        """About how many bytes of memory it holds."""
        answered = 0 if self.result is None else len(self.result.body)
        streamed = 0 if self.streamed is None else len(self.streamed.content)
        return len(self.request.body) + answered + streamed + 2_048

    def cut(self) -> Bodies:
        """What is stored of it. Takes a millisecond for each megabyte that is cut off."""
        response = None
        if self.result is not None:
            body = self.streamed or kept_body(self.result.body, self.limit)
            response = KeptResponse(self.result.status_code, self.result.headers, body)
        it, request = self.execution, self.request
        kept = KeptRequest(
            method=request.method,
            path=request.path,
            headers=_kept_headers(request.headers),
            body=kept_body(request.body, self.limit),
            trigger=it.trigger,
            user_id=request.user_id,
            real_user_id=request.real_user_id,
            client_ip=request.client_ip,
            event=request.event,
        )
        return Bodies(it.project_id, it.function_id, it.id, self.created_at, kept, response)


def raw_bodies(
    settings: FunctionSettings,
    execution: Execution,
    now: datetime,
    request: RunRequest,
    result: Result | None,
    streamed: Body | None = None,
) -> RawBodies:
    """What is to be kept of a run of a function with these settings."""
    return RawBodies(execution, now, request, settings.bodies_max_bytes, result, streamed)


class KeptBodies:
    """Used from one event loop; `close` when nothing runs any more, before the store closes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[Key, RawBodies] = {}
        self._held: dict[Key, RawBodies] = {}
        """Those whose execution could not be recorded yet."""
        self._bytes = 0
        self._futures: dict[Key, asyncio.Future[None]] = {}
        self._task: asyncio.Task[None] | None = None

    def keep(self, raw: RawBodies) -> None:
        """Store this soon; its execution is recorded."""
        if self._admit(raw):
            self._waiting[raw.key] = raw
            if self._task is None:
                self._task = asyncio.create_task(self._write_all(), name="bodies")

    async def store(self, raw: RawBodies) -> None:
        """Store this and wait for it, for a bounded time; what takes longer is still stored. Never raises a fault."""
        self.keep(raw)
        if raw.key in self._waiting:
            future = self._futures.setdefault(raw.key, asyncio.get_running_loop().create_future())
            await asyncio.wait([future], timeout=STORED_WAIT_S)

    def hold(self, raw: RawBodies) -> None:
        """Keep this in memory until its execution is recorded: see `release`."""
        if self._admit(raw):
            self._held[raw.key] = raw

    def release(self, execution: Execution) -> None:
        """An execution is recorded that could not be at first."""
        raw = self._held.pop((execution.project_id, execution.id), None)
        if raw is not None:
            self._bytes -= raw.weight
            self.keep(raw)

    def pending(self, project_id: str, execution_id: str) -> Bodies | None:
        """What is on its way into the database."""
        raw = self._waiting.get((project_id, execution_id))
        return None if raw is None else raw.cut()

    async def close(self) -> None:
        """Write what waits; what the database will not take now is lost."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        while self._waiting and await self._write_some():
            pass

    def _admit(self, raw: RawBodies) -> bool:
        if self._bytes + raw.weight > PENDING_MAX_BYTES:
            log.warning(
                "bodies of an execution are not kept: too many wait to be written",
                execution_id=raw.execution.id,
                limit=f"pending_max_bytes={PENDING_MAX_BYTES}",
            )
            return False
        self._bytes += raw.weight
        return True

    async def _write_all(self) -> None:
        pause_s = _PAUSE_S
        try:
            while self._waiting:
                await asyncio.sleep(COLLECT_S)
                if await self._write_some():
                    pause_s = _PAUSE_S
                else:
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, _PAUSE_MAX_S)
        finally:
            self._task = None

    async def _write_some(self) -> bool:
        """Whether a batch is settled, so that it is worth to go on."""
        batch = self._batch()
        try:
            bodies = await asyncio.to_thread(lambda: [raw.cut() for raw in batch])
            await self._store.keep_bodies(bodies)
        except PlatformFault as fault:
            log.warning("bodies were not stored yet", executions=len(batch), error=str(fault))
            return False
        except Exception:
            log.exception("bodies cannot be stored", executions=[raw.execution.id for raw in batch])
        for raw in batch:
            if self._waiting.pop(raw.key, None) is not None:
                self._bytes -= raw.weight
            future = self._futures.pop(raw.key, None)
            if future is not None and not future.done():
                future.set_result(None)
        return True

    def _batch(self) -> list[RawBodies]:
        """The first ones that wait, of one project."""
        batch: list[RawBodies] = []
        weight = 0
        for raw in self._waiting.values():
            if batch and raw.key[0] != batch[0].key[0]:
                continue
            weight += raw.weight
            if batch and (weight > BATCH_BYTES or len(batch) >= BATCH_MAX):
                break
            batch.append(raw)
        return batch


def _kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    lower = ((name.lower(), value) for name, value in headers.items())
    return {name: value for name, value in lower if name not in _NOT_KEPT}
