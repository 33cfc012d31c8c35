"""Decides which instance serves which request: a state machine without I/O, clock or `await`.

Every method is one event, `(event, now) -> actions`; `instances.py` carries the actions out and reports back. Times
are seconds of a monotonic clock. Instances are started for a key, never for a request, so a caller that leaves
leaves an idle instance behind and not an orphan.
"""

import heapq
import itertools
from collections import OrderedDict
from dataclasses import dataclass, field

from hearth.executor.actions import (
    MOVES,
    Action,
    Assign,
    Closed,
    Full,
    IllegalMove,
    Member,
    Pause,
    Reject,
    Start,
    State,
    Stop,
    Waiter,
)
from hearth.executor.limits import PoolLimits
from hearth.model.running import InstanceKey, InstanceTemplate

#: How long a key without instances is remembered for its failures.
FORGET_AFTER_S = 60.0


@dataclass(eq=False, slots=True)
class _Key:
    """Everything of one InstanceKey."""

    key: InstanceKey
    template: InstanceTemplate
    waiting: OrderedDict[Waiter, None] = field(default_factory=OrderedDict)
    members: list[Member] = field(default_factory=list)
    idle: list[Member] = field(default_factory=list)
    """Idle or paused, and not retired; the most recently used last."""
    known_slots: int = 0
    failures: int = 0
    failure: object = None
    failing_until: float = 0.0
    crashes: int = 0
    not_before: float = 0.0
    """No start before this time (crash loops are rate limited)."""


class Pool:
    """All instances of one executor and the requests that wait for them."""

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.closed = False
        self._keys: dict[InstanceKey, _Key] = {}
        self._demand: OrderedDict[_Key, None] = OrderedDict()
        """Keys with waiting requests; the one whose turn it is to get an instance first."""
        self._due: list[tuple[float, int, object]] = []
        self._ids = itertools.count(1)
        self._order = itertools.count(1)
        self._members: dict[int, Member] = {}
        self._waiting = 0
        self._starting = 0
        self._memory_mb = 0

    # -------------------------------------------------------------------------------------------- events

    def request(self, waiter: Waiter, now: float) -> list[Action]:
        """A request arrives. It is assigned at once, waits, or is rejected."""
        state = self._keys.get(waiter.template.key)
        if state is not None and not state.waiting and not self.closed:
            member = self._free_place(state)
            if member is not None:
                return [self._assign(member, waiter, state)]
        if self.closed:
            return [Reject(waiter, Closed())]
        if state is None:
            state = self._keys[waiter.template.key] = _Key(waiter.template.key, waiter.template)
        if now < state.failing_until and not any(_is_alive(member) for member in state.members):
            return [Reject(waiter, state.failure)]
        if len(state.waiting) >= self.limits.max_waiting_per_key:
            return [Reject(waiter, Full("max_waiting_per_key"))]
        if self._waiting >= self.limits.max_waiting:
            self._forget(state)
            return [Reject(waiter, Full("max_waiting"))]
        state.template = waiter.template
        waiter.order = next(self._order)
        waiter.had_to_wait = True
        state.waiting[waiter] = None
        self._waiting += 1
        self._demand.setdefault(state)
        self._wake_at(waiter.deadline, waiter)
        return self._start_wanted(now)

    def cancel(self, waiter: Waiter, now: float) -> list[Action]:
        """A waiting request's caller left; one that was assigned or rejected is not touched."""
        state = self._keys.get(waiter.template.key)
        if state is not None and waiter in state.waiting:
            self._unqueue(state, waiter)
            self._forget(state)
        return self._start_wanted(now)  # the room it was kept may serve another

    def started(self, member: Member, slots: int, now: float) -> list[Action]:
        """An instance is up and has declared how many requests it can run at once."""
        if member.state is not State.STARTING:
            return []  # stopped meanwhile: `ended` follows
        state = self._keys[member.template.key]
        state.known_slots = member.slots = max(1, slots)
        state.failures = 0
        state.failing_until = 0.0
        self._starting -= 1
        member.since = now
        self._move(member, State.IDLE)
        return self._settle(state, member, now) + self._start_wanted(now)

    def released(self, member: Member, now: float, *, healthy: bool = True) -> list[Action]:
        """A request in `member` has ended; with `healthy=False` the instance is to serve no other one."""
        if member.running <= 0:
            raise IllegalMove(f"release of instance {member.id}, which runs nothing")
        member.running -= 1
        if member.state is not State.BUSY:
            return []  # stopping or gone: `ended` tells the rest
        state = self._keys[member.template.key]
        if healthy:
            state.crashes = 0
        else:
            member.retired = True
        if member.running == 0:
            self._move(member, State.IDLE)
        actions = self._settle(state, member, now)
        return actions + self._start_wanted(now) if self._demand else actions

    def stop(self, member: Member, why: str, now: float) -> list[Action]:
        """The instance has to end now, whatever runs in it."""
        if member.state in (State.STOPPING, State.GONE):
            return []
        actions: list[Action] = [self._stop(member, why)]
        return actions + self._start_wanted(now)

    def drain(self, member: Member, why: str, now: float) -> list[Action]:
        """The instance gets no new request and ends after the last running one."""
        if member.state in (State.STOPPING, State.GONE):
            return []
        self._retire(member)
        actions: list[Action] = [] if member.running else [self._stop(member, why)]
        return actions + self._start_wanted(now)

    def ended(self, member: Member, now: float, *, failure: object = None, crashed: bool = False) -> list[Action]:
        """An instance is gone, with everything that ran in it.

        `failure` is why it could not be started (any object; waiting requests are rejected with it);
        `crashed` says that it ended by itself after it was up.
        """
        if member.state is State.GONE:
            return []
        state = self._keys[member.template.key]
        if member.state is State.STARTING:
            self._starting -= 1
        self._take_from_idle(state, member)
        self._move(member, State.GONE)
        member.running = 0
        self._memory_mb -= member.template.memory_mb
        del self._members[member.id]
        state.members.remove(member)
        actions: list[Action] = []
        if failure is not None:
            actions = self._start_failed(state, failure, now)
        elif crashed:
            state.crashes += 1
            over = state.crashes - self.limits.crashes_forgiven
            if over >= 0:
                pause_s = min(self.limits.crash_backoff_s * 2 ** min(over, 10), self.limits.crash_backoff_max_s)
                state.not_before = now + pause_s
                self._wake_at(state.not_before, state)
        actions += self._start_wanted(now)
        self._forget(state)
        return actions

    def retire(self, deployment_id: str, now: float) -> list[Action]:
        """Let all present instances of a deployment end. Requests that wait for it get new ones."""
        actions: list[Action] = []
        for member in list(self._members.values()):
            if member.template.key.deployment_id == deployment_id:
                actions += self.drain(member, "retired", now)
        return actions

    def remove(self, deployment_id: str, reason: object, now: float) -> list[Action]:
        """The deployment is no more: its instances end now, whatever runs in them; who waits for it hears `reason`."""
        actions: list[Action] = []
        for state in list(self._demand):
            for waiter in [one for one in state.waiting if one.template.key.deployment_id == deployment_id]:
                self._unqueue(state, waiter)
                actions.append(Reject(waiter, reason))
            self._forget(state)
        for member in list(self._members.values()):
            if member.template.key.deployment_id == deployment_id:
                actions += self.stop(member, "deleted", now)
        return actions

    def close(self, now: float) -> list[Action]:
        """Take no more requests, reject the waiting ones, let the running ones end."""
        self.closed = True
        actions: list[Action] = []
        for state in list(self._demand):
            for waiter in list(state.waiting):
                self._unqueue(state, waiter)
                actions.append(Reject(waiter, Closed()))
        for member in list(self._members.values()):
            actions += self.drain(member, "closing", now)
        return actions

    def tick(self, now: float) -> list[Action]:
        """Time has passed: waiting requests run out, idle instances end, pauses after crashes are over."""
        actions: list[Action] = []
        while self._due and self._due[0][0] <= now:
            when, _, subject = heapq.heappop(self._due)
            if isinstance(subject, Waiter):
                state = self._keys.get(subject.template.key)
                if state is not None and subject in state.waiting:
                    limit = self._why_waiting(state, now)
                    self._unqueue(state, subject)
                    actions.append(Reject(subject, Full(limit)))
                    self._forget(state)
            elif isinstance(subject, Member):
                if subject.timer_due == when:
                    actions += self._idle_timer(subject, now)
            elif isinstance(subject, _Key):
                self._forget(subject, now)
        return actions + self._start_wanted(now)

    def next_due(self) -> float | None:
        """When `tick` is to be called next; None = no need. May be earlier than anything happens."""
        return self._due[0][0] if self._due else None

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

    def waiters(self) -> tuple[Waiter, ...]:
        """The waiting requests, by key and arrival."""
        return tuple(waiter for state in self._demand for waiter in state.waiting)

    def __repr__(self) -> str:
        counts = dict.fromkeys(State, 0)
        for member in self._members.values():
            counts[member.state] += 1
        shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no instance"
        return f"<Pool{' (closed)' if self.closed else ''}: {shown}; {self._waiting} waiting>"

    # -------------------------------------------------------------------------------------------- decisions

    def _free_place(self, state: _Key) -> Member | None:
        """An idle instance, the most recently used first, else the least loaded one with a place."""
        if state.idle:
            return state.idle[-1]
        best: Member | None = None
        for member in state.members:
            if (
                member.state is State.BUSY
                and not member.retired
                and member.running < member.slots
                and (best is None or member.running < best.running)
            ):
                best = member
        return best

    def _assign(self, member: Member, waiter: Waiter, state: _Key) -> Assign:
        resume = member.state is State.PAUSED
        if member.state is not State.BUSY:
            self._take_from_idle(state, member)
            self._move(member, State.BUSY)
        member.running += 1
        member.served += 1
        return Assign(member, waiter, resume)

    def _settle(self, state: _Key, member: Member, now: float) -> list[Action]:
        """Give the free places of `member` to waiting requests of its key; else it idles or ends."""
        if member.retired or self.closed:
            return [] if member.running else [self._stop(member, "retired")]
        if state.waiting and member.running == 0 and self._must_yield(state, member, now):
            return [self._stop(member, "another function's turn")]
        actions: list[Action] = []
        while state.waiting and member.running < member.slots:
            waiter = next(iter(state.waiting))
            self._unqueue(state, waiter)
            actions.append(self._assign(member, waiter, state))
        if member.state is State.IDLE and not member.running:
            member.idle_since = now
            state.idle.append(member)
            self._set_idle_timer(member)
        return actions

    def _must_yield(self, state: _Key, member: Member, now: float) -> bool:
        """Whether a key that has no instance at all has waited longer than this key's next request."""
        if now - member.since < self.limits.fair_slice_s:
            return False
        if any(other.state is State.STOPPING for other in self._members.values()):
            return False  # room is being made already
        own = next(iter(state.waiting)).order
        return any(
            not other.members
            and next(iter(other.waiting)).order < own
            and now >= other.not_before
            and not self._fits(other.template.memory_mb, 0, 0)
            for other in self._demand
            if other is not state
        )

    def _start_wanted(self, now: float) -> list[Action]:
        """Start instances for keys that want one, in turn, making room where idle ones can go."""
        actions: list[Action] = []
        if not self._demand or self.closed:
            return actions
        promised_instances = promised_mb = 0  # room that stopping instances leave, already given away in this pass
        progress = True
        while progress:
            progress = False
            for state in list(self._demand):
                if self._starting >= self.limits.max_starting:
                    return actions
                if not self._wants_instance(state, now):
                    continue
                need_mb = state.template.memory_mb
                if self._fits(need_mb, promised_instances, promised_mb):
                    actions.append(self._start(state))
                    self._demand.move_to_end(state)
                    progress = True
                elif promised_instances == 0 and (evicted := self._make_room(need_mb)) is not None:
                    actions += evicted
                    promised_instances += 1
                    promised_mb += need_mb
        return actions

    def _wants_instance(self, state: _Key, now: float) -> bool:
        if now < state.not_before or len(state.members) >= self.limits.max_instances_per_key:
            return False
        waiter = next(iter(state.waiting))
        coming = sum(1 for member in state.members if member.state is State.STARTING and not member.retired)
        return len(state.waiting) > coming * (state.known_slots or waiter.expected_slots)

    def _fits(self, need_mb: int, promised_instances: int, promised_mb: int) -> bool:
        if not self._members:
            return True  # one that is larger than the whole budget runs alone
        return (
            len(self._members) + promised_instances < self.limits.max_instances
            and self._memory_mb + promised_mb + need_mb <= self.limits.memory_mb
        )

    def _make_room(self, need_mb: int) -> list[Action] | None:
        """Stop the oldest idle instances until `need_mb` will fit; None if not even that would help."""
        remaining = len(self._members)
        memory_mb = self._memory_mb
        for member in self._members.values():
            if member.state is State.STOPPING:
                remaining -= 1
                memory_mb -= member.template.memory_mb
        idle = sorted(
            (member for state in self._keys.values() if not state.waiting for member in state.idle),
            key=lambda member: member.idle_since,
        )
        chosen: list[Member] = []
        while remaining and (remaining >= self.limits.max_instances or memory_mb + need_mb > self.limits.memory_mb):
            if len(chosen) == len(idle):
                return None
            victim = idle[len(chosen)]
            chosen.append(victim)
            remaining -= 1
            memory_mb -= victim.template.memory_mb
        return [self._stop(member, "evicted") for member in chosen]

    def _start(self, state: _Key) -> Start:
        member = Member(next(self._ids), state.template, slots=state.known_slots or 1)
        self._members[member.id] = member
        state.members.append(member)
        self._starting += 1
        self._memory_mb += member.template.memory_mb
        return Start(member)

    def _start_failed(self, state: _Key, failure: object, now: float) -> list[Action]:
        limits = self.limits
        state.failures += 1
        state.failure = failure
        pause_s = limits.failure_backoff_s * 2 ** min(state.failures - 1, 10)
        state.failing_until = state.not_before = now + min(pause_s, limits.failure_backoff_max_s)
        self._wake_at(state.not_before, state)
        self._wake_at(state.not_before + FORGET_AFTER_S, state)
        if any(_is_alive(member) for member in state.members):
            return []  # another instance will serve them
        actions: list[Action] = []
        for waiter in list(state.waiting):
            self._unqueue(state, waiter)
            actions.append(Reject(waiter, failure))
        return actions

    def _idle_timer(self, member: Member, now: float) -> list[Action]:
        member.timer_due = None
        if member.state not in (State.IDLE, State.PAUSED):
            return []  # `_settle` sets a new timer when it idles again
        if now >= member.idle_since + self.limits.idle_timeout_s:
            return [self._stop(member, "idle")]
        actions: list[Action] = []
        if now >= self._idle_due(member):
            self._move(member, State.PAUSED)
            actions.append(Pause(member))
        self._set_idle_timer(member)
        return actions

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

    def _why_waiting(self, state: _Key, now: float) -> str:
        """The name of the limit that keeps a key's requests waiting."""
        if len(state.members) >= self.limits.max_instances_per_key:
            return "max_instances_per_key"
        if now < state.not_before:
            return "crash_backoff_s"
        if len(self._members) >= self.limits.max_instances:
            return "max_instances"
        if not self._fits(state.template.memory_mb, 0, 0):
            return "memory_mb"
        return "start_timeout_s" if state.members else "max_starting"

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

    def _take_from_idle(self, state: _Key, member: Member) -> None:
        idle = state.idle
        if idle and idle[-1] is member:
            idle.pop()
        elif member in idle:
            idle.remove(member)

    def _unqueue(self, state: _Key, waiter: Waiter) -> None:
        del state.waiting[waiter]
        self._waiting -= 1
        if not state.waiting:
            del self._demand[state]

    def _wake_at(self, when: float, subject: object) -> None:
        heapq.heappush(self._due, (when, next(self._order), subject))

    def _forget(self, state: _Key, now: float | None = None) -> None:
        """Drop what is kept of a key that has nothing left, once its failures need not be remembered."""
        if state.members or state.waiting or self._keys.get(state.key) is not state:
            return
        is_clean = not state.failures and not state.crashes
        if is_clean or (now is not None and now >= state.not_before + FORGET_AFTER_S):
            del self._keys[state.key]


def _is_alive(member: Member) -> bool:
    return not member.retired and member.state in (State.STARTING, State.IDLE, State.BUSY)
