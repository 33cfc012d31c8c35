"""Executors on each driver, with limits short enough for tests."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from hearth.executor.limits import ExecutorLimits, PoolLimits, StemLimits
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
    stems=StemLimits(per_kind=0),
    concurrency=4,
    start_timeout_s=6.0,
    load_timeout_s=1.5,
)


STEMS = StemLimits(per_kind=1, quiet_load=100, refill_delay_s=0.01)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=[False, True], ids=["whole", "stem"])
def from_stems(request: pytest.FixtureRequest) -> bool:
    """Whether instances are started whole or grow from stem cells: everything else must be the same."""
    is_so: bool = request.param
    return is_so


@pytest.fixture(scope="module", params=DRIVERS)
async def bench(
    request: pytest.FixtureRequest, from_stems: bool, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("executor")
    driver = make_driver(request.param, folder)
    limits = replace(LIMITS, stems=STEMS) if from_stems else LIMITS
    async with open_bench(driver, folder, limits, FakePacks(*BAD_PACKS), from_stems) as opened:
        yield opened
