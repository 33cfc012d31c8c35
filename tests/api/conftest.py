"""Every async test of this folder runs on asyncio."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest
import structlog

from tests.api.support import World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What was logged during the test; kept off the terminal, where drawing tracebacks takes longer than the test."""
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def world() -> World:
    """An application over scripted control."""
    return World()
