"""The first start makes everything one needs to begin; later ones keep what people have made of it."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from hearth.auth.passwords import Passwords
from hearth.auth.secrets import VariableCipher
from hearth.control.bootstrap import CONSOLE_EMAIL, CREDENTIALS_FILE, PROJECT_ID, bootstrap
from hearth.model.people import CONSOLE, Session
from hearth.model.queries import ListQuery
from hearth.store import SqlStore, open_store
from tests.store.samples import KEY, NOW, FakeClock
from tests.support.databases import put_database

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # real passwords are slow to hash


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    put_database(tmp_path)
    opened = await open_store("", data_dir=tmp_path, secret=VariableCipher(KEY), clock=FakeClock())
    yield opened
    await opened.close()


async def start(store: SqlStore, folder: Path, endpoint: str = "http://127.0.0.1:1/v1") -> dict[str, str]:
    await bootstrap(store, FakeClock(), folder, endpoint)
    written: dict[str, str] = json.loads((folder / CREDENTIALS_FILE).read_text())
    return written


async def organizations(store: SqlStore) -> list[str]:
    async with store.view(CONSOLE) as unit:
        return [team.id for team in (await unit.teams.list(ListQuery())).items]


async def password_fits(store: SqlStore, password: str) -> bool:
    passwords = Passwords()
    try:
        async with store.view(CONSOLE) as unit:
            user = await unit.users.by_email(CONSOLE_EMAIL)
        return user is not None and await passwords.verify(user.password_hash, password)
    finally:
        passwords.close()


async def test_the_first_start_makes_an_owner_with_an_organization_for_the_project(
    store: SqlStore, tmp_path: Path
) -> None:
    written = await start(store, tmp_path)
    assert (tmp_path / CREDENTIALS_FILE).stat().st_mode & 0o777 == 0o600
    assert written["consoleEmail"] == CONSOLE_EMAIL
    assert await password_fits(store, written["consolePassword"])
    [organization] = await organizations(store)
    project = await store.projects.get(PROJECT_ID)
    assert project is not None
    assert project.team_id == organization
    async with store.view(CONSOLE) as unit:
        team = await unit.teams.get(organization)
        assert team is not None
        assert team.total == 1
        assert await unit.memberships.owners(organization) == 1


async def test_later_starts_change_nothing_but_the_endpoint(store: SqlStore, tmp_path: Path) -> None:
    first = await start(store, tmp_path)
    before = await organizations(store)
    again = await start(store, tmp_path, "http://127.0.0.1:2/v1")
    assert again == first | {"endpoint": "http://127.0.0.1:2/v1"}
    assert await organizations(store) == before
    await store.projects.update(PROJECT_ID, team_id="elsewhere")
    async with store.begin(CONSOLE) as unit:
        [team] = (await unit.teams.list(ListQuery())).items
        await unit.teams.insert(replace(team, id="elsewhere"))
    await start(store, tmp_path)
    project = await store.projects.get(PROJECT_ID)
    assert project is not None
    assert project.team_id == "elsewhere", "who moved it meant it"


async def test_a_database_from_before_there_were_organizations_gets_one(store: SqlStore, tmp_path: Path) -> None:
    await start(store, tmp_path)
    made = await organizations(store)
    async with store.begin(CONSOLE) as unit:
        for id in made:
            await unit.memberships.delete_of(team_id=id)
            await unit.teams.delete(id)
    await store.projects.update(PROJECT_ID, team_id="")
    await start(store, tmp_path)
    [organization] = await organizations(store)
    project = await store.projects.get(PROJECT_ID)
    assert project is not None
    assert project.team_id == organization


async def test_a_deleted_file_is_made_anew_with_a_new_password_that_ends_all_sessions(
    store: SqlStore, tmp_path: Path
) -> None:
    first = await start(store, tmp_path)
    async with store.begin(CONSOLE) as unit:
        user = await unit.users.by_email(CONSOLE_EMAIL)
        assert user is not None
        await unit.sessions.insert(Session("s", CONSOLE, user.id, NOW, NOW, NOW, "hash", "email"))
    (tmp_path / CREDENTIALS_FILE).unlink()
    second = await start(store, tmp_path)
    assert second["consolePassword"] != first["consolePassword"]
    assert await password_fits(store, second["consolePassword"])
    assert not await password_fits(store, first["consolePassword"])
    async with store.view(CONSOLE) as unit:
        assert await unit.sessions.of(user.id) == ()
    assert len(await organizations(store)) == 1


async def test_a_console_user_who_was_deleted_stays_deleted(store: SqlStore, tmp_path: Path) -> None:
    await start(store, tmp_path)
    async with store.begin(CONSOLE) as unit:
        user = await unit.users.by_email(CONSOLE_EMAIL)
        assert user is not None
        await unit.users.delete(user.id)
    await start(store, tmp_path)
    async with store.view(CONSOLE) as unit:
        assert (await unit.users.list(ListQuery())).total == 0
