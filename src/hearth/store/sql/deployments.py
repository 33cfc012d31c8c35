"""Deployments: compare-and-move, growing build logs, and the chunks of an upload."""

from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, case, delete, func, literal, select, update

from hearth.model.queries import ListQuery
from hearth.model.resources import Deployment
from hearth.model.statuses import DEPLOYMENT_FINAL, DeploymentStatus, sources_of
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.schema import deployment_chunks as chunks
from hearth.store.sql.schema import deployments
from hearth.store.sql.session import Session
from hearth.store.sql.types import Words

_deployment = reader(Deployment)
_MINE = and_(deployments.c.project_id == bindparam("in_project"), deployments.c.function_id == bindparam("of_function"))
_ONE = select(deployments).where(_MINE, deployments.c.id == bindparam("wanted"))


class SqlDeployments:
    """See `hearth.ports.Deployments`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(deployments.c.project_id == self._session.project_id, deployments.c.id == id)

    def _of(self, function_id: str) -> ColumnElement[bool]:
        return and_(deployments.c.project_id == self._session.project_id, deployments.c.function_id == function_id)

    async def insert(self, deployment: Deployment) -> Deployment:
        """Raises Conflict(`id`)."""
        self._session.own(deployment.project_id)
        sequence = await self._session.insert(deployments, values_of(deployment))
        if sequence is None:
            raise Conflict("id")
        return replace(deployment, sequence=sequence)

    async def get(self, function_id: str, id: str) -> Deployment | None:
        """One deployment of this function."""
        values = {"in_project": self._session.project_id, "of_function": function_id, "wanted": id}
        row = await self._session.one(_ONE, values)
        return None if row is None else _deployment(row)

    async def list(self, function_id: str, query: ListQuery) -> Page[Deployment]:
        """Raises CursorNotFound."""
        mine = {"in_project": self._session.project_id, "of_function": function_id}
        return await page_of(self._session, collections.DEPLOYMENTS, _MINE, query, _deployment, values=mine)

    async def newest(self, function_id: str, branch: str = "") -> Deployment | None:
        """See the port."""
        found = select(deployments).where(self._of(function_id))
        if branch:
            found = found.where(deployments.c.provider_branch == branch)
        row = await self._session.one(found.order_by(deployments.c.sequence.desc()).limit(1))
        return None if row is None else _deployment(row)

    async def update(self, id: str, /, **changes: Any) -> Deployment | None:
        """See the port. A status is changed by `move` only."""
        if "status" in changes:
            raise TypeError("the status of a deployment is changed by move")
        return await self._change(self._is(id), changes)

    async def move(self, id: str, to: DeploymentStatus, /, **changes: Any) -> Deployment | None:
        """See the port."""
        allowed = deployments.c.status.in_(sorted(sources_of(to)))
        return await self._change(and_(self._is(id), allowed), {**changes, "status": to})

    async def _change(self, which: ColumnElement[bool], changes: dict[str, Any]) -> Deployment | None:
        values = {"updated_at": self._session.clock.now(), **checked(Deployment, changes)}
        row = await self._session.one(update(deployments).where(which).values(values).returning(deployments))
        if row is None:
            return None
        if "status" in changes:
            self._session.changed_functions.add(row.function_id)
        return _deployment(row)

    async def append_log(self, id: str, text: str, limit: int) -> None:
        """See the port. `limit` is in characters; every call rewrites the text, so append in pieces of some size."""
        whole = deployments.c.build_logs + literal(text, Words())
        size = func.length(whole)
        tail = func.substr(whole, case((size > limit, size - limit + 1), else_=1), type_=Words())
        unfinished = deployments.c.status.not_in(sorted(DEPLOYMENT_FINAL))
        await self._session.execute(update(deployments).where(self._is(id), unfinished).values(build_logs=tail))

    async def clear_activate(self, function_id: str, except_id: str) -> None:
        """See the port."""
        others = and_(self._of(function_id), deployments.c.id != except_id, deployments.c.activate.is_(True))
        now = self._session.clock.now()
        await self._session.execute(update(deployments).where(others).values(activate=False, updated_at=now))

    async def delete(self, id: str) -> bool:
        """Whether there was one. Its chunks go with it."""
        await self.clear_chunks(id)
        gone = delete(deployments).where(self._is(id)).returning(deployments.c.function_id)
        row = await self._session.one(gone)
        if row is None:
            return False
        self._session.changed_functions.add(row.function_id)
        return True

    async def all_of(self, function_id: str) -> tuple[Deployment, ...]:
        """Every deployment of a function, oldest first."""
        rows = await self._session.all(
            select(deployments).where(self._of(function_id)).order_by(deployments.c.sequence)
        )
        return tuple(_deployment(row) for row in rows)

    async def unfinished(self) -> tuple[Deployment, ...]:
        """See the port; oldest first."""
        running = [status for status in DeploymentStatus if status not in DEPLOYMENT_FINAL]
        rows = await self._session.all(
            select(deployments)
            .where(deployments.c.project_id == self._session.project_id, deployments.c.status.in_(running))
            .order_by(deployments.c.sequence)
        )
        return tuple(_deployment(row) for row in rows)

    async def add_chunk(self, id: str, start: int, end: int) -> int:
        """See the port: exact because write transactions of one project follow each other."""
        own = {"project_id": self._session.project_id, "deployment_id": id, "first_byte": start, "last_byte": end}
        await self._session.execute(self._session.backend.insert(chunks).values(own))
        return covered(await self.chunks(id))

    async def chunks(self, id: str) -> tuple[tuple[int, int], ...]:
        """See the port."""
        rows = await self._session.all(
            select(chunks.c.first_byte, chunks.c.last_byte)
            .where(chunks.c.project_id == self._session.project_id, chunks.c.deployment_id == id)
            .order_by(chunks.c.first_byte, chunks.c.last_byte)
        )
        return tuple((row.first_byte, row.last_byte) for row in rows)

    async def clear_chunks(self, id: str) -> None:
        """See the port."""
        await self._session.execute(
            delete(chunks).where(chunks.c.project_id == self._session.project_id, chunks.c.deployment_id == id)
        )


def covered(ranges: tuple[tuple[int, int], ...]) -> int:
    """How many distinct bytes inclusive `ranges`, sorted by start, cover; they may overlap."""
    total, reached = 0, -1
    for start, end in ranges:
        total += max(0, end - max(start, reached + 1) + 1)
        reached = max(reached, end)
    return total
