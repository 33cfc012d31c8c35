"""The conformance functions, running on each driver in each language."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hearth.model.running import InstanceTemplate, Result
from tests.support.drivers import DRIVERS, make_driver
from tests.support.executors import NODE, PYTHON, Bench, FakePacks, folder_files, open_bench
from tests.support.interpreters import installed_packs, pack_of

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
    packs = FakePacks(*installed_packs())
    async with open_bench(make_driver(request.param, folder), folder, packs=packs) as opened:
        yield opened


@dataclass
class Conformance:
    """The conformance function in one language."""

    bench: Bench
    template: InstanceTemplate

    async def __call__(self, action: str, body: bytes = b"", **changes: Any) -> Result:
        return await self.bench.run(self.template, action, body, **changes)


#: Name in the ids of tests: family, folder of its conformance function, entrypoint.
LANGUAGES = {
    "node": ("node", "node", "conformance.js"),
    "python": ("python", "python", "conformance.py"),
    "python-async": ("python", "python", "conformance_async.py"),
    "bun": ("bun", "bun", "conformance.ts"),
    "deno": ("deno", "deno", "conformance.ts"),
    "php": ("php", "php", "conformance.php"),
    "ruby": ("ruby", "ruby", "conformance.rb"),
}


@pytest.fixture(scope="module", params=list(LANGUAGES))
def run(request: pytest.FixtureRequest, bench: Bench) -> Conformance:
    family, folder, entrypoint = LANGUAGES[request.param]
    pack = {"node": NODE, "python": PYTHON}.get(family) or pack_of(family)
    template = bench.deploy(pack.id, entrypoint, folder_files(FUNCTIONS / folder), VARIABLES)
    return Conformance(bench, template)
