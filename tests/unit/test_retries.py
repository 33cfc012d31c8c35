"""What follows a failed attempt, decided without a clock or a database."""

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from msgspec.structs import replace as with_fields

from hearth.control.retries import (
    ATTEMPT_LOG_CHARS,
    BACKOFF_MAX_S,
    JITTER,
    Cause,
    Outcome,
    attempt_headers,
    decide,
    next_attempt,
)
from hearth.model.durability import DeadReason
from hearth.model.function_settings import DEFAULT_SETTINGS, FunctionSettings
from hearth.model.resources import Job
from hearth.model.statuses import ExecutionStatus
from tests.store.samples import NOW, execution, job

THREE = FunctionSettings(retry_max_attempts=3, retry_backoff_s=10, retry_max_age_s=3_600)
FAILED = execution("e", status=ExecutionStatus.FAILED, errors="boom", response_status_code=500, logs="seen")


def held(attempts: int) -> Job:
    return replace(job("j", kind="execute", resource_id="e", payload={"body": "x"}), attempts=attempts, owner="me")


def test_pauses_double_and_jitter_only_adds() -> None:
    settings = replace(THREE, retry_max_attempts=100, retry_max_age_s=10**9)
    for attempts in range(1, 60):
        pause_s = min(10 * 2 ** (attempts - 1), BACKOFF_MAX_S)
        for spread in (0.0, 0.5, 0.999):
            again = next_attempt(settings, attempts, NOW, NOW, spread)
            assert isinstance(again, datetime)
            waits_s = (again - NOW).total_seconds()
            assert pause_s <= waits_s <= pause_s * (1 + JITTER)


def test_any_policy_ends_within_its_attempts_and_its_age() -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    for _ in range(500):
        settings = FunctionSettings(
            retry_max_attempts=dice.randint(1, 20),
            retry_backoff_s=dice.randint(1, 600),
            retry_max_age_s=dice.randint(1, 100_000),
        )
        now, attempts = NOW, 1
        while isinstance(again := next_attempt(settings, attempts, NOW, now, dice.random()), datetime):
            assert again > now, seed
            assert again <= NOW + timedelta(seconds=settings.retry_max_age_s), seed
            now, attempts = again + timedelta(seconds=dice.random() * 10), attempts + 1
        assert attempts <= settings.retry_max_attempts, seed
        assert again is DeadReason.TOO_OLD or attempts == settings.retry_max_attempts, seed


def test_what_completed_is_done() -> None:
    final = with_fields(FAILED, status=ExecutionStatus.COMPLETED, errors="")
    ended = decide(Outcome(final, Cause.RAN), THREE, held(1), NOW, 0)
    assert (ended.execution, ended.retry_at, ended.attempt, ended.dead_letter) == (final, None, None, None)


def test_between_two_attempts_the_record_waits_and_the_failure_is_noted_beside_it() -> None:
    ended = decide(Outcome(FAILED, Cause.RAN), THREE, held(1), NOW, 0)
    assert ended.retry_at == NOW + timedelta(seconds=10)
    waiting = ended.execution
    assert (waiting.status, waiting.errors, waiting.logs, waiting.response_status_code) == ("waiting", "", "", 0)
    assert ended.attempt is not None
    assert (ended.attempt.number, ended.attempt.errors, ended.attempt.logs) == (1, "boom", "seen")
    assert ended.dead_letter is None


@pytest.mark.parametrize("cause", [Cause.RAN, Cause.LOST, Cause.NOT_STARTED])
def test_the_last_attempt_leaves_a_dead_letter_with_the_request(cause: Cause) -> None:
    ended = decide(Outcome(FAILED, cause), THREE, held(3), NOW, 0)
    assert (ended.execution, ended.retry_at) == (FAILED, None)
    letter = ended.dead_letter
    assert letter is not None
    assert (letter.reason, letter.error, letter.attempts) == (DeadReason.ATTEMPTS_USED, "boom", 3)
    assert letter.payload == {"body": "x"}


def test_what_cannot_run_is_not_tried_again() -> None:
    ended = decide(Outcome(FAILED, Cause.NOT_RUNNABLE), THREE, held(1), NOW, 0)
    assert ended.retry_at is None
    assert ended.dead_letter is not None
    assert ended.dead_letter.reason is DeadReason.NOT_RUNNABLE


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (Cause.RAN, None),
        (Cause.LOST, DeadReason.LOST),
        (Cause.NOT_STARTED, DeadReason.NOT_STARTED),
        (Cause.NOT_RUNNABLE, DeadReason.NOT_RUNNABLE),
    ],
)
def test_without_retries_only_what_is_not_the_functions_fault_leaves_a_dead_letter(
    cause: Cause, reason: DeadReason | None
) -> None:
    ended = decide(Outcome(FAILED, cause), DEFAULT_SETTINGS, held(1), NOW, 0)
    assert (ended.retry_at, ended.attempt) == (None, None)
    assert (ended.dead_letter.reason if ended.dead_letter else None) == reason


def test_the_age_of_a_delayed_one_counts_from_its_time() -> None:
    later = NOW + timedelta(hours=5)
    delayed = with_fields(FAILED, scheduled_at=later)
    ended = decide(Outcome(delayed, Cause.RAN), THREE, held(1), later, 0)
    assert ended.retry_at == later + timedelta(seconds=10)


def test_what_is_kept_of_a_failure_is_bounded() -> None:
    loud = with_fields(FAILED, errors="x" * 1_000_000, logs="y" * 1_000_000)
    ended = decide(Outcome(loud, Cause.RAN), THREE, held(1), NOW, 0)
    assert ended.attempt is not None
    assert (len(ended.attempt.errors), len(ended.attempt.logs), len(ended.error)) == (ATTEMPT_LOG_CHARS,) * 3


def test_only_functions_with_retries_hear_of_attempts() -> None:
    assert attempt_headers(DEFAULT_SETTINGS, 1) == ()
    assert dict(attempt_headers(THREE, 2)) == {"x-hearth-attempt": "2", "x-hearth-max-attempts": "3"}
