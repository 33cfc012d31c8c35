"""The key check: a known text, sealed with the key of the first start, that tells a wrong key from the right one."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from hearth.store.sql.schema import facts, variables
from hearth.store.sql.session import Cipher, Session
from hearth.store.sql.variables import context

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_NAME = "key_check"
_TEXT = "hearth"


class WrongKey(Exception):
    """The key does not fit this database. The server must not start; nothing was changed."""

    def __init__(self) -> None:
        super().__init__(
            "The key file does not belong to this database: values stored in it cannot be decrypted with this key. "
            "Put the original key file back from your backup. Nothing was changed."
        )


async def check_key(session: Session) -> None:
    """Compare the key with the one this database was begun with; note it at the first start. Raises WrongKey."""
    check = await session.one(select(facts.c.value).where(facts.c.name == _NAME))
    if check is None:
        await _check_first_variable(session)
        sealed = session.cipher.seal(_TEXT, _NAME.encode())
        await session.execute(session.backend.insert(facts).values(name=_NAME, value=sealed))
        # Read again: of two servers starting at once with different keys, the second is refused.
        check = await session.one(select(facts.c.value).where(facts.c.name == _NAME))
    if check is None or not _opens(session.cipher, check.value, _NAME.encode()):
        raise WrongKey


def key_was_used(connection: Connection) -> bool:
    """Whether a key was ever used with this database; false also for one without our tables."""
    if not connection.dialect.has_table(connection, facts.name):
        return False
    return connection.execute(select(facts.c.name).where(facts.c.name == _NAME)).first() is not None


async def key_fits(connection: "AsyncConnection", cipher: Cipher) -> bool:
    """Whether this database was begun with this key; false also where none was ever used."""
    check = (await connection.execute(select(facts.c.value).where(facts.c.name == _NAME))).first()
    return check is not None and _opens(cipher, check.value, _NAME.encode())


async def _check_first_variable(session: Session) -> None:
    row = await session.one(select(variables).order_by(variables.c.sequence).limit(1))
    if row is not None:
        where = context(row.project_id, row.resource_type, row.resource_id, row.id)
        if not _opens(session.cipher, row.value, where):
            raise WrongKey


def _opens(cipher: Cipher, blob: bytes, aad: bytes) -> bool:
    try:
        cipher.open(blob, aad)
    except ValueError:
        return False
    return True
