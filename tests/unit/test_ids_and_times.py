"""Ids and times: their forms on the wire and in the store."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hearth.model import ids, times


def test_ids_made_one_after_another_are_distinct_valid_and_sort_by_time() -> None:
    made = [ids.unique_id() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert all(ids.is_id(id) and len(id) == 20 for id in made)
    assert made[0][:13] <= made[-1][:13]


@pytest.mark.parametrize("text", ["a", "A9._-", "a" * 36, "0"])
def test_accepted_ids(text: str) -> None:
    assert ids.is_id(text)


@pytest.mark.parametrize("text", ["", "a" * 37, "_a", ".a", "-a", "a b", "a/b", "ä", "a\n", "unique()"])
def test_refused_ids(text: str) -> None:
    assert not ids.is_id(text)


def test_the_literal_unique_is_replaced() -> None:
    assert ids.is_id(ids.custom_id("unique()"))
    assert ids.custom_id("mine") == "mine"


MOMENTS = st.integers(-(10**15), 7 * 10**15).map(
    lambda us: datetime(1971, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)


@given(MOMENTS)
def test_a_moment_survives_the_store_and_the_wire_to_the_millisecond(moment: datetime) -> None:
    moment = times.truncate(moment)
    assert times.from_epoch_ms(times.to_epoch_ms(moment)) == moment
    assert times.parse(times.to_wire(moment)) == moment
