"""Requests that may be sent again without being done again (IETF draft idempotency-key-header).

A key is stored before the request is carried out and gets its answer afterwards, so that it holds over restarts.
What the request makes has an id from the beginning: if the server dies in between, that id tells whether it was made.
"""

import asyncio
import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import structlog

from hearth.control.views import SYNC_WAIT_S
from hearth.model.actor import Actor
from hearth.model.durability import IdempotencyKey
from hearth.model.ids import unique_id
from hearth.model.refusals import Busy, PlatformFault, Refusal, Unavailable
from hearth.ports import Clock, Store

log = structlog.get_logger(__name__)

#: How long a key is remembered.
KEPT = timedelta(hours=24)
#: How long a request may be under way before its server counts as dead.
LEASE = timedelta(seconds=2 * SYNC_WAIT_S)
#: Characters of an answer that is kept; of a longer one only what the database has anyway is shown again.
ANSWER_MAX_CHARS = 2 * 1024 * 1024
#: When a request that meets itself should be sent again.
RETRY_AFTER_S = 1
#: Keys that are remembered while the database is away, of requests that were carried out; the oldest one gives way.
UNBOUND_MAX = 10_000
_BIND_PAUSE_S, _BIND_PAUSE_MAX_S = 0.25, 2.0

#: Carries the request out and returns its answer as text; given the id of what it is to make.
Work = Callable[[str], Awaitable[str]]
#: The answer to a request that made something, from what was stored of it; None if nothing was.
Recall = Callable[[str], Awaitable[str | None]]


class Idempotency:
    """Carries requests with keys out once. One per server: `owner` names it, `node` the machine it runs on."""

    def __init__(self, *, store: Store, clock: Clock, owner: str) -> None:
        self._keys = store.idempotency_keys
        self._clock = clock
        self._owner = owner
        self._node = owner.split("/")[0] + "/"
        self._running: set[asyncio.Task[str]] = set()
        self._unbound: deque[IdempotencyKey] = deque(maxlen=UNBOUND_MAX)
        self._binding: asyncio.Task[None] | None = None

    async def once(
        self,
        project_id: str,
        actor: Actor,
        operation: str,
        key: str,
        request: Mapping[str, Any],
        *,
        work: Work,
        recall: Recall,
    ) -> tuple[str, bool]:
        """The answer to a request with `key`, and whether it is that of an earlier one.

        Raises `idempotency_key_reused` for another request with the same key, `idempotency_request_in_progress`
        while the first one is under way, and what `work` raises if it made nothing: then the key is free again.
        If the caller leaves, the request is carried out all the same.
        """
        now = self._clock.now()
        mine = IdempotencyKey(
            project_id=project_id,
            operation=operation,
            caller=_caller(actor),
            key=key,
            fingerprint=fingerprint(request),
            created_at=now,
            owner=self._owner,
            leased_until=now + LEASE,
            subject_id=unique_id(),
        )
        before = await self._keys.begin(mine, now - KEPT)
        if before is not None:
            if before.fingerprint != mine.fingerprint:
                raise Refusal("idempotency_key_reused")
            if before.is_answered:
                answer = before.answer or await recall(before.subject_id)
                if answer is None:
                    raise Refusal("idempotency_answer_gone")
                return answer, True
            if not self._is_abandoned(before):
                raise _in_progress()
            if (answer := await recall(before.subject_id)) is not None:
                await self._keys.finish(before, answer if len(answer) <= ANSWER_MAX_CHARS else "")
                return answer, True
            mine = replace(mine, subject_id=before.subject_id)
            if not await self._keys.take_over(mine, before):
                raise _in_progress()
        task = asyncio.create_task(self._carry_out(mine, work, recall), name="request with an idempotency key")
        self._running.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task), False

    async def close(self) -> None:
        """Wait until what was begun has its answer stored. Called while stopping, after the runs have ended."""
        if self._running:
            await asyncio.wait(self._running)
        if self._binding is not None:
            self._binding.cancel()
            await asyncio.wait([self._binding])
        await self._bind_some()

    async def _carry_out(self, mine: IdempotencyKey, work: Work, recall: Recall) -> str:
        try:
            answer = await work(mine.subject_id)
        except (Busy, Unavailable):  # no instance was to be had: nothing has run
            await self._keys.forget(mine)
            raise
        except Exception:
            if await recall(mine.subject_id) is None:
                await self._keys.forget(mine)
            else:  # it has happened, though its answer is an error: not to be done again
                await self._bind(mine)
            raise
        try:
            await self._keys.finish(mine, answer if len(answer) <= ANSWER_MAX_CHARS else "")
        except PlatformFault as fault:  # when the lease is over, the next one finds what was made
            log.warning("the answer to a request with an idempotency key was not kept", error=str(fault))
        return answer

    async def _bind(self, mine: IdempotencyKey) -> None:
        """Note that a request was carried out, as soon as the database takes it.

        Until then this server finds what it made, and any other finds the key held until its lease is over.
        """
        try:
            await self._keys.finish(mine, "")
        except PlatformFault as fault:
            log.warning("a key of a request that was carried out is not noted yet", error=str(fault))
            self._unbound.append(mine)
            if self._binding is None:
                self._binding = asyncio.create_task(self._bind_all(), name="keys to be noted")

    async def _bind_all(self) -> None:
        pause_s = _BIND_PAUSE_S
        try:
            while self._unbound:
                await asyncio.sleep(pause_s)
                pause_s = _BIND_PAUSE_S if await self._bind_some() else min(pause_s * 2, _BIND_PAUSE_MAX_S)
        finally:
            self._binding = None

    async def _bind_some(self) -> bool:
        """Whether all are noted."""
        while self._unbound:
            try:
                await self._keys.finish(self._unbound[0], "")
            except PlatformFault:
                return False
            self._unbound.popleft()
        return True

    def _ended(self, task: "asyncio.Task[str]") -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: its caller may have left

    def _is_abandoned(self, before: IdempotencyKey) -> bool:
        """Whether nobody works on it any more: its server is an earlier one of this machine, or its lease is over."""
        earlier = before.owner.startswith(self._node) and before.owner != self._owner
        return earlier or before.leased_until <= self._clock.now()


def fingerprint(request: Mapping[str, Any]) -> str:
    """What stands for a whole request: equal for equal ones."""
    return hashlib.sha256(msgspec.json.encode(dict(request), order="sorted")).hexdigest()


def _caller(actor: Actor) -> str:
    return f"{actor.kind}:{actor.key_id or actor.real_user_id}:{actor.user_id}"


def _in_progress() -> Refusal:
    return Refusal("idempotency_request_in_progress", headers={"retry-after": str(RETRY_AFTER_S)})
