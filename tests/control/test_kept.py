"""What the executor is told to keep ready, as functions, settings, deployments and variables change."""

from collections.abc import AsyncIterator
from typing import cast

import pytest

from hearth.control.kept import KeptInstances
from hearth.model.function_settings import Egress, FunctionSettings
from hearth.ports import Executor
from tests.control.support import World
from tests.control.test_users_runs import ready

pytestmark = pytest.mark.anyio


@pytest.fixture
async def kept(here: World) -> AsyncIterator[KeptInstances]:
    await ready(here)
    await put(here, min_instances=2)
    made = KeptInstances(store=here.store, runnables=here.runnables, executor=cast(Executor, here.executor))
    here.bus.subscribe(made.heard)
    made.start()
    await made.settled()
    yield made
    await made.close()


async def put(here: World, **settings: int) -> None:
    async with here.store.begin("p") as unit:
        await unit.function_settings.put("f", FunctionSettings(**settings))
    await changed(here)


async def changed(here: World) -> None:
    here.runnables.drop("p", "f")
    async with here.store.view("p") as unit:
        here.bus.emit("p", "functions.f.update", await unit.functions.get("f"))


def told(here: World) -> list[tuple[object, ...]]:
    said, here.executor.kept = here.executor.kept, []
    return said


async def test_a_start_keeps_what_the_settings_ask_for_and_a_change_is_followed(
    here: World, kept: KeptInstances
) -> None:
    assert told(here) == [("keep", "d1", 2), ("only", "f", "d1")]
    await put(here, min_instances=1)
    await kept.settled()
    assert told(here) == [("keep", "d1", 1), ("only", "f", "d1")]
    await put(here, min_instances=0)
    await kept.settled()
    assert told(here) == [("only", "f", None)]
    assert await here.store.kept_functions() == ()


async def test_a_function_that_is_disabled_or_gone_keeps_none(here: World, kept: KeptInstances) -> None:
    told(here)
    async with here.store.begin("p") as unit:
        await unit.functions.update("f", enabled=False)
    await changed(here)
    await kept.settled()
    assert told(here) == [("only", "f", None)]
    async with here.store.begin("p") as unit:
        function = await unit.functions.get("f")
        await unit.functions.delete("f")
    here.runnables.drop("p", "f")
    here.bus.emit("p", "functions.f.delete", function)
    await kept.settled()
    assert told(here) == [("only", "f", None)]


async def test_a_deployment_is_up_before_it_is_made_active(here: World, kept: KeptInstances) -> None:
    """Only then do the instances of the one before end, so that no request finds none."""
    await here.deploy("d2", activate=True)
    told(here)
    await here.builds.run("p", "f", "d2")
    await kept.settled()
    said = told(here)
    assert said[:2] == [("keep", "d2", 2), ("wait", "d2")]
    assert said[-1] == ("only", "f", "d2")
    assert here.executor.retired == ["d1"]


async def test_where_code_may_connect_to_is_part_of_what_an_instance_is(here: World) -> None:
    await ready(here)
    digests = set()
    for settings in (
        FunctionSettings(),
        FunctionSettings(egress=Egress.NONE),
        FunctionSettings(egress=Egress.LIST, egress_allow=("public.test:443",)),
        FunctionSettings(egress=Egress.LIST, egress_allow=("public.test:80",)),
    ):
        async with here.store.begin("p") as unit:
            await unit.function_settings.put("f", settings)
        here.runnables.drop("p", "f")
        runnable = await here.runnables.get("p", "f")
        assert runnable is not None
        assert runnable.template is not None
        assert runnable.template.egress is settings.egress
        assert runnable.template.egress_allow == settings.egress_allow
        digests.add(runnable.template.key.variables_digest)
    assert len(digests) == 4
