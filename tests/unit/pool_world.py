"""A world around the pool for random histories: carries actions out in any order, and checks what must always hold."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hearth.executor.actions import Action, Assign, Member, Pause, Reject, Start, State, Stop, Waiter
from hearth.executor.limits import PoolLimits
from hearth.executor.pool import Pool
from hearth.model.running import Artifact, InstanceKey, InstanceTemplate

LIMITS = PoolLimits(
    max_instances_per_key=3,
    max_instances=5,
    memory_mb=1000,
    max_starting=2,
    max_waiting_per_key=6,
    max_waiting=10,
    idle_timeout_s=60,
    pause_after_s=1.5,
    fair_slice_s=1,
    failure_backoff_s=0.25,
    failure_backoff_max_s=5,
    crashes_forgiven=2,
    crash_backoff_s=0.1,
    crash_backoff_max_s=0.5,
    keep_backoff_max_s=20,
)

#: (deployment, memory_mb, requests at once): one is slow to share, one shares, one needs nearly all memory.
KINDS = (("plain", 100, 1), ("async", 200, 4), ("large", 900, 1))


def template(deployment: str, memory_mb: int = 100) -> InstanceTemplate:
    key = InstanceKey(deployment, "variables", "s-1vcpu")
    return InstanceTemplate(key, "p", "f", "node-20", Artifact("k", "d", 1), "main.js", {}, 1.0, memory_mb)


TEMPLATES = tuple(template(name, memory) for name, memory, _ in KINDS)
SLOTS = {name: slots for name, _, slots in KINDS}


@dataclass
class World:
    """Everything outside of the pool: what was started, what runs where, who waits."""

    pool: Pool
    random: random.Random
    now: float = 100.0
    open: dict[int, Waiter] = field(default_factory=dict)
    """Requests not yet answered in any way, by arrival."""
    assigned: dict[Waiter, Member] = field(default_factory=dict)
    over: set[Waiter] = field(default_factory=set)
    starting: list[Member] = field(default_factory=list)
    up: list[Member] = field(default_factory=list)
    stopping: list[Member] = field(default_factory=list)
    paused: set[Member] = field(default_factory=set)
    arrivals: int = 0
    last_assigned: dict[InstanceKey, int] = field(default_factory=dict)
    numbers: dict[Waiter, int] = field(default_factory=dict)
    quiet_until: dict[InstanceKey, float] = field(default_factory=dict)
    """Until when a key may be kept from starting because of its failures and crashes."""
    rare_until: dict[InstanceKey, float] = field(default_factory=dict)
    """The same for instances that are only to be kept ready."""
    floors: dict[InstanceKey, int] = field(default_factory=dict)
    """How many instances of a key are to be kept ready."""

    # ---------------------------------------------------------------------------------------- carrying out

    def act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                assert action.member not in self.alive, "started twice"
                self._check_start(action.member)
                self.starting.append(action.member)
            elif isinstance(action, Assign):
                self._assign(action.member, action.waiter)
                assert action.resume is (action.member in self.paused), "work for a frozen instance"
                self.paused.discard(action.member)
            elif isinstance(action, Pause):
                assert action.member in self.up, "an instance that is not up was frozen"
                assert action.member not in self.paused, "frozen twice"
                assert action.member not in self.assigned.values(), "a busy instance was frozen"
                self.paused.add(action.member)
            elif isinstance(action, Reject):
                assert action.waiter not in self.over, "answered twice"
                assert action.waiter not in self.assigned, "rejected while it runs"
                self._end(action.waiter)
            else:
                self._stop(action)
        self.check()

    def _check_start(self, member: Member) -> None:
        """A start that no request has asked for is made only when no request could have used the place."""
        key = member.template.key
        if any(waiter.template.key == key for waiter in self.waiting):
            return
        assert self.floors.get(key, 0), "an instance was started for nobody"
        others = {waiter.template.key: waiter.template for waiter in self.waiting}
        for template in others.values():
            assert not self._could_start(template), "an instance is kept ready where a request waits for the place"

    def _assign(self, member: Member, waiter: Waiter) -> None:
        assert member in self.up, "a request for an instance that is not up"
        assert not member.retired, "a request for an instance that is to end"
        assert waiter not in self.over, "a request that is over was assigned"
        assert waiter not in self.assigned, "a request was assigned twice"
        number = self.numbers[waiter]
        assert number > self.last_assigned.get(member.template.key, 0), "a request overtook another of its key"
        self.last_assigned[member.template.key] = number
        self.assigned[waiter] = member
        running = [other for other in self.assigned.values() if other is member]
        assert len(running) <= SLOTS[member.template.key.deployment_id], "more requests than places"

    def _stop(self, action: Stop) -> None:
        member = action.member
        assert member not in self.stopping, "stopped twice"
        if action.why in ("idle", "evicted", "retired", "another function's turn"):
            assert member not in self.assigned.values(), f"a busy instance was stopped ({action.why})"
        if action.why == "idle":
            assert len(self.serving(member.template.key)) >= self.floors.get(member.template.key, 0), (
                "it was to be kept"
            )
        (self.starting if member in self.starting else self.up).remove(member)
        self.stopping.append(member)
        self.paused.discard(member)

    def _end(self, waiter: Waiter) -> None:
        self.over.add(waiter)
        self.assigned.pop(waiter, None)
        self.open.pop(self.numbers[waiter], None)

    @property
    def alive(self) -> list[Member]:
        return self.starting + self.up + self.stopping

    def serving(self, key: InstanceKey) -> list[Member]:
        """The instances of a key that take requests, or will."""
        return [one for one in self.starting + self.up if one.template.key == key and not one.retired]

    @property
    def waiting(self) -> list[Waiter]:
        return [waiter for waiter in self.open.values() if waiter not in self.assigned]

    # ---------------------------------------------------------------------------------------- what must hold

    def check(self) -> None:
        pool, limits = self.pool, self.pool.limits
        alive = self.alive
        assert set(pool.members) == set(alive), "the pool lost or invented an instance"
        assert len(alive) <= limits.max_instances, "too many instances"
        assert len(self.starting) <= limits.max_starting, "too many starts at once"
        memory_mb = sum(member.template.memory_mb for member in alive)
        assert memory_mb == pool.memory_mb, "memory is miscounted"
        assert memory_mb <= limits.memory_mb or len(alive) == 1, "over the memory budget"
        waiting = self.waiting
        assert pool.waiting == len(waiting) == len(pool.waiters()), "waiting requests are miscounted"
        assert len(waiting) <= limits.max_waiting, "too many waiting"
        running: dict[Member, int] = {}
        for member in self.assigned.values():
            running[member] = running.get(member, 0) + 1
        for member in alive:
            assert member.running == running.get(member, 0), "running requests are miscounted"
            if member in self.up:
                idle = State.PAUSED if member in self.paused else State.IDLE
                assert member.state is (State.BUSY if member.running else idle), f"{member.state} is not true"
        for wanted in TEMPLATES:
            self._check_key(wanted, [waiter for waiter in waiting if waiter.template is wanted])

    def _check_key(self, wanted: InstanceTemplate, waiting: list[Waiter]) -> None:
        limits = self.pool.limits
        mine = [member for member in self.alive if member.template is wanted]
        assert len(mine) <= limits.max_instances_per_key, "too many instances of one key"
        assert len(waiting) <= limits.max_waiting_per_key, "too many waiting for one key"
        if not waiting:
            self._check_floor(wanted)
            return
        for member in mine:
            if member in self.up and not member.retired:
                assert member.running == member.slots, "a request waits while a place is free"
        could_start = self._could_start(wanted)
        assert not could_start or any(member in self.starting for member in mine), "a start is possible and not made"
        if not self.alive:
            assert self.pool.next_due() is not None, "requests wait and nothing will ever happen"

    def _could_start(self, wanted: InstanceTemplate) -> bool:
        limits = self.pool.limits
        alive_mb = sum(member.template.memory_mb for member in self.alive)
        return (
            self.now >= self.quiet_until.get(wanted.key, 0.0)
            and sum(member.template is wanted for member in self.alive) < limits.max_instances_per_key
            and len(self.starting) < limits.max_starting
            and len(self.alive) < limits.max_instances
            # Room may be kept for a larger one whose turn it is.
            and all(alive_mb + each.template.memory_mb <= limits.memory_mb for each in self.waiting)
        )

    def _check_floor(self, wanted: InstanceTemplate) -> None:
        """What is to be kept ready is there, unless something stands against it."""
        missing = self.floors.get(wanted.key, 0) - len(self.serving(wanted.key))
        if missing <= 0 or self.waiting or self.now < self.rare_until.get(wanted.key, 0.0) or self.pool.closed:
            return
        alive_mb = sum(member.template.memory_mb for member in self.alive)
        for other, floor in self.floors.items():  # room may be kept for another one that is larger
            if floor > len(self.serving(other)):
                largest = max(each.memory_mb for each in TEMPLATES if each.key == other)
                if alive_mb + largest > self.pool.limits.memory_mb:
                    return
        is_possible = self._could_start(wanted) and alive_mb + wanted.memory_mb <= self.pool.limits.memory_mb
        assert not is_possible or self.starting, "an instance is to be kept ready and is not started"

    # ---------------------------------------------------------------------------------------- what happens

    def keep(self, wanted: InstanceTemplate, count: int) -> None:
        """Let there be so many instances of a key."""
        self.floors[wanted.key] = count
        self.act(self.pool.keep(wanted, count, self.now))

    def request(self, wanted: InstanceTemplate, wait_s: float = 10.0) -> Waiter:
        self.arrivals += 1
        slots = SLOTS[wanted.key.deployment_id]
        waiter = Waiter(wanted, self.now + wait_s, expected_slots=self.random.choice((1, slots)))
        self.open[self.arrivals] = waiter
        self.numbers[waiter] = self.arrivals
        lent = self.pool.lend(waiter) if self.random.random() < 0.5 else None
        self.act(self.pool.request(waiter, self.now) if lent is None else [Assign(lent, waiter)])
        return waiter

    def cancel(self, waiter: Waiter) -> None:
        if waiter in self.assigned:
            self.release(waiter, healthy=False)
        else:
            self._end(waiter)
            self.act(self.pool.cancel(waiter, self.now))

    def release(self, waiter: Waiter, healthy: bool = True) -> None:
        member = self.assigned[waiter]
        self._end(waiter)
        if healthy and self.random.random() < 0.5:
            if self.pool.take_back(member):
                self.check()
                return
            following = self.pool.hand_on(member)
            if following is not None:
                self.act([Assign(member, following)])
                return
        self.act(self.pool.released(member, self.now, healthy=healthy))

    def started(self, member: Member) -> None:
        self.starting.remove(member)
        self.up.append(member)
        self.act(self.pool.started(member, SLOTS[member.template.key.deployment_id], self.now))

    def ended(self, member: Member, failure: object = None, crashed: bool = False) -> None:
        for group in (self.starting, self.up, self.stopping):
            if member in group:
                group.remove(member)
        self.paused.discard(member)
        for waiter in [waiter for waiter, place in self.assigned.items() if place is member]:
            self._end(waiter)
        limits = self.pool.limits
        pause_s = limits.failure_backoff_max_s if failure else limits.crash_backoff_max_s if crashed else 0.0
        key = member.template.key
        self.quiet_until[key] = max(self.quiet_until.get(key, 0.0), self.now + pause_s)
        if failure or crashed:
            self.rare_until[key] = self.now + limits.keep_backoff_max_s
        self.act(self.pool.ended(member, self.now, failure=failure, crashed=crashed))

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.act(self.pool.tick(self.now))
        limits = self.pool.limits
        for member in self.up:
            idle_s = 0.0 if member.running else self.now - member.idle_since
            key = member.template.key
            is_kept = len(self.serving(key)) <= self.floors.get(key, 0)
            assert idle_s < limits.idle_timeout_s or is_kept, "an idle instance was not ended in time"
            if limits.pause_after_s is not None and member not in self.paused:
                assert idle_s < limits.pause_after_s, "an idle instance was not paused in time"

    def step(self, choice: int) -> None:
        """One random event; `choice` picks which, `self.random` the details."""
        pick = self.random.choice
        if choice < 40:
            self.request(TEMPLATES[choice % 3], pick((0.5, 10.0, 100.0)))
        elif choice < 46 and self.open:
            self.cancel(pick(list(self.open.values())))
        elif choice < 62 and self.starting:
            self.started(pick(self.starting))
        elif choice < 66 and self.starting:
            self.ended(pick(self.starting), failure="does not load")
        elif choice < 82 and self.assigned:
            self.release(pick(list(self.assigned)), healthy=choice != 81)
        elif choice < 85 and self.up:
            self.ended(pick(self.up), crashed=True)
        elif choice < 91 and self.stopping:
            self.ended(pick(self.stopping))
        elif choice < 93 and self.up:
            self.act(self.pool.stop(pick(self.up), "killed", self.now))
        elif choice < 94 and self.up:
            self.act(self.pool.drain(pick(self.up), "drained", self.now))
        elif choice < 96:
            wanted = TEMPLATES[choice % 3]
            self.floors[wanted.key] = 0
            self.act(self.pool.retire(wanted.key.deployment_id, self.now))
        elif choice < 98:
            self.keep(pick(TEMPLATES), pick((0, 1, 2)))
        else:
            self.pass_time(pick((0.05, 0.3, 2.0, 70.0)))

    def finish(self) -> None:
        """Everything that was begun goes well from now on: then nobody waits for ever, and nothing stays.

        What is to be kept ready stays until it need not be kept any more.
        """
        self._go_on(lambda: not self.open and not self.starting and not self.stopping)
        assert not self.open, f"lost requests: {self.pool!r}"
        self.pass_time(2 * self.pool.limits.idle_timeout_s)
        self._go_on(lambda: not self.starting and not self.stopping)
        for key in [key for key, floor in self.floors.items() if floor]:
            self.keep(next(each for each in TEMPLATES if each.key == key), 0)
        self._go_on(lambda: not self.open and not self.alive)
        assert not self.open, f"lost requests: {self.pool!r}"
        assert not self.alive, f"instances that never end: {self.pool!r}"

    def _go_on(self, is_over: Callable[[], bool]) -> None:
        for _ in range(2_000):
            if is_over():
                return
            if self.starting:
                self.started(self.starting[0])
            elif self.stopping:
                self.ended(self.stopping[0])
            elif self.assigned:
                self.release(next(iter(self.assigned)))
            else:
                due = self.pool.next_due()
                assert due is not None, f"stuck: {self.pool!r}"
                self.pass_time(max(0.0, due - self.now))

    def close(self) -> None:
        """The executor closes: requests that wait are told at once, the others end, nothing is started."""
        self.floors.clear()
        self.act(self.pool.close(self.now))
        assert not self.waiting, "a request still waits for a closed pool"
        self.request(TEMPLATES[0])
        assert not self.waiting, "a closed pool took a request"
        self.finish()


def run_history(pool: Pool, choices: bytes) -> None:
    """Play a history; raises AssertionError (or IllegalMove) where a rule is broken."""
    world = World(pool, random.Random(len(choices) * 251 + sum(choices)))
    for choice in choices:
        world.step(choice % 100)
    if choices and choices[0] % 4 == 0:
        world.close()
    else:
        world.finish()
