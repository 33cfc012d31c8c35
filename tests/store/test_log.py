"""The execution log: committed in groups, read after write, failures told, and known after a kill."""

import asyncio
import os
import resource
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hearth.control.jobs import JobKind
from hearth.model.queries import ListQuery
from hearth.model.refusals import StorageAway
from hearth.model.statuses import ExecutionStatus, JobStatus, Trigger
from hearth.ports import Conflict
from hearth.store import SqlStore
from hearth.store.intents import IntentFile
from hearth.store.sql.schema import executions, jobs
from hearth.store.sql.sqlite_prepared import Prepared
from hearth.store.sql.writes import INSERT_EXECUTION, INSERT_JOB
from hearth.store.sql.written_rows import execution_row, job_row
from tests.store.conftest import opened
from tests.store.samples import NOW, FakeClock, execution, function, job

pytestmark = pytest.mark.anyio


async def stored(store: SqlStore) -> list[str]:
    async with store.view("p") as unit:
        return [item.id for item in (await unit.executions.list("f", ListQuery(limit=10_000), None)).items]


async def test_what_was_recorded_is_read_at_once_as_it_was(store: SqlStore) -> None:
    figures = {"duration_s": 0.25, "queued_s": 0.5, "is_cold": True, "cpu_s": 0.125, "peak_memory_bytes": 1 << 40}
    run = execution(request_headers=(("a", "b"),), permissions=('read("user:u")',), logs="ü\n", **figures)
    assert await store.execution_log.record(run) == run
    async with store.view("p") as unit:
        stored = await unit.executions.get("f", "e")
    assert stored is not None
    assert stored.sequence > 0
    assert replace(stored, sequence=0) == run


async def test_records_of_one_tick_are_committed_together_and_in_order(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    writer = store._backend.records
    now, later = writer.write_now, writer.write

    def write_now(records):  # type: ignore[no-untyped-def]
        written = now(records)
        if written:
            sizes.append(len(records))
        return written

    async def write(records):  # type: ignore[no-untyped-def]
        sizes.append(len(records))
        return await later(records)

    monkeypatch.setattr(writer, "write_now", write_now)
    monkeypatch.setattr(writer, "write", write)
    runs = [execution(f"e{number:04}") for number in range(450)]
    await asyncio.gather(*(store.execution_log.record(run) for run in runs))
    assert sizes == [100, 100, 100, 100, 50]
    assert await stored(store) == [run.id for run in runs]


async def test_records_and_units_share_the_database_without_waiting_for_each_other_for_ever(store: SqlStore) -> None:
    """A unit that is open while records come in must be able to end: they wait off the event loop."""
    async with store.begin("p") as unit:
        await unit.functions.insert(function())
        recording = asyncio.create_task(store.execution_log.record(execution("a")))
        await unit.functions.update("f", name="x")
    async with asyncio.timeout(20):
        await recording
    await asyncio.gather(
        *(store.execution_log.record(execution(f"b{number}")) for number in range(50)),
        *(_touch(store) for _ in range(10)),
    )
    assert len(await stored(store)) == 51


async def _touch(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.functions.update("f", name="y")


async def test_a_record_stored_already_is_told_to_its_caller_alone(store: SqlStore) -> None:
    await store.execution_log.record(execution("b"))
    answers = await asyncio.gather(
        *(store.execution_log.record(execution(id)) for id in ("a", "b", "c")), return_exceptions=True
    )
    assert isinstance(answers[1], Conflict)
    assert await stored(store) == ["b", "a", "c"]


async def test_a_cancelled_caller_loses_the_answer_but_not_the_record(store: SqlStore) -> None:
    tasks = [asyncio.create_task(store.execution_log.record(execution(f"e{number}"))) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.wait(tasks)
    assert tasks[1].cancelled()
    assert await stored(store) == ["e0", "e1", "e2"]


async def test_large_records_are_written_off_the_event_loop(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    big = execution("big", logs="x" * 1_000_000)
    assert not store._backend.records.write_now([big])
    await store.execution_log.record(big)
    assert await stored(store) == ["big"]


async def test_closing_commits_what_waits(database: str, tmp_path: Path, clock: FakeClock) -> None:
    async with opened(database, tmp_path, clock) as store:
        tasks = [asyncio.create_task(store.execution_log.record(execution(f"e{number}"))) for number in range(900)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    async with opened(database, tmp_path, clock) as store:
        assert len(await stored(store)) == 900


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond a megabyte: SQLite sees a full disk (SIGXFSZ is ignored by Python)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("size", [1_000, 300_000], ids=["on the event loop", "in a thread"])
async def test_a_full_disk_reaches_every_caller_and_the_log_works_again(
    store: SqlStore, full_disk: None, size: int
) -> None:
    count = 2_400_000 // size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    answers = await asyncio.gather(
        *(store.execution_log.record(execution(f"e{number}", logs="x" * size)) for number in range(count)),
        return_exceptions=True,
    )
    faults = [answer for answer in answers if isinstance(answer, BaseException)]
    assert faults
    assert {type(fault) for fault in faults} == {StorageAway}
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.execution_log.record(execution("after"))
    kept = await stored(store)
    assert kept[-1] == "after"
    assert len(kept) == count - len(faults) + 1


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_another_process_that_writes_does_not_hold_up_the_event_loop(store: SqlStore, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "hearth.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    recording = asyncio.create_task(store.execution_log.record(execution()))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not recording.done()
    other.execute("COMMIT")
    other.close()
    async with asyncio.timeout(20):
        await recording


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from hearth.auth.secrets import VariableCipher
from hearth.store import open_store
from tests.store.samples import KEY, FakeClock, execution

async def main(database, folder):
    store = await open_store(database, data_dir=Path(folder), secret=VariableCipher(KEY), clock=FakeClock())
    await store.execution_log.open()
    for number in range(6):
        store.execution_log.begin(execution(f"e{number}", status="processing"))
    await asyncio.gather(*(store.execution_log.record(execution(f"e{number}")) for number in range(0, 6, 2)))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.slow
async def test_what_a_killed_server_had_begun_is_known_at_the_next_start(
    database: str, tmp_path: Path, clock: FakeClock
) -> None:
    server = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, database, tmp_path)
    async with asyncio.timeout(60):
        assert await server.wait() == -9
    async with opened(database, tmp_path, clock) as store:
        left = await store.execution_log.open()
        assert [(item.id, item.status) for item in left] == [
            (f"e{number}", ExecutionStatus.PROCESSING) for number in (1, 3, 5)
        ]
        for item in left[:2]:
            await store.execution_log.record(replace(item, status=ExecutionStatus.FAILED))
    async with opened(database, tmp_path, clock) as store:
        assert [item.id for item in await store.execution_log.open()] == ["e5"]
        assert len(await stored(store)) == 5


async def test_a_line_cut_off_by_the_end_is_skipped_and_the_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "intents.log"
    intents = IntentFile(path)
    assert intents.open() == ()
    for number in range(3):
        intents.add(execution(f"e{number}"))
    await asyncio.sleep(0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    again = IntentFile(path)
    assert [item.id for item in again.open()] == ["e0", "e1"]
    again.add(execution("e3"))
    again.close()
    last = IntentFile(path)
    assert [item.id for item in last.open()] == ["e0", "e1", "e3"]
    last.close()
    intents.close()


async def test_the_intent_file_is_private_and_shrinks_when_its_executions_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hearth.store.intents._COMPACT_BYTES", 10_000)
    path = tmp_path / "intents.log"
    intents = IntentFile(path)
    intents.open()
    intents.add(execution("open"))
    for number in range(200):
        intents.add(execution(f"e{number}"))
        await asyncio.sleep(0)
        intents.settle([("p", f"e{number}")])
        assert path.stat().st_size < 11_000
    assert path.stat().st_mode & 0o777 == 0o600
    intents.close()
    again = IntentFile(path)
    assert [item.id for item in again.open()] == ["open"]
    again.close()


async def test_a_begin_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path) -> None:
    intents = IntentFile(tmp_path / "intents.log")
    intents.open()
    intents.add(execution(request_path="/\ud800"))
    await asyncio.sleep(0)
    os.close(intents._descriptor)
    intents._descriptor = os.open("/dev/full", os.O_WRONLY)
    intents.add(execution("f"))
    await asyncio.sleep(0)
    intents.close()
    again = IntentFile(tmp_path / "intents.log")
    assert [item.id for item in again.open()] == ["e", "f"]
    again.close()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"request_path": "/\ud800", "logs": "a\0b", "errors": "\ud800 \u00e4", "request_method": "G\0T"},
        {"permissions": ('read("user:u")',), "request_headers": (("content-type", "a\0b"),)},
        {"queued_s": 0.5, "is_cold": False, "cpu_s": 0.25, "peak_memory_bytes": 1 << 40},
        {"scheduled_at": NOW, "status": ExecutionStatus.SCHEDULED, "trigger": Trigger.SCHEDULE},
    ],
)
def test_the_short_way_to_a_row_is_the_long_one(changes: dict[str, Any]) -> None:
    columns = [column.name for column in executions.columns if column.name != "sequence"]
    record = execution("e1", **changes)
    long = Prepared(INSERT_EXECUTION, columns).row(getattr(record, name) for name in columns)
    assert execution_row(record) == tuple(long)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"payload": {"body": "a\0b", "\ud800": ["\ud800 \u00e4", {"n": 1}]}, "error": "\0"},
        {"kind": JobKind.EXECUTE, "leased_until": NOW, "owner": "here", "attempts": 2, "status": JobStatus.CLAIMED},
    ],
)
def test_the_short_way_to_the_row_of_a_job_is_the_long_one(changes: dict[str, Any]) -> None:
    columns = [column.name for column in jobs.columns if column.name != "sequence"]
    queued = job("j1", **changes)
    long = Prepared(INSERT_JOB, columns).row(getattr(queued, name) for name in columns)
    assert job_row(queued) == tuple(long)
