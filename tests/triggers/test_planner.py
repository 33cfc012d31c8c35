"""The planner: every planned time once, in any order of ticks, steps of the clock and changes."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.model import times
from hearth.model.cron import next_runs
from hearth.model.function_settings import MissedRuns
from hearth.triggers.planner import LATE_S, Plan, Planner, occasion_id

NOW = datetime(2026, 10, 24, 23, 59, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RULES = ("* * * * *", "*/7 * * * *", "30 2 * * *", "0 1-3 * * *", "0 * * * *")
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe")


def plan(id: str = "f", rule: str = "* * * * *", **fields: object) -> Plan:
    return Plan("p", id, rule, **fields)  # type: ignore[arg-type]


def fired(planner: Planner, now: datetime) -> list[tuple[str, datetime]]:
    found = []
    while (at := planner.next_at()) is not None and at <= now:
        found += [(fire.plan.function_id, fire.planned_at) for fire in planner.due(now, 3)]
    return found


PLANS = st.lists(
    st.builds(
        plan,
        id=st.sampled_from([f"f{number}" for number in range(6)]),
        rule=st.sampled_from(RULES),
        zone=st.sampled_from(ZONES),
        jitter_s=st.sampled_from((0, 0, 45, 3_600)),
        missed=st.sampled_from(MissedRuns),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda it: it.function_id,
)
#: Seconds of the clock's moves: ticks, an hour forward, an hour back.
MOVES = st.lists(st.sampled_from((1, 20, 30, 30, 55, 3_600, -3_600)), max_size=60)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(plans=PLANS, moves=MOVES)
def test_no_planned_time_is_fired_twice_or_before_its_time_whatever_the_clock_does(
    plans: list[Plan], moves: list[int]
) -> None:
    planner, now = Planner(), NOW
    for it in plans:
        planner.put(it, now)
    seen: Counter[tuple[str, datetime]] = Counter()
    for move in moves:
        now += move * SECOND
        for one in fired(planner, now):
            seen[one] += 1
            assert one[1] <= now
    assert not [one for one, count in seen.items() if count > 1]
    by_id = {it.function_id: it for it in plans}
    for id, planned in seen:
        zone = ZoneInfo(by_id[id].zone)
        assert planned in next_runs(by_id[id].rule, zone, planned - SECOND, 1)


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(plans=PLANS, ticks=st.lists(st.sampled_from((1, 10, 30, 59)), min_size=1, max_size=80))
def test_while_the_clock_runs_evenly_every_planned_time_is_fired(plans: list[Plan], ticks: list[int]) -> None:
    planner, now = Planner(), NOW
    for it in plans:
        planner.put(it, now)
    found: list[tuple[str, datetime]] = []
    for tick in ticks:
        now += tick * SECOND
        found += fired(planner, now)
    for it in plans:
        runs = next_runs(it.rule, ZoneInfo(it.zone), NOW, 200)
        wanted = [run for run in runs if run <= now - timedelta(seconds=it.jitter_s)]
        assert [run for id, run in found if id == it.function_id][: len(wanted)] == wanted


@pytest.mark.parametrize("missed", list(MissedRuns))
@pytest.mark.parametrize("absent_s", [3_600, 86_400 * 20])
def test_missed_times_are_skipped_or_run_once(missed: MissedRuns, absent_s: int) -> None:
    planner = Planner()
    planner.put(plan(missed=missed), NOW)
    late = NOW + absent_s * SECOND
    runs = fired(planner, late)
    last = late.replace(second=0)
    assert runs == ([("f", last)] if missed is MissedRuns.ONCE else [])
    assert planner.next_at() == last + 60 * SECOND


def test_a_short_delay_is_not_a_miss() -> None:
    planner = Planner()
    planner.put(plan(rule="0 0 * * *"), NOW)
    assert fired(planner, NOW + (30 + LATE_S) * SECOND) == [("f", NOW + 30 * SECOND)]


def test_a_clock_put_back_repeats_nothing_and_goes_on_at_the_next_planned_time() -> None:
    planner = Planner()
    planner.put(plan(), NOW)
    first = NOW + 30 * SECOND
    assert fired(planner, first) == [("f", first)]
    assert fired(planner, first - 3_600 * SECOND) == []
    assert planner.next_at() == first + 60 * SECOND


def test_a_jitter_is_the_functions_own_and_within_its_bound() -> None:
    planner = Planner()
    for number in range(200):
        planner.put(plan(f"f{number}", "0 0 * * *", jitter_s=60), NOW)
    start = NOW + 30 * SECOND
    counts = [len(fired(planner, start + second * SECOND)) for second in range(61)]
    assert sum(counts) == 200
    assert max(counts) < 20
    assert {planned for _, planned in fired(planner, start + 86_461 * SECOND)} == {start + 86_400 * SECOND}


def test_changed_and_removed_plans_leave_nothing_behind() -> None:
    planner = Planner()
    for round in range(50):
        for number in range(100):
            planner.put(plan(f"f{number}", f"{round} 3 * * *"), NOW)
    assert len(planner) == 100
    assert len(planner._heap) <= 2 * 100 + 1_025
    assert planner.get("p", "f1") == plan("f1", "49 3 * * *")
    for number in range(100):
        planner.remove("p", f"f{number}")
    planner.remove("p", "never")
    assert (len(planner), planner.next_at(), list(planner)) == (0, None, [])
    planner.put(plan(rule="never"), NOW)
    planner.put(plan("g", zone="Nowhere"), NOW)
    assert len(planner) == 0


def test_ids_of_planned_times_are_ids_and_sort_by_time() -> None:
    ids = [occasion_id("f", NOW + 60 * number * SECOND) for number in range(100)]
    assert ids == sorted(set(ids))
    assert all(len(id) == 29 for id in ids)
    assert occasion_id("g", NOW) != ids[0] == occasion_id("f", times.truncate(NOW))


def test_the_second_opinion_notices_a_planted_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planner that plans from the time of the tick instead of the planned time would lose times; the test sees it."""
    original = Planner._plan_next
    monkeypatch.setattr(
        Planner, "_plan_next", lambda self, entry, since: original(self, entry, since + timedelta(minutes=1))
    )
    with pytest.raises(AssertionError):
        test_while_the_clock_runs_evenly_every_planned_time_is_fired.hypothesis.inner_test(  # type: ignore[attr-defined]
            [plan()], [59] * 20
        )
