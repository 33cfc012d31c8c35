"""Ends of synchronous runs that the database would not take: kept in memory and stored when it is back.

The caller has his 503 by then, but user code has run, so there has to be a record. If this server ends first, the
intent of the run is still noted, and the next start records it as failed.
"""

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from hearth.model.refusals import PlatformFault
from hearth.model.resources import Execution
from hearth.ports import Conflict, ExecutionLog

log = structlog.get_logger(__name__)

#: Executions kept at the same time; each may hold up to a few megabytes of logs. The oldest one gives way.
LATE_RECORDS_MAX = 1_000
_PAUSE_S = 0.25
_PAUSE_MAX_S = 5.0


class LateRecords:
    """Used from one event loop; `close` before the execution log closes."""

    def __init__(self, executions: ExecutionLog, stored: Callable[[Execution], None]) -> None:
        """`stored` hears of each one that was stored after all."""
        self._log = executions
        self._stored = stored
        self._kept: deque[Execution] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def __len__(self) -> int:
        """How many are not stored yet."""
        return len(self._kept)

    def find(self, project_id: str, execution_id: str) -> Execution | None:
        """One that is not stored yet."""
        for execution in self._kept:
            if (execution.project_id, execution.id) == (project_id, execution_id):
                return execution
        return None

    def keep(self, execution: Execution, fault: PlatformFault) -> None:
        """Store this one as soon as it can be."""
        if self._is_closed:
            return
        log.warning("the end of an execution was not stored yet", execution_id=execution.id, error=str(fault))
        if len(self._kept) >= LATE_RECORDS_MAX:
            given_up = self._kept.popleft()
            log.error(
                "too many ends of executions wait to be stored; the next start records this one as failed",
                execution_id=given_up.id,
                limit=LATE_RECORDS_MAX,
            )
        self._kept.append(execution)
        if self._task is None:
            self._task = asyncio.create_task(self._store_all(), name="late records")

    async def close(self) -> None:
        """Keep nothing more; what is kept is tried once more, and left to the next start if that fails."""
        self._is_closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        while self._kept and await self._store_first():
            pass

    async def _store_all(self) -> None:
        pause_s = _PAUSE_S
        try:
            while self._kept:
                await asyncio.sleep(pause_s)
                while self._kept and await self._store_first():
                    pause_s = _PAUSE_S
                pause_s = min(pause_s * 2, _PAUSE_MAX_S)
        finally:
            self._task = None

    async def _store_first(self) -> bool:
        """Whether the oldest one is settled; else it goes behind the others, in case that it is to blame."""
        execution = self._kept[0]
        try:
            await self._log.record(execution)
        except Conflict:
            pass  # the commit had taken effect, only its answer was lost
        except PlatformFault:
            if self._kept and self._kept[0] is execution:
                self._kept.rotate(-1)
            return False
        if execution in self._kept:
            self._kept.remove(execution)
        self._stored(execution)
        return True
