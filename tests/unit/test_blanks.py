"""When sandboxes are made ahead, and which start may have one."""

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from hearth.executor.sandbox.blanks import FAILURE_PAUSE_S, REFILL_DELAY_S, Blanks, Firewall
from hearth.executor.sandbox.boxes import Box
from hearth.executor.sandbox.messages import StartRequest
from hearth.executor.sandbox.spec import Limits, Network, Profile, SandboxSpec

SPEC = SandboxSpec("run-1", Profile.RUN, ("/bin/true",), {}, Limits(64 << 20, 1.0), network=Network.GATE)
REQUEST = StartRequest(SPEC, (), ((b"\x0a\0\0\1", 32),))
FIREWALL = Firewall(REQUEST.opened, (b"\x0a\0\0\2",))


class World:
    """A spawner with a clock that is set by hand."""

    def __init__(self, count: int = 2) -> None:
        self.now = 100.0
        self.blanks = Blanks(count, lambda: self.now)
        self.sockets: list[socket.socket] = []

    def make(self) -> Box | None:
        """Make the blank that is due, if one is; it is still starting."""
        request = self.blanks.due()
        if request is None:
            return None
        ours, theirs = socket.socketpair()
        self.sockets += [ours, theirs]
        box = Box(request.spec.id, 0, 1, 1, theirs.fileno(), ours, None, request.spec.limits, "", 0.0, is_blank=True)
        self.blanks.making(box)
        return box

    def ready(self) -> Box:
        """Make one and let it be ready."""
        self.now += REFILL_DELAY_S
        box = self.make()
        assert box is not None
        box.starting = False
        self.blanks.started()
        return box

    def take(self, request: StartRequest = REQUEST, firewall: Firewall = FIREWALL) -> Box | None:
        box, _ = self.blanks.take(request, firewall)
        return box


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    for each in made.sockets:
        each.close()


def test_the_first_is_made_after_a_start_that_could_have_used_it(world: World) -> None:
    assert world.make() is None
    assert world.take() is None
    assert world.blanks.wait_s() is None
    world.blanks.started()
    assert world.blanks.wait_s() == pytest.approx(REFILL_DELAY_S)
    assert world.make() is None, "what was started has the machine first"
    made = world.ready()
    assert made.limits == SPEC.limits


def test_they_are_made_one_at_a_time_up_to_the_count(world: World) -> None:
    world.take()
    world.blanks.started()
    world.now += 1
    first = world.make()
    assert first is not None
    world.blanks.started()
    world.now += 1
    assert world.make() is None
    assert world.blanks.wait_s() is None, "no turning in circles until it is ready"
    first.starting = False
    world.blanks.started()
    world.ready()
    assert world.blanks.count == 2
    world.blanks.started()
    assert world.blanks.wait_s() is None


def test_each_is_used_once_the_oldest_first(world: World) -> None:
    world.take()
    world.blanks.started()
    made = [world.ready(), world.ready()]
    assert [world.take(), world.take(), world.take()] == [*made, None]


def test_what_nobody_waits_for_and_what_is_otherwise_made_gets_none(world: World) -> None:
    world.take()
    world.blanks.started()
    made = world.ready()
    for changes in (
        {"mount_point": "/mnt/code"},
        {"network": Network.NONE},
        {"profile": Profile.BUILD},
        {"root": "/opt/suite"},
    ):
        assert world.take(replace(REQUEST, spec=replace(SPEC, **changes))) is None  # type: ignore[arg-type]
    assert world.take() is made


def test_a_stem_cell_is_reason_enough_to_have_one(world: World) -> None:
    world.take(replace(REQUEST, spec=replace(SPEC, mount_point="/mnt/code")))
    world.blanks.started()
    assert world.ready() is world.take()


def test_another_firewall_ends_those_there_are(world: World) -> None:
    world.take()
    world.blanks.started()
    made = [world.ready(), world.ready()]
    other = Firewall((), FIREWALL.own)
    assert world.blanks.take(replace(REQUEST, opened=()), other) == (None, made)
    assert world.blanks.count == 0
    for box in made:
        world.blanks.ended(box)
    world.blanks.started()
    assert world.ready() is world.take(replace(REQUEST, opened=()), other)


def test_a_dead_one_is_not_given_out_and_the_next_waits(world: World) -> None:
    world.take()
    world.blanks.started()
    dead = world.ready()
    dead.status = 9
    assert world.take() is None
    world.blanks.ended(dead)
    assert world.blanks.wait_s() == pytest.approx(FAILURE_PAUSE_S)


def test_none_are_kept_where_none_are_wanted() -> None:
    world = World(0)
    world.take()
    world.blanks.started()
    world.now += 60
    assert world.make() is None
