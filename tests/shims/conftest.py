"""The conformance functions, running on each driver in each language."""

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hearth.model.running import InstanceTemplate, Result
from hearth.runtimes.families import family_of
from tests.support.drivers import DRIVERS, make_driver
from tests.support.executors import NODE, PYTHON, Bench, FakePacks, folder_files, open_bench
from tests.support.interpreters import built, installed_packs, pack_of
from tests.support.packs import wants_all
from tests.support.process_driver import ProcessDriver


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests on plain processes out where the same tests run in sandboxes, which prove all that they do."""
    if os.geteuid() == 0:
        left_out = [item for item in items if is_in_sandboxes_too(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def is_in_sandboxes_too(item: pytest.Item) -> bool:
    """Whether a test of here is a slow one on plain processes. Of the quick ones `make check` has no others."""
    mode = getattr(item, "callspec", None)
    is_here = Path(__file__).parent in item.path.parents
    on_processes = is_here and mode is not None and mode.params.get("bench") == "process"
    return on_processes and item.get_closest_marker("slow") is not None


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


#: Actions that a language, or a version of it, has no way to write: what they do cannot go wrong there.
INEXPRESSIBLE = {
    # A handler has to return a Response, headers have one value each, and no signal ends a program of Go.
    "go": {"nothing", "notAResult", "cookies", "streamItself", "streamPlain", "signal"},
    "java": {"cookies", "streamItself"},
    "kotlin": {"cookies", "streamItself"},
    # The same is true of a Response here; a source is a function.
    "rust": {"nothing", "notAResult", "streamItself", "streamPlain", "streamText", "streamNothing"},
    # A handler has to return a RuntimeOutput, and what cannot be streamed does not compile.
    "cpp": {"nothing", "notAResult", "streamItself", "streamNothing"},
    # Nothing of a program hears of `exit`.
    "dart": {"streamItself", "exitStack"},
    "node-14.5": {"streamWeb"},
}


@dataclass
class Conformance:
    """The conformance function in one language."""

    bench: Bench
    template: InstanceTemplate

    async def __call__(self, action: str, body: bytes = b"", **changes: Any) -> Result:
        self.needs(action)
        return await self.bench.run(self.template, action, body, **changes)

    def can(self, action: str) -> bool:
        """Whether the language can express what an action does, or what a test asks beyond an action."""
        runtime = self.template.runtime
        return not any(action in INEXPRESSIBLE.get(name, ()) for name in (runtime, runtime.partition("-")[0]))

    def needs(self, action: str) -> None:
        """Skip the test that asks if the language cannot express what the action does."""
        if not self.can(action):
            pytest.skip(f"inexpressible: {action} in {self.template.runtime}")


#: Name in the ids of tests: family, folder of its conformance function, entrypoint.
LANGUAGES = {
    "node": ("node", "node", "conformance.js"),
    "python": ("python", "python", "conformance.py"),
    "python-async": ("python", "python", "conformance_async.py"),
    "bun": ("bun", "bun", "conformance.ts"),
    "deno": ("deno", "deno", "conformance.ts"),
    "php": ("php", "php", "conformance.php"),
    "ruby": ("ruby", "ruby", "conformance.rb"),
    "go": ("go", "go", "conformance.go"),
    "java": ("java", "java", "Conformance.java"),
    "kotlin": ("kotlin", "kotlin", "Conformance.kt"),
    "cpp": ("cpp", "cpp", "conformance.cc"),
    "dart": ("dart", "dart", "lib/conformance.dart"),
    "rust": ("rust", "rust", "conformance.rs"),
}


#: All together take long enough to leave them to `make test`; `make check` has the two that most people use.
SLOW = set(LANGUAGES) - {"node", "python", "python-async"}


def _cases() -> list[Any]:
    """The languages; where every pack is wanted, each on every version that is installed."""
    found = []
    for name, (family, _, _) in LANGUAGES.items():
        marks = [pytest.mark.slow] if name in SLOW or wants_all() else []
        ids = [pack.id for pack in installed_packs() if pack.family == family] if wants_all() else [""]
        found += [pytest.param((name, id), marks=marks, id=f"{name}-{id}".strip("-")) for id in ids]
    return found


@pytest.fixture(scope="module", params=_cases())
def run(request: pytest.FixtureRequest, bench: Bench) -> Conformance:
    name, id = request.param
    family, folder, entrypoint = LANGUAGES[name]
    if id:
        pack = next(pack for pack in installed_packs() if pack.id == id)
        if pack.root and isinstance(bench.driver, ProcessDriver):
            pytest.skip("facility: a pack with a system of its own needs a sandbox")
    else:
        pack = {"node": NODE, "python": PYTHON}.get(family) or pack_of(family)
    files = folder_files(FUNCTIONS / folder)
    if entrypoint not in files:  # the folder has only what is not shared
        files |= folder_files(FUNCTIONS / "typescript")
    if family_of(family).is_compiled:
        files = built(family, files, entrypoint, pack if id else None)
    template = bench.deploy(pack.id, entrypoint, files, VARIABLES)
    return Conformance(bench, template)
