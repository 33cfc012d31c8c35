"""What is counted of executions: by trigger, runtime and status, and how long they took. For the hot path."""

from collections import Counter

from hearth.model.figures import RUN_BOUNDS_S, Distribution
from hearth.model.resources import Execution
from hearth.model.running import Result
from hearth.model.statuses import ExecutionStatus, Trigger

#: Where nobody knows any more (an execution whose server was killed) which runtime it was.
UNKNOWN = ""


class RunCell:
    """The runs of one trigger and runtime."""

    __slots__ = ("cold", "completed", "durations", "failed", "runtime", "trigger", "waits", "warm")

    def __init__(self, trigger: str, runtime: str) -> None:
        self.trigger = trigger
        self.runtime = runtime
        self.completed = 0
        """Executions that ended so."""
        self.failed = 0
        self.cold = 0
        """Runs (each attempt is one) in an instance that was started for want of one."""
        self.warm = 0
        self.durations = Distribution(RUN_BOUNDS_S)
        self.waits = Distribution(RUN_BOUNDS_S)

    def ran(self, result: Result, waited_s: float) -> None:
        """Count a run."""
        if result.cold:
            self.cold += 1
        else:
            self.warm += 1
        self.durations.add(result.duration_s)
        self.waits.add(result.queued_s + waited_s)

    def ended(self, execution: Execution) -> None:
        """Count a final status."""
        if execution.status is ExecutionStatus.COMPLETED:
            self.completed += 1
        else:
            self.failed += 1


class RunFigures:
    """The figures of all executions of one server since its start. Bounded by the runtimes of the catalogue.

    `functions_max` functions, the first to run, are counted by name besides.
    """

    def __init__(self, functions_max: int = 0) -> None:
        self._cells: dict[tuple[Trigger, str], RunCell] = {}
        self._functions_max = functions_max
        self.functions: dict[tuple[str, str], list[int]] = {}
        """(project, function) -> completed, failed."""
        self.refused: Counter[str] = Counter()
        """Limit of the function -> how many runs it has turned away."""
        self.dead_letters: Counter[str] = Counter()
        """Reason -> how many."""

    @property
    def cells(self) -> tuple[RunCell, ...]:
        """What was counted, by trigger and runtime."""
        return tuple(self._cells.values())

    def ran_once(self, execution: Execution, runtime: str, result: Result) -> None:
        """`ran` and `ended` in one, for a run that is not tried again."""
        cell = self._cells.get((execution.trigger, runtime)) or self._new(execution.trigger, runtime)
        cell.ran(result, 0.0)
        cell.ended(execution)
        if self._functions_max:
            self._count_function(execution)

    def ended(self, execution: Execution, runtime: str) -> None:
        """An execution has its final status."""
        cell = self._cells.get((execution.trigger, runtime)) or self._new(execution.trigger, runtime)
        cell.ended(execution)
        if self._functions_max:
            self._count_function(execution)

    def ran(self, trigger: Trigger, runtime: str, result: Result, waited_s: float = 0.0) -> None:
        """User code ran, to whatever end. `waited_s` is the wait in the queue, before that for an instance."""
        cell = self._cells.get((trigger, runtime)) or self._new(trigger, runtime)
        cell.ran(result, waited_s)

    def _new(self, trigger: Trigger, runtime: str) -> RunCell:
        cell = self._cells[trigger, runtime] = RunCell(trigger, runtime)
        return cell

    def _count_function(self, execution: Execution) -> None:
        key = execution.project_id, execution.function_id
        counts = self.functions.get(key)
        if counts is None:
            if len(self.functions) >= self._functions_max:
                return
            counts = self.functions[key] = [0, 0]
        counts[execution.status is not ExecutionStatus.COMPLETED] += 1
