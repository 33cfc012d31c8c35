"""One server for all client tests, and the runtimes that can run on this machine."""

from collections.abc import Iterator

import pytest

from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A ready server without rate limits; after the last test it has to end cleanly and leave nothing."""
    with running_server() as started:
        yield started


@pytest.fixture(scope="session")
def node() -> str:
    """A Node runtime that runs here."""
    return runtime_of("node")


@pytest.fixture(scope="session")
def python() -> str:
    """A Python runtime that runs here."""
    return runtime_of("python")
