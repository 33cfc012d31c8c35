"""Usage of functions by the hour: how many executions, how they ended, how long they took."""

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

#: Upper bounds of the classes durations are counted in, in seconds; what is longer is in one more class.
DURATION_EDGES_S = tuple(
    round(step * 10.0**power, 6) for power in range(-3, 3) for step in (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class UsageRange(StrEnum):
    """The spans figures are asked for: by the hour over a day, by the day over the others."""

    DAY = "24h"
    MONTH = "30d"
    QUARTER = "90d"

    @property
    def step(self) -> timedelta:
        return HOUR if self is UsageRange.DAY else DAY

    @property
    def steps(self) -> int:
        return {UsageRange.DAY: 24, UsageRange.MONTH: 30, UsageRange.QUARTER: 90}[self]

    def starts(self, now: datetime) -> tuple[datetime, ...]:
        """When each step begins, in UTC, the running one last."""
        running = start_of(now, self.step)
        return tuple(running - self.step * back for back in reversed(range(self.steps)))


@dataclass(frozen=True, slots=True)
class UsageHour:
    """What was created in the hour from `hour`. `durations` counts executions by class (`duration_class`).

    `started` are those that an instance ran, `cold_starts` those of them that waited for a new one. `cpu_s` and
    `peak_memory_bytes` are of those where it was counted: the sum, and the highest.
    """

    function_id: str
    hour: datetime
    executions: int
    failures: int
    duration_s: float
    durations: Mapping[int, int] = field(default_factory=dict)
    started: int = 0
    cold_starts: int = 0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class UsageSum:
    """The figures of some hours. Percentiles are in seconds, exact to their class; 0 where nothing ran."""

    executions: int
    failures: int
    duration_s: float
    p50_s: float
    p95_s: float
    started: int = 0
    cold_starts: int = 0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0

    @property
    def cold_share(self) -> float:
        """The part of what an instance ran that waited for a new one; 0 where nothing ran."""
        return self.cold_starts / self.started if self.started else 0.0


def start_of(moment: datetime, step: timedelta) -> datetime:
    """When the hour or (UTC) day of a moment began."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if step == HOUR else hour.replace(hour=0)


def duration_class(duration_s: float) -> int:
    """Which class a duration is counted in: the place of the first edge above it."""
    return bisect.bisect_right(DURATION_EDGES_S, duration_s)


def summed(hours: Iterable[UsageHour]) -> UsageSum:
    """Add figures up."""
    hours = tuple(hours)
    classes: dict[int, int] = {}
    for each in hours:
        for place, count in each.durations.items():
            classes[place] = classes.get(place, 0) + count
    return UsageSum(
        executions=sum(each.executions for each in hours),
        failures=sum(each.failures for each in hours),
        duration_s=sum(each.duration_s for each in hours),
        p50_s=percentile_s(classes, 0.5),
        p95_s=percentile_s(classes, 0.95),
        started=sum(each.started for each in hours),
        cold_starts=sum(each.cold_starts for each in hours),
        cpu_s=sum(each.cpu_s for each in hours),
        peak_memory_bytes=max((each.peak_memory_bytes for each in hours), default=0),
    )


def percentile_s(classes: Mapping[int, int], share: float) -> float:
    """The duration that `share` of the executions do not exceed, taking those of a class as spread evenly over it."""
    total = sum(classes.values())
    wanted, seen = share * total, 0
    for place in sorted(classes):
        count = classes[place]
        if seen + count >= wanted and count:
            low = DURATION_EDGES_S[place - 1] if place else 0.0
            high = DURATION_EDGES_S[place] if place < len(DURATION_EDGES_S) else low
            return low + (high - low) * (wanted - seen) / count
        seen += count
    return 0.0
