"""What an upgrade of this program would have to do to a database. Reads only."""

from dataclasses import dataclass
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.script.revision import ResolutionError
from alembic.util import CommandError
from sqlalchemy import Connection, text

from hearth.store.sql import migrations
from hearth.store.sql.address import Address
from hearth.store.sql.exporting import head, schema_of
from hearth.store.sql.migrating import DatabaseTooNew, make_engine
from hearth.store.sql.session import translated


@dataclass(frozen=True, slots=True)
class State:
    """`schema` is the database's revision (`""` = no tables of ours), `pending` the steps to `head`, oldest first."""

    schema: str
    head: str
    pending: tuple[str, ...]
    runtimes: tuple[str, ...]
    """The runtimes functions have."""


async def look(address: Address) -> State:
    """Raises DatabaseTooNew for a schema this version does not know, and PlatformFault."""
    engine = make_engine(address, read_only=True)
    try:
        with translated("answer"):
            async with engine.connect() as connection:
                return await connection.run_sync(_look)
    finally:
        await engine.dispose()


def _look(connection: Connection) -> State:
    schema = schema_of(connection)
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    try:
        steps = [step for step in scripts.iterate_revisions("head", schema or "base") if step.revision != schema]
    except (CommandError, ResolutionError) as error:
        raise DatabaseTooNew(
            f"The data has schema {schema}, which is newer than this version's {head()}. Use the newer version."
        ) from error
    pending = tuple(f"{step.revision} {(step.doc or '').splitlines()[0]}" for step in reversed(steps))
    runtimes: tuple[str, ...] = ()
    if schema:
        rows = connection.execute(text("SELECT DISTINCT runtime FROM functions ORDER BY runtime"))
        runtimes = tuple(str(row[0]) for row in rows)
    return State(schema, head(), pending, runtimes)
