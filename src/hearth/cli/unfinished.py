"""Explains rows that are not in a final status, for `hearth doctor`: since when, who has them, what is next. Pure."""

from dataclasses import dataclass
from datetime import datetime

from hearth.model.resources import Job
from hearth.model.statuses import JobStatus
from hearth.store.sql.inspection import UnfinishedRow

#: An unfinished row older than this, without a job, is stuck; maintenance should have ended it.
STUCK_S = 900
#: A running server takes a due job at once, or as soon as a place is free.
OVERDUE_S = 60
_ERROR_MAX_CHARS = 300

_START = "Start the server, or look into its log: within seconds of its start it ends such a row or tries it again"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of a row. `fix` is what to do, `""` where that is nothing; `stuck`: it does not go on alone."""

    detail: str
    fix: str = ""
    stuck: bool = False


def explain(row: UnfinishedRow, now: datetime) -> Explanation:
    """Why a row is not in a final status."""
    since = f"{row.status} for {_span(row.since, now)}"
    if row.kind == "rule":
        fix = "Let the domain's DNS record lead here and verify the rule again, or delete the rule"
        return Explanation(f"{since}: {row.note or 'nobody has looked yet'}", fix)
    if row.kind == "request":
        return _request(row, now)
    if row.job is None:
        return _without_job(row, since, now)
    job = row.job
    known = f"{since}; job {job.id}: {_state(job, now)}"
    if job.error:
        known += f"; last error: {job.error[:_ERROR_MAX_CHARS]}"
    if job.deadline_at <= now:
        return Explanation(f"{known}; past its deadline since {_span(job.deadline_at, now)}", _START, stuck=True)
    if job.status is JobStatus.CLAIMED:
        if job.leased_until is not None and job.leased_until <= now:
            return Explanation(known, _START, stuck=True)
        return Explanation(known)
    if (now - job.due_at).total_seconds() > OVERDUE_S:
        fix = (
            "Start the server. If it runs, all its places are taken: see HEARTH_ASYNC_CONCURRENCY and "
            "HEARTH_BUILD_CONCURRENCY, and the limits of the function"
        )
        return Explanation(known, fix)
    return Explanation(known)


def _request(row: UnfinishedRow, now: datetime) -> Explanation:
    """A request with an idempotency key that has no answer yet."""
    known = f"{row.status} with an idempotency key, begun {_span(row.since, now)} ago by {row.note}"
    if row.leased_until is not None and row.leased_until > now:
        return Explanation(f"{known}, leased for another {_span(now, row.leased_until)}")
    return Explanation(f"{known}, which was killed; sent again it gets its answer, after 24 h the key is free")


def _without_job(row: UnfinishedRow, since: str, now: datetime) -> Explanation:
    age_s = (now - row.since).total_seconds()
    if row.kind == "deployment" and row.status == "waiting":
        detail = f"{since}; no job: its upload is not complete"
        fix = "Go on with the upload, or delete the deployment; uploads nobody continues are ended after a day"
        return Explanation(detail, fix if age_s > STUCK_S else "")
    return Explanation(f"{since}; no job: a server is at work on it, or was killed", _START, stuck=age_s > STUCK_S)


def _state(job: Job, now: datetime) -> str:
    if job.status is JobStatus.CLAIMED:
        attempt = f"attempt {job.attempts} of {job.max_attempts}, held by {job.owner}"
        if job.leased_until is None:
            return attempt
        if job.leased_until <= now:
            return f"{attempt}, whose lease ran out {_span(job.leased_until, now)} ago"
        return f"{attempt}, leased for another {_span(now, job.leased_until)}"
    when = f"due in {_span(now, job.due_at)}" if job.due_at > now else f"due for {_span(job.due_at, now)}"
    return f"queued, {when}, {job.attempts} of {job.max_attempts} attempts made"


def _span(start: datetime, end: datetime) -> str:
    """The time between, in the two largest units."""
    seconds = max(0, int((end - start).total_seconds()))
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, seconds = divmod(rest, 60)
    units = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds, "s")]
    while len(units) > 1 and not units[0][0]:
        units.pop(0)
    return " ".join(f"{count} {unit}" for count, unit in units[:2] if count) or "0 s"
