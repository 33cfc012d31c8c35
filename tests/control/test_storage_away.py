"""A full disk, a database that is gone for a while: refused clearly, nothing lost, and on it goes by itself."""

import asyncio
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from hearth.api.errors import answer_for
from hearth.model.refusals import StorageAway
from hearth.model.running import Outcome, Result
from hearth.model.statuses import ExecutionStatus
from tests.control.support import World, world
from tests.control.test_dispatcher import dispatching, ended, queue, until
from tests.control.test_users_runs import ready
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
