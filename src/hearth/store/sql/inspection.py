"""A look at a database from outside a server: for `hearth doctor`. Reads only, migrates nothing, creates no file."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hearth.model.resources import Job
from hearth.model.statuses import DEPLOYMENT_FINAL, EXECUTION_FINAL, JobStatus
from hearth.store.sql.address import parse_address
from hearth.store.sql.durability_schema import idempotency_keys
from hearth.store.sql.migrating import make_engine
from hearth.store.sql.rows import reader
from hearth.store.sql.schema import deployments, executions, jobs, rules
from hearth.store.sql.session import translated

_job = reader(Job)
_OPEN_JOB = jobs.c.status.in_([JobStatus.QUEUED, JobStatus.CLAIMED])
#: Kinds of jobs whose resource is a deployment or an execution.
_ABOUT_ROWS = ("build", "execute")

#: The status of a rule that nothing is to be done about.
VERIFIED = "verified"
#: Rows of each kind that are read; a longer list says nothing more.
ROWS_MAX = 200


@dataclass(frozen=True, slots=True)
class UnfinishedRow:
    """A row that is not in a final status, with the job that is to end it; None where it has none.

    `kind` is `deployment`, `execution`, `rule` (a domain that is not verified), `request` (one with an idempotency key
    that has no answer yet), or `job` for a job that is about none of them.
    """

    kind: str
    project_id: str
    id: str
    status: str
    since: datetime
    job: Job | None
    note: str = ""
    """What the row itself says of the reason."""
    leased_until: datetime | None = None
    """Of a request: until when the server that answers it has it."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found; `exists` is False before the first start."""

    exists: bool
    engine: str
    unfinished: tuple[UnfinishedRow, ...] = ()
    """Oldest first, at most `ROWS_MAX` of each kind."""
    total: int = 0
    """How many there are in all."""


async def inspect_database(url: str, *, data_dir: Path) -> Inspection:
    """Read which rows are unfinished, oldest first. Raises AddressRefused, and PlatformFault if nothing answers."""
    address = parse_address(url, data_dir)
    name = "PostgreSQL" if address.path is None else "SQLite"
    if address.path is not None and not address.path.exists():
        return Inspection(False, name)
    engine = make_engine(address)
    try:
        with translated("inspect"):
            async with engine.connect() as connection:
                if not await connection.run_sync(lambda sync: sync.dialect.has_table(sync, jobs.name)):
                    return Inspection(False, name)
                rows, total = await _unfinished(connection)
                return Inspection(True, name, rows, total)
    finally:
        await engine.dispose()


async def _unfinished(connection: AsyncConnection) -> tuple[tuple[UnfinishedRow, ...], int]:
    rows: list[UnfinishedRow] = []
    total = 0
    for kind, table, final in (
        ("deployment", deployments, DEPLOYMENT_FINAL),
        ("execution", executions, EXECUTION_FINAL),
    ):
        is_open = table.c.status.not_in(final)
        found = await _of(connection, table, is_open)
        queued = await _jobs_of(connection, [row.id for row in found])
        for row in found:
            job = queued.get((row.project_id, row.id))
            rows.append(UnfinishedRow(kind, row.project_id, row.id, row.status, row.created_at, job))
        total += await _count(connection, table, is_open)
    unverified = rules.c.status != VERIFIED
    rows += [
        UnfinishedRow("rule", row.project_id, row.domain, row.status, row.created_at, None, row.logs)
        for row in await _of(connection, rules, unverified)
    ]
    total += await _count(connection, rules, unverified)
    unanswered = idempotency_keys.c.is_answered.is_(False)
    keys = select(idempotency_keys).where(unanswered).order_by(idempotency_keys.c.created_at).limit(ROWS_MAX)
    rows += [
        UnfinishedRow(
            "request", row.project_id, row.subject_id, row.operation, row.created_at, None, row.owner, row.leased_until
        )
        for row in await connection.execute(keys)
    ]
    total += await _count(connection, idempotency_keys, unanswered)
    others = and_(_OPEN_JOB, jobs.c.kind.not_in(_ABOUT_ROWS))
    rows += [
        UnfinishedRow("job", job.project_id, job.id, f"{job.kind} {job.status}", job.created_at, job)
        for job in map(_job, await _of(connection, jobs, others))
    ]
    return tuple(rows), total + await _count(connection, jobs, others)


async def _of(connection: AsyncConnection, table: Table, which: ColumnElement[bool]) -> list[Any]:
    return list(await connection.execute(select(table).where(which).order_by(table.c.sequence).limit(ROWS_MAX)))


async def _count(connection: AsyncConnection, table: Table, which: ColumnElement[bool]) -> int:
    return (await connection.execute(select(func.count()).select_from(table).where(which))).scalar_one()


async def _jobs_of(connection: AsyncConnection, ids: list[str]) -> dict[tuple[str, str], Job]:
    """The unfinished job of each of these resources."""
    statement = select(jobs).where(_OPEN_JOB, jobs.c.kind.in_(_ABOUT_ROWS), jobs.c.resource_id.in_(ids))
    found = map(_job, await connection.execute(statement))
    return {(job.project_id, job.resource_id): job for job in found}
