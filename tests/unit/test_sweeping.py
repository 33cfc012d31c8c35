"""How many rows one transaction of a sweep takes (hearth.control.sweeping)."""

import asyncio
import itertools
import time

import pytest

from hearth.control.sweeping import FIRST_ROWS, HELD_S, MOST_ROWS, delete_all, next_size

pytestmark = pytest.mark.anyio


def test_a_transaction_takes_as_many_rows_as_fit_into_its_time_by_the_last_one() -> None:
    assert next_size(100, HELD_S) == 100
    assert next_size(100, HELD_S * 4) == 50, "too long, which may have been an accident: half as many"
    assert next_size(100, HELD_S * 4, was_long=True) == 25, "twice too long: as many as fit"
    assert next_size(100, HELD_S / 1.5) == 150
    assert next_size(100, HELD_S / 100) == 200, "grows to double at most"
    assert next_size(3, HELD_S * 1_000, was_long=True) == 1
    assert next_size(1, HELD_S * 1_000) == 1
    # What every transaction takes is not put down to its rows.
    assert next_size(8, HELD_S * 3, HELD_S * 3) == 16
    assert next_size(100, HELD_S * 3, HELD_S * 2, was_long=True) == 100
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


async def test_where_every_transaction_takes_long_a_sweep_still_gets_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a database behind a slow line: five times the time that is meant for the rows, whatever is deleted."""
    now, left, asked = 0.0, 4_000, 0

    async def some(limit: int) -> int:
        nonlocal now, left, asked
        now += HELD_S * 5 + limit * 1e-6
        asked += 1
        went = min(limit, left)
        left -= went
        return went

    async def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(asyncio, "sleep", pause)
    assert await delete_all(some, "rows") == 4_000
    assert asked <= 20


async def test_nothing_to_delete_is_one_question() -> None:
    asked = []

    async def none(limit: int) -> int:
        asked.append(limit)
        return 0

    assert await delete_all(none, "rows") == 0
    assert len(asked) == 1
