"""The server's database as it is, read and set back from outside, on both engines with one set of statements."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from tests.faults.checker import Record

_EXECUTIONS = 'SELECT id, function_id, status, "trigger", scheduled_at, errors FROM executions'
_DEPLOYMENTS = "SELECT id, function_id, status, build_logs FROM deployments"
_PLANNED = "schedules planned until"


class Database(Protocol):
    """The few things the suite does to a database."""

    def read(self, statement: str) -> Sequence[Sequence[Any]]:
        """The rows of a query."""

    def write(self, statement: str) -> None:
        """Carry out a change; while no server runs."""

    def earlier(self, ms: int) -> str:
        """The expression for the fact `schedules planned until`, so much earlier."""


class Sqlite:
    """The file of a data folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, statement: str) -> Sequence[Sequence[Any]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=30)) as connection:
            return connection.execute(statement).fetchall()

    def write(self, statement: str) -> None:
        with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
            connection.execute(statement)

    def earlier(self, ms: int) -> str:
        return f"CAST(CAST(CAST(value AS TEXT) AS INTEGER) - {ms} AS TEXT)"


class Postgres:
    """A database of a cluster."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, statement: str) -> Sequence[Sequence[Any]]:
        async def fetch() -> Sequence[Sequence[Any]]:
            connection = await asyncpg.connect(self._url)
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def write(self, statement: str) -> None:
        async def execute() -> None:
            connection = await asyncpg.connect(self._url)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        asyncio.run(execute())

    def earlier(self, ms: int) -> str:
        return f"convert_to((convert_from(value, 'UTF8')::bigint - {ms})::text, 'UTF8')"


def records(database: Database) -> list[Record]:
    """Every execution and deployment."""
    found = [
        Record("execution", _text(id), _text(function), _text(status), _text(trigger), planned or 0, _text(errors))
        for id, function, status, trigger, planned, errors in database.read(_EXECUTIONS)
    ]
    found += [
        Record("deployment", _text(id), _text(function), _text(status), reason=_text(logs))
        for id, function, status, logs in database.read(_DEPLOYMENTS)
    ]
    return found


def set_back(database: Database, ms: int) -> None:
    """Make delayed executions due, and schedules as if nothing had been planned for so long: the seam for time.

    A planned time that was fired already is then fired again, and has to be found on record.
    """
    database.write(f"UPDATE jobs SET due_at = created_at WHERE kind = 'execute' AND status = 'queued' AND {_DELAYED}")
    for table in ("functions", "function_settings"):
        database.write(f"UPDATE {table} SET updated_at = updated_at - {ms}")
    database.write(f"UPDATE facts SET value = {database.earlier(ms)} WHERE name = '{_PLANNED}'")


_DELAYED = "due_at > created_at"


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
