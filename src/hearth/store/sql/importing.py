"""Rows of a backup into a database that no server is working on: everything, or one project beside others.

Rows go into the schema they were taken from, and the migrations after it then run as on any older database.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from hearth.model.people import CONSOLE
from hearth.store.archive import ArchiveReader, BackupRefused, Manifest, Row
from hearth.store.belongings import Belongings
from hearth.store.settling import settled
from hearth.store.sql.address import Address
from hearth.store.sql.exporting import Snapshot, schema_of, snapshot, tables_of
from hearth.store.sql.keycheck import key_fits
from hearth.store.sql.migrating import MIGRATION_LOCK, DatabaseTooNew, make_engine, run_migrations
from hearth.store.sql.people_schema import teams
from hearth.store.sql.schema import projects
from hearth.store.sql.sealed import resealed
from hearth.store.sql.session import Cipher, translated

_INSERTED = 500

Told = Callable[[int], None]
"""Called with a number of rows that were written."""


async def import_all(
    address: Address,
    backup: ArchiveReader,
    *,
    key: Cipher | None,
    may_replace: bool,
    told: Told,
    before_commit: Callable[[], None] = lambda: None,
) -> None:
    """Make the database at `address` what it was at the time of the backup, in one transaction, at this schema.

    `key` must be the installation's; None = not looked at. `before_commit` is called when every row is in. Raises
    BackupRefused where the database holds something and `may_replace` is false, the key is another, or the backup is
    damaged or newer; then nothing has changed.
    """
    engine = make_engine(address)
    try:
        with translated("restore"):
            async with engine.begin() as connection:
                if engine.dialect.name == "postgresql":
                    await connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
                await settled(connection.run_sync(_import_all, backup, may_replace, told))
                if key is not None and not await key_fits(connection, key):
                    raise BackupRefused(
                        "The key file does not belong to this backup: values in it cannot be opened with this key. "
                        "Put the key file of that installation in its place."
                    )
                before_commit()
    finally:
        await engine.dispose()


def _import_all(connection: sa.Connection, backup: ArchiveReader, may_replace: bool, told: Told) -> None:
    if schema_of(connection):
        if not may_replace and _holds_projects(connection):
            raise BackupRefused("The database holds an installation already. `--replace` puts the backup in its place.")
        run_migrations(connection, "base")
    _create(connection, backup.manifest)
    for saved in backup.manifest.tables:
        table = _reflected(connection, saved.name, saved.columns)
        connection.execute(sa.delete(table))  # what migrations put there themselves
        for rows in backup.rows(saved):
            for some in _pieces(rows):
                connection.execute(sa.insert(table), [dict(zip(saved.columns, row, strict=True)) for row in some])
                told(len(some))
        _count_on(connection, table)
    run_migrations(connection, "head")


def _create(connection: sa.Connection, manifest: Manifest) -> None:
    try:
        run_migrations(connection, manifest.schema)
    except DatabaseTooNew:
        raise BackupRefused(
            f"The backup was made by a newer version, hearth {manifest.hearth} (schema {manifest.schema}). "
            "Restore it with that version."
        ) from None


def _holds_projects(connection: sa.Connection) -> bool:
    """Asked in plain SQL: the table may be of any version."""
    return connection.execute(sa.text("SELECT 1 FROM projects LIMIT 1")).first() is not None


def _reflected(connection: sa.Connection, name: str, columns: Sequence[str]) -> sa.Table:
    """The table as the database has it: its schema may be an older one than this program's."""
    try:
        table = sa.Table(name, sa.MetaData(), autoload_with=connection)
    except sa.exc.NoSuchTableError:
        raise BackupRefused(f"The backup holds a table {name} that its schema does not have.") from None
    if {column.name for column in table.columns} != set(columns):
        raise BackupRefused(f"The table {name} of the backup has other columns than its schema.")
    return table


def _count_on(connection: sa.Connection, table: sa.Table) -> None:
    """Let the database number new rows after those that were given their numbers here."""
    if connection.dialect.name == "postgresql" and "sequence" in table.c:
        last = connection.execute(sa.select(sa.func.max(table.c.sequence))).scalar()
        if last is not None:
            own = sa.func.pg_get_serial_sequence(table.name, "sequence")
            connection.execute(sa.select(sa.func.setval(own, last)))


def _pieces(rows: list[Row]) -> Iterator[list[Row]]:
    for start in range(0, len(rows), _INSERTED):
        yield rows[start : start + _INSERTED]


async def import_project(
    address: Address,
    backup: ArchiveReader,
    project_id: str,
    *,
    scratch: Path,
    old: Cipher,
    new: Cipher,
    may_replace: bool,
    told: Told,
    before_commit: Callable[[Belongings], None],
) -> None:
    """Put one project of a backup beside the others of an installation, which must be at this schema.

    The rows go through a database of their own in the folder `scratch`, where they are brought to this schema, and are
    sealed with the key of this installation (`new`). They are numbered anew, in their order. Raises BackupRefused
    where the project is here already and `may_replace` is false, where something of it that exists once only is
    taken here (a domain, an API key), or a key does not fit; then nothing has changed.
    """
    path = scratch / "staging.db"
    staging = Address(sa.URL.create("sqlite", database=str(path)), path)
    await import_all(staging, backup, key=None, may_replace=False, told=told)
    engine = make_engine(address)
    (scratch / "snapshot").mkdir()
    try:
        async with snapshot(staging, scratch / "snapshot") as taken:
            with translated("restore"):
                async with engine.begin() as connection:
                    if not await key_fits(connection, new):
                        raise BackupRefused(
                            "No installation here fits the key. Start the server once, then restore a project."
                        )
                    belongings = Belongings(is_whole=False)
                    move = _Move(connection, taken, project_id, old, new, belongings)
                    await _move_project(move, may_replace=may_replace)
                    before_commit(belongings)
    finally:
        await engine.dispose()


@dataclass(frozen=True, slots=True)
class _Move:
    """The way of one project's rows from `taken` to `connection`."""

    connection: AsyncConnection
    taken: Snapshot
    project_id: str
    old: Cipher
    new: Cipher
    belongings: Belongings

    def row_here(self, table: sa.Table, row: Row) -> dict[str, Any]:
        """A row as it is to stand here."""
        columns = [column.name for column in table.columns]
        self.belongings.note(table.name, columns, row)
        values: dict[str, Any] = dict(zip(columns, row, strict=True))
        try:
            values = resealed(table.name, values, self.old, self.new)
        except ValueError as error:
            raise BackupRefused(
                f"A value in {table.name} cannot be opened with the backup's key ({error}). A project of another "
                "installation can be restored from a backup that was made with keys."
            ) from error
        values.pop("sequence", None)
        return values


async def _move_project(move: _Move, *, may_replace: bool) -> None:
    connection, project_id = move.connection, move.project_id
    counts = await move.taken.counts(project_id)
    if not counts[projects.name]:
        raise BackupRefused(f"The backup does not hold a project {project_id}.")
    here = (await connection.execute(sa.select(projects.c.team_id).where(projects.c.id == project_id))).first()
    if here is not None and not may_replace:
        raise BackupRefused(f"The project {project_id} is here already. `--replace` puts the backup's in its place.")
    owner = await _organization(connection, here.team_id if here is not None else "")
    for table in tables_of(project_id):
        which = table.c.id if table.name == projects.name else table.c.project_id
        await connection.execute(sa.delete(table).where(which == project_id))
        target = await connection.run_sync(_reflected, table.name, [column.name for column in table.columns])
        async for some in _grouped(move.taken.rows(table, project_id)):
            rows = [move.row_here(table, row) for row in some]
            if table.name == projects.name:
                rows = [row | {"team_id": owner or row["team_id"]} for row in rows]
            try:
                await connection.execute(sa.insert(target), rows)
            except IntegrityError as error:
                raise BackupRefused(
                    f"Something of the project is taken here by another (table {table.name}): {error.orig}. "
                    "Remove it there first: a domain and an API key exist once only."
                ) from error


async def _grouped(rows: AsyncIterator[Row]) -> AsyncIterator[list[Row]]:
    some: list[Row] = []
    async for row in rows:
        some.append(row)
        if len(some) == _INSERTED:
            yield some
            some = []
    if some:
        yield some


async def _organization(connection: AsyncConnection, present: str) -> str:
    """Whose the project is here: as before, else whose the oldest project is; `""` where nobody is."""
    if present:
        return present
    known = sa.select(teams.c.id).where(teams.c.project_id == CONSOLE)
    statement = (
        sa.select(projects.c.team_id).where(projects.c.team_id.in_(known)).order_by(projects.c.sequence).limit(1)
    )
    found = (await connection.execute(statement)).first()
    return "" if found is None else str(found.team_id)
