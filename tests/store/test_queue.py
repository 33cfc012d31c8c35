"""The execution queue: two rows with one commit, one taker, and an end only for whoever still holds the job."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec.structs import replace as with_fields

from hearth.model.resources import Execution, Job
from hearth.model.statuses import ExecutionStatus, JobStatus
from hearth.ports import AttemptEnded, Conflict
from hearth.store import SqlStore
from tests.store.samples import NOW, FakeClock, execution, job

pytestmark = pytest.mark.anyio

KINDS = ["execute"]
FIGURES = {"queued_s": 0.5, "is_cold": False, "cpu_s": 0.25, "peak_memory_bytes": 1 << 40}


def waiting(id: str) -> tuple[Execution, Job]:
    made = job(f"job-{id}", kind="execute", resource_id=id, payload={"body": "x"})
    return execution(id, status=ExecutionStatus.WAITING), made


async def stored(store: SqlStore, id: str) -> Execution | None:
    async with store.view("p") as unit:
        return await unit.executions.get("f", id)


async def test_what_was_accepted_is_claimed_once_and_is_processing_then(store: SqlStore) -> None:
    await asyncio.gather(*(store.execution_queue.accept(*waiting(f"e{number}")) for number in range(5)))
    first, second = await asyncio.gather(
        store.execution_queue.claim("a", KINDS, 3, 30), store.execution_queue.claim("b", KINDS, 3, 30)
    )
    taken = [one.job.resource_id for one in (*first, *second)]
    assert sorted(taken) == ["e0", "e1", "e2", "e3", "e4"]
    for one in (*first, *second):
        assert one.execution is not None
        assert one.execution.status is ExecutionStatus.PROCESSING
        assert await stored(store, one.execution.id) == one.execution


async def test_a_second_of_the_same_id_is_refused_and_leaves_no_job(store: SqlStore) -> None:
    await store.execution_queue.accept(*waiting("e"))
    again = waiting("e")[0], replace(waiting("e")[1], id="another")
    other = store.execution_queue.accept(*waiting("fine"))
    with pytest.raises(Conflict):
        await store.execution_queue.accept(*again)
    await other
    assert await store.jobs.get("another") is None
    assert await store.jobs.get("job-fine") is not None


async def test_the_end_of_an_attempt_moves_both_rows(store: SqlStore) -> None:
    await store.execution_queue.accept(*waiting("e"))
    [claimed] = await store.execution_queue.claim("a", KINDS, 1, 30)
    assert claimed.execution is not None
    final = with_fields(claimed.execution, status=ExecutionStatus.COMPLETED, logs="ü\n", response_status_code=200)
    assert await store.execution_queue.end(AttemptEnded(final, claimed.job.id, "a"))
    assert await stored(store, "e") == final
    ended = await store.jobs.get(claimed.job.id)
    assert ended is not None
    assert (ended.status, ended.payload, ended.leased_until) == (JobStatus.DONE, {}, None)


async def test_an_attempt_may_be_queued_again_with_what_it_carries(store: SqlStore) -> None:
    await store.execution_queue.accept(*waiting("e"))
    [claimed] = await store.execution_queue.claim("a", KINDS, 1, 30)
    assert claimed.execution is not None
    again = with_fields(claimed.execution, status=ExecutionStatus.WAITING)
    later = NOW + timedelta(seconds=7)
    ended = AttemptEnded(again, claimed.job.id, "a", retry_at=later, attempts=1, error="why")
    assert await store.execution_queue.end(ended)
    queued = await store.jobs.get(claimed.job.id)
    assert queued is not None
    assert (queued.status, queued.due_at, queued.attempts, queued.error) == (JobStatus.QUEUED, later, 1, "why")
    assert queued.payload == {"body": "x"}
    assert await store.execution_queue.claim("a", KINDS, 1, 30) == ()


async def test_an_end_that_comes_too_late_changes_nothing(store: SqlStore, clock: FakeClock) -> None:
    await asyncio.gather(*(store.execution_queue.accept(*waiting(id)) for id in ("e", "g")))
    lost, held = await store.execution_queue.claim("a", KINDS, 2, 30)
    clock.move(31)
    assert await store.jobs.reclaim(lost.job.id, "lost", NOW)
    [taken] = await store.execution_queue.claim("b", KINDS, 5, 30)
    assert taken.job.id == lost.job.id
    ends = [
        AttemptEnded(with_fields(one.execution, status=ExecutionStatus.COMPLETED), one.job.id, "a")
        for one in (lost, held)
        if one.execution is not None
    ]
    # In one group: the late one must not take the other down with it.
    late, on_time = await asyncio.gather(*map(store.execution_queue.end, ends))
    assert (bool(late), bool(on_time)) == (False, True)
    after = await stored(store, lost.job.resource_id)
    assert after is not None
    assert after.status is ExecutionStatus.PROCESSING


async def test_a_heartbeat_renews_what_is_held_and_says_what_is_not(store: SqlStore, clock: FakeClock) -> None:
    await asyncio.gather(*(store.execution_queue.accept(*waiting(id)) for id in ("e", "g")))
    taken = await store.execution_queue.claim("a", KINDS, 2, 30)
    clock.move(31)
    assert await store.jobs.reclaim(taken[0].job.id, "lost", None)
    assert await store.execution_queue.renew("a", 30) == {taken[1].job.id}
    clock.move(20)
    assert await store.jobs.expired(10) == ()


async def test_one_job_may_be_taken_before_it_is_due(store: SqlStore) -> None:
    made, later = waiting("e")
    await store.execution_queue.accept(made, replace(later, due_at=NOW + timedelta(seconds=50)))
    assert await store.execution_queue.claim("a", KINDS, 5, 30) == ()
    taken = await store.execution_queue.claim_one("job-e", "a", 30)
    assert taken is not None
    assert taken.execution is not None
    assert await store.execution_queue.claim_one("job-e", "b", 30) is None


async def test_the_execution_of_a_job_may_be_gone(store: SqlStore) -> None:
    await store.execution_queue.accept(*waiting("e"))
    async with store.begin("p") as unit:
        await unit.executions.delete("e")
    [taken] = await store.execution_queue.claim("a", KINDS, 1, 30)
    assert taken.execution is None


async def test_a_lease_from_before_the_clock_was_set_back_counts_as_over(store: SqlStore, clock: FakeClock) -> None:
    await store.execution_queue.accept(*waiting("e"))
    await store.execution_queue.claim("a", KINDS, 1, 30)
    assert await store.jobs.expired(10) == ()
    clock.step(-3_600)
    assert [one.id for one in await store.jobs.expired(10)] == ["job-e"]


async def test_what_was_due_before_the_clock_was_set_back_is_due_still(store: SqlStore, clock: FakeClock) -> None:
    await store.execution_queue.accept(*waiting("e"))
    made, later = waiting("g")
    await store.execution_queue.accept(made, replace(later, due_at=NOW + timedelta(seconds=50)))
    clock.step(-3_600)
    assert await store.execution_queue.claim("a", KINDS, 5, 30) == ()
    assert await store.jobs.bring_forward(NOW) == 1
    assert [one.job.resource_id for one in await store.execution_queue.claim("a", KINDS, 5, 30)] == ["e"]


async def test_a_group_of_everything_has_the_effect_of_each(store: SqlStore) -> None:
    """Records, accepted ones, ends and a late end, with texts no database takes as they are, in one tick."""
    queue, log = store.execution_queue, store.execution_log
    await asyncio.gather(*(queue.accept(*waiting(f"old{number}")) for number in range(3)))
    held = {one.job.id: one for one in await queue.claim("a", KINDS, 3, 30)}

    def end(number: int, owner: str = "a") -> "asyncio.Future[bool]":
        claimed = held[f"job-old{number}"]
        assert claimed.execution is not None
        odd = f"{number} \x00 \ud800 ü\n"
        final = with_fields(claimed.execution, status=ExecutionStatus.COMPLETED, logs=odd, duration_s=0.5, **FIGURES)
        return queue.end(AttemptEnded(final, claimed.job.id, owner))

    record = log.submit(execution("r", response_headers=(("a", "b \x00"),), duration_s=1.25))
    accepted = queue.accept(*waiting("new"))
    ends = [end(0), end(1), end(2, "somebody else")]
    await asyncio.gather(record, accepted)
    assert await asyncio.gather(*ends) == [True, True, None]
    for id, status in (("r", "completed"), ("new", "waiting"), ("old0", "completed"), ("old2", "processing")):
        found = await stored(store, id)
        assert found is not None
        assert found.status == status
    ended = await stored(store, "old1")
    assert ended is not None
    assert (ended.logs[:2], ended.logs[-2:], ended.duration_s) == ("1 ", "ü\n", 0.5)
    assert {name: getattr(ended, name) for name in FIGURES} == FIGURES
    done, queued = await store.jobs.get("job-old0"), await store.jobs.get("job-new")
    assert done is not None
    assert queued is not None
    assert (done.status, done.payload, queued.status) == (JobStatus.DONE, {}, JobStatus.QUEUED)
    assert queued.payload == {"body": "x"}
