"""The pool's rules one by one, as readable stories; `test_pool_histories.py` mixes them all."""

from dataclasses import replace

import pytest

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
from hearth.executor.pool import Pool
from tests.unit.pool_world import template

A, B = template("a"), template("b")
LIMITS = PoolLimits(
    max_instances_per_key=2, max_instances=3, memory_mb=300, max_starting=2, max_waiting_per_key=3, max_waiting=4
)
UNPAUSED = replace(LIMITS, pause_after_s=None)


def waiter(wanted: object = A, deadline: float = 100.0) -> Waiter:
    return Waiter(wanted, deadline)  # type: ignore[arg-type]


def start_of(actions: list[Action]) -> Member:
    (action,) = actions
    assert isinstance(action, Start)
    return action.member


def warm(pool: Pool, wanted: object = A, slots: int = 1, now: float = 0.0) -> Member:
    """An idle instance of a key."""
    member = start_of(pool.request(waiter(wanted), now))
    (assigned,) = pool.started(member, slots, now)
    assert isinstance(assigned, Assign)
    assert pool.released(member, now) == []
    return member


def test_a_request_starts_an_instance_and_gets_it() -> None:
    pool, first = Pool(LIMITS), waiter()
    member = start_of(pool.request(first, 0))
    assert repr(pool) == "<Pool: 1 starting; 1 waiting>"
    assert pool.started(member, 1, 1) == [Assign(member, first)]
    assert repr(pool) == "<Pool: 1 busy; 0 waiting>"
    assert pool.released(member, 2) == []
    assert repr(pool) == "<Pool: 1 idle; 0 waiting>"


def test_a_warm_instance_is_assigned_at_once() -> None:
    pool = Pool(LIMITS)
    member, second = warm(pool), waiter()
    assert pool.request(second, 1) == [Assign(member, second)]


def test_one_that_declares_many_places_takes_many_waiting() -> None:
    pool = Pool(LIMITS)
    waiting = [waiter() for _ in range(3)]
    starts = [action for each in waiting for action in pool.request(each, 0)]
    assert len(starts) == 2
    assert pool.started(start_of(starts[:1]), 4, 0) == [Assign(starts[0].member, each) for each in waiting]  # type: ignore[union-attr]


def test_a_known_number_of_places_is_counted_on() -> None:
    """After one instance has said that it runs four at once, four waiting requests start one more, not four."""
    pool = Pool(LIMITS)
    warm(pool, slots=4)
    for _ in range(4):
        pool.request(waiter(), 0)
    assert len([action for _ in range(3) for action in pool.request(waiter(), 0) if isinstance(action, Start)]) == 1


def test_a_caller_that_leaves_leaves_an_idle_instance() -> None:
    pool, first = Pool(LIMITS), waiter()
    member = start_of(pool.request(first, 0))
    assert pool.cancel(first, 0) == []
    assert pool.started(member, 1, 1) == []
    assert repr(pool) == "<Pool: 1 idle; 0 waiting>"


def test_waiting_requests_are_bounded_per_key_and_overall() -> None:
    pool = Pool(LIMITS)
    for _ in range(3):
        pool.request(waiter(A), 0)
    refused = waiter(A)
    assert pool.request(refused, 0) == [Reject(refused, Full("max_waiting_per_key"))]
    pool.request(waiter(B), 0)
    refused = waiter(B)
    assert pool.request(refused, 0) == [Reject(refused, Full("max_waiting"))]


def test_a_request_waits_until_its_deadline() -> None:
    pool = Pool(LIMITS)
    for _ in range(2):
        pool.request(waiter(deadline=100), 0)
    late = waiter(deadline=5)
    pool.request(late, 0)
    assert pool.next_due() == 5
    assert pool.tick(5) == [Reject(late, Full("max_instances_per_key"))]


def test_the_oldest_idle_instance_makes_room() -> None:
    pool = Pool(LIMITS)
    old, young = warm(pool, A, now=0), warm(pool, template("c"), now=1)
    warm(pool, template("d"), now=2)
    wanted = waiter(B)
    assert pool.request(wanted, 3) == [Stop(old, "evicted")]
    member = start_of(pool.ended(old, 4))
    assert member.template is B
    assert young.state is State.IDLE


def test_memory_is_budgeted() -> None:
    pool = Pool(LIMITS)
    small = warm(pool, template("small", 200))
    assert pool.request(waiter(template("large", 250)), 0) == [Stop(small, "evicted")]
    assert start_of(pool.ended(small, 0)).template.memory_mb == 250
    assert pool.memory_mb == 250


def test_one_larger_than_the_budget_runs_alone() -> None:
    pool = Pool(LIMITS)
    assert start_of(pool.request(waiter(template("huge", 5000)), 0)).template.memory_mb == 5000
    assert pool.request(waiter(A), 0) == []


def test_a_key_with_a_queue_gives_way_to_one_without_any_instance() -> None:
    """Both wait; after its fair slice the busy key's instance is ended for the one that came first."""
    pool = Pool(PoolLimits(max_instances=1, fair_slice_s=1))
    member = start_of(pool.request(waiter(A), 0))
    pool.started(member, 1, 0)
    other, own = waiter(B), waiter(A)
    pool.request(other, 0.1)
    pool.request(own, 0.2)
    assert pool.released(member, 0.5) == [Assign(member, own)], "within its slice it goes on"
    pool.request(waiter(A), 0.6)
    assert pool.released(member, 1.5) == [Stop(member, "another function's turn")]
    assert start_of(pool.ended(member, 1.6)).template is B


def test_the_clock_holds_no_request_that_has_been_served() -> None:
    pool = Pool(replace(UNPAUSED, max_instances_per_key=1))
    member = warm(pool)
    pool.request(waiter(), 0)
    for _ in range(100):
        following = waiter()
        assert pool.request(following, 1) == []
        assert pool.released(member, 2) == [Assign(member, following)]
    held = [subject for _, _, subject in pool._due if isinstance(subject, Waiter)]
    assert held == []
    assert len(pool._due) < 5, "one entry for all requests of a key, not one for each"


def test_of_several_waiting_requests_each_runs_out_at_its_own_time() -> None:
    pool = Pool(replace(UNPAUSED, max_instances_per_key=1))
    member, late, early, never = warm(pool), waiter(deadline=30), waiter(deadline=10), waiter(deadline=50)
    pool.request(waiter(), 0)
    for each in (late, early, never):
        assert pool.request(each, 1) == []
    assert pool.tick(9) == []
    assert pool.tick(10) == [Reject(early, Full("max_instances_per_key"))]
    assert pool.next_due() == 30
    assert pool.tick(30) == [Reject(late, Full("max_instances_per_key"))]
    assert pool.released(member, 40) == [Assign(member, never)]
    assert pool.tick(50) == []


def test_an_idle_instance_is_paused_and_resumed_for_the_next_request() -> None:
    pool = Pool(LIMITS)
    member, next_one = warm(pool), waiter()
    assert pool.next_due() == 0.5
    assert pool.tick(0.5) == [Pause(member)]
    assert repr(pool) == "<Pool: 1 paused; 0 waiting>"
    assert pool.request(next_one, 1) == [Assign(member, next_one, resume=True)]
    pool.released(member, 2)
    assert pool.tick(60) == [Pause(member)]
    assert pool.tick(62) == [Stop(member, "idle")]


def test_idle_instances_end_after_their_time() -> None:
    pool = Pool(UNPAUSED)
    member = warm(pool)
    pool.request(waiter(), 30)
    pool.released(member, 40)
    assert pool.tick(60) == []
    assert pool.next_due() == 100
    assert pool.tick(100) == [Stop(member, "idle")]
    assert pool.ended(member, 101) == []
    assert repr(pool) == "<Pool: no instance; 0 waiting>"


def test_a_retired_instance_ends_after_its_last_request() -> None:
    pool = Pool(LIMITS)
    member = warm(pool)
    pool.request(waiter(), 0)
    assert pool.retire("a", 0) == []
    assert start_of(pool.request(waiter(), 0)) is not member
    assert pool.released(member, 1) == [Stop(member, "retired")]


def test_an_unhealthy_instance_is_not_used_again() -> None:
    pool = Pool(LIMITS)
    member = warm(pool)
    pool.request(waiter(), 0)
    assert pool.released(member, 0, healthy=False) == [Stop(member, "retired")]


def test_a_failed_start_fails_its_waiting_requests_and_backs_off() -> None:
    pool, first, second = Pool(LIMITS), waiter(), waiter()
    member = start_of(pool.request(first, 0))
    assert pool.ended(member, 0, failure="broken") == [Reject(first, "broken")]
    assert pool.request(second, 0.1) == [Reject(second, "broken")], "no second try yet"
    member = start_of(pool.request(waiter(), 0.3))
    pool.ended(member, 0.3, failure="still broken")
    assert pool.request(second, 0.7) == [Reject(second, "still broken")], "the pause has doubled"
    assert isinstance(pool.request(waiter(), 0.9)[0], Start)


def test_restarts_after_crashes_are_spaced_out() -> None:
    """R10: some crashes are forgiven, then each restart waits, and waiting requests wait with it."""
    pool = Pool(LIMITS)
    now = 0.0
    for _ in range(LIMITS.crashes_forgiven):
        member = start_of(pool.request(waiter(), now))
        pool.started(member, 1, now)
        pool.ended(member, now, crashed=True)
    assert pool.request(waiter(), now) == []
    assert pool.tick(now + 0.05) == []
    assert isinstance(pool.tick(now + 0.11)[0], Start)


def test_closing_rejects_waiting_ones_and_lets_running_ones_end() -> None:
    pool = Pool(LIMITS)
    member = warm(pool)
    pool.request(waiter(), 0)
    coming = waiter()
    started = start_of(pool.request(coming, 0))
    assert pool.close(0) == [Reject(coming, Closed()), Stop(started, "closing")]
    late = waiter()
    assert pool.request(late, 0) == [Reject(late, Closed())]
    assert pool.released(member, 1) == [Stop(member, "retired")]


def test_states_move_by_the_table() -> None:
    assert set(MOVES) == set(State)
    assert MOVES[State.GONE] == frozenset()
    assert all(State.GONE in MOVES[state] for state in State if state is not State.GONE)
    pool = Pool(LIMITS)
    member = warm(pool)
    with pytest.raises(IllegalMove):
        pool.released(member, 0)


# ---------------------------------------------------------------------------------------------- kept ready


def kept(pool: Pool, wanted: object = A, count: int = 1, now: float = 0.0) -> list[Member]:
    """Idle instances that nobody has asked for."""
    members = []
    actions = pool.keep(wanted, count, now)  # type: ignore[arg-type]
    while actions:
        member = start_of(actions)
        members.append(member)
        actions = pool.started(member, 1, now)
    return members


def test_what_is_kept_ready_is_started_unasked_paused_and_never_ended_for_idleness() -> None:
    pool = Pool(LIMITS)
    first, second = kept(pool, count=2)
    assert pool.tick(10) == [Pause(first), Pause(second)]
    assert pool.tick(1_000) == []
    assert pool.request(one := waiter(deadline=2_000), 1_000) == [Assign(second, one, resume=True)]


def test_less_kept_ready_means_that_the_idle_end_in_time() -> None:
    pool = Pool(LIMITS)
    first, second = kept(pool, count=2)
    pool.tick(10)
    pool.tick(1_000)
    assert pool.keep(A, 1, 1_000) == []
    assert pool.tick(1_000) == [Stop(first, "idle")]
    assert pool.keep(A, 0, 1_000) == []
    assert pool.tick(1_000) == [Stop(second, "idle")]
    assert pool.ended(first, 1_000) == pool.ended(second, 1_000) == []
    assert not pool.is_coming(A.key)


def test_what_is_kept_ready_and_crashes_is_replaced_more_and_more_rarely() -> None:
    pool, now, pauses = Pool(LIMITS), 0.0, []
    (member,) = kept(pool)
    for _ in range(16):
        actions, began = pool.ended(member, now, crashed=True), now
        while not actions:
            now = max(now, pool.next_due() or 0.0)
            actions = pool.tick(now)
        pauses.append(now - began)
        member = start_of(actions)
        assert pool.started(member, 1, now) == []
    assert pauses[:2] == [0, 0]
    assert max(pauses) == LIMITS.keep_backoff_max_s
    assert pauses[2:] == sorted(pauses[2:])


def test_a_request_takes_the_room_of_what_is_kept_ready_but_an_idle_one_of_others_goes_first() -> None:
    pool = Pool(replace(LIMITS, max_instances=2))
    (ready,) = kept(pool)
    other = warm(pool, B, now=5)
    third = template("c")
    assert pool.request(waiter(third), 6) == [Stop(other, "evicted")]
    assert isinstance(pool.ended(other, 6)[0], Start)
    assert pool.request(waiter(template("d")), 6) == [Stop(ready, "evicted")]


def test_what_is_kept_ready_takes_the_room_of_what_has_been_idle_for_a_while() -> None:
    pool = Pool(replace(UNPAUSED, max_instances=1))
    other = warm(pool, B)
    assert pool.keep(A, 1, 0.5) == []
    assert pool.next_due() is not None
    assert pool.tick(1.5) == [Stop(other, "evicted")]
    assert start_of(pool.ended(other, 1.5)).template is A


def test_a_retired_deployment_is_not_kept_ready() -> None:
    pool = Pool(LIMITS)
    (member,) = kept(pool)
    assert pool.retire("a", 1) == [Stop(member, "retired")]
    assert pool.ended(member, 1) == []


def test_of_one_function_only_one_key_is_kept_ready() -> None:
    pool = Pool(LIMITS)
    (old,) = kept(pool)
    (new,) = kept(pool, B)
    assert pool.keep_others("f", B.key, 0) == []
    pool.tick(LIMITS.idle_timeout_s)
    assert pool.tick(1_000) == []
    assert [member for member in pool.members if member.state is State.PAUSED] == [new]
    assert old.state is State.STOPPING


def test_failures_of_a_key_are_forgotten() -> None:
    pool = Pool(LIMITS)
    member = start_of(pool.request(waiter(), 0))
    pool.ended(member, 0, failure="does not load")
    crashed = warm(pool, B)
    pool.ended(crashed, 0, crashed=True)
    while (due := pool.next_due()) is not None:
        pool.tick(due)
    assert not pool._keys
