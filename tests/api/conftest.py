"""Every async test of this folder runs on asyncio."""

import pytest

from tests.api.support import World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def world() -> World:
    """An application over scripted control."""
    return World()
