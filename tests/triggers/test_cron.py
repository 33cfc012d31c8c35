"""Planned times of CRON rules: against a slow second opinion, minute by minute, around every change of the clocks."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.model.cron import next_runs, read_cron, read_zone

MINUTE = timedelta(minutes=1)

#: Zones and the days around which their clocks change: forward and back, by an hour, by half an hour, by a day.
CHANGES = [
    ("Europe/Berlin", datetime(2026, 3, 29, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 3, 8, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 6, tzinfo=UTC)),  # midnight is skipped
    ("Asia/Beirut", datetime(2026, 10, 24, tzinfo=UTC)),  # midnight comes twice
    ("Pacific/Apia", datetime(2011, 12, 30, tzinfo=UTC)),  # a whole day is skipped
    ("UTC", datetime(2026, 5, 5, tzinfo=UTC)),
]

_minutes = st.sampled_from(("*", "0", "30", "59", "*/15", "0,20,40", "15-45/10"))
_hours = st.sampled_from(("*", "0", "1", "2", "3", "0-3", "*/2", "23", "1,2"))
_days = st.sampled_from((("*", "*"), ("*", "0"), ("1-7", "*"), ("L", "*"), ("*", "SUN,MON"), ("30", "SAT")))
RULES = st.builds(
    lambda minute, hour, days: f"{minute} {hour} {days[0]} * {days[1]}",
    _minutes,
    _hours,
    _days,
)


def walls(start: datetime, days: int, zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """Every minute, and what the clocks of the zone show then."""
    moments = [start + MINUTE * number for number in range(days * 1440)]
    return [(moment, moment.astimezone(zone).replace(tzinfo=None, fold=0)) for moment in moments]


def expected(text: str, zone: ZoneInfo, start: datetime, days: int) -> list[datetime]:
    """The rules of the module's head, read literally."""
    rule = read_cron(text)

    def names(wall: datetime) -> bool:
        return wall.minute in rule.minutes and wall.hour in rule.hours and rule._next_day(wall.date()) == wall.date()

    shown = walls(start, days, zone)
    if len(rule.hours) == 24:
        return [moment for moment, wall in shown if names(wall)]
    found: set[datetime] = set()
    highest = shown[0][1]
    for moment, wall in shown:
        # Wall-clock times that come for the first time now, or have been skipped by now.
        new = highest
        while new < wall:
            new += MINUTE
            if names(new):
                found.add(moment)
        highest = max(highest, wall)
    return sorted(found)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(change=st.sampled_from(CHANGES), text=RULES)
def test_planned_times_are_those_of_a_slow_second_opinion(change: tuple[str, datetime], text: str) -> None:
    name, day = change
    zone = ZoneInfo(name)
    start = day - timedelta(days=1, minutes=1)
    wanted = [moment for moment in expected(text, zone, start, 3) if moment > start]
    found = next_runs(text, zone, start, len(wanted) + 1)
    assert list(found[: len(wanted)]) == wanted, (name, text)
    assert all(moment >= start + timedelta(days=3) for moment in found[len(wanted) :])


@pytest.mark.parametrize(
    ("text", "zone", "after", "runs"),
    [
        # 02:30 is skipped: due when the clocks change. The next day it is 02:30 again.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", ["2026-03-29T01:00", "2026-03-30T00:30"]),
        # 02:30 comes twice: due the first time.
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", ["2026-10-25T00:30", "2026-10-26T01:30"]),
        # Every hour follows real time through both.
        ("0 * * * *", "Europe/Berlin", "2026-03-29T00:00", ["2026-03-29T01:00", "2026-03-29T02:00"]),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:00",
            ["2026-10-25T00:30", "2026-10-25T01:30", "2026-10-25T02:30"],
        ),
        ("0 0 29 2 *", "UTC", "2026-01-01T00:00", ["2028-02-29T00:00", "2032-02-29T00:00"]),
        ("@weekly", "Asia/Kathmandu", "2026-11-24T00:00", ["2026-11-28T18:15"]),
        ("0 9 15W * ?", "UTC", "2026-08-01T00:00", ["2026-08-14T09:00", "2026-09-15T09:00"]),
        ("0 0 ? * 5L", "UTC", "2026-11-24T00:00", ["2026-11-27T00:00", "2026-12-25T00:00"]),
        ("0 0 * * 5#5", "UTC", "2026-11-24T00:00", ["2027-01-29T00:00"]),
    ],
)
def test_planned_times_of_well_known_cases(text: str, zone: str, after: str, runs: list[str]) -> None:
    since = datetime.fromisoformat(after).replace(tzinfo=UTC)
    wanted = tuple(datetime.fromisoformat(run).replace(tzinfo=UTC) for run in runs)
    assert next_runs(text, ZoneInfo(zone), since, len(wanted)) == wanted


def test_names_that_are_no_zones_of_the_database_are_none() -> None:
    assert read_zone("Europe/Berlin") is not None
    assert [read_zone(name) for name in ("", "localtime", "../etc/passwd", "/etc/passwd", "Europe", "X\0Y")] == [
        None
    ] * 6
