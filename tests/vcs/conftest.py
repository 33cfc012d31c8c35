"""One host beside its stand-in, for each kind."""

from collections.abc import AsyncIterator

import pytest

from tests.support.forges.kinds import KINDS, Side, side


@pytest.fixture(params=KINDS)
async def at(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    async with side(request.param) as made:
        yield made
