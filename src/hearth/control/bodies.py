"""Kept requests and responses, as they are read: by keys and admins in full, and as the result of an execution."""

from hearth.control.kept_bodies import KeptBodies
from hearth.control.requiring import require_function
from hearth.control.runnables import Runnables
from hearth.model.actor import Actor
from hearth.model.bodies import Bodies, KeptRequest, KeptResponse
from hearth.model.refusals import Refusal
from hearth.model.resources import Execution
from hearth.model.statuses import EXECUTION_FINAL
from hearth.ports import Store


class BodiesControl:
    """Use cases of kept bodies. What `Unit.bodies` has, and what is still on its way there."""

    def __init__(self, *, store: Store, runnables: Runnables, bodies: KeptBodies) -> None:
        self._store = store
        self._runnables = runnables
        self._bodies = bodies

    async def request(self, project_id: str, actor: Actor, function_id: str, execution_id: str) -> KeptRequest:
        """The request of an execution. Raises what `of` raises."""
        _, bodies = await self.of(project_id, actor, function_id, execution_id)
        return bodies.request

    async def response(self, project_id: str, actor: Actor, function_id: str, execution_id: str) -> KeptResponse:
        """The response of an execution. Raises what `of` raises, `execution_body_not_found` also if there was none."""
        _, bodies = await self.of(project_id, actor, function_id, execution_id)
        if bodies.response is None:
            raise Refusal(
                "execution_body_not_found",
                "The function gave no response in this execution: its record says why, in `errors`.",
            )
        return bodies.response

    async def of(self, project_id: str, actor: Actor, function_id: str, execution_id: str) -> tuple[Execution, Bodies]:
        """An execution with all that is kept of it, for keys and admins.

        Raises `general_unauthorized_scope`, `function_not_found`, `execution_not_found`, and
        `execution_body_not_found` with the reason, as far as it is known.
        """
        if not actor.is_privileged:
            raise Refusal(
                "general_unauthorized_scope", "Stored requests and responses are for API keys and the console."
            )
        pending = self._bodies.pending(project_id, execution_id)  # first: it leaves memory once it is in the database
        async with self._store.view(project_id) as unit:
            await require_function(unit, function_id)
            settings = await unit.function_settings.get(function_id)
            execution = await unit.executions.get(function_id, execution_id)
            kept = None if execution is None else await unit.bodies.get(function_id, execution_id)
        if execution is None:
            raise Refusal("execution_not_found")
        kept = kept or pending
        if kept is not None:
            return execution, kept
        if execution.status not in EXECUTION_FINAL:
            raise Refusal(
                "execution_body_not_found",
                f"The execution is {execution.status}: its request and response are stored when it has ended.",
            )
        if not settings.store_bodies:
            raise Refusal(
                "execution_body_not_found",
                "Nothing of this execution's request and response is stored, because the function's setting "
                "`storeBodies` is off. Switch it on, and those of later executions are.",
            )
        raise Refusal("execution_body_not_found")

    async def response_of(self, execution: Execution) -> KeptResponse | None:
        """The response of an execution that its reader may see; None where none is kept.

        Free for a function known to have no settings.
        """
        project_id, function_id = execution.project_id, execution.function_id
        if execution.status not in EXECUTION_FINAL:
            return None
        runnable = self._runnables.peek(project_id, function_id)
        if runnable is not None and runnable.settings.updated_at is None:
            return None
        pending = self._bodies.pending(project_id, execution.id)
        if pending is not None:
            return pending.response
        async with self._store.view(project_id) as unit:
            return await unit.bodies.response(function_id, execution.id)
