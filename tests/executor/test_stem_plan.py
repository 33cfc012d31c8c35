"""The stem plan: how many stem cells are kept, and that each serves once, whatever happens in whatever order."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hearth.executor.limits import StemLimits
from hearth.executor.stems import IllegalStemMove, StartStem, Stem, StemKind, StemPlan, StemState, StopStem

NODE, PYTHON, RUBY = StemKind("node-20", 512), StemKind("python-3.11"), StemKind("ruby-3.3")
LIMITS = StemLimits(
    per_kind=2,
    max_stems=5,
    memory_mb=100,
    stem_memory_mb=10,
    max_starting=1,
    quiet_load=2,
    refill_delay_s=0.1,
    patience_s=2.0,
    max_age_s=60.0,
    unused_after_s=100.0,
)


class World:
    """A plan, a clock, and a keeper that does what it is told."""

    def __init__(self, limits: StemLimits = LIMITS) -> None:
        self.plan = StemPlan(limits)
        self.now = 1_000.0
        self.load = 0
        self.starting: list[Stem] = []
        self.ready: list[Stem] = []
        self.stopping: list[Stem] = []
        self.taken: list[Stem] = []
        self.why: list[str] = []

    def act(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, StartStem):
                self.starting.append(action.stem)
            else:
                assert isinstance(action, StopStem)
                self.why.append(action.why)
                for held in (self.starting, self.ready):
                    if action.stem in held:
                        held.remove(action.stem)
                self.stopping.append(action.stem)

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.act(self.plan.tick(self.now, self.load))

    def come_up(self) -> None:
        """The stem that is starting reports."""
        stem = self.starting.pop(0)
        self.ready.append(stem)
        self.act(self.plan.started(stem))

    def fail(self) -> None:
        self.plan.ended(self.starting.pop(0), self.now, failed=True)

    def end_stopped(self) -> None:
        while self.stopping:
            self.plan.ended(self.stopping.pop(0), self.now, failed=False)

    def want(self, kind: StemKind) -> None:
        self.plan.want(kind, self.now)
        self.tick()

    def fill(self, *kinds: StemKind) -> None:
        for kind in kinds:
            self.want(kind)
        for _ in range(20):
            self.tick(0.2)
            if self.starting:
                self.come_up()
            self.end_stopped()

    def take(self, kind: StemKind) -> Stem | None:
        stem = self.plan.take(kind, self.now)
        if stem is not None:
            self.ready.remove(stem)
            self.taken.append(stem)
        return stem

    def count(self, kind: StemKind) -> int:
        return sum(stem.kind == kind for stem in self.ready)


def test_a_kind_in_use_has_its_number_of_stems_started_one_after_the_other() -> None:
    world = World()
    world.want(NODE)
    assert len(world.starting) == 1, "the first at once, the second when it is up"
    world.come_up()
    world.tick()
    assert len(world.starting) == 1
    world.come_up()
    world.tick()
    assert (world.starting, world.count(NODE)) == ([], 2)


def test_a_taken_stem_is_replaced_a_little_later_and_never_given_out_again() -> None:
    world = World()
    world.fill(NODE)
    first = world.take(NODE)
    world.tick()
    assert not world.starting, "the instance made of it comes first"
    world.tick(0.1)
    assert len(world.starting) == 1
    world.come_up()
    assert first is not None
    assert first not in (world.take(NODE), world.take(NODE), world.take(NODE))


def test_a_refill_waits_for_a_quiet_moment_but_not_for_ever() -> None:
    world = World()
    world.fill(NODE)
    world.take(NODE)
    world.load = 2
    world.tick(0.5)
    assert not world.starting
    world.load = 1
    world.tick()
    assert world.starting
    world.come_up()
    world.take(NODE)
    world.load = 2
    world.tick(1.9)
    assert not world.starting
    world.tick(0.2)
    assert world.starting


def test_a_request_for_a_new_kind_starts_its_first_stem_whatever_the_load() -> None:
    """The end of a build waits for it."""
    world = World()
    world.load = 50
    world.want(PYTHON)
    assert [stem.kind for stem in world.starting] == [PYTHON]


def test_failures_space_out_the_starts_and_one_success_forgives_them() -> None:
    world = World()
    world.want(NODE)
    pauses = []
    for _ in range(4):
        world.fail()
        assert not world.plan.is_coming(NODE)
        before = world.now
        while not world.starting:
            world.tick(0.25)
        pauses.append(world.now - before)
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    world.come_up()
    assert world.plan.is_coming(NODE)


def test_old_stems_are_replaced_before_they_go_and_serve_until_then() -> None:
    world = World()
    world.fill(NODE)
    old = list(world.ready)
    world.tick(61.0)
    assert (len(world.starting), world.stopping) == (1, [])
    world.come_up()
    assert [stem in old for stem in world.stopping] == [True]
    assert world.why == ["old"]
    world.fill(NODE)
    assert world.count(NODE) == 2
    assert not set(old) & set(world.ready)


def test_a_kind_that_nobody_uses_loses_its_stems() -> None:
    world = World()
    world.fill(NODE)
    world.tick(101.0)
    assert set(world.why) == {"unused"}
    assert (world.count(NODE), world.plan.kinds) == (0, ())


def test_a_kind_without_any_gets_the_place_of_one_used_less_recently() -> None:
    world = World()
    world.fill(NODE)
    world.fill(PYTHON)
    others = [StemKind(f"deno-{number}") for number in range(4)]
    for kind in others:
        world.fill(kind)
    assert world.count(others[-1]) >= 1
    assert len(world.ready) <= LIMITS.max_stems
    assert world.count(NODE) == 0, "the one used longest ago"


def test_memory_bounds_the_number_too() -> None:
    world = World(StemLimits(per_kind=4, max_stems=100, memory_mb=25, stem_memory_mb=10, quiet_load=9))
    world.fill(NODE, PYTHON)
    assert len(world.ready) == 2


def test_zero_per_kind_keeps_none() -> None:
    world = World(StemLimits(per_kind=0))
    world.fill(NODE)
    assert world.take(NODE) is None
    assert (world.starting, world.ready, world.plan.next_due(world.now, 0)) == ([], [], None)


def test_a_closed_plan_ends_every_stem_and_starts_none() -> None:
    world = World()
    world.fill(NODE, PYTHON)
    world.take(NODE)
    world.tick(0.1)
    assert world.starting
    world.act(world.plan.close())
    assert (world.starting, world.ready, len(world.stopping)) == ([], [], 4)
    world.end_stopped()
    world.want(RUBY)
    assert world.take(PYTHON) is None
    assert repr(world.plan) == "<Stems (closed): none; kinds in use 2>"


def test_its_repr_tells_the_counts() -> None:
    world = World()
    world.fill(NODE)
    world.want(PYTHON)
    assert repr(world.plan) == "<Stems: ready 2, starting 1; kinds in use 2>"


def test_a_report_about_a_taken_stem_is_a_fault_of_ours() -> None:
    world = World()
    world.fill(NODE)
    stem = world.take(NODE)
    assert stem is not None
    with pytest.raises(IllegalStemMove, match="taken -> gone"):
        world.plan.ended(stem, world.now, failed=False)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["want", "take", "up", "fail", "die", "stopped", "tick", "load", "close"]),
        st.integers(0, 2),
        st.sampled_from([0.0, 0.05, 0.2, 3.0, 40.0, 70.0, 120.0]),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(EVENTS)
def test_whatever_happens_bounds_hold_and_every_stem_serves_once(events: list[tuple[str, int, float]]) -> None:
    world = World()
    kinds = (NODE, PYTHON, RUBY)
    for name, index, seconds in events:
        kind = kinds[index]
        if name == "want":
            world.want(kind)
        elif name == "take":
            expected = world.count(kind)
            stem = world.take(kind)
            assert (stem is not None) == (expected > 0)
            assert stem is None or stem.kind == kind
        elif name == "up" and world.starting:
            world.come_up()
        elif name == "fail" and world.starting:
            world.fail()
        elif name == "die" and world.ready:
            world.plan.ended(world.ready.pop(index % len(world.ready)), world.now, failed=True)
        elif name == "stopped":
            world.end_stopped()
        elif name == "load":
            world.load = index * 2
        elif name == "close" and index == 2 and seconds == 120.0:
            world.act(world.plan.close())
        world.tick(seconds if name == "tick" else 0.0)
        check(world)
    if not world.plan.closed:
        settle(world)


def check(world: World) -> None:
    plan = world.plan
    assert set(plan.stems) == {*world.starting, *world.ready}
    assert len(world.starting) <= LIMITS.max_starting
    assert len(plan.stems) <= LIMITS.max_stems
    for kind in (NODE, PYTHON, RUBY):
        assert world.count(kind) <= LIMITS.per_kind
    assert len(set(world.taken)) == len(world.taken)
    assert all(stem.state is StemState.TAKEN for stem in world.taken)
    due = plan.next_due(world.now, world.load)
    if plan.closed:
        assert (due, world.starting, world.ready) == (None, [], [])
    else:
        assert due is None or due > world.now


def settle(world: World) -> None:
    """Left alone and quiet, a kind that is in use has its stems: only the plan's own timer wakes it."""
    world.load = 0
    world.end_stopped()
    world.plan.want(PYTHON, world.now)
    asked = world.now
    for _ in range(200):
        if world.starting:
            world.come_up()
        world.end_stopped()
        due = world.plan.next_due(world.now, world.load)
        if due is None or due > asked + 70.0:
            break
        world.tick(due - world.now)
    assert world.count(PYTHON) >= 1
