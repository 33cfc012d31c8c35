"""What must hold after a fault, decided from what was promised, what is on record and what ran. Pure: no I/O."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

FINAL = {"execution": ("completed", "failed"), "deployment": ("ready", "failed", "canceled")}


@dataclass(frozen=True, slots=True)
class Accepted:
    """Something the server said yes to. `is_due` is False while its time has not come."""

    kind: str
    id: str
    how: str
    is_due: bool = True


@dataclass(frozen=True, slots=True)
class Record:
    """A row as it is read after the fault. `reason` is what it says of itself: errors, or the log of the build."""

    kind: str
    id: str
    function_id: str
    status: str
    trigger: str = ""
    planned_at: int = 0
    """Milliseconds since 1970, of scheduled and delayed executions; 0 for none."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """User code said that it began: told to a counter outside the sandbox, by the code itself."""

    execution_id: str
    event: str = ""


@dataclass(frozen=True, slots=True)
class History:
    """Everything since the data folder was made."""

    accepted: Sequence[Accepted] = ()
    records: Sequence[Record] = ()
    runs: Sequence[Run] = ()
    events_sent: int = 0
    events_accepted: int = 0
    planned_since: Mapping[str, int] = field(default_factory=dict)
    """For each function with a schedule a moment (ms): a planned time at or after it must be on record; 0 for none."""
    unfinished: Sequence[str] = ()
    """What `hearth doctor` would still list when the wait was over, without what is not due."""
    leftovers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise. `rule` is one of RULES."""

    rule: str
    detail: str


RULES = (
    "lost",
    "unfinished",
    "no reason",
    "planned twice",
    "planned time lost",
    "ran twice",
    "ran unrecorded",
    "orphan",
)

#: What no waiting puts right.
FOR_GOOD = frozenset({"no reason", "planned twice", "ran twice", "ran unrecorded"})


def violations(history: History) -> list[Violation]:
    """Every promise that does not hold, in the order of RULES."""
    found = [Violation(rule, detail) for check in _CHECKS for rule, detail in check(history)]
    return sorted(found, key=lambda it: RULES.index(it.rule))


def _records(history: History) -> Iterator[tuple[str, str]]:
    records = {(record.kind, record.id): record for record in history.records}
    for it in history.accepted:
        record = records.get((it.kind, it.id))
        if record is None:
            yield "lost", f"{it.kind} {it.id} ({it.how}) was accepted and is not on record"
        elif it.is_due and record.status not in FINAL[it.kind]:
            yield "unfinished", f"{it.kind} {it.id} ({it.how}) is {record.status}"
    for detail in history.unfinished:
        yield "unfinished", detail
    for record in history.records:
        if record.status == "failed" and not record.reason.strip():
            yield "no reason", f"{record.kind} {record.id} failed and does not say why"


def _events(history: History) -> Iterator[tuple[str, str]]:
    """One function listens, so each accepted event is one execution, and nothing else makes any."""
    made = sum(record.trigger == "event" for record in history.records)
    if made < history.events_accepted:
        yield "lost", f"{history.events_accepted} events were accepted, {made} executions came of them"
    if made > history.events_sent:
        yield "ran twice", f"{history.events_sent} events were sent, {made} executions came of them"
    for event, count in Counter(run.event for run in history.runs if run.event).items():
        if count > 1:
            yield "ran twice", f"event {event} was told to user code {count} times"


def _schedules(history: History) -> Iterator[tuple[str, str]]:
    planned = Counter(
        (it.function_id, it.planned_at) for it in history.records if it.function_id in history.planned_since
    )
    for (function_id, moment), count in planned.items():
        if count > 1:
            yield "planned twice", f"{function_id}: {count} executions of the planned time {moment}"
    for function_id, since in history.planned_since.items():
        if since and not any(id == function_id and moment >= since for id, moment in planned):
            yield "planned time lost", f"{function_id}: no execution of a planned time from {since} on"


def _runs(history: History) -> Iterator[tuple[str, str]]:
    counts = Counter(run.execution_id for run in history.runs)
    known = {record.id: record for record in history.records if record.kind == "execution"}
    for id, count in counts.items():
        if count > 1:
            yield "ran twice", f"execution {id}: user code began {count} times"
        if id not in known:
            yield "ran unrecorded", f"execution {id}: user code began, and there is no record"
    for id, record in known.items():
        if record.status == "completed" and not counts[id]:
            yield "lost", f"execution {id} is completed, but its code never began"


def _leftovers(history: History) -> Iterator[tuple[str, str]]:
    for line in history.leftovers:
        yield "orphan", line


_CHECKS = (_records, _events, _schedules, _runs, _leftovers)
