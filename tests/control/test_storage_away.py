"""A full disk, a database that is gone for a while: refused clearly, nothing lost, and on it goes by itself."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, cast

import pytest

from hearth.api.errors import answer_for
from hearth.control.late_records import LATE_RECORDS_MAX, LateRecords
from hearth.model.refusals import StorageAway
from hearth.model.resources import Execution
from hearth.model.running import Outcome, Result
from hearth.model.statuses import ExecutionStatus
from hearth.ports import ExecutionLog
from tests.control.support import World, world
from tests.control.test_dispatcher import KEY, WAIT_S, dispatching, ended, queue, until
from tests.control.test_users_runs import ready
from tests.store.samples import execution
from tests.support.postgres import cluster

pytestmark = pytest.mark.anyio

FINE = Result(Outcome.COMPLETED, 200)


def test_the_caller_hears_why_and_when_to_come_again() -> None:
    fault = StorageAway("The database failed to commit: database or disk is full", reason="its disk is full")
    answer = answer_for(fault, method="POST", route="r", project_id="p")
    assert answer.status == 503
    assert b"its disk is full" in answer.body
    assert dict(answer.headers)[b"retry-after"] == b"5"


@pytest.fixture
def lift() -> Iterator[object]:
    """No file may grow beyond two megabytes until the fixture is called: SQLite sees a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [10_000, 700_000], ids=["on the event loop", "in a thread"])
async def test_on_a_full_disk_what_was_accepted_stays_and_the_rest_is_refused(
    here: World, lift: "Iterator[object]", size: int
) -> None:
    await ready(here)
    accepted: list[str] = []
    with pytest.raises(StorageAway) as refused:
        for _ in range(500):
            accepted.append((await queue(here, bytes(size))).execution.id)  # noqa: PERF401 - kept when it raises
    assert refused.value.reason == "its disk is full"
    assert accepted
    lift()  # type: ignore[operator]
    accepted.append((await queue(here)).execution.id)
    async with dispatching(here):
        finals = [await ended(here, id) for id in accepted]
    assert {final.status for final in finals} == {ExecutionStatus.COMPLETED}
    assert len(here.executor.invoked) == len(accepted)


@pytest.mark.slow
async def test_a_database_that_is_gone_for_a_while_costs_nothing_that_was_accepted(tmp_path: Path) -> None:
    with cluster() as database:
        async with world(tmp_path, f"{database.address}/postgres") as here:
            await ready(here)
            here.executor.answer = asyncio.get_running_loop().create_future()
            async with dispatching(here, places=2):
                views = [await queue(here) for _ in range(4)]
                await until(lambda: len(here.executor.invoked) == 2)
                database.stop()
                for _ in range(3):
                    with pytest.raises(StorageAway) as refused:
                        await queue(here)
                    assert refused.value.reason == "its database does not answer"
                here.executor.answer.set_result(FINE)  # two runs end while nobody can store it
                await asyncio.sleep(0.3)
                database.start()
                finals = [await ended(here, view.execution.id) for view in views]
                assert (await ended(here, (await queue(here)).execution.id)).status is ExecutionStatus.COMPLETED
    assert {final.status for final in finals} == {ExecutionStatus.COMPLETED}
    assert len(here.executor.invoked) == 5


async def test_a_synchronous_run_that_ends_while_the_disk_is_full_is_recorded_afterwards(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ready(here)
    await here.repairs.at_start()
    submit, refused = here.store.execution_log.submit, 0

    def full(execution: Execution) -> "asyncio.Future[Execution]":
        nonlocal refused
        refused += 1
        answer: asyncio.Future[Execution] = asyncio.get_running_loop().create_future()
        answer.set_exception(StorageAway("The database failed to commit", reason="its disk is full"))
        return answer

    monkeypatch.setattr(here.store.execution_log, "submit", full)
    with pytest.raises(StorageAway):
        await here.executions.create("p", KEY, "f", headers={})
    await until(lambda: refused >= 2)  # it is tried again
    monkeypatch.setattr(here.store.execution_log, "submit", submit)

    id = here.executor.invoked[0].execution_id

    async def recorded() -> Execution | None:
        async with here.store.view("p") as unit:
            return await unit.executions.get("f", id)

    async with asyncio.timeout(WAIT_S):
        while (found := await recorded()) is None:  # noqa: ASYNC110 - nobody tells; bounded above
            await asyncio.sleep(0.01)
    assert found.status is ExecutionStatus.COMPLETED
    assert len(here.executor.invoked) == 1, "user code runs once"


async def test_ends_that_cannot_be_stored_are_kept_within_a_bound_and_tried_once_more_at_the_stop() -> None:
    class Away:
        given: ClassVar[list[str]] = []
        is_away = True

        async def record(self, execution: Execution) -> Execution:
            self.given.append(execution.id)
            if self.is_away:
                raise StorageAway("no", reason="its database does not answer")
            return execution

    stored: list[str] = []
    records = Away()
    late = LateRecords(cast("ExecutionLog", records), lambda execution: stored.append(execution.id))
    fault = StorageAway("no", reason="its database does not answer")
    for number in range(LATE_RECORDS_MAX + 1):
        late.keep(execution(str(number)), fault)
    assert len(late) == LATE_RECORDS_MAX
    records.is_away = False
    await late.close()
    assert sorted(stored, key=int) == [str(number) for number in range(1, LATE_RECORDS_MAX + 1)]
    late.keep(execution("more"), fault)
    assert len(late) == 0
