"""The way of nearly all requests through the pool: a free place is lent, and taken back or handed on.

Each method does what an event of `pool.Pool` would decide where nothing else follows, without a list of actions;
where anything might, it does nothing and says so. The pool's histories go both ways.
"""

from hearth.executor.actions import Member, State, Waiter
from hearth.executor.ledger import Ledger
from hearth.executor.pool_key import PoolKey


class Lending(Ledger):
    """Part of `pool.Pool`."""

    def lend(self, waiter: Waiter) -> Member | None:
        """`request`, where a place is free in an instance that is awake and nobody waits: that instance; else None.

        The way of nearly all requests, without a list of actions.
        """
        state = self._keys.get(waiter.template.key)
        if state is None or state.waiting or self.closed:
            return None
        member = self._free_place(state)
        if member is None or member.state is State.PAUSED:
            return None
        if member.state is not State.BUSY:
            self._take_from_idle(state, member)
            self._move(member, State.BUSY)
        member.running += 1
        member.served += 1
        return member

    def take_back(self, member: Member) -> bool:
        """`released` of a healthy instance, where nothing follows: others run in it and nobody waits. Else False."""
        if member.running < 2 or member.state is not State.BUSY or member.retired or self._demand or self.closed:
            return False
        self._keys[member.template.key].crashes = 0
        member.running -= 1
        return True

    def hand_on(self, member: Member) -> Waiter | None:
        """`released` of a healthy instance and the next request of its key, where nobody else wants anything; or None.

        The way under load of instances that run one request at a time.
        """
        state = self._keys[member.template.key]
        if not state.waiting or len(self._demand) > 1 or self._kept or self.closed:
            return None
        if member.state is not State.BUSY or member.retired or member.running > member.slots:
            return None
        state.crashes = 0
        waiter = next(iter(state.waiting))
        self._unqueue(state, waiter)
        member.served += 1
        return waiter

    def _free_place(self, state: PoolKey) -> Member | None:
        return state.free_place()
