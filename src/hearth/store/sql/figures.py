"""How the queue stands: counts of what is open, for whoever watches the server."""

from sqlalchemy import func, select

from hearth.model.figures import QueueFigures
from hearth.model.statuses import JobStatus
from hearth.store.sql.durability_schema import dead_letters
from hearth.store.sql.schema import jobs
from hearth.store.sql.session import Session


async def queue_figures(session: Session) -> QueueFigures:
    """Count open and dead jobs of all projects. Reads along the index of open jobs, never the ended ones."""
    now = session.clock.now()
    by_kind = select(jobs.c.kind, func.count().label("number")).group_by(jobs.c.kind)
    due = select(jobs.c.kind, func.count().label("number"), func.min(jobs.c.due_at).label("oldest")).where(
        jobs.c.status == JobStatus.QUEUED, jobs.c.due_at <= now
    )
    later = by_kind.where(jobs.c.status == JobStatus.QUEUED, jobs.c.due_at > now)
    letters = await session.one(select(func.count().label("number")).select_from(dead_letters))
    return QueueFigures(
        due={row.kind: (row.number, row.oldest) for row in await session.all(due.group_by(jobs.c.kind))},
        later={row.kind: row.number for row in await session.all(later)},
        claimed={row.kind: row.number for row in await session.all(by_kind.where(jobs.c.status == JobStatus.CLAIMED))},
        dead={row.kind: row.number for row in await session.all(by_kind.where(jobs.c.status == JobStatus.DEAD))},
        dead_letters=0 if letters is None else letters.number,
    )
