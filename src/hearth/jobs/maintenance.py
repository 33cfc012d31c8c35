"""What is looked at from time to time: uploads nobody continues, builds without a job, rows past their retention."""

import asyncio

import structlog

from hearth.control.repairs import Repairs
from hearth.control.retention import Retention

log = structlog.get_logger(__name__)

INTERVAL_S = 300.0
#: Retention is swept in the first round after a start and then in every so many.
RETENTION_ROUNDS = 12


class Maintenance:
    """A loop that repairs; what it does is repeatable and safe beside everything else."""

    def __init__(self, *, repairs: Repairs, retention: Retention) -> None:
        self._repairs = repairs
        self._retention = retention
        self._rounds = 0
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the loop."""
        self._loop = asyncio.create_task(self._run(), name="maintenance")

    async def close(self) -> None:
        """End the loop."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_S)
            try:
                await self._repairs.deployments()
                if self._rounds % RETENTION_ROUNDS == 0:
                    await self._retention.sweep()
                self._rounds += 1
            except Exception:
                log.exception("maintenance failed; the next round follows")
