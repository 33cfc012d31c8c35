"""Teams and memberships."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, select, true, update

from hearth.model.people import OWNER, Membership, Team
from hearth.model.queries import ListQuery
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.expressions import has_any
from hearth.store.sql.pages import page_of
from hearth.store.sql.people_schema import memberships, teams
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.search import searchable
from hearth.store.sql.session import Session

_team = reader(Team)
_membership = reader(Membership)


class SqlTeams:
    """See `hearth.ports.Teams`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._here = teams.c.project_id == session.project_id

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(self._here, teams.c.id == id)

    async def insert(self, team: Team) -> Team:
        """Raises Conflict(`id`)."""
        self._session.own(team.project_id)
        words = searchable(team.id, team.name)
        sequence = await self._session.insert(teams, {**values_of(team), "search_words": words})
        if sequence is None:
            raise Conflict("id")
        return replace(team, sequence=sequence)

    async def get(self, id: str) -> Team | None:
        """One team."""
        row = await self._session.one(select(teams).where(self._is(id)))
        return None if row is None else _team(row)

    async def several(self, ids: Iterable[str]) -> Mapping[str, Team]:
        """See the port."""
        rows = await self._session.all(select(teams).where(self._here, teams.c.id.in_(sorted(set(ids)))))
        return {row.id: _team(row) for row in rows}

    async def list(self, query: ListQuery, member: str | None = None) -> Page[Team]:
        """Raises CursorNotFound."""
        scope: ColumnElement[bool] = self._here
        if member is not None:
            mine = select(memberships.c.team_id).where(
                memberships.c.project_id == self._session.project_id,
                memberships.c.user_id == member,
                memberships.c.confirmed.is_(true()),
            )
            scope = and_(scope, teams.c.id.in_(mine))
        return await page_of(self._session, collections.TEAMS, scope, query, _team)

    async def update(self, id: str, /, **changes: Any) -> Team | None:
        """See the port. Raises TypeError for a field that does not exist."""
        values = {"updated_at": self._session.clock.now(), **checked(Team, changes)}
        if "name" in changes:
            values["search_words"] = searchable(id, changes["name"])
        row = await self._session.one(update(teams).where(self._is(id)).values(values).returning(teams))
        return None if row is None else _team(row)

    async def count_members(self, id: str) -> None:
        """See the port."""
        confirmed = select(func.count()).where(
            memberships.c.project_id == self._session.project_id,
            memberships.c.team_id == id,
            memberships.c.confirmed.is_(true()),
        )
        await self._session.execute(update(teams).where(self._is(id)).values(total=confirmed.scalar_subquery()))

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(teams).where(self._is(id))) > 0


class SqlMemberships:
    """See `hearth.ports.Memberships`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._here = memberships.c.project_id == session.project_id

    def _of(self, team_id: str, user_id: str) -> ColumnElement[bool]:
        """Those of a team, of a user, or the one of both; `""` = of any."""
        if not team_id and not user_id:
            raise ValueError("memberships belong to a team and a user")
        parts = [self._here]
        if team_id:
            parts.append(memberships.c.team_id == team_id)
        if user_id:
            parts.append(memberships.c.user_id == user_id)
        return and_(*parts)

    async def insert(self, membership: Membership) -> Membership:
        """See the port."""
        self._session.own(membership.project_id)
        words = searchable(membership.id, membership.user_id)
        sequence = await self._session.insert(memberships, {**values_of(membership), "search_words": words})
        if sequence is None:
            raise Conflict("id" if await self.get(membership.id) is not None else "user")
        return replace(membership, sequence=sequence)

    async def get(self, id: str) -> Membership | None:
        """One membership."""
        row = await self._session.one(select(memberships).where(self._here, memberships.c.id == id))
        return None if row is None else _membership(row)

    async def of_pair(self, team_id: str, user_id: str) -> Membership | None:
        """The membership of this user in this team."""
        row = await self._session.one(
            select(memberships).where(self._here, memberships.c.team_id == team_id, memberships.c.user_id == user_id)
        )
        return None if row is None else _membership(row)

    async def of_user(self, user_id: str) -> tuple[Membership, ...]:
        """See the port."""
        mine = select(memberships).where(self._here, memberships.c.user_id == user_id)
        return tuple(map(_membership, await self._session.all(mine.order_by(memberships.c.sequence))))

    async def list(self, query: ListQuery, *, team_id: str = "", user_id: str = "") -> Page[Membership]:
        """Raises CursorNotFound."""
        scope = self._of(team_id, user_id)
        return await page_of(self._session, collections.MEMBERSHIPS, scope, query, _membership)

    async def owners(self, team_id: str) -> int:
        """See the port."""
        row = await self._session.one(
            select(func.count()).where(
                self._here,
                memberships.c.team_id == team_id,
                memberships.c.confirmed.is_(true()),
                has_any(memberships.c.roles, [OWNER]),
            )
        )
        return 0 if row is None else int(row[0])

    async def users_of(self, team_id: str) -> tuple[str, ...]:
        """See the port."""
        rows = await self._session.all(select(memberships.c.user_id).where(self._of(team_id, "")))
        return tuple(row.user_id for row in rows)

    async def update(self, id: str, /, **changes: Any) -> Membership | None:
        """See the port."""
        values = {"updated_at": self._session.clock.now(), **checked(Membership, changes)}
        which = and_(self._here, memberships.c.id == id)
        row = await self._session.one(update(memberships).where(which).values(values).returning(memberships))
        return None if row is None else _membership(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(memberships).where(self._here, memberships.c.id == id)) > 0

    async def delete_of(self, *, team_id: str = "", user_id: str = "") -> int:
        """How many went."""
        return await self._session.count(delete(memberships).where(self._of(team_id, user_id)))
