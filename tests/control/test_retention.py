"""What is removed after its time, and what is not (contract: functions-api 4)."""

from dataclasses import replace
from typing import Any, cast

import pytest

from hearth.control.deployments import DeploymentsControl
from hearth.control.retention import Retention
from hearth.control.specifications import Specifications
from hearth.control.starting import DeploymentStarter
from hearth.control.usage import UsageControl
from hearth.model.function_settings import DEFAULT_SETTINGS
from hearth.model.statuses import DeploymentStatus, ExecutionStatus
from hearth.ports import Executor
from tests.control.support import World
from tests.store.samples import deployment, execution, function

pytestmark = pytest.mark.anyio

DAY_S = 86_400


def retention(here: World) -> Retention:
    common: dict[str, Any] = {"store": here.store, "clock": here.clock, "files": here.files}
    deployments = DeploymentsControl(
        events=here.bus,
        executor=cast(Executor, here.executor),
        runnables=here.runnables,
        starter=DeploymentStarter(clock=here.clock, limits=here.limits),
        uploads=here.uploads,
        builds=here.builds,
        **common,
    )
    return Retention(
        store=here.store,
        clock=here.clock,
        deployments=deployments,
        limits=here.limits,
        usage=UsageControl(store=here.store, clock=here.clock, specifications=Specifications(0, 0)),
    )


async def test_executions_are_kept_for_fourteen_days_and_no_longer(here: World) -> None:
    async with here.store.begin("p") as unit:
        for number in range(250):
            await unit.executions.insert(execution(f"old{number}", status=ExecutionStatus.COMPLETED))
    here.clock.move(13 * DAY_S)
    async with here.store.begin("p") as unit:
        await unit.executions.insert(execution("new", created_at=here.clock.now(), status=ExecutionStatus.COMPLETED))
    await retention(here).sweep()
    async with here.store.view("p") as unit:
        assert await unit.executions.get("f", "old0") is not None
    here.clock.move(1 * DAY_S + 1)
    await retention(here).sweep()
    async with here.store.view("p") as unit:
        assert await unit.executions.get("f", "old249") is None
        assert await unit.executions.get("f", "new") is not None


async def test_a_function_may_keep_its_executions_for_longer_or_shorter_than_the_server(here: World) -> None:
    async with here.store.begin("p") as unit:
        await unit.functions.insert(function("long"))
        await unit.function_settings.put("f", replace(DEFAULT_SETTINGS, executions_retention_days=2))
        await unit.function_settings.put("long", replace(DEFAULT_SETTINGS, executions_retention_days=90))
        await unit.executions.insert(execution("short-lived", status=ExecutionStatus.FAILED))
        await unit.executions.insert(execution("waits", status=ExecutionStatus.WAITING))
        await unit.executions.insert(execution("kept", function_id="long", status=ExecutionStatus.COMPLETED))
    here.clock.move(1 * DAY_S)
    await retention(here).sweep()
    assert await _found(here, "short-lived", "kept", "waits") == {"short-lived", "kept", "waits"}
    here.clock.move(60 * DAY_S)
    await retention(here).sweep()
    assert await _found(here, "short-lived", "kept", "waits") == {"kept", "waits"}, "what waits has not ended"


async def test_a_function_may_keep_its_newest_executions_only(here: World) -> None:
    async with here.store.begin("p") as unit:
        await unit.function_settings.put("f", replace(DEFAULT_SETTINGS, executions_retention_count=3))
        for number in range(40):
            await unit.executions.insert(execution(f"e{number}", status=ExecutionStatus.COMPLETED))
    await retention(here).sweep()
    assert await _found(here, *(f"e{number}" for number in range(40))) == {"e37", "e38", "e39"}


async def _found(here: World, *ids: str) -> set[str]:
    async with here.store.view("p") as unit:
        functions = ("f", "long")
        return {id for id in ids for each in functions if await unit.executions.get(each, id) is not None}


async def test_old_deployments_go_but_never_the_active_one_nor_one_that_is_being_built(here: World) -> None:
    async with here.store.begin("p") as unit:
        for id, status in (("active", "ready"), ("old", "ready"), ("building", "building")):
            await unit.deployments.insert(deployment(id, status=DeploymentStatus(status)))
        await unit.functions.update("f", deployment_id="active", deployment_retention_days=3)
    here.clock.move(2 * DAY_S)
    await retention(here).sweep()
    assert {found.id for found in await _all(here)} == {"active", "old", "building"}
    here.clock.move(2 * DAY_S)
    await retention(here).sweep()
    assert {found.id for found in await _all(here)} == {"active", "building"}


async def test_without_a_retention_deployments_stay_for_ever(here: World) -> None:
    async with here.store.begin("p") as unit:
        await unit.deployments.insert(deployment("old", status=DeploymentStatus.READY))
    here.clock.move(4_000 * DAY_S)
    await retention(here).sweep()
    assert [found.id for found in await _all(here)] == ["old"]


async def _all(here: World) -> Any:
    async with here.store.view("p") as unit:
        return await unit.deployments.all_of("f")
