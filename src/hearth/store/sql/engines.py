"""Transactions of SQLAlchemy's asynchronous engines: what PostgreSQL is spoken to with."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from hearth.store.settling import settled
from hearth.store.sql.session import translated


class EngineStatements:
    """The transaction of a connection that an engine gave."""

    __slots__ = ("_connection",)

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def rows(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """See `Statements`."""
        result = await settled(self._connection.execute(statement, values))
        return result.all() if result.returns_rows else []

    async def count(self, statement: Executable) -> int:
        """See `Statements`."""
        return (await settled(self._connection.execute(statement))).rowcount

    async def commit(self) -> None:
        """See `Transaction`."""
        await settled(self._connection.commit())


@asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection with a transaction begun, which is rolled back in the end if nobody committed it."""
    connection = engine.connect()
    try:
        with translated("connect"):
            await settled(connection.start())
            await settled(_begin(connection))
        yield connection
    finally:
        if connection.sync_connection is not None:
            await settled(connection.close())


async def _begin(connection: AsyncConnection) -> None:
    await connection.begin()
