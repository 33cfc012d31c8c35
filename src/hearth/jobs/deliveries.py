"""Webhook deliveries: from an event to durable jobs, and each job to one signed POST (contract: side-services 14).

An event is matched at once, in memory; its jobs are committed a moment later, several in one transaction. From then
on a delivery survives a restart, and is tried again until it arrives or is given up with a reason.
"""

import asyncio
import base64
import hashlib
import hmac
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from hearth import CONTRACT_VERSION
from hearth.control.jobs import webhook_job
from hearth.control.webhooks import WebhookBook, WebhooksControl
from hearth.jobs.worker import JobFailed
from hearth.model.events import Occurrence, variants
from hearth.model.resources import Job, Webhook
from hearth.ports import Clock, Poster, PostFailed, Store, Unit

log = structlog.get_logger(__name__)

#: Deliveries that wait to become jobs, at most; what comes on top is dropped and logged.
WAITING_MAX = 10_000
#: Jobs committed in one transaction.
BATCH = 200
_RETRY_S = 1.0

#: The wire form of what an event happened to, as the owner of a project sees it; None for what has no such form.
PayloadOf = Callable[[object], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class _Delivery:
    project_id: str
    webhook_id: str
    event: str
    user_id: str
    body: str


def signature(secret: str, url: str, body: bytes) -> str:
    """What proves to a receiver that a delivery is ours: base64 of HMAC-SHA1 over address and body (as upstream)."""
    mac = hmac.new(secret.encode(), url.encode() + body, hashlib.sha1)
    return base64.b64encode(mac.digest()).decode()


class Deliveries:
    """Listener of the event bus and handler of webhook jobs. `start` before the first event, `close` after the last."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        webhooks: WebhooksControl,
        book: WebhookBook,
        poster: Poster,
        payload_of: PayloadOf,
    ) -> None:
        self._store = store
        self._clock = clock
        self._webhooks = webhooks
        self._book = book
        self._poster = poster
        self._payload_of = payload_of
        self._waiting: asyncio.Queue[_Delivery] = asyncio.Queue(WAITING_MAX)
        self._loop: asyncio.Task[None] | None = None

    def heard(self, occurrence: Occurrence) -> None:
        """Note what is to be sent to whom. Called for every event; free where no webhook could want it."""
        if not self._book.has(occurrence.project_id):
            return
        names = frozenset(variants(occurrence.event))
        wanted = [webhook for webhook in self._book.of(occurrence.project_id) if not names.isdisjoint(webhook.events)]
        payload = self._payload_of(occurrence.subject) if wanted else None
        if payload is None:
            return
        body = msgspec.json.encode(payload).decode()
        for webhook in wanted:
            delivery = _Delivery(occurrence.project_id, webhook.id, occurrence.event, occurrence.user_id, body)
            try:
                self._waiting.put_nowait(delivery)
            except asyncio.QueueFull:
                log.error("webhook delivery dropped: too many wait", webhook_id=webhook.id, event_name=occurrence.event)

    def start(self) -> None:
        """Begin to turn what was heard into jobs."""
        self._loop = asyncio.create_task(self._enqueue_for_ever(), name="deliveries")

    async def close(self) -> None:
        """Commit what was heard, then stop."""
        if self._loop is None:
            return
        joined = asyncio.create_task(self._waiting.join())
        # A database that does not answer must not hold up the stop for ever.
        await asyncio.wait([joined, self._loop], timeout=10, return_when=asyncio.FIRST_COMPLETED)
        joined.cancel()
        self._loop.cancel()
        await asyncio.wait([self._loop])

    async def deliver(self, job: Job) -> None:
        """Send one delivery. Raises JobFailed with the reason when it did not arrive."""
        webhook_id = job.payload["webhookId"]
        async with self._store.view(job.project_id) as unit:
            webhook = await unit.webhooks.get(webhook_id)
        if webhook is None or not webhook.enabled:
            self._book.drop(job.project_id, webhook_id)
            return
        body = job.payload["body"].encode()
        try:
            posted = await self._poster.post(webhook.url, _headers(webhook, job, body), body, verify=webhook.tls)
        except PostFailed as error:
            await self._webhooks.note_failure(webhook, str(error))
            raise JobFailed(str(error), again=error.again) from None
        if not 200 <= posted.status < 300:
            reason = f"The address answered {posted.status}: {posted.text[:512]}"
            await self._webhooks.note_failure(webhook, reason)
            raise JobFailed(reason)
        await self._webhooks.note_success(webhook)

    async def give_up_in(self, unit: Unit, job: Job, reason: str) -> None:
        """The delivery is not tried again: its webhook says why, in the caller's transaction."""
        await self._webhooks.give_up_in(unit, job.payload["webhookId"], reason)

    async def _enqueue_for_ever(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await self._commit(batch)
            for _ in batch:
                self._waiting.task_done()

    async def _commit(self, batch: list[_Delivery]) -> None:
        projects: defaultdict[str, list[_Delivery]] = defaultdict(list)
        for delivery in batch:
            projects[delivery.project_id].append(delivery)
        for project_id, deliveries in projects.items():
            while True:
                try:
                    await self._enqueue(project_id, deliveries)
                    break
                except Exception:
                    log.exception("webhook deliveries could not be queued; trying again", count=len(deliveries))
                    await asyncio.sleep(_RETRY_S)

    async def _enqueue(self, project_id: str, deliveries: list[_Delivery]) -> None:
        now = self._clock.now()
        async with self._store.begin(project_id) as unit:
            for delivery in deliveries:
                payload = {
                    "webhookId": delivery.webhook_id,
                    "event": delivery.event,
                    "userId": delivery.user_id,
                    "body": delivery.body,
                }
                await unit.jobs.enqueue(webhook_job(project_id, delivery.webhook_id, payload, now))


def _headers(webhook: Webhook, job: Job, body: bytes) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "user-agent": f"Appwrite-Server v{CONTRACT_VERSION}",
        "x-appwrite-webhook-id": webhook.id,
        "x-appwrite-webhook-events": ",".join(variants(job.payload["event"])),
        "x-appwrite-webhook-name": webhook.name,
        "x-appwrite-webhook-user-id": job.payload["userId"],
        "x-appwrite-webhook-project-id": webhook.project_id,
        "x-appwrite-webhook-signature": signature(webhook.secret, webhook.url, body),
    }
    if webhook.auth_username or webhook.auth_password:
        pair = f"{webhook.auth_username}:{webhook.auth_password}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    return headers
