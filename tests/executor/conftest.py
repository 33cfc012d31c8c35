"""Executors on each driver, with limits short enough for tests."""

from collections.abc import AsyncIterator

import pytest

from hearth.executor.limits import ExecutorLimits, PoolLimits
from tests.executor.bad_actors import BAD_PACKS
from tests.support.drivers import DRIVERS, make_driver
from tests.support.executors import Bench, FakePacks, open_bench

LIMITS = ExecutorLimits(
    pool=PoolLimits(
        max_instances_per_key=2,
        max_instances=4,
        memory_mb=4096,
        max_waiting_per_key=4,
        max_waiting=20,
        pause_after_s=0.05,
        failure_backoff_s=0.05,
    ),
    concurrency=4,
    start_timeout_s=2.0,
    load_timeout_s=0.3,
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=DRIVERS)
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("executor")
    driver = make_driver(request.param, folder)
    async with open_bench(driver, folder, LIMITS, FakePacks(*BAD_PACKS)) as opened:
        yield opened
