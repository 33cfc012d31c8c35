"""What `hearth doctor` says of rows that are not in a final status."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hearth.cli.unfinished import explain
from hearth.model.statuses import JobStatus
from hearth.store.sql.inspection import UnfinishedRow
from tests.store.samples import NOW, job


def ago(**span: float) -> Any:
    return NOW - timedelta(**span)


def row(kind: str = "execution", status: str = "waiting", age_s: float = 3_700, **fields: Any) -> UnfinishedRow:
    fields |= {"status": fields.pop("job_status")} if "job_status" in fields else {}
    return UnfinishedRow(kind, "p", "x", status, ago(seconds=age_s), job(**fields) if fields else None)


CLAIMED: dict[str, Any] = {"job_status": JobStatus.CLAIMED, "owner": "here/1", "attempts": 1, "max_attempts": 2}


@pytest.mark.parametrize(
    ("found", "said", "fix", "stuck"),
    [
        (row(due_at=ago(seconds=-90)), "waiting for 1 h 1 min; job j: queued, due in 1 min 30 s, 0 of 1", "", False),
        (row(due_at=ago(seconds=30)), "queued, due for 30 s", "", False),
        (row(due_at=ago(days=1, hours=2)), "due for 1 d 2 h", "HEARTH_ASYNC_CONCURRENCY", False),
        (
            row(due_at=ago(seconds=-9), attempts=1, error="oh"),
            "1 of 1 attempts made; last error: oh",
            "",
            False,
        ),
        (
            row(status="processing", leased_until=ago(seconds=-20), **CLAIMED),
            "attempt 1 of 2, held by here/1, leased for another 20 s",
            "",
            False,
        ),
        (
            row(status="processing", leased_until=ago(seconds=40), **CLAIMED),
            "held by here/1, whose lease ran out 40 s ago",
            "Start the server",
            True,
        ),
        (row(deadline_at=ago(hours=1)), "past its deadline since 1 h", "Start the server", True),
        (row("job", "event queued", due_at=ago(seconds=1)), "event queued for 1 h 1 min", "", False),
        (row("deployment", age_s=100), "waiting for 1 min 40 s; no job: its upload is not complete", "", False),
        (row("deployment"), "its upload is not complete", "Go on with the upload", False),
        (row("deployment", "building"), "no job: a server is at work on it, or was killed", "Start", True),
        (row(status="processing", age_s=0), "processing for 0 s; no job", "Start", False),
        (replace(row("rule", "unverified"), note="no such name"), "unverified for 1 h 1 min: no such", "DNS", False),
        (
            replace(row("request", "executions.create"), note="here/1", leased_until=ago(seconds=-9)),
            "for another 9 s",
            "",
            False,
        ),
        (
            replace(row("request", "executions.create"), note="here/1", leased_until=ago(seconds=9)),
            "which was killed",
            "",
            False,
        ),
    ],
)
def test_every_row_is_explained(found: UnfinishedRow, said: str, fix: str, stuck: bool) -> None:
    explained = explain(found, NOW)
    assert said in explained.detail
    assert explained.fix.find(fix) >= 0 if fix else explained.fix == ""
    assert explained.stuck is stuck
