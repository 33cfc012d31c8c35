"""The job queue. Every step is one statement that names the state it expects, so two workers never both win."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Update, and_, case, delete, func, literal, or_, select, true, update

from hearth.model.resources import Job
from hearth.model.statuses import JobStatus
from hearth.ports import Conflict
from hearth.store.sql.rows import reader, values_of
from hearth.store.sql.schema import jobs
from hearth.store.sql.session import Session
from hearth.store.sql.types import Moment, Words

_job = reader(Job)
#: No lease is longer, seconds; one that seems to be was given before the clock was set back.
LEASE_MAX_S = 60.0
_OPEN = [JobStatus.QUEUED, JobStatus.CLAIMED]
_ENDED = [JobStatus.DONE, JobStatus.DEAD]


class SqlJobs:
    """See `hearth.ports.JobQueue`. In a unit it sees the jobs of the unit's project only."""

    def __init__(self, session: Session) -> None:
        self._session = session
        project_id = session.project_id
        self._visible = jobs.c.project_id == project_id if project_id else true()

    def _open(self, id: str) -> ColumnElement[bool]:
        return and_(self._visible, jobs.c.id == id)

    def _held(self, id: str, owner: str) -> ColumnElement[bool]:
        return and_(self._open(id), jobs.c.status == JobStatus.CLAIMED, jobs.c.owner == owner)

    def _over(self) -> ColumnElement[bool]:
        """Claimed beyond its lease, or not ended beyond its deadline."""
        now = self._session.clock.now()
        too_far = now + timedelta(seconds=LEASE_MAX_S)
        lease_over = and_(
            jobs.c.status == JobStatus.CLAIMED, or_(jobs.c.leased_until <= now, jobs.c.leased_until > too_far)
        )
        return or_(lease_over, and_(jobs.c.status.in_(_OPEN), jobs.c.deadline_at <= now))

    async def enqueue(self, job: Job) -> Job:
        """Committed with its unit. Raises Conflict(`id`): an id that names an occasion is queued only once."""
        if self._session.project_id:
            self._session.own(job.project_id)
        sequence = await self._session.insert(jobs, values_of(job))
        if sequence is None:
            raise Conflict("id")
        self._session.queued_jobs = True
        return replace(job, sequence=sequence)

    async def get(self, id: str) -> Job | None:
        """One job, ended ones included until they are pruned."""
        row = await self._session.one(select(jobs).where(self._open(id)))
        return None if row is None else _job(row)

    async def claim(self, owner: str, kinds: Iterable[str], limit: int, lease_s: float) -> tuple[Job, ...]:
        """See the port. Jobs past their deadline are left to the reaper."""
        return await self._claim(owner, and_(self._visible, jobs.c.kind.in_(list(kinds))), limit, lease_s)

    async def claim_in_turn(self, owner: str, kind: str, limit: int, lease_s: float) -> tuple[Job, ...]:
        """See the port. Projects with as many claimed jobs go by their oldest due one."""
        claimed: list[Job] = []
        while len(claimed) < limit:
            project_id = await self._next_project(kind)
            if project_id is None:
                break
            which = and_(self._visible, jobs.c.kind == kind, jobs.c.project_id == project_id)
            found = await self._claim(owner, which, 1, lease_s)
            if not found:
                break  # another worker was faster; there is a next round
            claimed += found
        return tuple(claimed)

    async def _next_project(self, kind: str) -> str | None:
        """The project whose turn it is; None if nothing is due."""
        of_kind = and_(self._visible, jobs.c.kind == kind)
        running = (
            select(jobs.c.project_id, func.count().label("number"))
            .where(of_kind, jobs.c.status == JobStatus.CLAIMED)
            .group_by(jobs.c.project_id)
            .subquery()
        )
        waiting = (
            select(jobs.c.project_id, func.min(jobs.c.due_at).label("due_at"), func.min(jobs.c.sequence).label("first"))
            .where(of_kind, self._due())
            .group_by(jobs.c.project_id)
            .subquery()
        )
        row = await self._session.one(
            select(waiting.c.project_id)
            .select_from(waiting.outerjoin(running, running.c.project_id == waiting.c.project_id))
            .order_by(func.coalesce(running.c.number, 0), waiting.c.due_at, waiting.c.first)
            .limit(1)
        )
        return None if row is None else str(row.project_id)

    def _due(self) -> ColumnElement[bool]:
        now = self._session.clock.now()
        return and_(jobs.c.status == JobStatus.QUEUED, jobs.c.due_at <= now, jobs.c.deadline_at > now)

    async def _claim(self, owner: str, which: ColumnElement[bool], limit: int, lease_s: float) -> tuple[Job, ...]:
        now = self._session.clock.now()
        due = (
            select(jobs.c.sequence)
            .where(which, self._due())
            .order_by(jobs.c.due_at, jobs.c.sequence)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        # A step of its own: inside the UPDATE, PostgreSQL might run the sub-select twice and lock more than it takes.
        sequences = [row.sequence for row in await self._session.all(due)]
        if not sequences:
            return ()
        rows = await self._session.all(
            update(jobs)
            .where(jobs.c.sequence.in_(sequences))
            .values(
                status=JobStatus.CLAIMED,
                owner=owner,
                leased_until=now + timedelta(seconds=lease_s),
                attempts=jobs.c.attempts + 1,
            )
            .returning(jobs)
        )
        return tuple(sorted(map(_job, rows), key=lambda job: (job.due_at, job.sequence)))

    async def renew(self, id: str, owner: str, lease_s: float) -> bool:
        """See the port. A lease that has run out may be renewed as long as nobody took the job away."""
        until = self._session.clock.now() + timedelta(seconds=lease_s)
        return await self._moved(update(jobs).where(self._held(id, owner)).values(leased_until=until))

    async def finish(self, id: str, owner: str) -> bool:
        """See the port."""
        # The row stays for a while so that its id is taken; what it carried (bodies, payloads) is not needed any more.
        values: dict[str, Any] = {"status": JobStatus.DONE, "leased_until": None, "error": "", "payload": {}}
        return await self._moved(update(jobs).where(self._held(id, owner)).values(values))

    async def fail(self, id: str, owner: str, error: str, retry_at: datetime | None) -> bool:
        """See the port. Past its deadline a job is ended whatever `retry_at` says."""
        return await self._ended(self._held(id, owner), error, retry_at)

    async def release(self, id: str, owner: str) -> bool:
        """See the port."""
        statement = update(jobs).where(self._held(id, owner))
        self._session.queued_jobs = True
        return await self._moved(
            statement.values(status=JobStatus.QUEUED, owner="", leased_until=None, attempts=jobs.c.attempts - 1)
        )

    async def cancel_of(self, kind: str, resource_id: str) -> int:
        """See the port."""
        which = and_(self._visible, jobs.c.kind == kind, jobs.c.resource_id == resource_id, jobs.c.status.in_(_OPEN))
        return await self._session.count(
            update(jobs).where(which).values(status=JobStatus.DEAD, leased_until=None, error="canceled")
        )

    async def expired(self, limit: int) -> tuple[Job, ...]:
        """See the port."""
        rows = await self._session.all(
            select(jobs).where(self._visible, self._over()).order_by(jobs.c.sequence).limit(limit)
        )
        return tuple(map(_job, rows))

    async def reclaim(self, id: str, error: str, retry_at: datetime | None) -> bool:
        """See the port. Past its deadline a job is ended whatever `retry_at` says."""
        return await self._ended(and_(self._open(id), self._over()), error, retry_at)

    async def bring_forward(self, due_before: datetime) -> int:
        """See the port."""
        now = self._session.clock.now()
        late = and_(self._visible, jobs.c.status == JobStatus.QUEUED, jobs.c.due_at > now, jobs.c.due_at <= due_before)
        self._session.queued_jobs = True
        return await self._session.count(update(jobs).where(late).values(due_at=now))

    async def unfinished(self) -> tuple[Job, ...]:
        """Every job that is queued or claimed, oldest first."""
        rows = await self._session.all(
            select(jobs).where(self._visible, jobs.c.status.in_(_OPEN)).order_by(jobs.c.sequence)
        )
        return tuple(map(_job, rows))

    async def next_due(self, kinds: Iterable[str]) -> datetime | None:
        """When the next queued job of these kinds is due; it may be in the past."""
        row = await self._session.one(
            select(func.min(jobs.c.due_at, type_=Moment())).where(
                self._visible, jobs.c.status == JobStatus.QUEUED, jobs.c.kind.in_(list(kinds))
            )
        )
        return None if row is None else row[0]

    async def prune(self, before: datetime, limit: int) -> int:
        """See the port."""
        old = (
            select(jobs.c.sequence)
            .where(self._visible, jobs.c.status.in_(_ENDED), jobs.c.due_at < before)
            .order_by(jobs.c.due_at)
            .limit(limit)
        )
        return await self._session.count(delete(jobs).where(jobs.c.sequence.in_(old.scalar_subquery())))

    async def _ended(self, which: ColumnElement[bool], error: str, retry_at: datetime | None) -> bool:
        """Queue again for `retry_at`, or end as dead if that is None or the deadline is past."""
        values: dict[str, Any] = {"status": JobStatus.DEAD, "leased_until": None, "error": error}
        if retry_at is not None:
            past = jobs.c.deadline_at <= self._session.clock.now()
            values["status"] = case((past, literal(JobStatus.DEAD, Words())), else_=literal(JobStatus.QUEUED, Words()))
            values["due_at"] = case((past, jobs.c.due_at), else_=literal(retry_at, Moment()))
            values["owner"] = ""
            self._session.queued_jobs = True
        return await self._moved(update(jobs).where(which).values(values))

    async def _moved(self, statement: Update) -> bool:
        return await self._session.count(statement) > 0


class Opens(Protocol):
    """Opens transactions outside a project (`Transactions`)."""

    def begin(self) -> AbstractAsyncContextManager[Session]: ...
    def view(self) -> AbstractAsyncContextManager[Session]: ...


class SharedJobs:
    """The queue outside a unit, of all projects: each call is its own transaction."""

    def __init__(self, transactions: Opens) -> None:
        self._transactions = transactions

    async def enqueue(self, job: Job) -> Job:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).enqueue(job)

    async def get(self, id: str) -> Job | None:
        """See `SqlJobs`."""
        async with self._transactions.view() as session:
            return await SqlJobs(session).get(id)

    async def claim(self, owner: str, kinds: Iterable[str], limit: int, lease_s: float) -> tuple[Job, ...]:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).claim(owner, kinds, limit, lease_s)

    async def claim_in_turn(self, owner: str, kind: str, limit: int, lease_s: float) -> tuple[Job, ...]:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).claim_in_turn(owner, kind, limit, lease_s)

    async def renew(self, id: str, owner: str, lease_s: float) -> bool:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).renew(id, owner, lease_s)

    async def finish(self, id: str, owner: str) -> bool:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).finish(id, owner)

    async def fail(self, id: str, owner: str, error: str, retry_at: datetime | None) -> bool:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).fail(id, owner, error, retry_at)

    async def release(self, id: str, owner: str) -> bool:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).release(id, owner)

    async def cancel_of(self, kind: str, resource_id: str) -> int:
        """See `SqlJobs`; resources of that id in every project."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).cancel_of(kind, resource_id)

    async def expired(self, limit: int) -> tuple[Job, ...]:
        """See `SqlJobs`."""
        async with self._transactions.view() as session:
            return await SqlJobs(session).expired(limit)

    async def reclaim(self, id: str, error: str, retry_at: datetime | None) -> bool:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).reclaim(id, error, retry_at)

    async def bring_forward(self, due_before: datetime) -> int:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).bring_forward(due_before)

    async def unfinished(self) -> tuple[Job, ...]:
        """See `SqlJobs`."""
        async with self._transactions.view() as session:
            return await SqlJobs(session).unfinished()

    async def next_due(self, kinds: Iterable[str]) -> datetime | None:
        """See `SqlJobs`."""
        async with self._transactions.view() as session:
            return await SqlJobs(session).next_due(kinds)

    async def prune(self, before: datetime, limit: int) -> int:
        """See `SqlJobs`."""
        async with self._transactions.begin() as session:
            return await SqlJobs(session).prune(before, limit)
