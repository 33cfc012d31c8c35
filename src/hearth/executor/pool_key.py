"""What the pool remembers of one InstanceKey: its instances, who waits for them, how they failed."""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

from hearth.executor.actions import Member, State, Waiter
from hearth.executor.limits import PoolLimits
from hearth.model.running import InstanceKey, InstanceTemplate

_LIVING = (State.STARTING, State.IDLE, State.BUSY, State.PAUSED)
_DOUBLINGS_MAX = 10


@dataclass(eq=False, slots=True)
class PoolKey:
    """Everything of one InstanceKey."""

    key: InstanceKey
    template: InstanceTemplate
    waiting: OrderedDict[Waiter, None] = field(default_factory=OrderedDict)
    members: list[Member] = field(default_factory=list)
    idle: list[Member] = field(default_factory=list)
    """Idle or paused, and not retired; the most recently used last."""
    floor: int = 0
    """How many instances are to be there even if nobody asks for them."""
    known_slots: int = 0
    most_slots: int = 0
    """The most that one of its instances has declared, ever."""
    failures: int = 0
    failure: object = None
    failing_until: float = 0.0
    crashes: int = 0
    not_before: float = 0.0
    """No start before this time (crash loops are rate limited)."""
    keep_not_before: float = 0.0
    """No start only for the floor before this time: code that does not stay up is tried more and more rarely."""
    troubled_at: float = 0.0
    """When an instance last failed to start or crashed."""
    expires_at: float = math.inf
    """When it is to be seen which of its requests have waited long enough."""
    forget_at: float = 0.0
    """When it is to be seen whether this can be forgotten."""
    looks_at: float = 0.0
    """When it is to be seen again whether there is room for the floor."""

    # -------------------------------------------------------------------------------------------- questions

    def free_place(self) -> Member | None:
        """An idle instance, the most recently used first, else the least loaded one with a place."""
        if self.idle:
            return self.idle[-1]
        if self.most_slots == 1:
            return None  # each busy one is full
        best: Member | None = None
        for member in self.members:
            if (
                member.state is State.BUSY
                and not member.retired
                and member.running < member.slots
                and (best is None or member.running < best.running)
            ):
                best = member
        return best

    def alive(self) -> int:
        """How many instances serve, or will when they are up."""
        return sum(1 for member in self.members if not member.retired and member.state in _LIVING)

    def up(self) -> int:
        """How many instances could take a request now, or will when their running ones have ended."""
        return sum(
            1
            for member in self.members
            if not member.retired and member.state in _LIVING and member.state is not State.STARTING
        )

    def wants_for_requests(self) -> bool:
        """Whether more requests wait than the instances that are coming will serve."""
        waiter = next(iter(self.waiting))
        coming = sum(1 for member in self.members if member.state is State.STARTING and not member.retired)
        return len(self.waiting) > coming * (self.known_slots or waiter.expected_slots)

    def spare(self) -> list[Member]:
        """The idle instances that may go without falling below the floor, the oldest first."""
        return self.idle[: max(0, self.alive() - self.floor)] if self.floor else list(self.idle)

    # -------------------------------------------------------------------------------------------- what went wrong

    def start_failed(self, failure: object, limits: PoolLimits, now: float) -> None:
        """An instance did not come up: the next one has to wait, each time twice as long."""
        self.failures += 1
        self.failure = failure
        self.troubled_at = now
        pause_s = limits.failure_backoff_s * 2 ** min(self.failures - 1, _DOUBLINGS_MAX)
        self.failing_until = self.not_before = now + min(pause_s, limits.failure_backoff_max_s)
        self.keep_not_before = now + min(pause_s, limits.keep_backoff_max_s)

    def crashed(self, limits: PoolLimits, now: float) -> bool:
        """An instance that was up has ended by itself; whether the next one has to wait."""
        self.crashes += 1
        self.troubled_at = now
        over = self.crashes - limits.crashes_forgiven
        if over < 0:
            return False
        pause_s = limits.crash_backoff_s * 2 ** min(over, _DOUBLINGS_MAX)
        self.not_before = now + min(pause_s, limits.crash_backoff_max_s)
        self.keep_not_before = now + min(pause_s, limits.keep_backoff_max_s)
        return True
