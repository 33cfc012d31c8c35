"""Installations, repository links and the heads of branches, on both databases."""

from typing import Any

import pytest
from sqlalchemy import text

from hearth.model.queries import ListQuery
from hearth.model.vcs import Installation, Provider, RepositoryLink
from hearth.ports import PULL_REQUESTS_MAX, Conflict
from hearth.store import SqlStore
from tests.store.samples import NOW, project

pytestmark = pytest.mark.anyio


def installation(id: str = "i", project_id: str = "p", **fields: Any) -> Installation:
    return Installation(
        **{"id": id, "project_id": project_id, "created_at": NOW, "updated_at": NOW, "provider": Provider.GIT}
        | {"organization": "Team", "base_url": "https://git.example.com", "credentials": {"token": "t0ken-of-i"}}
        | {"webhook_secret": "s3cret-of-i", "repositories": ("a.git",)}
        | fields
    )


def link(id: str = "l", function_id: str = "f", **fields: Any) -> RepositoryLink:
    return RepositoryLink(
        **{"id": id, "project_id": "p", "created_at": NOW, "updated_at": NOW, "function_id": function_id}
        | {"installation_id": "i", "provider_repository_id": "a.git"}
        | fields
    )


@pytest.fixture
async def projects(store: SqlStore) -> None:
    await store.projects.insert(project("p"))
    await store.projects.insert(project("q"))


async def test_an_installation_is_read_back_equal_and_its_secrets_are_not_in_clear(
    store: SqlStore, projects: None
) -> None:
    async with store.begin("p") as unit:
        stored = await unit.installations.insert(installation())
        with pytest.raises(Conflict):
            await unit.installations.insert(installation())
    async with store.view("p") as unit:
        assert await unit.installations.get("i") == stored
        session = unit.installations._session  # type: ignore[attr-defined]
        row = await session.one(text("SELECT * FROM installations"))
    assert b"t0ken" not in bytes(row.credentials)
    assert b"s3cret" not in bytes(row.webhook_secret)
    assert "t0ken" not in repr(stored)


async def test_secrets_do_not_open_in_another_row(store: SqlStore, projects: None) -> None:
    async with store.begin("p") as unit:
        await unit.installations.insert(installation("i"))
        await unit.installations.insert(installation("j", credentials={"token": "other"}))
        session = unit.installations._session  # type: ignore[attr-defined]
        await session.execute(
            text(
                "UPDATE installations SET credentials = (SELECT o.credentials FROM installations o WHERE o.id = 'i')"
                " WHERE id = 'j'"
            )
        )
        with pytest.raises(Exception, match="cannot be read"):
            await unit.installations.get("j")


async def test_a_project_sees_its_own_installations_only(store: SqlStore, projects: None) -> None:
    async with store.begin("p") as unit:
        await unit.installations.insert(installation(provider_installation_id="77"))
    async with store.begin("q") as unit:
        assert await unit.installations.get("i") is None
        assert not await unit.installations.delete("i")
        other = await unit.installations.insert(installation(project_id="q", provider_installation_id="77"))
        found = await unit.installations.list(ListQuery(search="team"))
        assert found.items == (other,)
    everywhere = await store.projects.installations("git", "77")
    assert [it.project_id for it in everywhere] == ["p", "q"]
    assert await store.projects.installations("git", "78") == ()


async def test_a_function_has_one_link_and_a_repository_several(store: SqlStore, projects: None) -> None:
    async with store.begin("p") as unit:
        first = await unit.repository_links.insert(link("l", "f"))
        second = await unit.repository_links.insert(link("m", "g"))
        with pytest.raises(Conflict):
            await unit.repository_links.insert(link("n", "f"))
        assert await unit.repository_links.of_repository("i", "a.git") == (first, second)
        assert await unit.repository_links.of_repository("i", "b.git") == ()
        changed = await unit.repository_links.update("m", pull_requests=("7",))
        assert changed is not None
        assert changed.pull_requests == ("7",)
        assert await unit.repository_links.of_function("g") == changed
        assert await unit.repository_links.delete("l")
        assert await unit.repository_links.of_installation("i") == (changed,)


async def test_heads_are_set_moved_and_forgotten_by_branch(store: SqlStore, projects: None) -> None:
    async with store.begin("p") as unit:
        links = unit.repository_links
        await links.set_head("i", "a.git", "main", "1")
        await links.set_head("i", "a.git", "other", "2")
        await links.set_head("i", "b.git", "main", "9")
        await links.set_head("i", "a.git", "main", "3")
        assert await links.heads("i", "a.git") == {"main": "3", "other": "2"}
        await links.set_head("i", "a.git", "other", "")
        assert await links.heads("i", "a.git") == {"main": "3"}
        await links.forget_heads("i", "a.git")
        assert await links.heads("i", "a.git") == {}
        assert await links.heads("i", "b.git") == {"main": "9"}


async def test_open_pull_requests_are_found_by_branch_newest_first_and_forgotten(
    store: SqlStore, projects: None
) -> None:
    async with store.begin("p") as unit:
        links = unit.repository_links
        for id in range(1, PULL_REQUESTS_MAX + 3):
            await links.note_pull_request("i", "a.git", str(id), "feature")
        await links.note_pull_request("i", "b.git", "1", "feature")
        await links.note_pull_request("i", "a.git", "2", "other")
        await links.note_pull_request("i", "a.git", "3", "feature")
        found = await links.pull_requests_of("i", "a.git", "feature")
        assert (found[0], len(found)) == ("3", PULL_REQUESTS_MAX)
        await links.note_pull_request("i", "a.git", "3", "")
        assert "3" not in await links.pull_requests_of("i", "a.git", "feature")
        assert await links.pull_requests_of("i", "a.git", "other") == ("2",)
        await links.forget_heads("i", "a.git")
        assert await links.pull_requests_of("i", "a.git", "feature") == ()
        assert await links.pull_requests_of("i", "b.git", "feature") == ("1",)
