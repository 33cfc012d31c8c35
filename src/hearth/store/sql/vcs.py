"""Installations and repository links: credentials are sealed on the way in and opened on the way out."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, delete, select, update

from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault
from hearth.model.vcs import Installation, RepositoryLink
from hearth.ports import PULL_REQUESTS_MAX, Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.pages import page_of
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.search import searchable
from hearth.store.sql.session import Cipher, Session
from hearth.store.sql.vcs_schema import installations, pull_requests, repository_heads, repository_links

_installation = reader(Installation)
_link = reader(RepositoryLink)


def read_installation(cipher: Cipher, row: Row[Any]) -> Installation:
    """A row with its secrets in clear. Raises PlatformFault when they do not open."""
    try:
        credentials = json.loads(cipher.open(row.credentials, sealed_context(row.project_id, row.id, "credentials")))
        secret = cipher.open(row.webhook_secret, sealed_context(row.project_id, row.id, "webhook_secret"))
    except ValueError as error:
        raise PlatformFault(
            f"The credentials of installation {row.id} of {row.project_id} cannot be read: {error}"
        ) from error
    return replace(_installation(row), credentials=credentials, webhook_secret=secret)


def sealed_context(project_id: str, id: str, field: str) -> bytes:
    """What a sealed text is bound to: moved to any other row or column, it does not open."""
    return "/".join((project_id, "installation", id, field)).encode()


class SqlInstallations:
    """See `hearth.ports.Installations`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(installations.c.project_id == self._session.project_id, installations.c.id == id)

    async def insert(self, installation: Installation) -> Installation:
        """Raises Conflict(`id`)."""
        self._session.own(installation.project_id)
        values = self._sealed(installation.id, values_of(installation))
        words = searchable(installation.organization, installation.provider, installation.provider_installation_id)
        sequence = await self._session.insert(installations, {**values, "search_words": words})
        if sequence is None:
            raise Conflict("id")
        return replace(installation, sequence=sequence)

    async def get(self, id: str) -> Installation | None:
        """One installation."""
        row = await self._session.one(select(installations).where(self._is(id)))
        return None if row is None else self._read(row)

    async def list(self, query: ListQuery) -> Page[Installation]:
        """Raises CursorNotFound."""
        scope = installations.c.project_id == self._session.project_id
        return await page_of(self._session, collections.INSTALLATIONS, scope, query, self._read)

    async def update(self, id: str, /, **changes: Any) -> Installation | None:
        """See the port. Raises TypeError for what is searched by: an installation stays with its account."""
        if not {"provider", "organization", "provider_installation_id"}.isdisjoint(changes):
            raise TypeError("an installation stays with its account")
        values = {"updated_at": self._session.clock.now(), **self._sealed(id, checked(Installation, changes))}
        row = await self._session.one(update(installations).where(self._is(id)).values(values).returning(installations))
        return None if row is None else self._read(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(installations).where(self._is(id))) > 0

    def _read(self, row: Row[Any]) -> Installation:
        return read_installation(self._session.cipher, row)

    def _sealed(self, id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        texts = dict(values)
        if "credentials" in texts:
            texts["credentials"] = json.dumps(dict(texts["credentials"]))
        for field in ("credentials", "webhook_secret"):
            if field in texts:
                texts[field] = self._session.cipher.seal(
                    texts[field], sealed_context(self._session.project_id, id, field)
                )
        return texts


class SqlRepositoryLinks:
    """See `hearth.ports.RepositoryLinks`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(repository_links.c.project_id == self._session.project_id, repository_links.c.id == id)

    async def insert(self, link: RepositoryLink) -> RepositoryLink:
        """Raises Conflict(`id`)."""
        self._session.own(link.project_id)
        sequence = await self._session.insert(repository_links, values_of(link))
        if sequence is None:
            raise Conflict("id")
        return replace(link, sequence=sequence)

    async def get(self, id: str) -> RepositoryLink | None:
        """One link."""
        row = await self._session.one(select(repository_links).where(self._is(id)))
        return None if row is None else _link(row)

    async def of_function(self, function_id: str) -> RepositoryLink | None:
        """See the port."""
        found = await self._where(repository_links.c.function_id == function_id)
        return found[0] if found else None

    async def of_repository(self, installation_id: str, repository_id: str) -> tuple[RepositoryLink, ...]:
        """See the port."""
        return await self._where(
            repository_links.c.installation_id == installation_id,
            repository_links.c.provider_repository_id == repository_id,
        )

    async def of_installation(self, installation_id: str) -> tuple[RepositoryLink, ...]:
        """See the port."""
        return await self._where(repository_links.c.installation_id == installation_id)

    async def update(self, id: str, /, **changes: Any) -> RepositoryLink | None:
        """See the port."""
        values = {"updated_at": self._session.clock.now(), **checked(RepositoryLink, changes)}
        row = await self._session.one(
            update(repository_links).where(self._is(id)).values(values).returning(repository_links)
        )
        return None if row is None else _link(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(repository_links).where(self._is(id))) > 0

    async def heads(self, installation_id: str, repository_id: str) -> Mapping[str, str]:
        """See the port."""
        columns = repository_heads.c
        rows = await self._session.all(
            select(columns.branch, columns.commit).where(self._heads_of(installation_id, repository_id))
        )
        return {row.branch: row.commit for row in rows}

    async def set_head(self, installation_id: str, repository_id: str, branch: str, commit: str) -> None:
        """See the port."""
        which = and_(self._heads_of(installation_id, repository_id), repository_heads.c.branch == branch)
        if not commit:
            await self._session.execute(delete(repository_heads).where(which))
        elif not await self._session.count(update(repository_heads).where(which).values(commit=commit)):
            values = {
                "project_id": self._session.project_id,
                "installation_id": installation_id,
                "provider_repository_id": repository_id,
                "branch": branch,
                "commit": commit,
            }
            await self._session.insert(repository_heads, values)

    async def forget_heads(self, installation_id: str, repository_id: str) -> None:
        """See the port."""
        for table in (repository_heads, pull_requests):
            await self._session.execute(delete(table).where(self._of(table, installation_id, repository_id)))

    async def note_pull_request(self, installation_id: str, repository_id: str, id: str, branch: str) -> None:
        """See the port. A new row each time, so that the newest ones are those that were heard of last."""
        here = self._of(pull_requests, installation_id, repository_id)
        await self._session.execute(delete(pull_requests).where(here, pull_requests.c.pull_request == id))
        if branch:
            values = {
                "project_id": self._session.project_id,
                "installation_id": installation_id,
                "provider_repository_id": repository_id,
                "pull_request": id,
                "branch": branch,
            }
            await self._session.insert(pull_requests, values)

    async def pull_requests_of(self, installation_id: str, repository_id: str, branch: str) -> tuple[str, ...]:
        """See the port."""
        here = self._of(pull_requests, installation_id, repository_id)
        rows = await self._session.all(
            select(pull_requests.c.pull_request)
            .where(here, pull_requests.c.branch == branch)
            .order_by(pull_requests.c.sequence.desc())
            .limit(PULL_REQUESTS_MAX)
        )
        return tuple(row.pull_request for row in rows)

    def _heads_of(self, installation_id: str, repository_id: str) -> ColumnElement[bool]:
        return self._of(repository_heads, installation_id, repository_id)

    def _of(self, table: Table, installation_id: str, repository_id: str) -> ColumnElement[bool]:
        columns = table.c
        return and_(
            columns.project_id == self._session.project_id,
            columns.installation_id == installation_id,
            columns.provider_repository_id == repository_id,
        )

    async def _where(self, *conditions: ColumnElement[bool]) -> tuple[RepositoryLink, ...]:
        ours = repository_links.c.project_id == self._session.project_id
        rows = await self._session.all(
            select(repository_links).where(ours, *conditions).order_by(repository_links.c.sequence)
        )
        return tuple(map(_link, rows))
