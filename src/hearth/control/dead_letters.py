"""Dead letters: executions that are not tried any more, to be looked at, run again or thrown away.

For keys and admins: a dead letter holds whole requests of other people, and the errors of the function.
"""

from hearth.control.invocations import require_runnable
from hearth.control.queued import QueuedExecutions
from hearth.control.requiring import require_function
from hearth.control.runnables import Runnables
from hearth.model.actor import Actor
from hearth.model.durability import Attempt, DeadLetter
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Execution
from hearth.ports import Page, Store

#: Dead letters that one call redrives at most.
REDRIVE_MAX = 1_000
#: Rows in one transaction, so that no call holds the writer for long.
_BATCH = 50


class DeadLettersControl:
    """Use cases of dead letters, and of the attempts that came before them."""

    def __init__(self, *, store: Store, runnables: Runnables, queued: QueuedExecutions) -> None:
        self._store = store
        self._runnables = runnables
        self._queued = queued

    async def list(self, project_id: str, actor: Actor, function_id: str, query: ListQuery) -> Page[DeadLetter]:
        """Raises `function_not_found`, `general_unauthorized_scope` (so do all of these)."""
        _require_privileged(actor)
        async with self._store.view(project_id) as unit:
            await require_function(unit, function_id)
            return await unit.dead_letters.list(function_id, query)

    async def get(self, project_id: str, actor: Actor, function_id: str, dead_letter_id: str) -> DeadLetter:
        """Raises `dead_letter_not_found`."""
        _require_privileged(actor)
        async with self._store.view(project_id) as unit:
            await require_function(unit, function_id)
            letter = await unit.dead_letters.get(function_id, dead_letter_id)
        if letter is None:
            raise Refusal("dead_letter_not_found")
        return letter

    async def redrive(self, project_id: str, actor: Actor, function_id: str, dead_letter_id: str) -> Execution:
        """Run the request again as a new execution; the dead letter goes with the same commit.

        Raises `dead_letter_not_found`, and what keeps the function from running now: then the dead letter stays.
        """
        letter = await self.get(project_id, actor, function_id, dead_letter_id)
        made = await self._redrive(project_id, function_id, (letter,))
        if not made:
            raise Refusal("dead_letter_not_found")
        return made[0]

    async def redrive_all(self, project_id: str, actor: Actor, function_id: str) -> int:
        """`redrive` for the oldest ones, at most REDRIVE_MAX; returns how many."""
        _require_privileged(actor)
        total = 0
        while total < REDRIVE_MAX:
            async with self._store.view(project_id) as unit:
                await require_function(unit, function_id)
                letters = await unit.dead_letters.oldest(function_id, _BATCH)
            if not letters:
                break
            total += len(await self._redrive(project_id, function_id, letters))
        return total

    async def purge(self, project_id: str, actor: Actor, function_id: str, dead_letter_id: str) -> None:
        """Throw one away. Raises `dead_letter_not_found`."""
        _require_privileged(actor)
        async with self._store.begin(project_id) as unit:
            await require_function(unit, function_id)
            if not await unit.dead_letters.delete(function_id, dead_letter_id):
                raise Refusal("dead_letter_not_found")

    async def purge_all(self, project_id: str, actor: Actor, function_id: str) -> None:
        """Throw all of a function away."""
        _require_privileged(actor)
        deleted = _BATCH
        while deleted == _BATCH:
            async with self._store.begin(project_id) as unit:
                await require_function(unit, function_id)
                deleted = await unit.dead_letters.delete_of(function_id, _BATCH)

    async def attempts(self, project_id: str, actor: Actor, function_id: str, execution_id: str) -> tuple[Attempt, ...]:
        """The failed attempts at an execution, in order. Raises `execution_not_found`."""
        _require_privileged(actor)
        async with self._store.view(project_id) as unit:
            await require_function(unit, function_id)
            if await unit.executions.get(function_id, execution_id) is None:
                raise Refusal("execution_not_found")
            return await unit.attempts.of(execution_id)

    async def _redrive(
        self, project_id: str, function_id: str, letters: tuple[DeadLetter, ...]
    ) -> tuple[Execution, ...]:
        runnable, _ = require_runnable(await self._runnables.get(project_id, function_id), privileged=True)
        made: list[Execution] = []
        async with self._store.begin(project_id) as unit:
            for letter in letters:
                if await unit.dead_letters.delete(function_id, letter.id):  # else somebody else was faster
                    execution, job = self._queued.again(runnable, letter.payload)
                    made.append(await unit.executions.insert(execution))
                    await unit.jobs.enqueue(job)
        for execution in made:
            self._queued.emit(execution, "create")
        return tuple(made)


def _require_privileged(actor: Actor) -> None:
    if not actor.is_privileged:
        raise Refusal("general_unauthorized_scope", "Dead letters and attempts are for API keys and the console.")
