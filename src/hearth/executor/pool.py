"""Decides which instance serves which request: a state machine without I/O, clock or `await`.

Every method is one event, `(event, now) -> actions`; `instances.py` carries the actions out and reports back. Times
are seconds of a monotonic clock. Instances are started for a key, never for a request, so a caller that leaves
leaves an idle instance behind and not an orphan.
"""

import heapq
import math

from hearth.executor.actions import (
    Action,
    Assign,
    Closed,
    Full,
    IllegalMove,
    Member,
    Pause,
    Reject,
    State,
    Waiter,
)
from hearth.executor.lending import Lending
from hearth.executor.pool_key import PoolKey
from hearth.model.running import InstanceKey, InstanceTemplate


class Pool(Lending):
    """All instances of one executor and the requests that wait for them."""

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
            state = self._keys[waiter.template.key] = PoolKey(waiter.template.key, waiter.template)
        if now < state.failing_until and not state.alive():
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
        self._expire_at(state, waiter.deadline)
        # Nothing has changed for the other keys.
        return self._start_wanted(now) if self._wants_instance(state, now) else []

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
        state.most_slots = max(state.most_slots, member.slots)
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
        was_wanted = bool(self._demand)
        actions = self._settle(state, member, now)
        if healthy and not (was_wanted and self._leaves_room(member)):
            return actions
        return actions + self._start_wanted(now)

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
        elif crashed and state.crashed(self.limits, now):
            self._wake_at(state.not_before, state)
            if state.floor:
                self._wake_at(state.keep_not_before, state)
        actions += self._start_wanted(now)
        self._forget(state)
        return actions

    def retire(self, deployment_id: str, now: float) -> list[Action]:
        """Let all present instances of a deployment end, and keep none ready. Requests that wait get new ones."""
        self._lower(lambda state: state.key.deployment_id == deployment_id)
        actions: list[Action] = []
        for member in list(self._members.values()):
            if member.template.key.deployment_id == deployment_id:
                actions += self.drain(member, "retired", now)
        return actions

    def remove(self, deployment_id: str, reason: object, now: float) -> list[Action]:
        """The deployment is no more: its instances end now, whatever runs in them; who waits for it hears `reason`."""
        self._lower(lambda state: state.key.deployment_id == deployment_id)
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

    def keep(self, template: InstanceTemplate, count: int, now: float) -> list[Action]:
        """From now on let there be `count` instances of this key, asked for or not; 0 = as many as are asked for.

        Requests come first: none of them waits for room that would go to an instance that is only kept.
        """
        if self.closed:
            return []
        state = self._keys.get(template.key)
        if state is None:
            if not count:
                return []
            state = self._keys[template.key] = PoolKey(template.key, template)
        state.template = template
        state.floor = min(count, self.limits.max_instances_per_key)
        if state.floor:
            self._kept[state] = None
        else:
            self._lower(lambda other: other is state)
        self._set_idle_timers(state)
        return self._start_wanted(now)

    def keep_others(self, function_id: str, key: InstanceKey | None, now: float) -> list[Action]:
        """Keep no instance ready of a function's keys but this one (None: of none of them)."""
        self._lower(lambda state: state.template.function_id == function_id and state.key != key)
        return self._start_wanted(now)

    def close(self, now: float) -> list[Action]:
        """Take no more requests, reject the waiting ones, let the running ones end."""
        self.closed = True
        self._lower(lambda state: True)
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
            if isinstance(subject, Member):
                if subject.timer_due == when:
                    actions += self._idle_timer(subject, now)
            elif isinstance(subject, PoolKey):
                actions += self._expire(subject, now)
                self._forget(subject, now)
        return actions + self._start_wanted(now)

    def next_due(self) -> float | None:
        """When `tick` is to be called next; None = no need. May be earlier than anything happens."""
        return self._due[0][0] if self._due else None

    # -------------------------------------------------------------------------------------------- decisions

    def _assign(self, member: Member, waiter: Waiter, state: PoolKey) -> Assign:
        resume = member.state is State.PAUSED
        if member.state is not State.BUSY:
            self._take_from_idle(state, member)
            self._move(member, State.BUSY)
        member.running += 1
        member.served += 1
        return Assign(member, waiter, resume)

    def _settle(self, state: PoolKey, member: Member, now: float) -> list[Action]:
        """Give the free places of `member` to waiting requests of its key; else it idles or ends."""
        if member.retired or self.closed:
            return [] if member.running else [self._stop(member, "retired")]
        if self._demand and self._must_yield(state, member, now):
            if state in self._demand:
                self._demand.move_to_end(state)  # else it would take its own room again
            if not member.running:
                return [self._stop(member, "another function's turn")]
            self._retire(member)  # the room is there when what runs in it has ended
            return []
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

    def _must_yield(self, state: PoolKey, member: Member, now: float) -> bool:
        """Whether another key has no instance at all and no room for one, after this one has had its slice.

        Whoever came first: a key with many requests waiting would else have its turn until all of them are served.
        """
        if now - member.since < self.limits.fair_slice_s:
            return False
        if any(other.state is State.STOPPING or other.retired for other in self._members.values()):
            return False  # room is being made already
        return any(
            not other.members and now >= other.not_before and not self._fits(other.template.memory_mb, 0, 0)
            for other in self._demand
            if other is not state
        )

    def _leaves_room(self, member: Member) -> bool:
        """Whether the end of a request in `member` may let an instance start that was wanted before.

        It does not where its place went to the next request of its key: under load, nearly always.
        """
        return member.retired or not member.running or not self._demand or bool(self._kept)

    def _expire(self, state: PoolKey, now: float) -> list[Action]:
        """Reject the requests of a key that have waited long enough."""
        if now < state.expires_at:
            return []
        state.expires_at = math.inf
        limit = self._why_waiting(state, now)
        actions: list[Action] = []
        for waiter in [waiter for waiter in state.waiting if waiter.deadline <= now]:
            self._unqueue(state, waiter)
            actions.append(Reject(waiter, Full(limit)))
        if state.waiting:
            self._expire_at(state, min(waiter.deadline for waiter in state.waiting))
        return actions

    def _start_wanted(self, now: float) -> list[Action]:
        """Start instances for requests that wait, and then those that are to be kept ready."""
        if self.closed:
            return []
        actions = self._serve_demand(now) if self._demand else []
        if self._kept and not any(self._wants_instance(state, now) for state in self._demand):
            actions += self._keep_floors(now)
        return actions

    def _serve_demand(self, now: float) -> list[Action]:
        """Start instances for keys that want one, in turn, making room where idle ones can go."""
        actions: list[Action] = []
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
                elif promised_instances == 0 and (evicted := self._make_room(need_mb, now)) is not None:
                    actions += evicted
                    promised_instances += 1
                    promised_mb += need_mb
        return actions

    def _wants_instance(self, state: PoolKey, now: float) -> bool:
        if now < state.not_before or len(state.members) >= self.limits.max_instances_per_key:
            return False
        return state.wants_for_requests()

    def _keep_floors(self, now: float) -> list[Action]:
        """Start instances nobody has asked for, where there is room or an idle one of another key can make it."""
        actions: list[Action] = []
        for state in list(self._kept):
            need_mb = state.template.memory_mb
            while state.alive() < state.floor and len(state.members) < self.limits.max_instances_per_key:
                if now < state.keep_not_before:
                    break
                if self._starting >= max(1, self.limits.max_starting // 2):
                    return actions  # the other half is for requests; the end of a start leads here again
                if not self._fits(need_mb, 0, 0):
                    evicted = self._make_room(need_mb, now, for_kept=True)
                    if evicted is None and state.looks_at <= now:
                        state.looks_at = now + self.limits.keep_retry_s
                        self._wake_at(state.looks_at, state)
                    return actions + (evicted or [])
                actions.append(self._start(state))
                self._kept.move_to_end(state)
        return actions

    def _make_room(self, need_mb: int, now: float, *, for_kept: bool = False) -> list[Action] | None:
        """Stop the oldest idle instances until `need_mb` will fit; None if not even that would help.

        Those that are kept ready go last. For one that is to be kept, none of them goes, and none that has just served.
        """
        remaining = len(self._members)
        memory_mb = self._memory_mb
        for member in self._members.values():
            if member.state is State.STOPPING:
                remaining -= 1
                memory_mb -= member.template.memory_mb
        idle: list[Member] = []
        kept: list[Member] = []
        for state in self._keys.values():
            if not state.waiting and state.idle:
                spare = state.spare()
                idle += spare
                kept += state.idle[len(spare) :]
        if for_kept:
            idle = [member for member in idle if now - member.idle_since >= self.limits.keep_retry_s]
            kept = []
        idle.sort(key=lambda member: member.idle_since)
        idle += sorted(kept, key=lambda member: member.idle_since)
        chosen: list[Member] = []
        while remaining and (remaining >= self.limits.max_instances or memory_mb + need_mb > self.limits.memory_mb):
            if len(chosen) == len(idle):
                return None
            victim = idle[len(chosen)]
            chosen.append(victim)
            remaining -= 1
            memory_mb -= victim.template.memory_mb
        return [self._stop(member, "evicted") for member in chosen]

    def _start_failed(self, state: PoolKey, failure: object, now: float) -> list[Action]:
        state.start_failed(failure, self.limits, now)
        self._wake_at(state.not_before, state)
        if state.floor:
            self._wake_at(state.keep_not_before, state)
        if state.alive():
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
        is_over = now >= member.idle_since + self.limits.idle_timeout_s
        state = self._keys[member.template.key]
        if is_over and state.alive() > state.floor:
            return [self._stop(member, "idle")]
        actions: list[Action] = []
        if member.state is State.IDLE and self.limits.pause_after_s is not None and now >= self._idle_due(member):
            self._move(member, State.PAUSED)
            actions.append(Pause(member))
        if not is_over:  # else it is kept ready: `_set_idle_timers` when that changes
            self._set_idle_timer(member)
        return actions

    def _why_waiting(self, state: PoolKey, now: float) -> str:
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
