"""Usage figures: kept by the hour in short transactions beside the executions, never by an execution itself.

An hour is counted from its executions when somebody asks, and kept before retention removes them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hearth.control.requiring import require_function
from hearth.control.specifications import Specifications
from hearth.model.queries import ListQuery
from hearth.model.resources import Deployment, Function
from hearth.model.statuses import DeploymentStatus
from hearth.model.usage import DAY, HOUR, UsageHour, UsageRange, UsageSum, start_of, summed
from hearth.ports import Clock, Store

#: How long figures are kept.
USAGE_KEPT = timedelta(days=100)
#: Hours counted in one question, so that none reads for long: a day.
_SPAN = DAY
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Step:
    """The figures of one hour or day. Storage is in bytes, times are in seconds, `mb_s` is memory times time."""

    date: datetime
    executions: UsageSum
    executions_mb_s: float
    deployments: int
    deployments_bytes: int
    builds: int
    builds_ready: int
    builds_failed: int
    builds_bytes: int
    builds_s: int
    builds_mb_s: float
    functions: int


@dataclass(frozen=True, slots=True)
class UsageView:
    """The steps of a range, and all of them together."""

    range: UsageRange
    steps: tuple[Step, ...]
    total: UsageSum


class UsageControl:
    """Use cases of usage figures, and what keeps them."""

    def __init__(self, *, store: Store, clock: Clock, specifications: Specifications) -> None:
        self._store = store
        self._clock = clock
        self._specifications = specifications

    async def get(self, project_id: str, function_id: str, range: UsageRange) -> UsageView:
        """The figures of one function. Raises `function_not_found`."""
        async with self._store.view(project_id) as unit:
            function = await require_function(unit, function_id)
        return await self._view(project_id, [function], range)

    async def list(self, project_id: str, range: UsageRange) -> UsageView:
        """The figures of all functions of a project."""
        found: list[Function] = []
        async with self._store.view(project_id) as unit:
            while True:
                cursor = found[-1].id if found else ""
                page = await unit.functions.list(ListQuery(limit=_PAGE, cursor=cursor, count=False))
                found += page.items
                if len(page.items) < _PAGE:
                    break
        return await self._view(project_id, found, range)

    async def keep(self, project_id: str, function_id: str) -> None:
        """Count the hours since those that are kept, the running one too, and keep them. Repeatable."""
        now = self._clock.now()
        async with self._store.view(project_id) as unit:
            last = await unit.usage.last(function_id)
        # Whole hours only: a part of one would be taken for all of it.
        since, end = start_of(now - USAGE_KEPT, HOUR), start_of(now, HOUR) + HOUR
        since = since if last is None else max(last - HOUR, since)
        while since < end:
            async with self._store.view(project_id) as unit:
                following = await unit.usage.next_created(function_id, since)
                if following is None:
                    return
                since = start_of(following, HOUR)
                until = min(since + _SPAN, max(end, since + HOUR))
                hours = await unit.usage.count(function_id, since, until)
            if hours:
                async with self._store.begin(project_id) as unit:
                    await unit.usage.put(hours)
            since = until

    async def _view(self, project_id: str, functions: Sequence[Function], range: UsageRange) -> UsageView:
        starts = range.starts(self._clock.now())
        hours: list[tuple[Function, UsageHour]] = []
        deployments: list[Deployment] = []
        for function in functions:
            await self.keep(project_id, function.id)
            async with self._store.view(project_id) as unit:
                hours += [(function, hour) for hour in await unit.usage.list(function.id, starts[0])]
                deployments += [
                    each for each in await unit.deployments.all_of(function.id) if each.created_at >= starts[0]
                ]
        steps = tuple(self._step(start, range, functions, hours, deployments) for start in starts)
        return UsageView(range, steps, summed(hour for _, hour in hours))

    def _step(
        self,
        start: datetime,
        range: UsageRange,
        functions: Iterable[Function],
        hours: Iterable[tuple[Function, UsageHour]],
        deployments: Iterable[Deployment],
    ) -> Step:
        mine = [(function, hour) for function, hour in hours if start_of(hour.hour, range.step) == start]
        made = [each for each in deployments if start_of(each.created_at, range.step) == start]
        specifications = {each.id: self._specifications.get(each.build_specification) for each in functions}
        return Step(
            date=start,
            executions=summed(hour for _, hour in mine),
            executions_mb_s=sum(
                hour.duration_s * self._specifications.get(function.runtime_specification).memory_mb
                for function, hour in mine
            ),
            deployments=len(made),
            deployments_bytes=sum(each.source_size_bytes for each in made),
            builds=len([each for each in made if each.build_started_at is not None]),
            builds_ready=len([each for each in made if each.status is DeploymentStatus.READY]),
            builds_failed=len([each for each in made if each.status is DeploymentStatus.FAILED]),
            builds_bytes=sum(each.build_size_bytes for each in made),
            builds_s=sum(each.build_duration_s for each in made),
            builds_mb_s=sum(each.build_duration_s * specifications[each.function_id].memory_mb for each in made),
            functions=len([each for each in functions if start_of(each.created_at, range.step) == start]),
        )
