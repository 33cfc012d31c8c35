"""Settings of functions that the Appwrite wire does not have: read, and changed one by one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from hearth.control.requiring import require_function
from hearth.control.runnables import Runnables
from hearth.model.cron import next_runs, read_zone
from hearth.model.function_settings import FunctionSettings
from hearth.model.refusals import invalid_param
from hearth.model.resources import Function
from hearth.ports import Clock, Events, Executor, Store

#: Planned times that are shown.
NEXT_RUNS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class FunctionSettingsView:
    """Settings as they are shown: with the next planned times of the function's schedule, in UTC.

    There are none while the schedule is paused or no deployment is active.
    """

    function: Function
    settings: FunctionSettings
    next_runs: tuple[datetime, ...]


class FunctionSettingsControl:
    """Use cases of function settings. `check_egress` raises ValueError for an entry of `egress_allow` it cannot read.

    `PUT /functions/{id}` leaves them alone; they are deleted with their function.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        events: Events,
        executor: Executor,
        runnables: Runnables,
        check_egress: Callable[[Iterable[str]], object],
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._executor = executor
        self._runnables = runnables
        self._check_egress = check_egress

    async def get(self, project_id: str, function_id: str) -> FunctionSettingsView:
        """Raises `function_not_found`."""
        async with self._store.view(project_id) as unit:
            function = await require_function(unit, function_id)
            settings = await unit.function_settings.get(function_id)
        return self._view(function, settings)

    async def update(self, project_id: str, function_id: str, **changes: Any) -> FunctionSettingsView:
        """Change the named fields of `FunctionSettings`; None leaves one as it is.

        Raises `function_not_found`, `general_argument_invalid`.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        try:
            self._check_egress(given.get("egress_allow", ()))
        except ValueError as error:
            raise invalid_param("egressAllow", f"{error}. Separate entries are items of the list.") from None
        async with self._store.begin(project_id) as unit:
            function = await require_function(unit, function_id)
            before = settings = await unit.function_settings.get(function_id)
            if given:
                settings = await unit.function_settings.put(function_id, replace(settings, **given))
        self._runnables.drop(project_id, function_id)
        is_other = (settings.egress, settings.egress_allow) != (before.egress, before.egress_allow)
        if is_other and function.deployment_id:
            await self._executor.retire(function.deployment_id)  # what runs may reach what it could until it ends
        self._events.emit(project_id, f"functions.{function_id}.update", function)
        return self._view(function, settings)

    def _view(self, function: Function, settings: FunctionSettings) -> FunctionSettingsView:
        zone = read_zone(settings.schedule_time_zone)
        if settings.schedule_paused or not function.deployment_id or zone is None:
            return FunctionSettingsView(function, settings, ())
        planned = next_runs(function.schedule, zone, self._clock.now(), NEXT_RUNS_SHOWN)
        return FunctionSettingsView(function, settings, planned)
