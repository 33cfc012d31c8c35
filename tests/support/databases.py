"""Databases of the newest version for tests that are not about how one comes to be."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from hearth.store import migrate_database
from hearth.store.sql.address import DEFAULT_FILE


def put_database(data_dir: Path) -> None:
    """Put an empty SQLite database of the newest version into a data folder without one.

    A copy of one that is migrated once a process: a hundred migrations in each test take longer than most tests.
    """
    file = data_dir / DEFAULT_FILE
    if not file.exists():
        file.write_bytes(_newest())
        file.chmod(0o600)


@cache
def _newest() -> bytes:
    with tempfile.TemporaryDirectory(prefix="hearth-test-") as folder, ThreadPoolExecutor(1) as pool:
        # In a thread: fixtures may ask for it inside a running loop.
        pool.submit(migrate_database, "", data_dir=Path(folder)).result(60)
        return (Path(folder) / DEFAULT_FILE).read_bytes()
