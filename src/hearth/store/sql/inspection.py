"""A look at a database from outside a server: for `hearth doctor`. Reads only, migrates nothing, creates no file."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hearth.model.statuses import DEPLOYMENT_FINAL, EXECUTION_FINAL, JobStatus
from hearth.store.sql.address import parse_address
from hearth.store.sql.migrating import make_engine
from hearth.store.sql.schema import deployments, executions, jobs
from hearth.store.sql.session import translated

#: Rows of each kind that are read; a longer list says nothing more.
ROWS_MAX = 200


@dataclass(frozen=True, slots=True)
class UnfinishedRow:
    """A row that is not in a final status; `job` says what the queue knows of it, `""` where it has no job."""

    kind: str
    project_id: str
    id: str
    status: str
    since: datetime
    job: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found; `exists` is False before the first start."""

    exists: bool
    engine: str
    unfinished: tuple[UnfinishedRow, ...] = ()


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
                return Inspection(True, name, await _unfinished(connection))
    finally:
        await engine.dispose()


async def _unfinished(connection: AsyncConnection) -> tuple[UnfinishedRow, ...]:
    queued = await _jobs(connection)
    rows = []
    for kind, table, final in (
        ("deployment", deployments, DEPLOYMENT_FINAL),
        ("execution", executions, EXECUTION_FINAL),
    ):
        for row in await _of(connection, table, final):
            job = queued.pop(row.id, "")
            rows.append(UnfinishedRow(kind, row.project_id, row.id, row.status, row.created_at, job))
    return tuple(rows)


async def _of(connection: AsyncConnection, table: Table, final: Collection[str]) -> list[Any]:
    statement = select(table).where(table.c.status.not_in(final)).order_by(table.c.sequence).limit(ROWS_MAX)
    return list(await connection.execute(statement))


async def _jobs(connection: AsyncConnection) -> dict[str, str]:
    """What each unfinished job is doing, by the resource it is about."""
    rows = await _of(connection, jobs, (JobStatus.DONE, JobStatus.DEAD))
    return {
        row.resource_id: f"job {row.id} {row.status}, attempt {row.attempts} of {row.max_attempts}"
        + (f", leased until {row.leased_until:%H:%M:%S} UTC by {row.owner}" if row.leased_until else "")
        + (f", due {row.due_at:%Y-%m-%d %H:%M:%S} UTC" if row.status == JobStatus.QUEUED else "")
        for row in rows
    }
