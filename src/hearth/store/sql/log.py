"""The execution log: finished executions, committed in groups and known after a kill."""

from typing import cast

from hearth.model.prompt import Pending
from hearth.model.resources import Execution
from hearth.store.intents import IntentFile
from hearth.store.sql import writes
from hearth.store.sql.groups import Groups
from hearth.store.sql.session import Transactions

_LOOKUP = 500


class SqlExecutionLog:
    """See `hearth.ports.ExecutionLog`. A record may be up to a few megabytes; it is held until committed."""

    def __init__(self, groups: Groups, intents: IntentFile, transactions: Transactions) -> None:
        """`groups` must tell `intents` what it has written."""
        self._groups = groups
        self._intents = intents
        self._transactions = transactions

    async def open(self) -> tuple[Execution, ...]:
        """Start; returns what a killed server had begun and never recorded, oldest first, as it was begun.

        They stay noted until each is given to `record`. Raises PlatformFault or OSError.
        """
        begun = self._intents.open()
        ids: dict[str, list[str]] = {}
        for execution in begun:
            ids.setdefault(execution.project_id, []).append(execution.id)
        recorded: set[tuple[str, str]] = set()
        async with self._transactions.view() as session:
            for project_id, wanted in ids.items():
                for start in range(0, len(wanted), _LOOKUP):
                    some = wanted[start : start + _LOOKUP]
                    recorded.update(
                        (project_id, row.id) for row in await session.all(writes.recorded(some, project_id))
                    )
        self._intents.settle(recorded)
        left = [execution for execution in begun if (execution.project_id, execution.id) not in recorded]
        return tuple(sorted(left, key=lambda execution: (execution.created_at, execution.id)))

    def begin(self, execution: Execution) -> None:
        """See `hearth.ports.ExecutionLog`."""
        self._intents.add(execution)

    def submit(self, execution: Execution) -> "Pending[Execution]":
        """See `hearth.ports.ExecutionLog`. Errors as of `Groups.submit`."""
        return cast("Pending[Execution]", self._groups.submit(execution, execution))

    async def record(self, execution: Execution) -> Execution:
        """Wait for `submit`."""
        return await self.submit(execution)

    async def close(self) -> None:
        """Commit what waits, then stop."""
        await self._groups.close()
        self._intents.close()
