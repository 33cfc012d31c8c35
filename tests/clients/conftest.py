"""A server for each file of client tests, and the runtimes that can run on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, server_folder


@pytest.fixture(scope="module")
def repositories() -> Iterator[Path]:
    """A folder of this machine whose repositories may be named by `file://`."""
    with server_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def server(repositories: Path) -> Iterator[Server]:
    """A ready server without rate limits; after the last test it has to end cleanly and leave nothing.

    One for each file: the CLI pulls all functions of a project, also what other tests have left half done.
    """
    settings = {"HEARTH_GIT_LOCAL_PATHS": str(repositories), "HEARTH_GIT_POLL_INTERVAL": "0"}
    with running_server(settings) as started:
        yield started


@pytest.fixture(scope="session")
def node() -> str:
    """A Node runtime that runs here."""
    return runtime_of("node")


@pytest.fixture(scope="session")
def python() -> str:
    """A Python runtime that runs here."""
    return runtime_of("python")
