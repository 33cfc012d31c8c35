"""CRON rules: five fields or an `@` macro, read strictly (contract: functions-api 11).

Accepted per field: `*`, numbers, names (JAN, MON), ranges, lists, `/steps`; `?` for "any" in the two day fields;
`L` and `15W` as day of month; `5L` (last Friday) and `5#3` (third Friday) as day of week. Times are UTC.
"""

import calendar
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from hearth.api.validators import Invalid

#: Characters of a rule; far beyond any sensible one, so that reading one is cheap.
CRON_MAX_CHARS = 256
#: Years searched for a first match: a fifth Friday in February (`5#5`) comes once in 28 years.
_SEARCH_YEARS = 40

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


@dataclass(frozen=True, slots=True)
class Cron:
    """Validator of a `schedule`: a CRON rule that can ever be due, or `""` for none."""

    text = (
        "Value must be a CRON expression of five fields (minute, hour, day of month, month, day of week; UTC) "
        "or one of @yearly, @monthly, @weekly, @daily, @hourly, with at least one date on which it is due"
    )

    def check(self, value: Any) -> str:
        if value == "" or (isinstance(value, str) and is_cron(value)):
            return str(value)
        raise Invalid(self.text)


def is_cron(text: str) -> bool:
    """Whether `text` is a rule that is due at least once in the coming decades."""
    if len(text) > CRON_MAX_CHARS or not text.isascii():
        return False
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != 5:
        return False
    minute, hour, day, month, weekday = fields
    try:
        _numbers(minute, 0, 59)
        _numbers(hour, 0, 23)
        months = _numbers(month, 1, 12, _MONTHS)
        return _ever_due(months, _days_of_month(day), _days_of_week(weekday))
    except _Malformed:
        return False


class _Malformed(Exception):
    """A field that is not understood."""


def _number(text: str, least: int, most: int, names: dict[str, int]) -> int:
    if text.upper() in names:
        return names[text.upper()]
    if not text.isdecimal() or len(text) > 4 or not least <= int(text) <= most:
        raise _Malformed
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
                raise _Malformed
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


def _ever_due(months: frozenset[int], by_month: _DayRule | None, by_week: _DayRule | None) -> bool:
    """Whether some day matches. With both day fields given one of them is enough, as in every cron."""
    day = date(2024, 1, 1)  # a leap year first: what is possible at all is found soon
    for _ in range(_SEARCH_YEARS * 366):
        if day.month in months and _is_due(day, by_month, by_week):
            return True
        if day.month not in months:
            day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
        else:
            day += timedelta(days=1)
    return False


def _is_due(day: date, by_month: _DayRule | None, by_week: _DayRule | None) -> bool:
    if by_month is None:
        return by_week is None or by_week(day)
    if by_week is None:
        return by_month(day)
    return by_month(day) or by_week(day)
