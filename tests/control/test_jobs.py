"""Nothing stays stuck: lost workers, stopped servers and faults of ours all lead to an end with a reason."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from hearth.control.jobs import JobKind, execute_job, purge_job
from hearth.control.uploads import upload_key
from hearth.jobs.worker import LEASE_S
from hearth.model.actor import Actor, ActorKind
from hearth.model.refusals import PlatformFault
from hearth.model.running import Outcome, Result
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, JobStatus
from hearth.ports import FileNotStored
from tests.control.support import ARTIFACT, NODE, World
from tests.store.samples import deployment, execution

pytestmark = pytest.mark.anyio


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - the store tells nobody; bounded above
            await asyncio.sleep(0.005)


async def claim(here: World, owner: str) -> None:
    claimed = await here.store.jobs.claim(owner, [JobKind.BUILD, JobKind.EXECUTE], 10, LEASE_S)
    assert len(claimed) == 1


async def test_a_worker_builds_what_is_queued_and_finishes_the_job(here: World) -> None:
    worker = here.worker()
    worker.start()
    await here.deploy("d1", activate=True)

    async def done() -> bool:
        job = await here.store.jobs.get("job-d1")
        return job is not None and job.status is JobStatus.DONE

    await until(done)
    await worker.close()
    assert (await here.deployment("d1")).status is DeploymentStatus.READY


async def test_a_build_that_our_fault_ended_twice_is_failed_with_the_reason(here: World) -> None:
    here.builder.outcome = PlatformFault("no sandbox to be had")
    worker = here.worker()
    worker.start()
    await here.deploy("d1")

    async def failed() -> bool:
        here.clock.move(0.5)
        return (await here.deployment("d1")).status is DeploymentStatus.FAILED

    await until(failed)
    await worker.close()
    assert len(here.builder.requests) == 2
    assert "no sandbox to be had" in (await here.deployment("d1")).build_logs


async def test_a_stopped_worker_gives_its_job_back_without_counting_the_attempt(here: World) -> None:
    here.builder.go.clear()
    worker = here.worker()
    worker.start()
    await here.deploy("d1")
    await here.builder.started.wait()
    await worker.close()
    job = await here.store.jobs.get("job-d1")
    assert job is not None
    assert (job.status, job.attempts) == (JobStatus.QUEUED, 0)


async def test_at_the_next_start_a_build_of_a_killed_server_is_queued_again_and_says_so(here: World) -> None:
    await here.deploy("d1")
    await claim(here, f"{NODE}/killed")
    async with here.store.begin("p") as unit:
        await unit.deployments.move("d1", DeploymentStatus.BUILDING)
    await here.reaper.at_start()
    lost = await here.deployment("d1")
    assert lost.status is DeploymentStatus.WAITING
    assert "started again" in lost.build_logs
    job = await here.store.jobs.get("job-d1")
    assert job is not None and job.status is JobStatus.QUEUED


async def test_a_job_of_another_machine_is_left_alone_while_its_lease_holds(here: World) -> None:
    await here.deploy("d1")
    await claim(here, "elsewhere/w")
    await here.reaper.at_start()
    job = await here.store.jobs.get("job-d1")
    assert job is not None and job.status is JobStatus.CLAIMED
    here.clock.move(LEASE_S + 1)
    assert await here.reaper.sweep() == 1
    job = await here.store.jobs.get("job-d1")
    assert job is not None and job.status is JobStatus.QUEUED


async def test_a_build_lost_as_often_as_it_may_be_tried_is_failed_with_the_reason(here: World) -> None:
    await here.deploy("d1")
    for _ in range(2):
        await claim(here, "elsewhere/w")
        here.clock.move(LEASE_S + 5)
        await here.reaper.sweep()
        here.clock.move(5)
    failed = await here.deployment("d1")
    assert failed.status is DeploymentStatus.FAILED
    assert "The worker that had this was lost." in failed.build_logs


async def test_a_job_past_its_deadline_ends_even_if_nobody_ever_claimed_it(here: World) -> None:
    await here.deploy("d1")
    here.clock.move(3 * 86_400)
    await here.reaper.sweep()
    failed = await here.deployment("d1")
    assert failed.status is DeploymentStatus.FAILED
    assert "deadline" in failed.build_logs


async def test_an_asynchronous_execution_runs_once_and_its_loss_is_a_failure_with_a_reason(here: World) -> None:
    async with here.store.begin("p") as unit:
        made = await unit.executions.insert(execution("e1", status=ExecutionStatus.WAITING))
        now = here.clock.now()
        await unit.jobs.enqueue(execute_job("p", made.id, {"functionId": "f"}, now, now, 15))
    await claim(here, f"{NODE}/killed")
    await here.reaper.at_start()
    async with here.store.view("p") as unit:
        lost = await unit.executions.get("f", "e1")
    assert lost is not None
    assert lost.status is ExecutionStatus.FAILED
    assert lost.errors == "The server was stopped while it worked on this."


async def test_a_sync_run_goes_on_and_is_recorded_when_its_caller_leaves(here: World) -> None:
    await here.deploy("d1", activate=True)
    await here.builds.run("p", "f", "d1")
    await here.repairs.at_start()
    key = Actor(ActorKind.KEY, frozenset())
    call = asyncio.create_task(here.executions.create("p", key, "f", headers={}))
    await here.executor.called.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    here.executor.answer.set_result(Result(Outcome.COMPLETED, 200, body=b"late"))
    await here.executions.drain()
    async with here.store.view("p") as unit:
        stored = await unit.executions.get("f", here.executor.invoked[0].execution_id)
    assert stored is not None and stored.status is ExecutionStatus.COMPLETED


async def test_executions_a_killed_server_had_begun_are_failed_at_the_next_start(here: World) -> None:
    await here.store.execution_log.open()
    here.store.execution_log.begin(execution("e1", status=ExecutionStatus.PROCESSING))
    await here.store.execution_log.close()
    await here.repairs.at_start()
    async with here.store.view("p") as unit:
        lost = await unit.executions.get("f", "e1")
    assert lost is not None
    assert (lost.status, lost.response_status_code) == (ExecutionStatus.FAILED, 500)
    assert "server was stopped" in lost.errors


async def test_a_complete_upload_whose_last_step_was_not_reached_is_completed_at_start(here: World) -> None:
    async def data() -> AsyncIterator[bytes]:
        yield b"0123456789"

    async with here.store.begin("p") as unit:
        await unit.deployments.insert(deployment("d1", source_total_bytes=10, source_chunks_total=1))
        await unit.deployments.add_chunk("d1", 0, 9)
    await here.files.write_at(upload_key("p", "d1"), 0, data())
    await here.repairs.deployments()
    assert (await here.deployment("d1")).source_size_bytes == 10
    assert [job.resource_id for job in await here.store.jobs.unfinished()] == ["d1"]


async def test_an_upload_nobody_continues_ends_failed_with_the_reason(here: World) -> None:
    async with here.store.begin("p") as unit:
        await unit.deployments.insert(deployment("d1", source_total_bytes=10))
    await here.repairs.deployments()
    assert (await here.deployment("d1")).status is DeploymentStatus.WAITING
    here.clock.move(here.limits.upload_idle_s + 1)
    await here.repairs.deployments()
    failed = await here.deployment("d1")
    assert failed.status is DeploymentStatus.FAILED
    assert "not completed within 24 hours" in failed.build_logs


async def test_a_complete_source_without_a_job_gets_one(here: World) -> None:
    await here.deploy("d1")
    await here.store.jobs.cancel_of(JobKind.BUILD, "d1")
    await here.repairs.deployments()
    assert [job.resource_id for job in await here.store.jobs.unfinished()] == ["d1"]


async def test_an_artifact_is_kept_while_another_deployment_has_it(here: World) -> None:
    async with here.files.scratch() as path:
        path.write_bytes(b"artifact")
        await here.files.adopt(ARTIFACT.key, path)
    gone = deployment("d1", artifact_key=ARTIFACT.key)
    async with here.store.begin("p") as unit:
        await unit.deployments.insert(deployment("d2", artifact_key=ARTIFACT.key))
    await here.handlers.purge(purge_job("p", "", [gone], here.clock.now()))
    assert await here.files.size(ARTIFACT.key) == 8
    async with here.store.begin("p") as unit:
        await unit.deployments.delete("d2")
    await here.handlers.purge(purge_job("p", "", [gone], here.clock.now()))
    with pytest.raises(FileNotStored):
        await here.files.size(ARTIFACT.key)
