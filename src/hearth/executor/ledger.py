"""What the pool knows: its instances, the requests that wait for them, and what is due when. Decides nothing."""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable

from hearth.executor.actions import MOVES, IllegalMove, Member, Start, State, Stop, Waiter
from hearth.executor.limits import PoolLimits
from hearth.executor.pool_key import PoolKey
from hearth.model.running import InstanceKey

#: How long a key without instances is remembered for its failures.
FORGET_AFTER_S = 60.0


class Ledger:
    """Instances and waiting requests with their counts, which change together here and nowhere else.

    `pool.Pool` is one and decides on it. Times are seconds of a monotonic clock.
    """

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.closed = False
        self._keys: dict[InstanceKey, PoolKey] = {}
        self._demand: OrderedDict[PoolKey, None] = OrderedDict()
        """Keys with waiting requests; the one whose turn it is to get an instance first."""
        self._kept: OrderedDict[PoolKey, None] = OrderedDict()
        """Keys that have a floor, the one whose turn it is first."""
        self._due: list[tuple[float, int, object]] = []
        self._ids = itertools.count(1)
        self._order = itertools.count(1)
        self._members: dict[int, Member] = {}
        self._waiting = 0
        self._starting = 0
        self._memory_mb = 0

    # -------------------------------------------------------------------------------------------- questions

    @property
    def members(self) -> tuple[Member, ...]:
        """Every instance that is not gone."""
        return tuple(self._members.values())

    @property
    def waiting(self) -> int:
        """How many requests wait for an instance."""
        return self._waiting

    @property
    def memory_mb(self) -> int:
        """Sum of the memory limits of all instances."""
        return self._memory_mb

    def is_coming(self, key: InstanceKey) -> bool:
        """Whether instances of a key that are to be kept ready are not up yet, and none of its starts has failed."""
        state = self._keys.get(key)
        return state is not None and not state.failures and not state.crashes and state.up() < state.floor

    def waiters(self) -> tuple[Waiter, ...]:
        """The waiting requests, by key and arrival."""
        return tuple(waiter for state in self._demand for waiter in state.waiting)

    def __repr__(self) -> str:
        counts = dict.fromkeys(State, 0)
        for member in self._members.values():
            counts[member.state] += 1
        shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no instance"
        return f"<Pool{' (closed)' if self.closed else ''}: {shown}; {self._waiting} waiting>"

    # -------------------------------------------------------------------------------------------- bookkeeping

    def _move(self, member: Member, to: State) -> None:
        if to not in MOVES[member.state]:
            raise IllegalMove(f"instance {member.id}: {member.state} -> {to}")
        member.state = to

    def _stop(self, member: Member, why: str) -> Stop:
        if member.state is State.STARTING:
            self._starting -= 1
        self._retire(member)
        self._move(member, State.STOPPING)
        return Stop(member, why)

    def _retire(self, member: Member) -> None:
        member.retired = True
        self._take_from_idle(self._keys[member.template.key], member)

    def _take_from_idle(self, state: PoolKey, member: Member) -> None:
        idle = state.idle
        if idle and idle[-1] is member:
            idle.pop()
        elif member in idle:
            idle.remove(member)

    def _unqueue(self, state: PoolKey, waiter: Waiter) -> None:
        del state.waiting[waiter]
        self._waiting -= 1
        if not state.waiting:
            del self._demand[state]

    def _lower(self, which: Callable[[PoolKey], bool]) -> None:
        """Keep no instance ready of these keys."""
        for state in [state for state in self._kept if which(state)]:
            state.floor = 0
            del self._kept[state]
            self._set_idle_timers(state)
            self._forget(state)

    def _wake_at(self, when: float, subject: object) -> None:
        heapq.heappush(self._due, (when, next(self._order), subject))

    def _expire_at(self, state: PoolKey, deadline: float) -> None:
        """A request of a key waits until `deadline`. One entry of the clock serves all of a key, and holds none."""
        if deadline < state.expires_at:
            state.expires_at = deadline
            self._wake_at(deadline, state)

    def _forget(self, state: PoolKey, now: float | None = None) -> None:
        """Drop what is kept of a key that has nothing left, once its failures need not be remembered."""
        if state.members or state.waiting or state.floor or self._keys.get(state.key) is not state:
            return
        due = max(state.not_before, state.troubled_at) + FORGET_AFTER_S
        if (not state.failures and not state.crashes) or (now is not None and now >= due):
            del self._keys[state.key]
        elif state.forget_at < due:
            state.forget_at = due
            self._wake_at(due, state)

    def _start(self, state: PoolKey) -> Start:
        member = Member(next(self._ids), state.template, slots=state.known_slots or 1)
        self._members[member.id] = member
        state.members.append(member)
        self._starting += 1
        self._memory_mb += member.template.memory_mb
        return Start(member)

    def _fits(self, need_mb: int, promised_instances: int, promised_mb: int) -> bool:
        if not self._members:
            return True  # one that is larger than the whole budget runs alone
        return (
            len(self._members) + promised_instances < self.limits.max_instances
            and self._memory_mb + promised_mb + need_mb <= self.limits.memory_mb
        )

    def _set_idle_timers(self, state: PoolKey) -> None:
        for member in state.idle:
            self._set_idle_timer(member)

    def _set_idle_timer(self, member: Member) -> None:
        due = self._idle_due(member)
        if member.timer_due is None or member.timer_due > due:
            member.timer_due = due
            self._wake_at(due, member)

    def _idle_due(self, member: Member) -> float:
        """When something is to be done about an idle instance: pause it, or end it."""
        pause_after_s = self.limits.pause_after_s
        if member.state is State.IDLE and pause_after_s is not None:
            return member.idle_since + min(pause_after_s, self.limits.idle_timeout_s)
        return member.idle_since + self.limits.idle_timeout_s
