"""What is removed after its time: executions, old deployments, ended jobs (contract: functions-api 4).

Everything goes in small transactions, so that a sweep never holds the writer for long.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import structlog

from hearth.control.deployments import DeploymentsControl
from hearth.control.idempotency import KEPT as IDEMPOTENCY_KEPT
from hearth.control.views import ControlLimits
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Function
from hearth.model.statuses import DEPLOYMENT_FINAL
from hearth.ports import Attempts, Clock, DeadLetters, Store

log = structlog.get_logger(__name__)

#: Rows deleted in one transaction.
_BATCH = 200
_PAGE = 100
#: Ended jobs are kept this long, so that what happened can still be looked up.
JOBS_KEPT = timedelta(days=7)
#: How long a dead letter waits for somebody to look at it.
DEAD_LETTERS_KEPT = timedelta(days=30)
ATTEMPTS_KEPT = timedelta(days=14)


class Retention:
    """One sweep over all projects; repeatable, and safe beside everything else."""

    def __init__(self, *, store: Store, clock: Clock, deployments: DeploymentsControl, limits: ControlLimits) -> None:
        self._store = store
        self._clock = clock
        self._deployments = deployments
        self._limits = limits

    async def sweep(self) -> None:
        """Remove what is past its time."""
        now = self._clock.now()
        for project in await self._store.projects.all():
            async for function in self._functions(project.id):
                if self._limits.execution_retention_s:
                    await self._executions(function, now - timedelta(seconds=self._limits.execution_retention_s))
                if function.deployment_retention_days:
                    await self._old_deployments(function, now - timedelta(days=function.deployment_retention_days))
            await self._leftovers(project.id, now)
        while await self._store.idempotency_keys.prune(now - IDEMPOTENCY_KEPT, _BATCH) == _BATCH:
            pass
        while await self._store.jobs.prune(now - JOBS_KEPT, _BATCH) == _BATCH:
            pass

    async def _leftovers(self, project_id: str, now: datetime) -> None:
        """Dead letters past their time, and attempts at executions of that age."""
        for kept, which in ((DEAD_LETTERS_KEPT, "dead_letters"), (ATTEMPTS_KEPT, "attempts")):
            deleted = _BATCH
            while deleted == _BATCH:
                async with self._store.begin(project_id) as unit:
                    rows: DeadLetters | Attempts = unit.dead_letters if which == "dead_letters" else unit.attempts
                    deleted = await rows.delete_before(now - kept, _BATCH)

    async def _functions(self, project_id: str) -> AsyncIterator[Function]:
        cursor = ""
        while True:
            async with self._store.view(project_id) as unit:
                page = await unit.functions.list(ListQuery(limit=_PAGE, cursor=cursor, count=False))
            for function in page.items:
                yield function
            if len(page.items) < _PAGE:
                return
            cursor = page.items[-1].id

    async def _executions(self, function: Function, before: datetime) -> None:
        while True:
            async with self._store.begin(function.project_id) as unit:
                deleted = await unit.executions.delete_before(function.id, before, _BATCH)
            if deleted < _BATCH:
                return

    async def _old_deployments(self, function: Function, before: datetime) -> None:
        """The active deployment is never removed, nor one whose build has not ended."""
        async with self._store.view(function.project_id) as unit:
            deployments = await unit.deployments.all_of(function.id)
        for deployment in deployments:
            if (
                deployment.created_at >= before
                or deployment.id == function.deployment_id
                or deployment.status not in DEPLOYMENT_FINAL
            ):
                continue
            try:
                await self._deployments.delete(function.project_id, function.id, deployment.id)
            except Refusal:
                continue  # deleted meanwhile
            log.info("deployment past its retention", function_id=function.id, deployment_id=deployment.id)
