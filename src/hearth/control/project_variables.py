"""Variables of a project, given to each of its functions (contract: side-services 7).

Every write makes all functions not live, and ends the instances that hold the old values.
"""

from typing import Any

from hearth.control.runnables import Runnables
from hearth.control.views import VARIABLES_MAX
from hearth.model.ids import custom_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Function, Variable
from hearth.ports import Clock, Conflict, Events, Executor, Page, Store, Unit

_TYPE = "project"
_OWNER = ""


class ProjectVariablesControl:
    """Use cases of project variables."""

    def __init__(self, *, store: Store, clock: Clock, events: Events, executor: Executor, runnables: Runnables) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._executor = executor
        self._runnables = runnables

    async def create(self, project_id: str, *, variable_id: str, key: str, value: str, secret: bool = True) -> Variable:
        """Raises `variable_already_exists`, and refuses more than 1000 per project."""
        now = self._clock.now()
        variable = Variable(custom_id(variable_id), project_id, _TYPE, _OWNER, now, now, key, value, secret)
        try:
            async with self._store.begin(project_id) as unit:
                if len(await unit.variables.of(_TYPE, _OWNER, VARIABLES_MAX)) >= VARIABLES_MAX:
                    raise Refusal(
                        "general_bad_request",
                        f"A project may have at most {VARIABLES_MAX} variables. Delete one first.",
                    )
                variable = await unit.variables.insert(variable)
                await self._events.record(unit, f"variables.{variable.id}.create", variable)
                functions = await unit.functions.outdate()
        except Conflict:
            raise Refusal("variable_already_exists") from None
        await self._written(variable, functions, "create")
        return variable

    async def list(self, project_id: str, query: ListQuery) -> Page[Variable]:
        """One page of the project's own variables."""
        async with self._store.view(project_id) as unit:
            return await unit.variables.list(_TYPE, _OWNER, query)

    async def get(self, project_id: str, variable_id: str) -> Variable:
        """Raises `variable_not_found` (also for one of a function)."""
        async with self._store.view(project_id) as unit:
            return await _require(unit, variable_id)

    async def update(
        self,
        project_id: str,
        variable_id: str,
        *,
        key: str | None = None,
        value: str | None = None,
        secret: bool | None = None,
    ) -> Variable:
        """Change what is given. Raises `variable_not_found`, `variable_cannot_unset_secret`,
        `variable_already_exists` and `general_argument_invalid` when nothing is given.
        """
        given: dict[str, Any] = {"key": key, "value": value, "secret": secret}
        changes = {name: new for name, new in given.items() if new is not None}
        try:
            async with self._store.begin(project_id) as unit:
                before = await _require(unit, variable_id)
                if not changes:
                    raise Refusal("general_argument_invalid", "Nothing to update: send `key`, `value` or `secret`.")
                if before.secret and secret is False:
                    raise Refusal("variable_cannot_unset_secret")
                variable = await unit.variables.update(variable_id, **changes)
                if variable is None:
                    raise Refusal("variable_not_found")
                await self._events.record(unit, f"variables.{variable.id}.update", variable)
                functions = await unit.functions.outdate()
        except Conflict:
            raise Refusal("variable_already_exists") from None
        await self._written(variable, functions, "update")
        return variable

    async def delete(self, project_id: str, variable_id: str) -> None:
        """Raises `variable_not_found`."""
        async with self._store.begin(project_id) as unit:
            variable = await _require(unit, variable_id)
            await unit.variables.delete(variable_id)
            await self._events.record(unit, f"variables.{variable.id}.delete", variable)
            functions = await unit.functions.outdate()
        await self._written(variable, functions, "delete")

    async def _written(self, variable: Variable, functions: tuple[Function, ...], action: str) -> None:
        self._runnables.drop_project(variable.project_id)
        for function in functions:
            # Instances hold the old values; none may serve another request (isolation case S5).
            await self._executor.retire(function.deployment_id)
        self._events.emit(variable.project_id, f"variables.{variable.id}.{action}", variable)


async def _require(unit: Unit, variable_id: str) -> Variable:
    variable = await unit.variables.get(variable_id)
    if variable is None or (variable.resource_type, variable.resource_id) != (_TYPE, _OWNER):
        raise Refusal("variable_not_found")
    return variable
