"""CRON rules: five fields or an `@` macro, read strictly, and when they are due (contract: functions-api 11).

Accepted per field: `*`, numbers, names (JAN, MON), ranges, lists, `/steps`; `?` for "any" in the two day fields;
`L` and `15W` as day of month; `5L` (last Friday) and `5#3` (third Friday) as day of week. With both day fields given
one of them is enough, as in every cron. Pure: no clock is read here.

Where a zone puts its clocks forward or back (decision 14):

- a rule whose hour field means every hour follows real time: it is due each real hour, none is made up for;
- any other rule is due once for each wall-clock time it names: a time that occurs twice counts the first time, a time
  that is skipped is due at the moment of the change, together with the others that were skipped.
"""

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

#: Characters of a rule; far beyond any sensible one, so that reading one is cheap.
CRON_MAX_CHARS = 256
#: Years searched for a match: a fifth Friday in February (`5#5`) comes once in 28 years.
_SEARCH_YEARS = 40
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_DAYS = {"SUN": 0, "MON": 1, "TUE": 2, "WED": 3, "THU": 4, "FRI": 5, "SAT": 6}

#: Decides whether a day is meant.
_DayRule = Callable[[date], bool]


class MalformedCron(ValueError):
    """A text that is no CRON rule, or one that is never due."""


@dataclass(frozen=True, slots=True)
class CronRule:
    """A rule that has been read; `minutes` and `hours` are sorted. Made by `read_cron`."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    by_month: _DayRule | None
    by_week: _DayRule | None

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """The first planned time after `moment` (UTC), in UTC; None if there is none in the coming decades."""
        if len(self.hours) == 24:
            return self._next_in_real_time(moment, zone)
        wall = _wall(moment, zone).replace(second=0, microsecond=0)
        while True:
            found = self._next_wall(wall)
            if found is None:
                return None
            planned = _instant(found, zone)
            if planned > moment:
                return planned
            wall = found + _MINUTE

    def _next_wall(self, wall: datetime) -> datetime | None:
        """The first wall-clock time the rule names, from `wall` (whole minutes) on."""
        day = self._next_day(wall.date())
        if day == wall.date():
            for hour in self.hours:
                if hour < wall.hour:
                    continue
                for minute in self.minutes:
                    if hour > wall.hour or minute >= wall.minute:
                        return datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 - a wall clock's
            day = self._next_day(day + _DAY)
        if day is None:
            return None
        return datetime(day.year, day.month, day.day, self.hours[0], self.minutes[0])  # noqa: DTZ001

    def _next_in_real_time(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """The first minute after `moment` whose wall-clock time the rule names."""
        at = moment + timedelta(seconds=60 - _wall(moment, zone).second)
        at = at.replace(microsecond=0)
        while True:
            local = at.astimezone(zone)
            day = self._next_day(local.date())
            if day is None:
                return None
            if day != local.date():
                at = _instant(datetime(day.year, day.month, day.day), zone)  # noqa: DTZ001
                continue
            if local.minute in self.minutes:
                return at
            later = next((minute for minute in self.minutes if minute > local.minute), self.minutes[0] + 60)
            ahead = at + (later - local.minute) * _MINUTE
            # Across a change of the clocks the minutes ahead are not those that were counted.
            at = ahead if ahead.astimezone(zone).utcoffset() == local.utcoffset() else at + _MINUTE

    def _next_day(self, day: date) -> date | None:
        for _ in range(_SEARCH_YEARS * 366):
            if day.year > 9_900:
                return None
            if day.month not in self.months:
                day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
            elif self._is_day(day):
                return day
            else:
                day += _DAY
        return None

    def _is_day(self, day: date) -> bool:
        if self.by_month is None:
            return self.by_week is None or self.by_week(day)
        if self.by_week is None:
            return self.by_month(day)
        return self.by_month(day) or self.by_week(day)


def is_cron(text: str) -> bool:
    """Whether `text` is a rule that is due at least once in the coming decades."""
    try:
        read_cron(text)
    except MalformedCron:
        return False
    return True


@lru_cache(maxsize=4_096)
def read_cron(text: str) -> CronRule:
    """Read a rule. Raises MalformedCron, also for one that is never due."""
    if len(text) > CRON_MAX_CHARS or not text.isascii():
        raise MalformedCron
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        raise MalformedCron
    minute, hour, day, month, weekday = fields
    rule = CronRule(
        tuple(sorted(_numbers(minute, 0, 59))),
        tuple(sorted(_numbers(hour, 0, 23))),
        _numbers(month, 1, 12, _MONTHS),
        _days_of_month(day),
        _days_of_week(weekday),
    )
    if rule._next_day(date(2024, 1, 1)) is None:  # a leap year first: what is possible at all is found soon
        raise MalformedCron
    return rule


def read_zone(name: str) -> ZoneInfo | None:
    """The zone of the IANA database with this name; None if there is none."""
    if not name or not name.isascii() or not name[0].isupper():  # `localtime` and its like are this machine's own
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        return None


def next_runs(text: str, zone: ZoneInfo, after: datetime, count: int) -> tuple[datetime, ...]:
    """The next planned times of a rule, in UTC; none for `""`."""
    found: list[datetime] = []
    rule = read_cron(text) if text else None
    while rule is not None and len(found) < count:
        planned = rule.next_after(found[-1] if found else after, zone)
        if planned is None:
            break
        found.append(planned)
    return tuple(found)


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    if zone.key == "UTC":  # nearly every schedule: three conversions less for each
        return moment.replace(tzinfo=None)
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """When clocks of `zone` first show `wall`, or pass it by where it is skipped."""
    if zone.key == "UTC":
        return wall.replace(tzinfo=UTC)
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    if _wall(first, zone) == wall:
        return first
    # In a gap: the two readings of the time stand on either side of the change.
    low = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    high, before = first, low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


def _number(text: str, least: int, most: int, names: dict[str, int]) -> int:
    if text.upper() in names:
        return names[text.upper()]
    if not text.isdecimal() or len(text) > 4 or not least <= int(text) <= most:
        raise MalformedCron
    return int(text)


def _numbers(text: str, least: int, most: int, names: dict[str, int] | None = None) -> frozenset[int]:
    """The numbers a field stands for."""
    names = names or {}
    found: set[int] = set()
    for item in text.split(","):
        span, slash, step_text = item.partition("/")
        step = _number(step_text, 1, 9_999, {}) if slash else 1
        if span == "*":
            first, last = least, most
        else:
            start, dash, end = span.partition("-")
            first = _number(start, least, most, names)
            last = _number(end, least, most, names) if dash else (most if slash else first)
            if first > last:
                raise MalformedCron
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _days_of_month(text: str) -> _DayRule | None:
    """None when every day of the month is meant."""
    if text in ("*", "?"):
        return None
    rules = [_day_of_month(item) for item in text.split(",")]
    return lambda day: any(rule(day) for rule in rules)


def _day_of_month(item: str) -> _DayRule:
    if item.upper() == "L":
        return lambda day: day.day == _month_length(day)
    if item.upper().endswith("W"):
        target = _number(item[:-1], 1, 31, {})
        return lambda day: day.day == _nearest_working_day(day, target)
    numbers = _numbers(item, 1, 31)
    return lambda day: day.day in numbers


def _days_of_week(text: str) -> _DayRule | None:
    """None when every day of the week is meant."""
    if text in ("*", "?"):
        return None
    rules = [_day_of_week(item) for item in text.split(",")]
    return lambda day: any(rule(day) for rule in rules)


def _day_of_week(item: str) -> _DayRule:
    name, hash_sign, nth = item.partition("#")
    if hash_sign:
        weekday, which = _number(name, 0, 7, _DAYS) % 7, _number(nth, 1, 5, {})
        return lambda day: day.isoweekday() % 7 == weekday and (day.day - 1) // 7 + 1 == which
    if len(item) > 1 and item.upper().endswith("L"):
        last = _number(item[:-1], 0, 7, _DAYS) % 7
        return lambda day: day.isoweekday() % 7 == last and day.day + 7 > _month_length(day)
    numbers = frozenset(number % 7 for number in _numbers(item, 0, 7, _DAYS))
    return lambda day: day.isoweekday() % 7 in numbers


def _month_length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _nearest_working_day(day: date, target: int) -> int:
    """The day of `day`'s month that is Monday to Friday and nearest to the `target`th, never leaving the month."""
    length = _month_length(day)
    if target > length:
        return 0
    weekday = day.replace(day=target).isoweekday()
    if weekday == 6:
        return target - 1 if target > 1 else target + 2
    if weekday == 7:
        return target + 1 if target < length else target - 2
    return target
