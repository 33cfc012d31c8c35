"""Asynchronous executions and their jobs. Accepting and ending are grouped; claiming is a transaction of its own."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import cast

from msgspec.structs import replace
from sqlalchemy import select, update

from hearth.model.prompt import Pending
from hearth.model.resources import Execution, Job
from hearth.model.statuses import EXECUTION_FINAL, ExecutionStatus, JobStatus
from hearth.ports import Accepted, AttemptEnded, Claimed
from hearth.store.sql.expressions import is_one_of
from hearth.store.sql.groups import Groups
from hearth.store.sql.jobs import SqlJobs
from hearth.store.sql.rows import reader
from hearth.store.sql.schema import executions, jobs
from hearth.store.sql.session import Session, Transactions

_execution = reader(Execution)
_job = reader(Job)
_OPEN = sorted(status.value for status in set(ExecutionStatus) - EXECUTION_FINAL)


class SqlExecutionQueue:
    """See `hearth.ports.ExecutionQueue`."""

    def __init__(self, groups: Groups, transactions: Transactions) -> None:
        self._groups = groups
        self._transactions = transactions

    def accept(self, execution: Execution, job: Job) -> "Pending[Execution]":
        """See the port. Errors as of `Groups.submit`."""
        return cast("Pending[Execution]", self._groups.submit(Accepted(execution, job), execution))

    def end(self, ended: AttemptEnded) -> "Pending[bool]":
        """See the port. Errors as of `Groups.submit`."""
        return cast("Pending[bool]", self._groups.submit(ended, True))

    async def claim(self, owner: str, kinds: Iterable[str], limit: int, lease_s: float) -> tuple[Claimed, ...]:
        """See the port."""
        async with self._transactions.begin() as session:
            return await _begun(session, await SqlJobs(session).claim(owner, kinds, limit, lease_s))

    async def claim_one(self, job_id: str, owner: str, lease_s: float) -> Claimed | None:
        """See the port."""
        async with self._transactions.begin() as session:
            now = session.clock.now()
            row = await session.one(
                update(jobs)
                .where(jobs.c.id == job_id, jobs.c.status == JobStatus.QUEUED, jobs.c.deadline_at > now)
                .values(
                    status=JobStatus.CLAIMED,
                    owner=owner,
                    leased_until=now + timedelta(seconds=lease_s),
                    attempts=jobs.c.attempts + 1,
                )
                .returning(jobs)
            )
            if row is None:
                return None
            return (await _begun(session, [_job(row)]))[0]

    async def renew(self, owner: str, lease_s: float) -> frozenset[str]:
        """See the port."""
        async with self._transactions.begin() as session:
            until = session.clock.now() + timedelta(seconds=lease_s)
            held = (
                update(jobs)
                .where(jobs.c.status == JobStatus.CLAIMED, jobs.c.owner == owner)
                .values(leased_until=until)
                .returning(jobs.c.id)
            )
            return frozenset(row.id for row in await session.all(held))


async def _begun(session: Session, taken: Sequence[Job]) -> tuple[Claimed, ...]:
    """The executions of these jobs, which are `processing` from now on."""
    if not taken:
        return ()
    keys = [(job.project_id, job.resource_id) for job in taken]
    now = session.clock.now()
    found = select(executions).where(is_one_of(executions.c.project_id, executions.c.id, keys))
    begun: dict[tuple[str, str], Execution] = {}
    for row in await session.all(found.where(executions.c.status.in_(_OPEN))):
        execution = replace(_execution(row), status=ExecutionStatus.PROCESSING, updated_at=now)
        begun[execution.project_id, execution.id] = execution
    if begun:
        await session.execute(
            update(executions)
            .where(executions.c.sequence.in_([execution.sequence for execution in begun.values()]))
            .values(status=ExecutionStatus.PROCESSING, updated_at=now)
        )
    return tuple(Claimed(job, begun.get((job.project_id, job.resource_id))) for job in taken)
