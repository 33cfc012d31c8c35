"""Projects: what exists outside a project. Each call is its own transaction."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from hearth.model.queries import ListQuery
from hearth.model.resources import ApiKey, Platform, Project, Rule, Webhook
from hearth.model.vcs import Installation
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.hosting import read_platform, read_rule
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.schema import api_keys, deployments, platforms, projects, rules, webhooks
from hearth.store.sql.search import searchable
from hearth.store.sql.session import Transactions
from hearth.store.sql.vcs import read_installation
from hearth.store.sql.vcs_schema import installations
from hearth.store.sql.webhooks import read_webhook

_project = reader(Project)
_key = reader(ApiKey)


class SqlProjects:
    """See `hearth.ports.Projects`."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def insert(self, project: Project) -> Project:
        """Raises Conflict(`id`)."""
        async with self._transactions.begin() as session:
            words = searchable(project.id, project.name)
            sequence = await session.insert(projects, {**values_of(project), "search_words": words})
            if sequence is None:
                raise Conflict("id")
            return replace(project, sequence=sequence)

    async def get(self, id: str) -> Project | None:
        """One project."""
        async with self._transactions.view() as session:
            row = await session.one(select(projects).where(projects.c.id == id))
            return None if row is None else _project(row)

    async def all(self) -> tuple[Project, ...]:
        """Every project, oldest first."""
        async with self._transactions.view() as session:
            return tuple(map(_project, await session.all(select(projects).order_by(projects.c.sequence))))

    async def update(self, id: str, /, **changes: Any) -> Project | None:
        """See the port. Raises TypeError for a field that does not exist."""
        which = projects.c.id == id
        async with self._transactions.begin() as session:
            values = {"updated_at": session.clock.now(), **checked(Project, changes)}
            if "name" in changes:
                values["search_words"] = searchable(id, changes["name"])
            row = await session.one(update(projects).where(which).values(values).returning(projects))
            return None if row is None else _project(row)

    async def list(self, query: ListQuery, team_ids: Iterable[str]) -> Page[Project]:
        """See the port. Raises CursorNotFound."""
        async with self._transactions.view() as session:
            scope = projects.c.team_id.in_(list(team_ids))
            return await page_of(session, collections.PROJECTS, scope, query, _project)

    async def rules(self) -> tuple[Rule, ...]:
        """See the port."""
        async with self._transactions.view() as session:
            return tuple(map(read_rule, await session.all(select(rules).order_by(rules.c.sequence))))

    async def platforms(self) -> tuple[Platform, ...]:
        """See the port."""
        async with self._transactions.view() as session:
            which = select(platforms).where(platforms.c.type == "web").order_by(platforms.c.sequence)
            return tuple(map(read_platform, await session.all(which)))

    async def installations(self, provider: str, provider_installation_id: str = "") -> tuple[Installation, ...]:
        """See the port."""
        which = select(installations).where(installations.c.provider == provider)
        if provider_installation_id:
            which = which.where(installations.c.provider_installation_id == provider_installation_id)
        async with self._transactions.view() as session:
            rows = await session.all(which.order_by(installations.c.sequence))
            return tuple(read_installation(session.cipher, row) for row in rows)

    async def webhooks(self) -> tuple[Webhook, ...]:
        """See the port."""
        async with self._transactions.view() as session:
            rows = await session.all(select(webhooks).where(webhooks.c.enabled).order_by(webhooks.c.sequence))
            return tuple(read_webhook(session.cipher, row) for row in rows)

    async def key_by_hash(self, secret_hash: str) -> ApiKey | None:
        """See the port."""
        async with self._transactions.view() as session:
            row = await session.one(select(api_keys).where(api_keys.c.secret_hash == secret_hash))
            return None if row is None else _key(row)

    async def artifact_in_use(self, key: str) -> bool:
        """See the port."""
        async with self._transactions.view() as session:
            users = select(deployments.c.sequence).where(deployments.c.artifact_key == key).limit(1)
            return await session.one(users) is not None

    async def touch_key(self, key: ApiKey, accessed_at: datetime, sdk: str) -> None:
        """Note that a key was used, and by which SDK (`""` = unknown). `updated_at` stays."""
        which = api_keys.c.project_id == key.project_id, api_keys.c.id == key.id
        async with self._transactions.begin() as session:
            row = await session.one(select(api_keys.c.sdks).where(*which))
            if row is not None:
                sdks = (*row.sdks, sdk) if sdk and sdk not in row.sdks else row.sdks
                await session.execute(update(api_keys).where(*which).values(accessed_at=accessed_at, sdks=sdks))
