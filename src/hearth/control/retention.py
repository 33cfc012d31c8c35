"""What is removed after its time: executions, old deployments, ended jobs (contract: functions-api 4).

Everything goes in small transactions, so that a sweep never holds the writer for long (`hearth.control.sweeping`).
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import structlog

from hearth.control.deployments import DeploymentsControl
from hearth.control.idempotency import KEPT as IDEMPOTENCY_KEPT
from hearth.control.sweeping import FIRST_ROWS, delete_all
from hearth.control.usage import USAGE_KEPT, UsageControl
from hearth.control.views import ControlLimits
from hearth.model.function_settings import FunctionSettings
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Function
from hearth.model.statuses import DEPLOYMENT_FINAL
from hearth.ports import Clock, Store

log = structlog.get_logger(__name__)

_PAGE = 100
#: Ended jobs are kept this long, so that what happened can still be looked up.
JOBS_KEPT = timedelta(days=7)
#: How long a dead letter waits for somebody to look at it.
DEAD_LETTERS_KEPT = timedelta(days=30)
ATTEMPTS_KEPT = timedelta(days=14)


class Retention:
    """One sweep over all projects; repeatable, and safe beside everything else."""

    def __init__(
        self, *, store: Store, clock: Clock, deployments: DeploymentsControl, limits: ControlLimits, usage: UsageControl
    ) -> None:
        self._store = store
        self._clock = clock
        self._deployments = deployments
        self._limits = limits
        self._usage = usage

    async def sweep(self) -> None:
        """Remove what is past its time."""
        now = self._clock.now()
        for project in await self._store.projects.all():
            async for function, settings in self._functions(project.id):
                await self._usage.keep(project.id, function.id)  # before what it is counted from goes
                await self._bodies(function, settings, now)
                await self._executions(function, settings, now)
                if function.deployment_retention_days:
                    await self._old_deployments(function, now - timedelta(days=function.deployment_retention_days))
            await self._leftovers(project.id, now)
        keys, jobs = self._store.idempotency_keys, self._store.jobs
        await delete_all(lambda limit: keys.prune(now - IDEMPOTENCY_KEPT, limit), "idempotency keys")
        await delete_all(lambda limit: jobs.prune(now - JOBS_KEPT, limit), "ended jobs")

    async def _leftovers(self, project_id: str, now: datetime) -> None:
        """Dead letters past their time, and attempts at executions of that age."""

        async def letters(limit: int) -> int:
            async with self._store.begin(project_id) as unit:
                return await unit.dead_letters.delete_before(now - DEAD_LETTERS_KEPT, limit)

        async def attempts(limit: int) -> int:
            async with self._store.begin(project_id) as unit:
                return await unit.attempts.delete_before(now - ATTEMPTS_KEPT, limit)

        async def usage(limit: int) -> int:
            async with self._store.begin(project_id) as unit:
                return await unit.usage.delete_before(now - USAGE_KEPT, limit)

        await delete_all(usage, "usage figures", project_id=project_id)
        await delete_all(letters, "dead letters", project_id=project_id)
        await delete_all(attempts, "attempts", project_id=project_id)

    async def _functions(self, project_id: str) -> AsyncIterator[tuple[Function, FunctionSettings]]:
        cursor = ""
        while True:
            async with self._store.view(project_id) as unit:
                page = await unit.functions.list(ListQuery(limit=_PAGE, cursor=cursor, count=False))
                found = [(function, await unit.function_settings.get(function.id)) for function in page.items]
            for pair in found:
                yield pair
            if len(page.items) < _PAGE:
                return
            cursor = page.items[-1].id

    async def _bodies(self, function: Function, settings: FunctionSettings, now: datetime) -> None:
        """Also those of a function that stores no more of them."""
        ids = {"project_id": function.project_id, "function_id": function.id}
        age = timedelta(days=settings.bodies_retention_days)

        async def past(limit: int) -> int:
            async with self._store.begin(function.project_id) as unit:
                return await unit.bodies.delete_before(function.id, now - age, limit)

        if settings.updated_at is not None:  # else it never had any
            await delete_all(past, "bodies past their age", first=1, **ids)

    async def _executions(self, function: Function, settings: FunctionSettings, now: datetime) -> None:
        """Ended ones past the function's age, else the server's, and those beyond the function's count."""
        project_id, ids = function.project_id, {"project_id": function.project_id, "function_id": function.id}
        first = 1 if settings.store_bodies else FIRST_ROWS  # bodies go with them
        age = timedelta(days=settings.executions_retention_days) or timedelta(
            seconds=self._limits.execution_retention_s
        )

        async def past(limit: int) -> int:
            async with self._store.begin(project_id) as unit:
                return await unit.executions.delete_before(function.id, now - age, limit)

        if age:
            await delete_all(past, "executions past their age", first=first, **ids)
        if not settings.executions_retention_count:
            return
        async with self._store.view(project_id) as unit:
            newest_to_go = await unit.executions.beyond(function.id, settings.executions_retention_count)

        async def surplus(limit: int) -> int:
            async with self._store.begin(project_id) as unit:
                return await unit.executions.delete_up_to(function.id, newest_to_go, limit)

        if newest_to_go:
            await delete_all(surplus, "executions beyond the count", first=first, **ids)

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
