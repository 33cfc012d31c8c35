"""Bringing a database to the newest schema, safely when several servers start at once.

All steps run in one transaction, under SQLite's write lock or a PostgreSQL advisory lock; whoever comes second
finds nothing left to do.
"""

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from hearth.lean import without_extras
from hearth.model.refusals import PlatformFault
from hearth.store.settling import settled
from hearth.store.sql import migrations, sqlite
from hearth.store.sql.address import Address, parse_address
from hearth.store.sql.session import translated

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

MIGRATION_LOCK = 0x4865617274680001  # a number of our own: "Hearth", 1


class DatabaseTooNew(PlatformFault):
    """The database was written by a newer version of this program; nothing was changed."""


async def migrate(address: Address, to: str = "head") -> None:
    """Create or migrate the database. `to` is a revision; `base` empties it (all data goes).

    For before a server listens: on SQLite the event loop is held meanwhile.

    Raises DatabaseTooNew and PlatformFault. If cancelled, the migration first ends.
    """
    with translated("migrate"):
        if address.path is not None:
            _migrate_file(address.path, to)
            return
        engine = make_engine(address)
        try:
            await settled(_migrate(engine, to))
        finally:
            await engine.dispose()


def migrate_database(url: str, *, data_dir: Path, to: str = "head") -> None:
    """`migrate` for code that is not async; may also be called where an event loop runs (it blocks then)."""
    address = parse_address(url, data_dir)
    failure: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(migrate(address, to))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            failure.append(error)

    thread = threading.Thread(target=work, name="migration")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]


def make_engine(address: Address, *, read_only: bool = False) -> "AsyncEngine":
    """An engine of one connection, for work before the store is open.

    Unless `read_only`, a SQLite file that is missing is created.
    """
    if address.path is None:
        from hearth.store.sql import postgres  # with its driver: 4 MB that a server on SQLite does without

        return postgres.make_engine(address.url, connections=1, read_only=read_only)
    if not read_only:
        sqlite.prepare_file(address.path)
    return sqlite.make_engine(address.path, write=not read_only, connections=1)


def _migrate_file(path: Path, to: str) -> None:
    sqlite.prepare_file(path)
    engine = sqlite.make_sync_engine(path, write=True)
    with engine.begin() as connection:
        run_migrations(connection, to)


async def _migrate(engine: "AsyncEngine", to: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL lock_timeout = 0"))
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
        await connection.run_sync(run_migrations, to)


def run_migrations(connection: Connection, to: str) -> None:
    """Bring the database to revision `to` within the transaction of `connection`. Raises DatabaseTooNew."""
    if to == "head" and _is_newest(connection):
        return
    # With the dialects of many databases: 5 MB that a server on a database of its own version does without.
    with without_extras():
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    try:
        (command.downgrade if to == "base" else command.upgrade)(config, to)
    except CommandError as error:
        raise DatabaseTooNew(
            f"The database has a schema this version does not know ({error}). "
            "Start the newer version, or restore a backup."
        ) from error


def _is_newest(connection: Connection) -> bool:
    """Whether there is nothing to do, by the names of the steps, which begin with their revisions."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return False
    steps = (Path(migrations.__file__).parent / "versions").glob("[0-9]*.py")
    newest = max(step.name.partition("_")[0] for step in steps)
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [newest]
