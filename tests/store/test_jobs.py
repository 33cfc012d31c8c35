"""The job queue: claims, leases, ends, and what the reaper finds."""

import asyncio
from datetime import timedelta

import pytest

from hearth.model.resources import Job
from hearth.model.statuses import JobStatus
from hearth.ports import Conflict
from hearth.store import SqlStore
from tests.store.samples import NOW, FakeClock, job, project

pytestmark = pytest.mark.anyio


async def status(store: SqlStore, id: str = "j") -> Job:
    found = await store.jobs.get(id)
    assert found is not None
    return found


async def test_jobs_are_claimed_oldest_due_first_when_due(store: SqlStore, clock: FakeClock) -> None:
    for id, seconds in (("late", 2), ("now", 0), ("early", -1), ("other", 0)):
        kind = "execute" if id == "other" else "build"
        await store.jobs.enqueue(job(id, kind=kind, due_at=NOW + timedelta(seconds=seconds), payload={"n": [seconds]}))
    claimed = await store.jobs.claim("w", ["build"], 10, 30)
    assert [item.id for item in claimed] == ["early", "now"]
    first = claimed[0]
    assert (first.status, first.owner, first.attempts, first.payload) == (JobStatus.CLAIMED, "w", 1, {"n": [-1]})
    assert first.leased_until == NOW + timedelta(seconds=30)
    assert await store.jobs.claim("w", ["build"], 10, 30) == ()
    assert await store.jobs.next_due(["build"]) == NOW + timedelta(seconds=2)
    assert await store.jobs.next_due(["none"]) is None
    clock.move(2)
    assert [item.id for item in await store.jobs.claim("w", ["build", "execute"], 1, 30)] == ["other"]
    assert [item.id for item in await store.jobs.claim("w", ["build", "execute"], 1, 30)] == ["late"]


async def test_projects_take_turns(store: SqlStore, clock: FakeClock) -> None:
    """Ten builds of one project do not come before the one of another, which was queued last."""
    for project_id in ("q", "r"):
        await store.projects.insert(project(project_id))
    for number in range(10):
        await store.jobs.enqueue(job(f"p{number}"))
    for id, project_id, seconds in (("q0", "q", 0), ("r0", "r", 0), ("later", "r", 9)):
        await store.jobs.enqueue(job(id, project_id, due_at=NOW + timedelta(seconds=seconds)))
    await store.jobs.enqueue(job("other", "q", kind="execute"))

    async def claim(limit: int) -> list[str]:
        return [item.id for item in await store.jobs.claim_in_turn("w", "build", limit, 30)]

    assert await claim(2) == ["p0", "q0"]
    assert await claim(3) == ["r0", "p1", "p2"]
    assert await store.jobs.finish("q0", "w")
    await store.jobs.enqueue(job("q1", "q"))
    assert await claim(1) == ["q1"]
    assert await claim(20) == [f"p{number}" for number in range(3, 10)]
    assert await claim(1) == []
    clock.move(9)
    assert await claim(5) == ["later"]


async def test_an_id_is_queued_once_also_after_its_end(store: SqlStore, clock: FakeClock) -> None:
    """So an occasion (a schedule's planned time) leads to one run, until it is pruned."""
    await store.jobs.enqueue(job())
    with pytest.raises(Conflict):
        await store.jobs.enqueue(job())
    await store.jobs.claim("w", ["build"], 1, 30)
    assert await store.jobs.finish("j", "w")
    with pytest.raises(Conflict):
        await store.jobs.enqueue(job())
    assert await store.jobs.prune(NOW, 10) == 0
    assert await store.jobs.prune(NOW + timedelta(seconds=1), 10) == 1
    await store.jobs.enqueue(job())
    assert await store.jobs.prune(NOW + timedelta(seconds=1), 10) == 0  # not ended


async def test_eight_workers_at_once_never_claim_a_job_twice(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        for number in range(40):
            await unit.jobs.enqueue(job(f"j{number}"))
    claimed: list[str] = []

    async def work(owner: str) -> None:
        while batch := await store.jobs.claim(owner, ["build"], 3, 30):
            assert {item.owner for item in batch} == {owner}
            claimed.extend(item.id for item in batch)

    await asyncio.gather(*(work(f"w{number}") for number in range(8)))
    assert sorted(claimed) == sorted(f"j{number}" for number in range(40))


async def test_only_the_owner_of_a_claimed_job_may_renew_and_end_it(store: SqlStore, clock: FakeClock) -> None:
    await store.jobs.enqueue(job())
    for step in (store.jobs.renew("j", "w", 30), store.jobs.finish("j", "w"), store.jobs.release("j", "w")):
        assert not await step  # not claimed yet
    await store.jobs.claim("w", ["build"], 1, 30)
    assert not await store.jobs.renew("j", "x", 30)
    assert not await store.jobs.finish("j", "x")
    assert not await store.jobs.fail("j", "x", "error", None)
    clock.move(40)  # the lease is over, but nobody took the job
    assert await store.jobs.renew("j", "w", 30)
    assert (await status(store)).leased_until == NOW + timedelta(seconds=70)
    assert await store.jobs.finish("j", "w")
    done = await status(store)
    assert (done.status, done.leased_until) == (JobStatus.DONE, None)
    assert not await store.jobs.finish("j", "w")


async def test_a_failed_job_is_dead_or_queued_again_but_not_past_its_deadline(
    store: SqlStore, clock: FakeClock
) -> None:
    again = NOW + timedelta(seconds=10)
    for id in ("a", "b", "c"):
        await store.jobs.enqueue(job(id))
    await store.jobs.claim("w", ["build"], 3, 30)
    assert await store.jobs.fail("a", "w", "broken", None)
    assert await store.jobs.fail("b", "w", "flaky", again)
    clock.move(7200)
    assert await store.jobs.fail("c", "w", "too late", again)
    assert [((await status(store, id)).status, (await status(store, id)).error) for id in ("a", "b", "c")] == [
        (JobStatus.DEAD, "broken"),
        (JobStatus.QUEUED, "flaky"),
        (JobStatus.DEAD, "too late"),
    ]
    assert (await status(store, "b")).due_at == again
    assert await store.jobs.claim("w", ["build"], 1, 30) == ()  # its deadline is past


async def test_a_released_job_waits_again_and_the_attempt_does_not_count(store: SqlStore) -> None:
    await store.jobs.enqueue(job())
    await store.jobs.claim("w", ["build"], 1, 30)
    assert await store.jobs.release("j", "w")
    found = await status(store)
    assert (found.status, found.owner, found.attempts, found.leased_until) == (JobStatus.QUEUED, "", 0, None)


async def test_canceling_ends_the_open_jobs_of_a_resource_in_this_project(store: SqlStore) -> None:
    async with store.begin("q") as unit:
        await unit.jobs.enqueue(job("foreign", project_id="q"))
        with pytest.raises(ValueError, match="project"):
            await unit.jobs.enqueue(job("wrong", project_id="p"))
    async with store.begin("p") as unit:
        for id, kind, resource in (
            ("a", "build", "d"),
            ("b", "build", "d"),
            ("c", "build", "x"),
            ("e", "execute", "d"),
        ):
            await unit.jobs.enqueue(job(id, kind=kind, resource_id=resource))
        await unit.jobs.claim("w", ["build"], 1, 30)
        assert await unit.jobs.cancel_of("build", "d") == 2
        assert await unit.jobs.cancel_of("build", "d") == 0
        assert [item.id for item in await unit.jobs.unfinished()] == ["c", "e"]
    assert [item.id for item in await store.jobs.unfinished()] == ["foreign", "c", "e"]
    canceled = await status(store, "a")
    assert (canceled.status, canceled.error) == (JobStatus.DEAD, "canceled")
    assert not await store.jobs.finish("a", "w")


async def test_the_reaper_finds_lost_leases_and_missed_deadlines(store: SqlStore, clock: FakeClock) -> None:
    hour = timedelta(hours=1)
    await store.jobs.enqueue(job("lost"))
    await store.jobs.enqueue(job("kept"))
    await store.jobs.claim("w", ["build"], 2, 30)
    await store.jobs.enqueue(job("expired", deadline_at=NOW + timedelta(seconds=40)))
    await store.jobs.enqueue(job("waiting", due_at=NOW + hour / 2))
    assert await store.jobs.expired(10) == ()
    clock.move(20)
    await store.jobs.renew("kept", "w", 30)
    assert not await store.jobs.reclaim("lost", "not lost yet", None)
    clock.move(21)
    assert [item.id for item in await store.jobs.expired(10)] == ["lost", "expired"]
    assert [item.id for item in await store.jobs.expired(1)] == ["lost"]
    assert not await store.jobs.reclaim("kept", "is alive", None)
    assert await store.jobs.reclaim("lost", "owner lost", clock.now())
    assert not await store.jobs.renew("lost", "w", 30)
    assert await store.jobs.reclaim("expired", "deadline passed", clock.now())
    assert (await status(store, "lost")).status is JobStatus.QUEUED
    ended = await status(store, "expired")
    assert (ended.status, ended.error) == (JobStatus.DEAD, "deadline passed")
    assert await store.jobs.expired(10) == ()
