"""Opening a database: addresses, migrations, the key check, and what can be found on the disk."""

import asyncio
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from hearth.auth.secrets import VariableCipher
from hearth.model.people import CONSOLE
from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault
from hearth.store import AddressRefused, DatabaseTooNew, WrongKey, holds_data, migrate_database, open_store
from hearth.store.sql.address import parse_address
from hearth.store.sql.columns import metadata
from hearth.store.sql.migrating import make_engine, migrate
from hearth.store.sql.sqlite import prepare_file
from tests.store.conftest import execute, opened
from tests.store.samples import KEY, FakeClock, function, project, variable

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgres"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database that holds nothing, not even tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/fresh.db"
    server: str = request.getfixturevalue("postgres")
    execute(f"{server}/postgres", "DROP DATABASE IF EXISTS fresh WITH (FORCE)", "CREATE DATABASE fresh")
    return f"{server}/fresh"


async def with_connection(database: str, folder: Path, work: Any) -> Any:
    engine = make_engine(parse_address(database, folder))
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def tables(connection: Connection) -> set[str]:
    return set(connection.dialect.get_table_names(connection)) - {"alembic_version"}


@pytest.mark.slow
async def test_migrated_down_and_up_again_the_schema_is_the_described_one(fresh: str, tmp_path: Path) -> None:
    def differences(connection: Connection) -> list[Any]:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    for _ in range(2):
        await migrate(parse_address(fresh, tmp_path))
        assert await with_connection(fresh, tmp_path, tables) == set(metadata.tables)
        assert await with_connection(fresh, tmp_path, differences) == []
        await migrate(parse_address(fresh, tmp_path), "base")
        assert await with_connection(fresh, tmp_path, tables) == set()
    async with opened(fresh, tmp_path, FakeClock()) as store:
        await store.projects.insert(project())


def test_a_new_file_that_another_server_is_switching_to_its_log_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "fresh.db"
    path.touch()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(0.1, other.rollback)
    release.start()
    prepare_file(path)
    release.join()
    assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


@pytest.mark.slow
async def test_servers_that_start_at_once_migrate_once(fresh: str, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            migrate_database(fresh, data_dir=tmp_path)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    assert failures == []
    assert await with_connection(fresh, tmp_path, tables) == set(metadata.tables)


async def test_a_database_that_is_up_to_date_needs_no_migrations(
    fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(parse_address(fresh, tmp_path))
    monkeypatch.setattr("alembic.command.upgrade", None)  # would fail now
    await migrate(parse_address(fresh, tmp_path))


async def test_a_database_of_a_newer_version_is_refused_and_left_alone(fresh: str, tmp_path: Path) -> None:
    await migrate(parse_address(fresh, tmp_path))
    await with_connection(
        fresh, tmp_path, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    )
    with pytest.raises(DatabaseTooNew, match="newer"):
        await open_store(fresh, data_dir=tmp_path, secret=VariableCipher(KEY), clock=FakeClock())
    assert await with_connection(fresh, tmp_path, tables) == set(metadata.tables)


@pytest.mark.slow
async def test_a_wrong_key_is_refused_and_destroys_nothing(fresh: str, tmp_path: Path) -> None:
    async with opened(fresh, tmp_path, FakeClock()) as store, store.begin("p") as unit:
        await unit.variables.insert(variable(value="precious"))
    for _ in range(2):
        with pytest.raises(WrongKey, match="backup"):
            await open_store(fresh, data_dir=tmp_path, secret=VariableCipher(bytes(32)), clock=FakeClock())
    # Also where the check itself is gone.
    await with_connection(fresh, tmp_path, lambda connection: connection.execute(text("DELETE FROM facts")))
    with pytest.raises(WrongKey):
        await open_store(fresh, data_dir=tmp_path, secret=VariableCipher(bytes(32)), clock=FakeClock())
    async with opened(fresh, tmp_path, FakeClock()) as store, store.view("p") as unit:
        found = await unit.variables.get("v")
        assert found is not None
        assert found.value == "precious"


@pytest.mark.slow
async def test_whether_a_key_was_used_is_known_without_the_key(fresh: str, tmp_path: Path) -> None:
    assert not await holds_data(fresh, data_dir=tmp_path)
    assert not (tmp_path / "fresh.db").exists()
    await migrate(parse_address(fresh, tmp_path))
    assert not await holds_data(fresh, data_dir=tmp_path)
    async with opened(fresh, tmp_path, FakeClock()):
        pass
    assert await holds_data(fresh, data_dir=tmp_path)


async def test_the_disk_holds_no_variable_in_clear_and_no_file_others_may_read(tmp_path: Path) -> None:
    secret = "sK8-found-by-nobody"
    folder = tmp_path / "data"
    async with opened("", folder, FakeClock()) as store:
        async with store.begin("p") as unit:
            await unit.variables.insert(variable(value=secret))
            await unit.variables.update("v", value=f"{secret}2")
        contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
        assert sum(b"KEY_v" in content for content in contents) > 0  # so the search is able to find something
        assert not any(secret.encode() in content for content in contents)
        assert {path.name for path in folder.iterdir()} >= {"hearth.db", "hearth.db-wal"}
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_a_sealed_value_moved_to_another_row_does_not_open(tmp_path: Path) -> None:
    async with opened("", tmp_path, FakeClock()) as store, store.begin("p") as unit:
        await unit.variables.insert(variable("a", value="secret of a"))
        await unit.variables.insert(variable("b"))
    with sqlite3.connect(tmp_path / "hearth.db") as connection:
        connection.execute("UPDATE variables SET value = (SELECT value FROM variables WHERE id = 'a')")
    connection.close()
    async with opened("", tmp_path, FakeClock()) as store, store.view("p") as unit:
        assert await unit.variables.get("a")
        with pytest.raises(PlatformFault, match="cannot be decrypted"):
            await unit.variables.get("b")


@pytest.mark.parametrize(
    "address",
    [
        "mysql://host/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=ro",
        "postgresql://host",
        "postgresql://host/db?x=1",
        "nonsense",
    ],
)
def test_addresses_that_cannot_work_are_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(AddressRefused):
        parse_address(address, tmp_path)


async def test_a_database_that_ends_while_we_run_is_a_fault_and_comes_back(
    postgres: str, postgres_database: str, tmp_path: Path
) -> None:
    """Connections the server cut off are replaced; nobody has to restart us."""
    async with opened(postgres_database, tmp_path, FakeClock()) as store:
        await store.ping()
        execute(
            f"{postgres}/postgres",
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'hearth%'",
        )
        await store.ping()
        async with store.begin("ended") as unit:
            await unit.functions.insert(function(project_id="ended"))


@pytest.mark.slow
async def test_an_address_may_ask_for_an_encrypted_connection(postgres_database: str, tmp_path: Path) -> None:
    await migrate(parse_address(f"{postgres_database}?sslmode=prefer", tmp_path))
    with pytest.raises(PlatformFault, match="SSL"):  # which the server of this test does not offer
        await migrate(parse_address(f"{postgres_database}?sslmode=require", tmp_path))


async def test_a_database_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(PlatformFault, match="failed to migrate"):
        await open_store(
            "postgresql://nobody@127.0.0.1:1/none", data_dir=tmp_path, secret=VariableCipher(KEY), clock=FakeClock()
        )


@pytest.mark.slow
async def test_users_of_the_console_become_users_of_its_project(fresh: str, tmp_path: Path) -> None:
    """Revision 0003 keeps who could log in, with id and password; the address counts in lower case from then on."""

    def insert(connection: Connection) -> None:
        connection.execute(
            text(
                "INSERT INTO console_users (id, email, name, password_hash, created_at, updated_at) "
                "VALUES ('u1', 'Ann@Example.com', 'Ann', 'hash', 1000, 2000)"
            )
        )

    await migrate(parse_address(fresh, tmp_path), "0002")
    await with_connection(fresh, tmp_path, insert)
    async with opened(fresh, tmp_path, FakeClock()) as store, store.view(CONSOLE) as unit:
        found = await unit.users.by_email("ann@example.com")
        assert found is not None
        assert (found.id, found.name, found.password_hash, found.status) == ("u1", "Ann", "hash", True)
        assert (found.created_at.timestamp(), found.updated_at.timestamp()) == (1, 2)
        assert (await unit.users.list(ListQuery(search="ann"))).total == 1
    assert "console_users" not in await with_connection(fresh, tmp_path, tables)
