"""What a server counts while it works: plain integers, bumped on the event loop and read when somebody asks.

Nothing here knows how the figures are shown; `hearth.metrics` does. A count costs some tens of nanoseconds, so the hot
path may use it.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime


class Distribution:
    """How values are spread: how many fell at or below each bound (and beyond the last), and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """`bounds` ascend."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def __len__(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def merged(self, others: Iterable["Distribution"]) -> "Distribution":
        """This one and others of the same bounds, as a new one."""
        result = Distribution(self.bounds)
        for one in (self, *others):
            result.counts = [mine + theirs for mine, theirs in zip(result.counts, one.counts, strict=True)]
            result.total += one.total
        return result


#: Seconds: from a warm run of a millisecond to the longest timeout.
RUN_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
#: Seconds: from a commit in memory to a database that hardly answers.
COMMIT_BOUNDS_S = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
#: Entries of one group commit.
BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000)
#: Seconds after a planned time.
LATENESS_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
#: Seconds of a build.
BUILD_BOUNDS_S = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0)


class CommitFigures:
    """The group commits of one store."""

    __slots__ = ("entries", "failed", "seconds")

    def __init__(self) -> None:
        self.seconds = Distribution(COMMIT_BOUNDS_S)
        """How long each took."""
        self.entries = Distribution(BATCH_BOUNDS)
        """How much each wrote: records, accepted executions, ended attempts."""
        self.failed = 0

    def done(self, seconds: float, entries: int) -> None:
        """One was committed."""
        self.seconds.add(seconds)
        self.entries.add(entries)


class BuildFigures:
    """The builds of one server."""

    __slots__ = ("ended", "seconds")

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        """Final status -> how many."""
        self.seconds = Distribution(BUILD_BOUNDS_S)
        """Of those carried to their end here: from the start of the build to its final status."""


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """How the queue of the database stands at one moment, all servers together."""

    due: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    """Kind of job -> how many wait whose time has come, and the due time of the oldest."""
    later: dict[str, int] = field(default_factory=dict)
    """Kind -> how many wait for their time."""
    claimed: dict[str, int] = field(default_factory=dict)
    """Kind -> how many are being carried out."""
    dead: dict[str, int] = field(default_factory=dict)
    """Kind -> how many were given up within the time for which ended jobs are kept."""
    dead_letters: int = 0


@dataclass(frozen=True, slots=True)
class ExecutorFigures:
    """How one executor stands at one moment, and what it has counted since its start."""

    instances: dict[str, int]
    """State -> how many."""
    memory_mb: int
    """What they are promised together."""
    waiting: int
    """Requests that wait for a place."""
    started: int
    """Instances started since the start of the server."""
    rejected: dict[str, int]
    """Limit -> how many requests it has turned away since the start."""
    stems: dict[tuple[str, str], int]
    """(runtime, state) -> how many."""
    stems_taken: int
    """How many instances grew from a stem since the start."""
