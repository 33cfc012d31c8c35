"""Statuses and their legal moves, as tables. Values are the wire's (contract: functions-api 9 and 10)."""

from enum import StrEnum


class DeploymentStatus(StrEnum):
    """Where a deployment's build stands."""

    WAITING = "waiting"
    PROCESSING = "processing"
    BUILDING = "building"
    READY = "ready"
    FAILED = "failed"
    CANCELED = "canceled"


class ExecutionStatus(StrEnum):
    """Where an execution stands."""

    SCHEDULED = "scheduled"
    WAITING = "waiting"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class Trigger(StrEnum):
    """Why a run happened."""

    HTTP = "http"
    SCHEDULE = "schedule"
    EVENT = "event"


class JobStatus(StrEnum):
    """Where a job stands; `done` and `dead` are final."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    DONE = "done"
    DEAD = "dead"


_D = DeploymentStatus
#: Only forward; the three on the right of `building` are final. A retried build goes back to `waiting`.
DEPLOYMENT_MOVES: dict[DeploymentStatus, frozenset[DeploymentStatus]] = {
    _D.WAITING: frozenset({_D.PROCESSING, _D.BUILDING, _D.FAILED, _D.CANCELED}),
    _D.PROCESSING: frozenset({_D.WAITING, _D.BUILDING, _D.READY, _D.FAILED, _D.CANCELED}),
    _D.BUILDING: frozenset({_D.WAITING, _D.READY, _D.FAILED, _D.CANCELED}),
    _D.READY: frozenset(),
    _D.FAILED: frozenset(),
    _D.CANCELED: frozenset({_D.CANCELED}),
}

_E = ExecutionStatus
#: Only forward, but for one that is tried again: it waits anew.
EXECUTION_MOVES: dict[ExecutionStatus, frozenset[ExecutionStatus]] = {
    _E.SCHEDULED: frozenset({_E.WAITING, _E.PROCESSING, _E.COMPLETED, _E.FAILED}),
    _E.WAITING: frozenset({_E.PROCESSING, _E.COMPLETED, _E.FAILED}),
    _E.PROCESSING: frozenset({_E.WAITING, _E.COMPLETED, _E.FAILED}),
    _E.COMPLETED: frozenset(),
    _E.FAILED: frozenset(),
}

DEPLOYMENT_FINAL = frozenset({_D.READY, _D.FAILED, _D.CANCELED})
EXECUTION_FINAL = frozenset({_E.COMPLETED, _E.FAILED})


def sources_of(target: DeploymentStatus) -> frozenset[DeploymentStatus]:
    """The statuses from which a deployment may move to `target` (for a compare-and-move in the store)."""
    return frozenset(source for source, targets in DEPLOYMENT_MOVES.items() if target in targets)
