"""Rules and platforms: which host names lead where, and which apps may call."""

from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, select, update

from hearth.model.queries import ListQuery
from hearth.model.resources import Platform, Rule
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.schema import platforms, rules
from hearth.store.sql.search import searchable
from hearth.store.sql.session import Session

read_rule = reader(Rule)
read_platform = reader(Platform)


class SqlRules:
    """See `hearth.ports.Rules`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(rules.c.project_id == self._session.project_id, rules.c.id == id)

    def _of(self, resource_type: str, resource_id: str) -> ColumnElement[bool]:
        return and_(
            rules.c.project_id == self._session.project_id,
            rules.c.resource_type == resource_type,
            rules.c.resource_id == resource_id,
        )

    async def insert(self, rule: Rule) -> Rule:
        """Raises Conflict(`id`) or Conflict(`domain`)."""
        self._session.own(rule.project_id)
        words = searchable(rule.id, rule.domain)
        sequence = await self._session.insert(rules, {**values_of(rule), "search_words": words})
        if sequence is None:
            taken = await self._session.one(select(rules.c.sequence).where(self._is(rule.id)))
            raise Conflict("domain" if taken is None else "id")
        return replace(rule, sequence=sequence)

    async def get(self, id: str) -> Rule | None:
        """One rule."""
        row = await self._session.one(select(rules).where(self._is(id)))
        return None if row is None else read_rule(row)

    async def list(self, query: ListQuery) -> Page[Rule]:
        """Raises CursorNotFound."""
        scope = rules.c.project_id == self._session.project_id
        return await page_of(self._session, collections.RULES, scope, query, read_rule)

    async def update(self, id: str, /, **changes: Any) -> Rule | None:
        """See the port."""
        if "domain" in changes:
            raise TypeError("a rule stays with its domain")
        values = {"updated_at": self._session.clock.now(), **checked(Rule, changes)}
        row = await self._session.one(update(rules).where(self._is(id)).values(values).returning(rules))
        return None if row is None else read_rule(row)

    async def point(self, resource_type: str, resource_id: str, branch: str, deployment_id: str) -> tuple[Rule, ...]:
        """See the port."""
        which = and_(self._of(resource_type, resource_id), rules.c.trigger == "manual", rules.c.branch == branch)
        values = {"updated_at": self._session.clock.now(), "deployment_id": deployment_id}
        return tuple(
            map(read_rule, await self._session.all(update(rules).where(which).values(values).returning(rules)))
        )

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(rules).where(self._is(id))) > 0

    async def delete_of(self, resource_type: str, resource_id: str) -> tuple[Rule, ...]:
        """See the port."""
        gone = delete(rules).where(self._of(resource_type, resource_id)).returning(rules)
        return tuple(map(read_rule, await self._session.all(gone)))


class SqlPlatforms:
    """See `hearth.ports.Platforms`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(platforms.c.project_id == self._session.project_id, platforms.c.id == id)

    async def insert(self, platform: Platform) -> Platform:
        """Raises Conflict(`id`)."""
        self._session.own(platform.project_id)
        sequence = await self._session.insert(platforms, values_of(platform))
        if sequence is None:
            raise Conflict("id")
        return replace(platform, sequence=sequence)

    async def get(self, id: str) -> Platform | None:
        """One platform."""
        row = await self._session.one(select(platforms).where(self._is(id)))
        return None if row is None else read_platform(row)

    async def list(self, query: ListQuery) -> Page[Platform]:
        """Raises CursorNotFound."""
        scope = platforms.c.project_id == self._session.project_id
        return await page_of(self._session, collections.PLATFORMS, scope, query, read_platform)

    async def update(self, id: str, /, **changes: Any) -> Platform | None:
        """See the port."""
        values = {"updated_at": self._session.clock.now(), **checked(Platform, changes)}
        row = await self._session.one(update(platforms).where(self._is(id)).values(values).returning(platforms))
        return None if row is None else read_platform(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(platforms).where(self._is(id))) > 0
