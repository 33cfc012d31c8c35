"""How many rows one transaction of a sweep takes (hearth.control.sweeping)."""

import itertools

import pytest

from hearth.control.sweeping import FIRST_ROWS, HELD_S, MOST_ROWS, delete_all, next_size

pytestmark = pytest.mark.anyio


def test_a_transaction_takes_as_many_rows_as_fit_into_its_time_by_the_last_one() -> None:
    assert next_size(100, HELD_S) == 100
    assert next_size(100, HELD_S * 4) == 25, "too long: fewer at once"
    assert next_size(100, HELD_S / 1.5) == 150
    assert next_size(100, HELD_S / 100) == 200, "grows to double at most"
    assert next_size(3, HELD_S * 1_000) == 1
    assert next_size(MOST_ROWS, 0.0) == MOST_ROWS


async def test_everything_goes_and_the_count_is_told() -> None:
    left, asked = 1_000, []

    async def some(limit: int) -> int:
        nonlocal left
        asked.append(limit)
        went = min(limit, left)
        left -= went
        return went

    assert await delete_all(some, "rows") == 1_000
    assert left == 0
    assert asked[0] == FIRST_ROWS
    assert max(asked) <= MOST_ROWS
    assert all(later <= 2 * earlier for earlier, later in itertools.pairwise(asked))


async def test_nothing_to_delete_is_one_question() -> None:
    asked = []

    async def none(limit: int) -> int:
        asked.append(limit)
        return 0

    assert await delete_all(none, "rows") == 0
    assert len(asked) == 1
