"""Webhooks: what signs and opens them is sealed on the way in and opened on the way out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, delete, select, update

from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault
from hearth.model.resources import Webhook
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.schema import webhooks
from hearth.store.sql.session import Cipher, Session

_webhook = reader(Webhook)
_SEALED = ("secret", "auth_password")


def read_webhook(cipher: Cipher, row: Row[Any]) -> Webhook:
    """A row with its secrets in clear. Raises PlatformFault when they do not open."""
    webhook = _webhook(row)
    opened: dict[str, Any] = {}
    for field in _SEALED:
        try:
            opened[field] = cipher.open(getattr(row, field), sealed_context(row.project_id, row.id, field))
        except ValueError as error:
            raise PlatformFault(
                f"The {field} of webhook {row.id} of {row.project_id} cannot be read: {error}"
            ) from error
    return replace(webhook, **opened)


def sealed_context(project_id: str, id: str, field: str) -> bytes:
    """What a sealed text is bound to: moved to any other row or column, it does not open."""
    return "/".join((project_id, "webhook", id, field)).encode()


class SqlWebhooks:
    """See `hearth.ports.Webhooks`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(webhooks.c.project_id == self._session.project_id, webhooks.c.id == id)

    async def insert(self, webhook: Webhook) -> Webhook:
        """Raises Conflict(`id`)."""
        self._session.own(webhook.project_id)
        sequence = await self._session.insert(webhooks, self._sealed(webhook.id, values_of(webhook)))
        if sequence is None:
            raise Conflict("id")
        return replace(webhook, sequence=sequence)

    async def get(self, id: str) -> Webhook | None:
        """One webhook."""
        row = await self._session.one(select(webhooks).where(self._is(id)))
        return None if row is None else self._read(row)

    async def list(self, query: ListQuery) -> Page[Webhook]:
        """Raises CursorNotFound."""
        scope = webhooks.c.project_id == self._session.project_id
        return await page_of(self._session, collections.WEBHOOKS, scope, query, self._read)

    async def update(self, id: str, /, **changes: Any) -> Webhook | None:
        """See the port."""
        values = {"updated_at": self._session.clock.now(), **self._sealed(id, checked(Webhook, changes))}
        row = await self._session.one(update(webhooks).where(self._is(id)).values(values).returning(webhooks))
        return None if row is None else self._read(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(webhooks).where(self._is(id))) > 0

    def _read(self, row: Row[Any]) -> Webhook:
        return read_webhook(self._session.cipher, row)

    def _sealed(self, id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        sealed = {
            field: self._session.cipher.seal(values[field], sealed_context(self._session.project_id, id, field))
            for field in _SEALED
            if field in values
        }
        return {**values, **sealed}
