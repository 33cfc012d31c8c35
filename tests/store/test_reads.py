"""Snapshots on SQLite: quick ones need no thread, long ones do not hold up the event loop."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hearth.store.sql import sqlite_reads
from hearth.store.sql.sqlite_reads import SqliteReaders, engine_for

pytestmark = pytest.mark.anyio

COUNT = 300_000
LONG = text(
    f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {COUNT}) SELECT count(*) FROM n, t"
)
SHORT = text("SELECT x FROM t")


@pytest.fixture
async def readers(tmp_path: Path) -> AsyncIterator[SqliteReaders]:
    path = tmp_path / "file.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (1)")
    connection.close()
    readers = SqliteReaders(engine_for(path), ["PRAGMA query_only=ON"], 20_000)
    yield readers
    readers.close()


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What goes to a thread from here on."""
    found: list[object] = []
    to_thread = asyncio.to_thread

    async def note(work: Any, *given: Any) -> Any:
        found.append(work)
        return await to_thread(work, *given)

    monkeypatch.setattr(asyncio, "to_thread", note)
    return found


async def test_what_is_read_quickly_is_read_at_once(
    readers: SqliteReaders, hops: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_reads, "AT_ONCE_S", 60.0)  # the machine may be busy
    for _ in range(3):
        async with readers.view() as reader:
            assert [tuple(row) for row in await reader.rows(SHORT)] == [(1,)]
    assert len(hops) == 1  # to connect


async def test_what_takes_long_leaves_the_event_loop_free(readers: SqliteReaders, hops: list[object]) -> None:
    async with readers.view() as reader:
        await reader.rows(SHORT)
        before = len(hops)
        task = asyncio.ensure_future(reader.rows(LONG))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert task.result()[0][0] == COUNT
        assert len(hops) == before + 1
        assert turns > 1
        assert [tuple(row) for row in await reader.rows(SHORT)] == [(1,)]


async def test_whoever_is_cancelled_leaves_a_clean_reader(readers: SqliteReaders) -> None:
    async def long() -> None:
        async with readers.view() as reader:
            await reader.rows(LONG)

    task = asyncio.create_task(long())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with readers.view() as reader:
        assert [tuple(row) for row in await reader.rows(SHORT)] == [(1,)]


async def test_a_view_that_is_left_waits_for_what_still_reads_in_it(readers: SqliteReaders) -> None:
    async with readers.view() as reader:
        task = asyncio.ensure_future(reader.rows(LONG))
        for _ in range(3):
            await asyncio.sleep(0)
    assert task.done()
    assert task.result()[0][0] == COUNT


async def test_a_lock_of_another_process_is_waited_for_off_the_event_loop(
    readers: SqliteReaders, tmp_path: Path, hops: list[object]
) -> None:
    other = sqlite3.connect(tmp_path / "file.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    async with readers.view() as reader:
        task = asyncio.ensure_future(reader.rows(SHORT))
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(hops) == 2  # the connection is there, and the statement has met the lock
        other.execute("ROLLBACK")
        assert [tuple(row) for row in await task] == [(1,)]
    other.close()
