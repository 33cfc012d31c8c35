"""Real sandboxes: a made-up internet, a spawner and a gate in it, and a driver per module. Needs root."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import hearth
from hearth.executor.sandbox.config import GateConfig, SpawnerConfig
from hearth.executor.sandbox.launch import start_gate, start_spawner
from hearth.executor.sandbox.ns import NsDriver
from tests.conftest import leaves_out_slow
from tests.sandbox import harness, modes, report
from tests.sandbox.whole import Platform
from tests.support import docker

ALWAYS = {
    modes.DOCKER: ("test_isolation_processes",),
    modes.GVISOR: ("test_isolation_processes", "test_runsc"),
}
"""What runs always on drivers that take their time for a sandbox; the rest on them is for the report."""


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """All of it is slow: see `tests/conftest.py`."""
    return True if leaves_out_slow(config) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is here. Whole servers run as root with `ns` only, unless the report of all drivers is asked for."""
    left_out = [item for item in items if is_for_the_report_alone(item)]
    if left_out and not os.environ.get(report.FILE_VARIABLE):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.sandbox)
            item.add_marker(pytest.mark.slow)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="facility root: needs root"))


def is_for_the_report_alone(item: pytest.Item) -> bool:
    """Whether a test takes a whole server in another mode than the first, or a slow driver: minutes for each."""
    names = getattr(item, "fixturenames", ())
    mode = getattr(item, "callspec", None)
    whole = Path(__file__).parent in item.path.parents and {"platform", "stopped"} & set(names)
    if mode is None:
        return False
    name = mode.params.get("mode")
    return (bool(whole) and name != modes.NS_ROOT) or item.path.stem not in ALWAYS.get(name, (item.path.stem,))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def internet() -> Iterator[harness.Internet]:
    world = harness.Internet()
    yield world
    world.close()


@pytest.fixture(scope="session", params=modes.ALL)
def mode(request: pytest.FixtureRequest) -> str:
    """The way sandboxes are made, as the report names it; skips quote the facility that is missing."""
    name: str = request.param
    if reason := modes.why_not(name):
        pytest.skip(reason)
    return name


@pytest.fixture(scope="session")
def owner(mode: str) -> Iterator[modes.Owner]:
    """Whoever starts servers and spawners in this mode."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(modes.owner(mode))
        except docker.NoDaemon as problem:
            pytest.skip(f"facility docker: {problem}")
        yield made


@pytest.fixture(scope="module")
def data_folder(owner: modes.Owner) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="hearth-sandbox-"))
    os.chmod(folder, 0o700)
    os.chown(folder, owner.uid, owner.gid)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def spawner_config(data_folder: Path, owner: modes.Owner | None = None) -> SpawnerConfig:
    """Bounds for a spawner of the tests; one started by root if nobody else is named."""
    config = SpawnerConfig(
        data_folder=str(data_folder),
        server_uid=harness.SERVER_UID,
        server_gid=harness.SERVER_UID,
        read_only_bases=(str(Path(__file__).parent),),
        uid_first=harness.FIRST_UID,
        uid_count=harness.UIDS,
    )
    return config if owner is None else owner.adapted(config)


def gate_config(api: tuple[str, int] | None = None, uid: int = harness.SERVER_UID) -> GateConfig:
    package = Path(hearth.__file__).resolve().parent
    return GateConfig(
        uid=uid,
        gid=uid,
        keep=(sys.prefix, sys.base_prefix, str(package.parent)),
        allow=("10.5.5.5:8080", "listed.test:5432"),
        registry_hosts=("172.16.9.9:443",),
        api=api,
        nameservers=("10.99.0.53",),
        connections_per_sandbox=64,
        refresh_s=0.5,
    )


@pytest.fixture(scope="module")
async def driver(data_folder: Path, internet: harness.Internet, owner: modes.Owner) -> AsyncIterator[NsDriver]:
    """A driver whose spawner and gate live in the made-up internet; its API listens at 127.0.0.1:8080 there."""
    pid = internet.process.pid
    with owner.launching():
        spawner = harness.in_network(pid, lambda: start_spawner(spawner_config(data_folder, owner)))
        gate = harness.in_network(pid, lambda: start_gate(gate_config(("127.0.0.1", 8080), owner.uid)))
    made = NsDriver(spawner, gate)
    with owner.making_pipes():
        yield made
    await made.close()
    assert (spawner.process.returncode, gate.process.returncode) == (0, 0)


@pytest.fixture(scope="session")
def platform(owner: modes.Owner) -> Iterator[Platform]:
    """A whole server with the probe deployed; at the end it must stop in order and leave nothing."""
    with modes.server(owner) as server:
        made = Platform(server)
        yield made
        made.close()
