"""Adding up usage figures (hearth.model.usage)."""

from datetime import UTC, datetime, timedelta

import pytest

from hearth.model.usage import DURATION_EDGES_S, UsageHour, UsageRange, duration_class, percentile_s, summed

NOW = datetime(2026, 3, 29, 13, 14, 15, tzinfo=UTC)


def test_a_range_has_its_steps_with_the_running_one_last() -> None:
    hours = UsageRange.DAY.starts(NOW)
    assert (len(hours), hours[-1]) == (24, NOW.replace(minute=0, second=0))
    assert hours[1] - hours[0] == timedelta(hours=1)
    for span, days in ((UsageRange.MONTH, 30), (UsageRange.QUARTER, 90)):
        starts = span.starts(NOW)
        assert (len(starts), starts[-1]) == (days, datetime(2026, 3, 29, tzinfo=UTC))
        assert starts[-1] - starts[0] == timedelta(days=days - 1)


def test_every_duration_has_a_class_and_percentiles_are_within_it() -> None:
    assert list(DURATION_EDGES_S) == sorted(set(DURATION_EDGES_S))
    assert duration_class(0.0) == 0
    assert duration_class(86_400.0) == len(DURATION_EDGES_S)
    for duration_s in (0.0004, 0.001, 0.0123, 0.4, 3.0, 14.9, 300.0):
        found = percentile_s({duration_class(duration_s): 7}, 0.5)
        assert found <= duration_s * 2
        assert found >= duration_s / 2 or duration_s < DURATION_EDGES_S[0]
    assert percentile_s({}, 0.5) == 0.0


def test_figures_are_added_up() -> None:
    fast, slow = duration_class(0.004), duration_class(2.5)
    hours = [
        UsageHour("f", NOW, 90, 1, 0.36, {fast: 90}, started=80, cold_starts=8, cpu_s=0.25, peak_memory_bytes=9),
        UsageHour("f", NOW + timedelta(hours=1), 10, 2, 25.0, {slow: 10}, cold_starts=0, cpu_s=1, peak_memory_bytes=7),
    ]
    total = summed(hours)
    assert (total.executions, total.failures) == (100, 3)
    assert (total.cold_share, total.cpu_s, total.peak_memory_bytes) == (0.1, 1.25, 9)
    assert summed(()).cold_share == 0
    assert total.duration_s == pytest.approx(25.36)
    assert 0.003 <= total.p50_s <= 0.005
    assert 2.0 <= total.p95_s <= 3.0
