"""One host beside its stand-in, for each kind."""

from collections.abc import AsyncIterator

import pytest

from tests.support.forges.kinds import ALIKE, KINDS, SENDERS, Side, side


@pytest.fixture(params=[kind for kind in KINDS if kind not in ALIKE])
async def at(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    async with side(request.param) as made:
        yield made


@pytest.fixture(params=SENDERS)
async def sender(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """As `at`, for its webhooks only."""
    async with side(request.param, is_serving=False) as made:
        yield made
