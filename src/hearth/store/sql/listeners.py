"""Functions that listen to events, of one project or of all."""

from sqlalchemy import select

from hearth.ports import Listening
from hearth.store.sql.schema import functions
from hearth.store.sql.session import Transactions


class SqlListeners:
    """See `hearth.ports.Listeners`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def page(self, after: int, limit: int, project_id: str = "") -> tuple[Listening, ...]:
        """See the port."""
        asked = select(
            functions.c.sequence,
            functions.c.project_id,
            functions.c.id,
            functions.c.events,
            functions.c.deployment_id,
            functions.c.timeout_s,
        ).where(functions.c.sequence > after, functions.c.events != ())
        if project_id:
            asked = asked.where(functions.c.project_id == project_id)
        async with self._transactions.view() as session:
            rows = await session.all(asked.order_by(functions.c.sequence).limit(limit))
        return tuple(Listening(*tuple(row)) for row in rows)
