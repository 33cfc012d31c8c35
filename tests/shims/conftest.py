"""The conformance functions, running on each driver in each language."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hearth.model.running import InstanceTemplate, Result
from tests.support.drivers import DRIVERS, make_driver
from tests.support.executors import Bench, folder_files, open_bench

FUNCTIONS = Path(__file__).parent / "functions"
#: Enforced on every request; names as an operator might write them (contract: runtime-contract 8, case 54).
ENFORCED = '{"x-custom":"value","X-Custom-Uppercase":"UPPER","x-open-runtimes-custom":248}'
VARIABLES = {"CUSTOM_ENV_VAR": "customValue", "OPEN_RUNTIMES_HEADERS": ENFORCED}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=DRIVERS)
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    folder = tmp_path_factory.mktemp("executor")
    async with open_bench(make_driver(request.param, folder), folder) as opened:
        yield opened


@dataclass
class Conformance:
    """The conformance function in one language."""

    bench: Bench
    template: InstanceTemplate

    async def __call__(self, action: str, body: bytes = b"", **changes: Any) -> Result:
        return await self.bench.run(self.template, action, body, **changes)


LANGUAGES = {
    "node": ("node-20", "node", "conformance.js"),
    "python": ("python-3.11", "python", "conformance.py"),
    "python-async": ("python-3.11", "python", "conformance_async.py"),
}


@pytest.fixture(scope="module", params=list(LANGUAGES))
def run(request: pytest.FixtureRequest, bench: Bench) -> Conformance:
    runtime, folder, entrypoint = LANGUAGES[request.param]
    template = bench.deploy(runtime, entrypoint, folder_files(FUNCTIONS / folder), VARIABLES)
    return Conformance(bench, template)
