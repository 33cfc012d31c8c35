"""The checker of the fault suite notices every kind of broken promise, and is silent where all hold."""

import pytest

from tests.faults.checker import RULES, Accepted, History, Record, Run, violations

ACCEPTED = (
    Accepted("execution", "a", "async"),
    Accepted("execution", "later", "delayed", is_due=False),
    Accepted("deployment", "d", "upload"),
)
RECORDS = (
    Record("execution", "a", "f", "completed"),
    Record("execution", "later", "f", "scheduled", planned_at=120_000),
    Record("execution", "e", "listener", "failed", trigger="event", reason="the server was stopped"),
    Record("execution", "s1", "cron", "completed", trigger="schedule", planned_at=60_000),
    Record("execution", "s2", "cron", "completed", trigger="schedule", planned_at=120_000),
    Record("deployment", "d", "b", "ready"),
)
RUNS = (Run("a"), Run("e", "users.1.create"), Run("s1"), Run("s2"))


def history(
    accepted: tuple[Accepted, ...] = (),
    without: str = "",
    records: tuple[Record, ...] = (),
    runs: tuple[Run, ...] = RUNS,
    events: tuple[int, int] = (2, 1),
    since: int = 120_000,
    unfinished: tuple[str, ...] = (),
    leftovers: tuple[str, ...] = (),
) -> History:
    """A history in which everything holds, but for the arguments."""
    return History(
        accepted=ACCEPTED + accepted,
        records=tuple(record for record in RECORDS if record.id != without) + records,
        runs=runs,
        events_sent=events[0],
        events_accepted=events[1],
        planned_since={"cron": since},
        unfinished=unfinished,
        leftovers=leftovers,
    )


def test_a_history_in_which_everything_holds() -> None:
    assert violations(history()) == []


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        (history(without="d"), "lost"),
        (history(accepted=(Accepted("execution", "gone", "sync"),)), "lost"),
        (history(events=(2, 2)), "lost"),
        (history(runs=RUNS[1:]), "lost"),
        (history(accepted=(Accepted("execution", "later", "delayed"),)), "unfinished"),
        (history(unfinished=("job event claimed",)), "unfinished"),
        (history(records=(Record("execution", "x", "f", "failed", reason=" \n"),)), "no reason"),
        (
            history(
                records=(Record("execution", "s3", "cron", "failed", "schedule", 60_000, "the server was stopped"),)
            ),
            "planned twice",
        ),
        (history(since=120_001), "planned time lost"),
        (history(runs=(*RUNS, Run("a"))), "ran twice"),
        (history(runs=(*RUNS, Run("later", "users.1.create"))), "ran twice"),
        (history(events=(0, 0)), "ran twice"),
        (history(runs=(*RUNS, Run("nobody"))), "ran unrecorded"),
        (history(leftovers=("process 7: sleep",)), "orphan"),
    ],
)
def test_each_broken_promise_is_noticed_and_named(broken: History, rule: str) -> None:
    assert [it.rule for it in violations(broken)] == [rule]
    assert rule in RULES
