"""Kept requests and responses of executions: two sealed documents a row, each bound to the execution it is of."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, and_, delete, insert, select

from hearth.model.bodies import Bodies, KeptRequest, KeptResponse
from hearth.store.sql import writes
from hearth.store.sql.durability_schema import execution_bodies as table
from hearth.store.sql.session import Cipher, Session

#: Blobs above this are opened in a thread: decrypting megabytes would hold up every other request.
_INLINE_BYTES = 256 * 1024

_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(KeptRequest).decode
_response = msgspec.msgpack.Decoder(KeptResponse).decode


class SqlBodies:
    """See `hearth.ports.ExecutionBodies`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _of(self, function_id: str) -> ColumnElement[bool]:
        return and_(table.c.project_id == self._session.project_id, table.c.function_id == function_id)

    def _is(self, function_id: str, execution_id: str) -> ColumnElement[bool]:
        return and_(self._of(function_id), table.c.execution_id == execution_id)

    async def get(self, function_id: str, execution_id: str) -> Bodies | None:
        """See the port."""
        row = await self._session.one(select(table).where(self._is(function_id, execution_id)))
        if row is None:
            return None
        key = (self._session.project_id, function_id, execution_id)
        request = _request(await self._opened(row.request, (*key, "request")))
        response = _response(await self._opened(row.response, (*key, "response"))) if row.response else None
        return Bodies(*key, row.created_at, request, response)

    async def response(self, function_id: str, execution_id: str) -> KeptResponse | None:
        """See the port."""
        row = await self._session.one(select(table.c.response).where(self._is(function_id, execution_id)))
        if row is None or not row.response:
            return None
        key = (self._session.project_id, function_id, execution_id, "response")
        return _response(await self._opened(row.response, key))

    async def delete(self, execution_id: str) -> bool:
        """Whether anything was kept."""
        mine = and_(table.c.project_id == self._session.project_id, table.c.execution_id == execution_id)
        return await self._session.count(delete(table).where(mine)) > 0

    async def delete_before(self, function_id: str, before: datetime, limit: int) -> int:
        """See the port."""
        old = select(table.c.execution_id).where(self._of(function_id), table.c.created_at < before)
        some = old.order_by(table.c.created_at).limit(limit).scalar_subquery()
        mine = table.c.project_id == self._session.project_id
        return await self._session.count(delete(table).where(mine, table.c.execution_id.in_(some)))

    async def _opened(self, blob: bytes, key: tuple[str, str, str, str]) -> bytes:
        cipher, context = self._session.cipher, sealed_context(*key)
        if len(blob) <= _INLINE_BYTES:
            return cipher.open_bytes(blob, context)
        return await asyncio.to_thread(cipher.open_bytes, blob, context)


async def forget_bodies(session: Session, which: ColumnElement[bool], executions: Any) -> None:
    """Delete what is kept of executions that go in this transaction; free where nothing is kept of a function.

    `which` chooses rows of the table by an index, `executions` selects the ids of executions.
    """
    if await session.one(select(table.c.execution_id).where(which).limit(1)) is None:
        return
    mine = table.c.project_id == session.project_id
    await session.execute(delete(table).where(mine, table.c.execution_id.in_(executions)))


def of_function(session: Session, function_id: str) -> ColumnElement[bool]:
    """What is kept of a function, for `forget_bodies`."""
    return and_(table.c.project_id == session.project_id, table.c.function_id == function_id)


def sealed_rows(cipher: Cipher, bodies: Sequence[Bodies]) -> list[dict[str, Any]]:
    """What is stored of bodies. Takes about a millisecond a megabyte: not for the event loop."""
    rows = []
    for each in bodies:
        key = (each.project_id, each.function_id, each.execution_id)
        response = b""
        if each.response is not None:
            response = cipher.seal_bytes(_encode(each.response), sealed_context(*key, "response"))
        request = cipher.seal_bytes(_encode(each.request), sealed_context(*key, "request"))
        names = ("project_id", "function_id", "execution_id", "created_at", "request", "response")
        rows.append(dict(zip(names, (*key, each.created_at, request, response), strict=True)))
    return rows


async def store_rows(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    """Store what `sealed_rows` made, of the session's project, in place of what was there."""
    ids = [row["execution_id"] for row in rows]
    there = {row.id for row in await session.all(writes.recorded(ids, session.project_id))}
    kept = [row for row in rows if row["execution_id"] in there]
    if not kept:
        return
    mine = table.c.project_id == session.project_id
    await session.execute(delete(table).where(mine, table.c.execution_id.in_([row["execution_id"] for row in kept])))
    await session.execute(insert(table).values(kept))


def sealed_context(project_id: str, function_id: str, execution_id: str, part: str) -> bytes:
    """What a sealed document is bound to; `part` is `request` or `response`."""
    return "\0".join(("body", project_id, function_id, execution_id, part)).encode()
