"""`hearth upgrade --check` on data of an older version, of this one, and of a newer one."""

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from hearth.identity import server_identity
from hearth.settings import Settings
from hearth.store.sql.address import parse_address
from hearth.store.sql.exporting import head
from hearth.store.sql.migrating import migrate
from tests.support.server import HEARTH, server_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder of the server's user with a database of schema 0007."""
    with server_folder() as folder:
        path = folder / "data"
        path.mkdir()
        anyio.run(migrate, parse_address("", path), "0007")
        if os.geteuid() == 0:
            for entry in (path, *path.iterdir()):
                os.chown(entry, *server_identity(Settings()))
        yield path


def check(data_dir: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
    argv = [str(HEARTH), "upgrade", "--check", "--data-dir", str(data_dir)]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=120, check=False)


def execute(data_dir: Path, statement: str) -> str:
    with closing(sqlite3.connect(data_dir / "hearth.db")) as connection, connection:
        row = connection.execute(statement).fetchone()
    return "" if row is None else str(row[0])


def test_what_is_pending_is_tried_on_a_copy_and_the_data_stays_as_it_is(data_dir: Path) -> None:
    done = check(data_dir)
    assert done.returncode == 0, done.stderr
    assert f"schema of the data: 0007; of this version: {head()}" in done.stdout
    assert "pending: 0008" in done.stdout
    assert "tried on a copy" in done.stdout
    assert execute(data_dir, "SELECT version_num FROM alembic_version") == "0007"
    assert not list(data_dir.glob("backup-*"))
    execute(data_dir, "CREATE TABLE dead_letters (x)")  # in the way of a later step
    failed = check(data_dir)
    assert (failed.returncode, "would fail" in failed.stderr) == (1, True), failed.stderr
    execute(data_dir, "UPDATE alembic_version SET version_num = '9999'")
    newer = check(data_dir)
    assert (newer.returncode, "newer" in newer.stderr) == (1, True)
