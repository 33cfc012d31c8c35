"""Each test of the store runs on SQLite and on a real PostgreSQL; both start empty."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from hearth.auth.secrets import VariableCipher
from hearth.store import SqlStore, migrate_database, open_store
from hearth.store.sql.columns import metadata
from tests.store.samples import KEY, FakeClock
from tests.support.databases import put_database
from tests.support.postgres import running_postgres


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a running server without a database's name."""
    with running_postgres() as address:
        yield address


@pytest.fixture(scope="session")
def postgres_database(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of one database with our tables, shared by all tests of a session."""
    execute(f"{postgres}/postgres", "CREATE DATABASE hearth")
    migrate_database(f"{postgres}/hearth", data_dir=tmp_path_factory.mktemp("data"))
    return f"{postgres}/hearth"


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """The address of an empty database; `""` is the default, a file in the data folder."""
    if request.param == "sqlite":
        return ""
    address: str = request.getfixturevalue("postgres_database")
    execute(address, f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY")
    return address


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def store(database: str, tmp_path: Path, clock: FakeClock) -> AsyncIterator[SqlStore]:
    if not database:
        put_database(tmp_path)
    async with opened(database, tmp_path, clock) as store:
        yield store


@asynccontextmanager
async def opened(database: str, data_dir: Path, clock: FakeClock) -> AsyncIterator[SqlStore]:
    store = await open_store(database, data_dir=data_dir, secret=VariableCipher(KEY), clock=clock)
    await store.execution_log.open()
    try:
        yield store
    finally:
        await store.close()


def execute(address: str, *statements: str) -> None:
    """Run statements on a PostgreSQL database. In a thread: fixtures may be asked for inside a running loop."""

    async def work() -> None:
        connection = await asyncpg.connect(address)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work()).result(60)
