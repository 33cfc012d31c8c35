"""Variables of a function (contract: functions-api 5.18). Every write makes the function not live."""

from typing import Any

from hearth.control.requiring import require_function
from hearth.control.runnables import Runnables
from hearth.control.views import VARIABLES_MAX
from hearth.model.ids import custom_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Function, Variable
from hearth.ports import Clock, Conflict, Events, Executor, Page, Store, Unit

_TYPE = "function"


class VariablesControl:
    """Use cases of function variables."""

    def __init__(self, *, store: Store, clock: Clock, events: Events, executor: Executor, runnables: Runnables) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._executor = executor
        self._runnables = runnables

    async def create(
        self, project_id: str, function_id: str, *, variable_id: str, key: str, value: str, secret: bool = True
    ) -> Variable:
        """Raises `function_not_found`, `variable_already_exists`, and refuses more than 1000 per function."""
        now = self._clock.now()
        variable = Variable(
            id=custom_id(variable_id),
            project_id=project_id,
            resource_type=_TYPE,
            resource_id=function_id,
            created_at=now,
            updated_at=now,
            key=key,
            value=value,
            secret=secret,
        )
        try:
            async with self._store.begin(project_id) as unit:
                await require_function(unit, function_id)
                if len(await unit.variables.of(_TYPE, function_id, VARIABLES_MAX)) >= VARIABLES_MAX:
                    raise Refusal(
                        "general_bad_request",
                        f"A function may have at most {VARIABLES_MAX} variables. Delete one first.",
                    )
                variable = await unit.variables.insert(variable)
                await self._events.record(unit, f"variables.{variable.id}.create", variable)
                function = await unit.functions.update(function_id, live=False)
        except Conflict:
            raise Refusal("variable_already_exists") from None
        await self._written(function, variable, "create")
        return variable

    async def list(self, project_id: str, function_id: str, query: ListQuery) -> Page[Variable]:
        """Raises `function_not_found`."""
        async with self._store.view(project_id) as unit:
            await require_function(unit, function_id)
            return await unit.variables.list(_TYPE, function_id, query)

    async def get(self, project_id: str, function_id: str, variable_id: str) -> Variable:
        """Raises `function_not_found`, `variable_not_found` (also for one of another function)."""
        async with self._store.view(project_id) as unit:
            return await _require(unit, function_id, variable_id)

    async def update(
        self,
        project_id: str,
        function_id: str,
        variable_id: str,
        *,
        key: str | None = None,
        value: str | None = None,
        secret: bool | None = None,
    ) -> Variable:
        """Change what is given. Raises `function_not_found`, `variable_not_found`, `variable_cannot_unset_secret`,
        `variable_already_exists` and `general_argument_invalid` when nothing is given.
        """
        given: dict[str, Any] = {"key": key, "value": value, "secret": secret}
        changes = {name: new for name, new in given.items() if new is not None}
        try:
            async with self._store.begin(project_id) as unit:
                before = await _require(unit, function_id, variable_id)
                if not changes:
                    raise Refusal("general_argument_invalid", "Nothing to update: send `key`, `value` or `secret`.")
                if before.secret and secret is False:
                    raise Refusal("variable_cannot_unset_secret")
                variable = await unit.variables.update(variable_id, **changes)
                if variable is None:
                    raise Refusal("variable_not_found")
                await self._events.record(unit, f"variables.{variable.id}.update", variable)
                function = await unit.functions.update(function_id, live=False)
        except Conflict:
            raise Refusal("variable_already_exists") from None
        await self._written(function, variable, "update")
        return variable

    async def delete(self, project_id: str, function_id: str, variable_id: str) -> None:
        """Raises `function_not_found`, `variable_not_found`."""
        async with self._store.begin(project_id) as unit:
            variable = await _require(unit, function_id, variable_id)
            await unit.variables.delete(variable_id)
            await self._events.record(unit, f"variables.{variable.id}.delete", variable)
            function = await unit.functions.update(function_id, live=False)
        await self._written(function, variable, "delete")

    async def _written(self, function: Function | None, variable: Variable, action: str) -> None:
        self._runnables.drop(variable.project_id, variable.resource_id)
        if function is not None and function.deployment_id:
            # Instances hold the old values; none may serve another request (isolation case S5).
            await self._executor.retire(function.deployment_id)
        self._events.emit(variable.project_id, f"variables.{variable.id}.{action}", variable)


async def _require(unit: Unit, function_id: str, variable_id: str) -> Variable:
    await require_function(unit, function_id)
    variable = await unit.variables.get(variable_id)
    if variable is None or (variable.resource_type, variable.resource_id) != (_TYPE, function_id):
        raise Refusal("variable_not_found")
    return variable
