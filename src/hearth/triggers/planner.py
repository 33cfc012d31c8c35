"""Which schedules are due: pure, (now) -> fires, over a heap of next planned times.

Nothing here reads a clock, waits or stores. A planned time is fired once by a planner, whatever the clock does; that
several planners fire it once is the affair of the execution's id (`occasion_id`).
"""

import hashlib
import heapq
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from hearth.model import times
from hearth.model.cron import CronRule, MalformedCron, read_cron, read_zone
from hearth.model.function_settings import MissedRuns

#: A planned time that is later than this was missed: nobody was there to fire it, or the clock was put forward.
LATE_S = 60
#: Dead entries the heap may hold beyond as many as live ones.
_DEAD_MAX = 1_024

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be planned for one function: its rule, and how it is read."""

    project_id: str
    function_id: str
    rule: str
    zone: str = "UTC"
    jitter_s: int = 0
    missed: MissedRuns = MissedRuns.SKIP


@dataclass(frozen=True, slots=True)
class Fire:
    """A planned time that is to become an execution now."""

    plan: Plan
    planned_at: datetime


class _Entry:
    """A plan in the heap. `fire_ms` is its next planned time with its jitter; -1 once it counts no more."""

    __slots__ = ("fire_ms", "function_id", "jitter_s", "missed", "project_id", "rule", "zone")

    def __init__(self, plan: Plan) -> None:
        self.project_id = sys.intern(plan.project_id)
        self.function_id = plan.function_id
        self.rule = sys.intern(plan.rule)
        self.zone = sys.intern(plan.zone)
        self.jitter_s = plan.jitter_s
        self.missed = plan.missed
        self.fire_ms = -1

    def plan(self) -> Plan:
        return Plan(self.project_id, self.function_id, self.rule, self.zone, self.jitter_s, self.missed)

    def offset_ms(self) -> int:
        return jitter_ms(self.function_id, self.jitter_s) if self.jitter_s else 0


class Planner:
    """The active schedules of all projects. About 500 bytes each."""

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, _Entry]] = {}
        self._heap: list[tuple[int, int, _Entry]] = []
        self._count = 0
        self._number = 0
        self.jitter_max_s = 0
        """The longest jitter of any plan so far: planned times older than this are all fired, or never will be."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Plan]:
        return (entry.plan() for entries in self._entries.values() for entry in entries.values())

    def get(self, project_id: str, function_id: str) -> Plan | None:
        """What is planned for a function; None if nothing is."""
        entry = self._entries.get(project_id, {}).get(function_id)
        return None if entry is None else entry.plan()

    def put(self, plan: Plan, since: datetime) -> None:
        """Plan a function (anew): its first planned time is the one after `since`. A rule never due is not planned."""
        self.remove(plan.project_id, plan.function_id)
        entry = _Entry(plan)
        self.jitter_max_s = max(self.jitter_max_s, plan.jitter_s)
        if self._plan_next(entry, since):
            self._entries.setdefault(entry.project_id, {})[entry.function_id] = entry
            self._count += 1

    def remove(self, project_id: str, function_id: str) -> None:
        """Plan a function no more; one that is not planned is fine."""
        entries = self._entries.get(project_id, {})
        entry = entries.pop(function_id, None)
        if entry is None:
            return
        entry.fire_ms = -1
        self._count -= 1
        if not entries:
            del self._entries[project_id]
        if len(self._heap) > 2 * self._count + _DEAD_MAX:
            self._heap = [item for item in self._heap if item[2].fire_ms == item[0]]
            heapq.heapify(self._heap)

    def next_at(self) -> datetime | None:
        """When `due` will next have something to say; it may be in the past. None = never."""
        next_ms = self._next_ms()
        return None if next_ms is None else times.from_epoch_ms(next_ms)

    def due(self, now: datetime, limit: int) -> list[Fire]:
        """Take up to `limit` entries that are due, plan their next times, and say what is to be fired.

        An entry whose time was missed (`LATE_S`) fires nothing, or, for `MissedRuns.ONCE`, its last missed time. Fewer
        than `limit` does not mean that no more is due: look at `next_at`.
        """
        now_ms = times.to_epoch_ms(now)
        fires: list[Fire] = []
        for _ in range(limit):
            if (next_ms := self._next_ms()) is None or next_ms > now_ms:
                break
            fire_ms, _, entry = heapq.heappop(self._heap)
            planned = times.from_epoch_ms(fire_ms - entry.offset_ms())
            since = planned
            if now_ms - fire_ms > LATE_S * 1_000:
                # What comes after the last missed time is not missed.
                until = now - timedelta(milliseconds=entry.offset_ms())
                since = _latest(read_cron(entry.rule), entry.zone, planned, until)
                if entry.missed is MissedRuns.ONCE:
                    fires.append(Fire(entry.plan(), since))
            else:
                fires.append(Fire(entry.plan(), planned))
            if not self._plan_next(entry, since):
                self.remove(entry.project_id, entry.function_id)
        return fires

    def _next_ms(self) -> int | None:
        while self._heap and self._heap[0][2].fire_ms != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _plan_next(self, entry: _Entry, since: datetime) -> bool:
        """Put the first planned time after `since` into the heap; False if there is none."""
        zone = read_zone(entry.zone)
        try:
            planned = None if zone is None else read_cron(entry.rule).next_after(since, zone)
        except MalformedCron:
            planned = None
        if planned is None:
            return False
        entry.fire_ms = times.to_epoch_ms(planned) + entry.offset_ms()
        self._number += 1
        heapq.heappush(self._heap, (entry.fire_ms, self._number, entry))
        return True


def occasion_id(function_id: str, planned_at: datetime) -> str:
    """The id of the execution of a planned time: the same for every server, so that the database takes it once.

    Like every id it sorts by time; 64 bits tell functions of one project apart.
    """
    digest = hashlib.blake2b(function_id.encode(), digest_size=8).hexdigest()
    return f"{times.to_epoch_ms(planned_at) * 1_000:013x}{digest}"


def jitter_ms(function_id: str, jitter_s: int) -> int:
    """By how much a function's runs come later than planned: always the same, anywhere below its jitter."""
    digest = hashlib.blake2b(function_id.encode(), digest_size=8, person=b"jitter").digest()
    return int.from_bytes(digest, "big") % (jitter_s * 1_000)


def _latest(rule: CronRule, zone_name: str, first: datetime, now: datetime) -> datetime:
    """The last planned time up to `now`, where `first` is one. Looks at few of those in between."""
    zone = read_zone(zone_name)
    if zone is None:
        return first
    span, latest = _HOUR, first
    while True:
        since = max(first, now - span)
        planned = rule.next_after(since, zone)
        while planned is not None and planned <= now:
            latest = planned
            planned = rule.next_after(planned, zone)
        if latest > first or since == first:
            return latest
        span *= 2
