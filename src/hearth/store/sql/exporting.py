"""Rows out of a database as they are stored, on one snapshot, while servers go on working.

Rows have no types of an engine (whole numbers, texts, floats, flags, bytes), so what one engine gave the other takes.
"""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncConnection

from hearth.model.refusals import PlatformFault
from hearth.store.archive import BackupRefused
from hearth.store.settling import settled
from hearth.store.sql import migrations
from hearth.store.sql.address import Address
from hearth.store.sql.columns import metadata
from hearth.store.sql.migrating import make_engine
from hearth.store.sql.schema import facts, projects
from hearth.store.sql.session import translated

_FETCHED = 500
#: What a copy of the database leaves free on its disk, in bytes.
_SPARE_BYTES = 64 * 1024 * 1024
#: Tables that belong to the installation, not to a project.
_OF_NO_PROJECT = frozenset({facts.name})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One state of a database. Not to be used after `snapshot` has ended."""

    connection: AsyncConnection
    schema: str
    engine: str

    async def counts(self, project_id: str) -> dict[str, int]:
        """Table -> how many rows there are, of one project or (`""`) in all."""
        found = {}
        for table in tables_of(project_id):
            count = sa.select(sa.func.count()).select_from(table).where(_belongs(table, project_id))
            with translated("count rows"):
                found[table.name] = int((await self.connection.execute(count)).scalar_one())
        return found

    async def rows(self, table: sa.Table, project_id: str) -> AsyncIterator[tuple[Any, ...]]:
        """The rows of a table in the order of its primary key; of one project, or (`""`) all."""
        raw = sa.table(table.name, *(sa.column(column.name) for column in table.columns))
        order = [raw.c[column.name] for column in table.primary_key.columns]
        flags = [place for place, column in enumerate(table.columns) if isinstance(column.type, sa.Boolean)]
        statement = sa.select(*raw.columns).where(_belongs(raw, project_id)).order_by(*order)
        with translated("read rows"):
            result = await self.connection.stream(statement, execution_options={"yield_per": _FETCHED})
            async for row in result:
                if not flags:
                    yield tuple(row)
                    continue
                values = list(row)
                for place in flags:  # a number on SQLite
                    values[place] = None if values[place] is None else bool(values[place])
                yield tuple(values)


def tables_of(project_id: str) -> list[sa.Table]:
    """The tables a backup of one project, or (`""`) of everything, is made of."""
    return [table for table in metadata.sorted_tables if not project_id or table.name not in _OF_NO_PROJECT]


def head() -> str:
    """The revision of the schema this version works with."""
    found = ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head()
    if found is None:
        raise RuntimeError("there are no migrations")
    return found


@asynccontextmanager
async def snapshot(address: Address, scratch: Path) -> AsyncIterator[Snapshot]:
    """A consistent state of the database at `address`.

    On SQLite it is a copy in the folder `scratch`, so that a long backup does not keep the server's log from being
    reused; on PostgreSQL a transaction. Raises BackupRefused where the schema is not this version's or there is no
    room for the copy, and PlatformFault.
    """
    if address.path is not None:
        copy = scratch / "snapshot.db"
        with translated("copy the database"):
            await _in_thread(copy_database, address.path, copy)
        address = Address(sa.URL.create("sqlite", database=str(copy)), copy)
    engine = make_engine(address, read_only=True)
    try:
        with translated("answer"):
            connection = await engine.connect()
        try:
            schema = await connection.run_sync(schema_of)
            if schema != head():
                raise BackupRefused(
                    f"The database has schema {schema or 'none'}, this version of hearth works with {head()}. "
                    "Start the server of this version once, or make the backup with the version that runs."
                )
            yield Snapshot(connection, schema, engine.dialect.name)
        finally:
            await settled(connection.close())
    finally:
        await engine.dispose()


def schema_of(connection: sa.Connection) -> str:
    """The revision of a database; `""` for one without our tables."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def copy_database(source: Path, target: Path) -> None:
    """Copy a SQLite database that others may be using, in one consistent piece.

    Raises BackupRefused if it is missing or there is no room, sqlite3.Error.
    """
    if not source.exists():
        raise BackupRefused(f"There is no database at {source}.")
    wal = source.with_name(source.name + "-wal")
    wanted = source.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
    free = shutil.disk_usage(target.parent).free
    if free < wanted + _SPARE_BYTES:
        raise BackupRefused(
            f"The copy of the database needs {wanted // 1_000_000} MB beside {source.parent}, where "
            f"{free // 1_000_000} MB are free. Make room, then try again."
        )
    with (
        contextlib.closing(sqlite3.connect(source, timeout=30)) as original,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        original.backup(copy)  # all pages in one step: one snapshot, whoever writes meanwhile


def _belongs(table: sa.TableClause, project_id: str) -> sa.ColumnElement[bool]:
    if not project_id:
        return sa.true()
    return table.c.id == project_id if table.name == projects.name else table.c.project_id == project_id


async def _in_thread(work: Any, *arguments: Any) -> None:
    try:
        await settled(asyncio.to_thread(work, *arguments))
    except sqlite3.Error as error:
        raise PlatformFault(f"The database cannot be copied: {error}") from error
