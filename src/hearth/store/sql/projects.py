"""Projects and console users: what exists outside a project. Each call is its own transaction."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import select, update

from hearth.model.resources import ApiKey, ConsoleUser, Project
from hearth.ports import Conflict
from hearth.store.sql.rows import reader, values_of
from hearth.store.sql.schema import api_keys, console_users, deployments, projects
from hearth.store.sql.search import searchable
from hearth.store.sql.session import Transactions

_project = reader(Project)
_user = reader(ConsoleUser)
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

    async def insert_console_user(self, user: ConsoleUser) -> ConsoleUser:
        """Raises Conflict(`id`), also when the address is taken. Addresses are kept as given."""
        async with self._transactions.begin() as session:
            if await session.insert(console_users, values_of(user)) is None:
                raise Conflict("id")
            return user

    async def console_user_by_email(self, email: str) -> ConsoleUser | None:
        """See the port."""
        async with self._transactions.view() as session:
            row = await session.one(select(console_users).where(console_users.c.email == email))
            return None if row is None else _user(row)

    async def set_console_password(self, id: str, password_hash: str) -> bool:
        """Whether there is such a user."""
        async with self._transactions.begin() as session:
            values = {"password_hash": password_hash, "updated_at": session.clock.now()}
            return await session.count(update(console_users).where(console_users.c.id == id).values(values)) > 0
