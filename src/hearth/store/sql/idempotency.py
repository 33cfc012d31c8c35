"""Idempotency keys. Each step is a transaction of its own: a key has to be there before what it stands for begins."""

from datetime import datetime

from sqlalchemy import ColumnElement, Row, and_, delete, select, tuple_, update

from hearth.model.durability import IdempotencyKey
from hearth.store.sql.durability_schema import idempotency_keys as keys
from hearth.store.sql.rows import values_of
from hearth.store.sql.session import Cipher, Transactions

_PLACE = (keys.c.project_id, keys.c.operation, keys.c.caller, keys.c.key)


class SqlIdempotencyKeys:
    """See `hearth.ports.IdempotencyKeys`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def begin(self, wanted: IdempotencyKey, expired: datetime) -> IdempotencyKey | None:
        """See the port."""
        async with self._transactions.begin() as session:
            await session.execute(delete(keys).where(_is(wanted), keys.c.created_at <= expired))
            values = values_of(wanted) | {"answer": b""}
            made = await session.one(session.backend.insert(keys).values(values).returning(keys.c.key))
            if made is not None:
                return None
            row = await session.one(select(keys).where(_is(wanted)))
            return None if row is None else _read(session.cipher, row)

    async def take_over(self, mine: IdempotencyKey, seen: IdempotencyKey) -> bool:
        """See the port."""
        async with self._transactions.begin() as session:
            held = (_is(seen), keys.c.owner == seen.owner, keys.c.leased_until == seen.leased_until)
            return (
                await session.count(
                    update(keys)
                    .where(*held, keys.c.is_answered.is_(False))
                    .values(owner=mine.owner, leased_until=mine.leased_until)
                )
                > 0
            )

    async def finish(self, mine: IdempotencyKey, answer: str) -> None:
        """See the port."""
        async with self._transactions.begin() as session:
            sealed = session.cipher.seal(answer, _context(mine)) if answer else b""
            await session.execute(
                update(keys)
                .where(_is(mine), keys.c.subject_id == mine.subject_id)
                .values(is_answered=True, answer=sealed)
            )

    async def forget(self, mine: IdempotencyKey) -> None:
        """See the port."""
        async with self._transactions.begin() as session:
            await session.execute(delete(keys).where(_is(mine), keys.c.owner == mine.owner))

    async def prune(self, before: datetime, limit: int) -> int:
        """See the port."""
        async with self._transactions.begin() as session:
            old = select(*_PLACE).where(keys.c.created_at < before).limit(limit)
            return await session.count(delete(keys).where(tuple_(*_PLACE).in_(old)))


def _is(it: IdempotencyKey) -> ColumnElement[bool]:
    return and_(
        keys.c.project_id == it.project_id,
        keys.c.operation == it.operation,
        keys.c.caller == it.caller,
        keys.c.key == it.key,
    )


def _read(cipher: Cipher, row: Row[tuple[object, ...]]) -> IdempotencyKey:
    values = dict(row._mapping)
    bare = IdempotencyKey(**values | {"answer": ""})
    if not row.answer:
        return bare
    return IdempotencyKey(**values | {"answer": cipher.open(row.answer, _context(bare))})


def _context(it: IdempotencyKey) -> bytes:
    return sealed_context(it.project_id, it.operation, it.caller, it.key)


def sealed_context(project_id: str, operation: str, caller: str, key: str) -> bytes:
    """What a sealed answer is bound to."""
    return "\0".join(("idempotency", project_id, operation, caller, key)).encode()
