"""Functions that ask for more than there is share it: none starves, whatever the others send (hearth.executor.pool)."""

import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field

import pytest

from hearth.executor.actions import Action, Assign, Member, Reject, Start, Stop, Waiter
from hearth.executor.limits import PoolLimits
from hearth.executor.pool import Pool
from hearth.model.running import InstanceTemplate
from tests.unit.pool_world import template

START_S, END_S = 0.05, 0.01
LIMITS = PoolLimits(max_instances=2, max_instances_per_key=2, memory_mb=10_000, max_starting=2, fair_slice_s=1.0)
SECONDS = 60.0


@dataclass
class Machine:
    """Starts, runs and ends what the pool says, each in its time."""

    runs_s: dict[str, float]
    """Deployment -> how long each of its requests runs."""
    pool: Pool = field(default_factory=lambda: Pool(LIMITS))
    slots: int = 1
    """Requests at once in one instance."""
    now: float = 0.0
    served: Counter[str] = field(default_factory=Counter)
    """Deployment -> requests that have ended."""
    waits_s: dict[Waiter, float] = field(default_factory=dict)
    """Request -> how long it had waited when it was assigned."""
    asked: dict[Waiter, float] = field(default_factory=dict)
    rejected: list[Reject] = field(default_factory=list)
    _due: list[tuple[float, int, str, Member]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)

    def ask(self, wanted: InstanceTemplate) -> Waiter:
        waiter = Waiter(wanted, self.now + 1_000)
        self.asked[waiter] = self.now
        self._act(self.pool.request(waiter, self.now))
        return waiter

    def run(self, until: float, flooding: tuple[InstanceTemplate, ...]) -> None:
        """Go on; those that flood send another request for each that has ended."""
        while self._due and self._due[0][0] <= until:
            self.now, _, what, member = heapq.heappop(self._due)
            if what == "started":
                self._act(self.pool.started(member, self.slots, self.now))
            elif what == "ended":
                self._act(self.pool.ended(member, self.now))
            else:
                self.served[member.template.key.deployment_id] += 1
                if member.template in flooding:
                    self.ask(member.template)
                self._act(self.pool.released(member, self.now))
        self.now = until

    def _act(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                self._later(START_S, "started", action.member)
            elif isinstance(action, Stop):
                self._later(END_S, "ended", action.member)
            elif isinstance(action, Assign):
                self.waits_s[action.waiter] = self.now - self.asked[action.waiter]
                self._later(self.runs_s[action.member.template.key.deployment_id], "released", action.member)
            elif isinstance(action, Reject):
                self.rejected.append(action)

    def _later(self, seconds: float, what: str, member: Member) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), what, member))


@pytest.mark.parametrize(
    ("runs_s", "sent", "slots"), [(0.01, 200, 1), (0.3, 200, 1), (0.3, 200, 4), (0.3, 6, 4)],
    ids=["short", "long", "many at once", "places left"],
)  # fmt: skip
def test_a_request_waits_no_longer_than_a_slice_however_many_another_function_sends(
    runs_s: float, sent: int, slots: int
) -> None:
    flood, guest = template("flood"), template("guest")
    machine = Machine({"flood": runs_s, "guest": 0.01}, slots=slots)
    for _ in range(sent):
        machine.ask(flood)
    machine.run(5.0, (flood,))
    for visit in range(5):
        waiter = machine.ask(guest)
        machine.run(machine.now + 5.0, (flood,))
        most_s = LIMITS.fair_slice_s + 2 * (runs_s + START_S + END_S)
        assert machine.waits_s[waiter] <= most_s, f"visit {visit}: {machine.waits_s[waiter]} s"
    assert not machine.rejected


def test_functions_that_all_flood_get_about_the_same_time() -> None:
    flooding = tuple(template(f"flood-{number}") for number in range(5))
    machine = Machine({each.key.deployment_id: 0.05 for each in flooding})
    for sent in range(100):  # the first one sends much more, and first
        for each in flooding[: 1 if sent % 2 else None]:
            machine.ask(each)
    machine.run(SECONDS, flooding)
    counts = [machine.served[each.key.deployment_id] for each in flooding]
    assert sum(counts) > 0.6 * LIMITS.max_instances * SECONDS / 0.05, counts
    assert max(counts) < 2 * min(counts), counts
    assert not machine.rejected


def test_one_function_cannot_take_the_places_of_the_queue() -> None:
    flood, guest = template("flood"), template("guest")
    limits = PoolLimits(max_instances=1, max_waiting_per_key=5, max_waiting=20)
    machine = Machine({"flood": 1.0, "guest": 1.0}, Pool(limits))
    for _ in range(50):
        machine.ask(flood)
    assert {getattr(each.reason, "limit", "") for each in machine.rejected} == {"max_waiting_per_key"}
    before = len(machine.rejected)
    machine.ask(guest)
    assert len(machine.rejected) == before


class Unfair(Pool):
    """An instance is kept as long as its own function has requests."""

    def _must_yield(self, state: object, member: object, now: object) -> bool:
        return False


def test_a_pool_without_turns_would_be_found() -> None:
    flood, guest = template("flood"), template("guest")
    machine = Machine({"flood": 0.01, "guest": 0.01}, Unfair(LIMITS))
    for _ in range(200):
        machine.ask(flood)
    machine.run(5.0, (flood,))
    waiter = machine.ask(guest)
    machine.run(machine.now + 5.0, (flood,))
    assert waiter not in machine.waits_s
