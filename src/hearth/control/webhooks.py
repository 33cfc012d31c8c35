"""Webhooks: addresses that are told of events (contract: side-services 14).

Which webhooks there are is held in memory, because every event asks; a write replaces what is held.
"""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import structlog

from hearth.model.ids import custom_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Webhook
from hearth.ports import Clock, Conflict, Page, Store, Unit

log = structlog.get_logger(__name__)

#: Bytes of randomness in a signature key that the server makes.
SECRET_BYTES = 64
#: Deliveries given up in a row, after which a webhook is switched off.
FAILURES_MAX = 10


class WebhookBook:
    """The enabled webhooks of all projects."""

    def __init__(self) -> None:
        self._webhooks: dict[str, dict[str, Webhook]] = {}

    def load(self, webhooks: Iterable[Webhook]) -> None:
        """Start with these."""
        self._webhooks = {}
        for webhook in webhooks:
            self.put(webhook)

    def of(self, project_id: str) -> Iterable[Webhook]:
        """The enabled webhooks of a project."""
        return self._webhooks.get(project_id, {}).values()

    def has(self, project_id: str) -> bool:
        """Whether a project has any, so that it is worth to look at an event at all."""
        return project_id in self._webhooks

    def put(self, webhook: Webhook) -> None:
        """Take over a webhook as it is now."""
        if webhook.enabled:
            self._webhooks.setdefault(webhook.project_id, {})[webhook.id] = webhook
        else:
            self.drop(webhook.project_id, webhook.id)

    def drop(self, project_id: str, webhook_id: str) -> None:
        """Forget a webhook that was deleted or switched off."""
        known = self._webhooks.get(project_id, {})
        known.pop(webhook_id, None)
        if not known:
            self._webhooks.pop(project_id, None)


class WebhooksControl:
    """Use cases of webhooks."""

    def __init__(self, *, store: Store, clock: Clock, book: WebhookBook) -> None:
        self._store = store
        self._clock = clock
        self._book = book

    async def load(self) -> None:
        """Fill the book; at start, before the first request."""
        self._book.load(await self._store.projects.webhooks())

    async def create(
        self,
        project_id: str,
        *,
        webhook_id: str,
        name: str,
        url: str,
        events: Sequence[str],
        enabled: bool = True,
        tls: bool = True,
        auth_username: str = "",
        auth_password: str = "",
        secret: str | None = None,
        description: str = "",
    ) -> Webhook:
        """Raises `webhook_already_exists`. Without a `secret` the server makes one."""
        now = self._clock.now()
        webhook = Webhook(
            id=custom_id(webhook_id),
            project_id=project_id,
            created_at=now,
            updated_at=now,
            name=name,
            url=url,
            events=tuple(events),
            secret=secret or new_secret(),
            description=description,
            tls=tls,
            enabled=enabled,
            auth_username=auth_username,
            auth_password=auth_password,
        )
        try:
            async with self._store.begin(project_id) as unit:
                webhook = await unit.webhooks.insert(webhook)
        except Conflict:
            raise Refusal("webhook_already_exists") from None
        self._book.put(webhook)
        return webhook

    async def list(self, project_id: str, query: ListQuery) -> Page[Webhook]:
        """One page of webhooks."""
        async with self._store.view(project_id) as unit:
            return await unit.webhooks.list(query)

    async def get(self, project_id: str, webhook_id: str) -> Webhook:
        """Raises `webhook_not_found`."""
        async with self._store.view(project_id) as unit:
            return await _require(unit, webhook_id)

    async def update(
        self,
        project_id: str,
        webhook_id: str,
        *,
        name: str,
        url: str,
        events: Sequence[str],
        enabled: bool = True,
        tls: bool = True,
        auth_username: str = "",
        auth_password: str | None = None,
        description: str = "",
    ) -> Webhook:
        """Replace the settings (None keeps the password). Raises `webhook_not_found`.

        One that is switched on (again) starts without the failures it had.
        """
        changes: dict[str, Any] = {
            "name": name,
            "url": url,
            "events": tuple(events),
            "enabled": enabled,
            "tls": tls,
            "auth_username": auth_username,
            "description": description,
        }
        changes |= {} if auth_password is None else {"auth_password": auth_password}
        changes |= {"attempts": 0, "logs": ""} if enabled else {}
        return await self._update(project_id, webhook_id, **changes)

    async def renew_secret(self, project_id: str, webhook_id: str, secret: str | None = None) -> Webhook:
        """Give a webhook another signature key: the one given, or one the server makes. Raises `webhook_not_found`."""
        return await self._update(project_id, webhook_id, secret=secret or new_secret())

    async def delete(self, project_id: str, webhook_id: str) -> None:
        """Raises `webhook_not_found`. What was still to be delivered is dropped."""
        async with self._store.begin(project_id) as unit:
            deleted = await unit.webhooks.delete(webhook_id)
        self._book.drop(project_id, webhook_id)
        if not deleted:
            raise Refusal("webhook_not_found")

    async def note_success(self, webhook: Webhook) -> None:
        """A delivery arrived: earlier failures are forgotten."""
        if webhook.attempts or webhook.logs:
            async with self._store.begin(webhook.project_id) as unit:
                await unit.webhooks.update(webhook.id, attempts=0, logs="")

    async def note_failure(self, webhook: Webhook, reason: str) -> None:
        """A delivery met `reason`; it is tried again."""
        if webhook.logs != reason:
            async with self._store.begin(webhook.project_id) as unit:
                await unit.webhooks.update(webhook.id, logs=reason)

    async def give_up_in(self, unit: Unit, webhook_id: str, reason: str) -> None:
        """A delivery is given up, in the caller's transaction: after ten in a row the webhook is switched off.

        The next delivery finds it so, and takes it out of the book.
        """
        webhook = await unit.webhooks.get(webhook_id)
        if webhook is None or not webhook.enabled:
            return
        attempts = webhook.attempts + 1
        if attempts < FAILURES_MAX:
            await unit.webhooks.update(webhook_id, attempts=attempts, logs=reason)
            return
        text = f"{reason} Switched off after {attempts} deliveries that failed in a row."
        await unit.webhooks.update(webhook_id, attempts=attempts, logs=text, enabled=False)
        log.warning("webhook switched off", project_id=unit.project_id, webhook_id=webhook_id, reason=reason)

    async def _update(self, project_id: str, webhook_id: str, **changes: Any) -> Webhook:
        async with self._store.begin(project_id) as unit:
            await _require(unit, webhook_id)
            webhook = await unit.webhooks.update(webhook_id, **changes)
        if webhook is None:
            raise Refusal("webhook_not_found")
        self._book.put(webhook)
        return webhook


def new_secret() -> str:
    """A signature key, 128 hex digits."""
    return secrets.token_hex(SECRET_BYTES)


async def _require(unit: Unit, webhook_id: str) -> Webhook:
    webhook = await unit.webhooks.get(webhook_id)
    if webhook is None:
        raise Refusal("webhook_not_found")
    return webhook
