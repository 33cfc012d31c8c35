"""What makes sure that work is done, and done once: idempotency keys, attempts, dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key that a caller gave to a request, so that the request may be sent again without being done again.

    `operation` and `caller` say what it was given for and by whom: nobody meets anybody else's keys. `fingerprint`
    stands for the whole request. While `owner` works on it, until `leased_until`, there is no `answer`; `subject_id`
    is the id of what the request makes, known before it is made.
    """

    project_id: str
    operation: str
    caller: str
    key: str
    fingerprint: str
    created_at: datetime
    owner: str
    leased_until: datetime
    subject_id: str
    is_answered: bool = False
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One failed attempt at an asynchronous execution that was tried again, or could have been."""

    project_id: str
    execution_id: str
    number: int
    """From 1."""
    deployment_id: str
    ended_at: datetime
    response_status_code: int
    duration_s: float
    logs: str
    errors: str


class DeadReason(StrEnum):
    """Why nothing more is tried."""

    ATTEMPTS_USED = "attemptsUsed"
    """It failed as often as the function's settings allow."""
    TOO_OLD = "tooOld"
    """The next attempt would have come after the age that the settings allow, or it waited past its deadline."""
    NOT_RUNNABLE = "notRunnable"
    """There was nothing to run: no active deployment, no build, no such runtime."""
    NOT_STARTED = "notStarted"
    """No instance could be had for it in time."""
    LOST = "lost"
    """The server that ran it was stopped or killed, and it may not be tried again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An asynchronous execution that is not tried any more, with what is needed to run it again.

    Its id is that of the execution. `payload` is the stored request.
    """

    id: str
    project_id: str
    function_id: str
    created_at: datetime
    updated_at: datetime
    reason: DeadReason
    error: str
    attempts: int
    trigger: str
    request_method: str
    request_path: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0
