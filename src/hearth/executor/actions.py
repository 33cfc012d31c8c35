"""The words of the pool: states of an instance, who waits, and the actions that are decided on. No behaviour.

What each request makes anew is a struct: made in a fifth of the time of a frozen dataclass.
"""

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from hearth.model.running import InstanceTemplate


class State(StrEnum):
    """Where an instance stands.

    `busy` = at least one request runs in it (there may be free places left); `paused` = idle and frozen.
    """

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    PAUSED = "paused"
    STOPPING = "stopping"
    GONE = "gone"


#: The legal moves; anything else is a fault of ours.
MOVES: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.IDLE, State.BUSY, State.STOPPING, State.GONE}),
    State.IDLE: frozenset({State.BUSY, State.PAUSED, State.STOPPING, State.GONE}),
    State.BUSY: frozenset({State.IDLE, State.STOPPING, State.GONE}),
    State.PAUSED: frozenset({State.BUSY, State.STOPPING, State.GONE}),
    State.STOPPING: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


class Waiter(msgspec.Struct, eq=False):
    """A request that wants a place in an instance of `template.key`, until `deadline`.

    `expected_slots` is a guess at what an instance of this runtime can run at once, used until one has said so.
    """

    template: InstanceTemplate
    deadline: float
    expected_slots: int = 1
    order: int = 0
    """Arrival number, set by the pool."""
    had_to_wait: bool = False


@dataclass(eq=False, slots=True)
class Member:
    """The pool's record of one instance."""

    id: int
    template: InstanceTemplate
    state: State = State.STARTING
    slots: int = 1
    running: int = 0
    retired: bool = False
    """Gets no new request and stops when the last running one has ended."""
    since: float = 0.0
    """When it started to serve; a key keeps an instance for at least the fair slice."""
    idle_since: float = 0.0
    timer_due: float | None = None
    """When its idle timer goes off; an earlier one replaces a later one."""
    served: int = 0


@dataclass(frozen=True, slots=True)
class Full:
    """Rejection: a limit was met. `limit` is its name in PoolLimits, `retry_after_s` when to come again."""

    limit: str
    retry_after_s: int = 1


@dataclass(frozen=True, slots=True)
class Closed:
    """Rejection: the pool takes no more requests."""


@dataclass(frozen=True, slots=True)
class Start:
    """Start an instance; report `started` or `ended`."""

    member: Member


class Assign(msgspec.Struct, frozen=True):
    """Let `member` run the request of `waiter`, thawing it first with `resume`; report `released`."""

    member: Member
    waiter: Waiter
    resume: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Freeze an idle instance until its next request."""

    member: Member


@dataclass(frozen=True, slots=True)
class Stop:
    """End an instance (`why` is for the log); report `ended`."""

    member: Member
    why: str


@dataclass(frozen=True, slots=True)
class Reject:
    """Tell a waiting request that it will not be served: Full, Closed, or the failure given to `ended`."""

    waiter: Waiter
    reason: object


Action = Start | Assign | Pause | Stop | Reject


class IllegalMove(Exception):
    """An instance was to move in a way that MOVES forbids: a bug here or a wrong report."""
