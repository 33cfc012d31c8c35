"""Whatever happens in whatever order, the pool keeps its promises; and the check that says so can fail."""

import random
from collections import OrderedDict
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from hearth.executor.actions import Action, Assign, IllegalMove, Member, State, Waiter
from hearth.executor.pool import Pool
from hearth.executor.pool_key import PoolKey
from tests.unit.pool_world import LIMITS, run_history

HISTORY = st.binary(min_size=1, max_size=60)


@settings(max_examples=2_000, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(HISTORY)
def test_every_history_keeps_the_promises(choices: bytes) -> None:
    """No request is lost or run twice, no bound is exceeded, nothing waits beside a free place, everything ends."""
    run_history(Pool(LIMITS), choices)


@pytest.mark.slow
def test_many_long_histories_keep_the_promises() -> None:
    """The same rules over 8,000 long histories; the seed is in the message."""
    for seed in range(8_000):
        choices = random.Random(seed).randbytes(80)
        try:
            run_history(Pool(LIMITS), choices)
        except Exception as problem:
            raise AssertionError(f"seed {seed}: {problem}") from problem


class Overtaking(Pool):
    """A new request takes the place that the one waiting longest was to get."""

    def _unqueue(self, state: PoolKey, waiter: Waiter) -> None:
        super()._unqueue(state, waiter)
        if len(state.waiting) > 1:
            state.waiting.move_to_end(next(iter(state.waiting)))


class DoubleSlot(Pool):
    """An instance that is full is taken for one that has a place."""

    def _free_place(self, state: PoolKey) -> Member | None:
        return super()._free_place(state) or next((m for m in state.members if m.running and not m.retired), None)


class Deaf(Pool):
    """A released place is not offered to those who wait."""

    def _settle(self, state: PoolKey, member: Member, now: float) -> list[Action]:
        held, state.waiting = state.waiting, type(state.waiting)()
        actions = super()._settle(state, member, now)
        state.waiting = held
        return actions


class Undead(Pool):
    """A retired instance stays among the idle ones."""

    def _retire(self, member: Member) -> None:
        member.retired = True


class Generous(Pool):
    """Memory of instances that are being stopped is given away before it is free."""

    def _fits(self, need_mb: int, promised_instances: int, promised_mb: int) -> bool:
        return len(self._members) + promised_instances < self.limits.max_instances


class Forgetful(Pool):
    """After a failed start nobody looks whether another function can start now."""

    def _start_wanted(self, now: float) -> list[Action]:
        return [] if any(state.failures for state in self._keys.values()) else super()._start_wanted(now)


class Immortal(Pool):
    """The timer of an idle instance is not set again."""

    def _idle_timer(self, member: Member, now: float) -> list[Action]:
        return [] if member.served > 1 else super()._idle_timer(member, now)


class Frozen(Pool):
    """A paused instance is given work without being continued."""

    def _assign(self, member: Member, waiter: Waiter, state: PoolKey) -> Assign:
        return structs.replace(super()._assign(member, waiter, state), resume=False)


class Careless(Pool):
    """An idle instance ends in time, whether it is to be kept ready or not."""

    def _idle_timer(self, member: Member, now: float) -> list[Action]:
        state = self._keys[member.template.key]
        floor, state.floor = state.floor, 0
        actions = super()._idle_timer(member, now)
        state.floor = floor
        return actions


class Resigned(Pool):
    """What was to be kept ready and has crashed is not replaced."""

    def _keep_floors(self, now: float) -> list[Action]:
        return [] if any(state.crashes for state in self._kept) else super()._keep_floors(now)


class Loyal(Pool):
    """Instances of what is not to be kept any more never end."""

    def _set_idle_timers(self, state: PoolKey) -> None:
        return


class Selfish(Pool):
    """What is to be kept ready is started although a request waits for that place."""

    def _start_wanted(self, now: float) -> list[Action]:
        return [] if self.closed else self._keep_floors(now) + super()._start_wanted(now)


class Wakeless(Pool):
    """A paused instance is lent as if it were awake."""

    def lend(self, waiter: Waiter) -> Member | None:
        state = self._keys.get(waiter.template.key)
        frozen = next((one for one in state.members if one.state is State.PAUSED), None) if state else None
        if state is None or frozen is None or state.waiting or self.closed:
            return super().lend(waiter)
        return self._assign(frozen, waiter, state).member


class Hasty(Pool):
    """A place is taken back although somebody waits for it."""

    def take_back(self, member: Member) -> bool:
        demand, self._demand = self._demand, OrderedDict()
        taken = super().take_back(member)
        self._demand = demand
        return taken


class Partial(Pool):
    """A place is handed on although it was to be taken away."""

    def hand_on(self, member: Member) -> Waiter | None:
        retired, member.retired = member.retired, False
        waiter = super().hand_on(member)
        member.retired = retired
        return waiter


PLANTED = [
    *(Overtaking, DoubleSlot, Deaf, Undead, Generous, Forgetful, Immortal, Frozen),
    *(Careless, Resigned, Loyal, Selfish, Wakeless, Hasty, Partial),
]


@pytest.mark.parametrize("broken", PLANTED)
def test_a_planted_bug_is_found(broken: Callable[..., Pool]) -> None:
    """Each of these pools has one bug; some history out of two thousand has to show it."""
    for seed in range(2_000):
        try:
            run_history(broken(LIMITS), random.Random(seed).randbytes(60))
        except (AssertionError, IllegalMove, KeyError, ValueError):
            return
    raise AssertionError(f"{broken.__name__} was not found")
