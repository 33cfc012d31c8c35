"""What happens around a build: every path ends in a final status with a reason (contract: functions-api 9)."""

import asyncio

import pytest

from hearth.control.jobs import build_job
from hearth.model.refusals import PlatformFault
from hearth.model.running import BuildResult
from hearth.model.statuses import DeploymentStatus
from tests.control.support import World
from tests.store.samples import variable

pytestmark = pytest.mark.anyio


async def test_a_built_deployment_is_unpacked_and_then_ready_and_active(here: World) -> None:
    await here.deploy("d1", activate=True)
    await here.builds.run("p", "f", "d1")
    built = await here.deployment("d1")
    assert (built.status, built.artifact_digest, built.build_duration_s) == (DeploymentStatus.READY, "abc", 1)
    assert built.build_logs == "first line\nlast line\n"
    assert [template.artifact.digest for template in here.executor.prepared] == ["abc"]
    assert await here.active() == "d1"
    assert here.events == ["functions.f.deployments.d1.update"]


async def test_without_activate_the_active_deployment_stays(here: World) -> None:
    await here.deploy("d1", activate=True)
    await here.builds.run("p", "f", "d1")
    await here.deploy("d2")
    await here.builds.run("p", "f", "d2")
    assert (await here.deployment("d2")).status is DeploymentStatus.READY
    assert await here.active() == "d1"


async def test_a_new_active_deployment_retires_the_old_ones_instances(here: World) -> None:
    for id in ("d1", "d2"):
        await here.deploy(id, activate=True)
        await here.builds.run("p", "f", id)
    assert here.executor.retired == ["d1"]


async def test_a_build_that_lost_its_activation_to_a_newer_one_does_not_take_it_back(here: World) -> None:
    await here.deploy("d1", activate=True)
    here.builder.go.clear()
    older = asyncio.create_task(here.builds.run("p", "f", "d1"))
    await here.builder.started.wait()
    async with here.store.begin("p") as unit:
        await unit.deployments.clear_activate("f", "newer")
    here.builder.go.set()
    await older
    assert (await here.deployment("d1")).status is DeploymentStatus.READY
    assert await here.active() == ""


async def test_a_build_the_users_code_fails_ends_failed_with_the_reason_as_its_last_line(here: World) -> None:
    here.builder.outcome = BuildResult(None, "Build failed with exit code 3.")
    await here.deploy("d1", activate=True)
    await here.builds.run("p", "f", "d1")
    failed = await here.deployment("d1")
    assert failed.status is DeploymentStatus.FAILED
    assert "Build failed with exit code 3." in failed.build_logs.splitlines()[-1]
    assert await here.active() == ""


async def test_a_canceled_build_is_ended_and_its_late_result_dropped(here: World) -> None:
    await here.deploy("d1", activate=True)
    here.builder.go.clear()
    run = asyncio.create_task(here.builds.run("p", "f", "d1"))
    await here.builder.started.wait()
    async with here.store.begin("p") as unit:
        await unit.deployments.move("d1", DeploymentStatus.CANCELED)
    here.builds.stop("d1")
    await run
    assert here.builder.ended_early == 1
    assert (await here.deployment("d1")).status is DeploymentStatus.CANCELED
    assert await here.active() == ""


async def test_a_result_that_comes_after_the_cancel_is_dropped_too(here: World) -> None:
    await here.deploy("d1", activate=True)
    here.builder.go.clear()
    run = asyncio.create_task(here.builds.run("p", "f", "d1"))
    await here.builder.started.wait()
    async with here.store.begin("p") as unit:
        await unit.deployments.move("d1", DeploymentStatus.CANCELED)
    here.builder.go.set()
    await run
    assert (await here.deployment("d1")).status is DeploymentStatus.CANCELED
    assert await here.active() == ""


async def test_a_stopping_server_leaves_the_build_to_the_next_attempt(here: World) -> None:
    await here.deploy("d1", activate=True)
    here.builder.go.clear()
    run = asyncio.create_task(here.builds.run("p", "f", "d1"))
    await here.builder.started.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert here.builder.ended_early == 1
    here.builder.go.set()
    await here.builds.run("p", "f", "d1")
    assert (await here.deployment("d1")).status is DeploymentStatus.READY


async def test_a_fault_of_ours_is_passed_on_so_that_the_job_can_be_tried_again(here: World) -> None:
    here.builder.outcome = PlatformFault("no sandbox")
    await here.deploy("d1")
    with pytest.raises(PlatformFault):
        await here.builds.run("p", "f", "d1")
    assert (await here.deployment("d1")).status not in (DeploymentStatus.READY, DeploymentStatus.FAILED)


async def test_a_deleted_deployments_job_does_nothing(here: World) -> None:
    await here.builds.run("p", "f", "gone")
    assert here.builder.requests == []


async def test_builds_are_told_what_users_set_and_what_their_log_may_not_show(here: World) -> None:
    project = {"resource_type": "project", "resource_id": "", "key": "TOKEN", "value": "of the project"}
    async with here.store.begin("p") as unit:
        await unit.variables.insert(variable("v1", secret=False, **project))
        await unit.variables.insert(variable("v2", key="TOKEN", value="of the function"))
    await here.deploy("d1")
    await here.builds.run("p", "f", "d1")
    [request] = here.builder.requests
    assert request.variables == {"TOKEN": "of the function"}
    assert request.secrets == ("key", "of the function")
    assert request.use_cache


async def test_a_build_without_the_cache_is_one_until_it_ends(here: World) -> None:
    """The wish is part of the job, so a lost worker or a restart does not forget it."""
    deployment = await here.deploy("d1")
    job = build_job(deployment, 900, here.clock.now(), use_cache=False)
    await here.handlers.build(job)
    [request] = here.builder.requests
    assert not request.use_cache
