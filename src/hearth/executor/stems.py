"""Decides how many stem cells to keep, of which kinds, and when to start them: no I/O, no clock, no `await`.

A stem cell is a sandbox in which a language is up and that holds no code, secret or connection; an instance is made of
it by mounting the code in. It serves one deployment and never comes back. Every method is one event; `stem_keeper.py`
carries the actions out and reports back. Times are seconds of a monotonic clock.
"""

import itertools
from dataclasses import dataclass, field
from enum import StrEnum

from hearth.executor.limits import StemLimits


@dataclass(frozen=True, slots=True)
class StemKind:
    """Stems of one kind can stand in for each other. `memory_mb` is 0 where a language starts alike for any memory."""

    runtime: str
    memory_mb: int = 0


class StemState(StrEnum):
    """Where a stem stands; `taken` ones are instances, and none of the planner's business any more."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    TAKEN = "taken"
    GONE = "gone"


#: The legal moves; anything else is a fault of ours.
MOVES: dict[StemState, frozenset[StemState]] = {
    StemState.STARTING: frozenset({StemState.READY, StemState.STOPPING, StemState.GONE}),
    StemState.READY: frozenset({StemState.TAKEN, StemState.STOPPING, StemState.GONE}),
    StemState.STOPPING: frozenset({StemState.GONE}),
    StemState.TAKEN: frozenset(),
    StemState.GONE: frozenset(),
}


class IllegalStemMove(Exception):
    """A stem was to move in a way that MOVES forbids: a bug here or a wrong report."""


@dataclass(eq=False, slots=True)
class Stem:
    """The planner's record of one stem."""

    id: int
    kind: StemKind
    since: float
    """When its start began; it is replaced when it is old."""
    state: StemState = StemState.STARTING


@dataclass(frozen=True, slots=True)
class StartStem:
    """Start a stem; report `started` or `ended`."""

    stem: Stem


@dataclass(frozen=True, slots=True)
class StopStem:
    """End a stem (`why` is for the log); report `ended`."""

    stem: Stem
    why: str


StemAction = StartStem | StopStem


@dataclass(eq=False, slots=True)
class _Stock:
    """Everything of one kind that is in use."""

    kind: StemKind
    used_at: float
    refill_at: float
    """Not before this time: whoever has taken the last one is still at work."""
    wait_until: float
    """Until then a refill waits for a quiet moment."""
    stems: list[Stem] = field(default_factory=list)
    """Starting and ready ones, the oldest first."""
    failures: int = 0


class StemPlan:
    """All stems of one executor. `load` below is how many requests run and instances start on this machine now."""

    def __init__(self, limits: StemLimits) -> None:
        self.limits = limits
        self.closed = False
        self._stocks: dict[StemKind, _Stock] = {}
        self._stopping = 0
        self._ids = itertools.count(1)

    # -------------------------------------------------------------------------------------------- events

    def want(self, kind: StemKind, now: float) -> None:
        """A function of this kind was deployed or called: stems of it are worth having. Start them by `tick`."""
        if self.closed or not self.limits.per_kind:
            return
        stock = self._stocks.get(kind)
        if stock is None:
            self._stocks[kind] = _Stock(kind, now, now, now)
        else:
            stock.used_at = now

    def take(self, kind: StemKind, now: float) -> Stem | None:
        """A ready stem for a new instance, the oldest first; None if there is none. It is replaced a little later."""
        self.want(kind, now)
        stock = self._stocks.get(kind)
        if stock is None:
            return None
        stem = next((stem for stem in stock.stems if stem.state is StemState.READY), None)
        stock.refill_at = max(stock.refill_at, now + self.limits.refill_delay_s)
        stock.wait_until = max(stock.wait_until, now + self.limits.patience_s)
        if stem is not None:
            _move(stem, StemState.TAKEN)
            stock.stems.remove(stem)
        return stem

    def started(self, stem: Stem) -> list[StemAction]:
        """The language in a stem is up."""
        if stem.state is not StemState.STARTING:
            return []  # stopped meanwhile: `ended` follows
        _move(stem, StemState.READY)
        stock = self._stocks[stem.kind]
        stock.failures = 0
        ready = [other for other in stock.stems if other.state is StemState.READY]
        return [self._stop(ready[0], "old")] if len(ready) > self.limits.per_kind else []

    def ended(self, stem: Stem, now: float, *, failed: bool) -> None:
        """A stem is gone; `failed` if nobody asked for it: then the next start waits, longer each time."""
        if stem.state is StemState.STOPPING:
            self._stopping -= 1
        stock = self._stocks.get(stem.kind)
        if stock is not None and stem in stock.stems:
            stock.stems.remove(stem)
            if failed:
                stock.failures += 1
                pause_s = self.limits.failure_backoff_s * 2 ** min(stock.failures - 1, 10)
                stock.refill_at = now + min(pause_s, self.limits.failure_backoff_max_s)
        _move(stem, StemState.GONE)

    def tick(self, now: float, load: int) -> list[StemAction]:
        """Time has passed, or something has happened: start what is missing and end what nobody needs."""
        if self.closed:
            return []
        actions: list[StemAction] = []
        for stock in list(self._stocks.values()):
            if now >= stock.used_at + self.limits.unused_after_s:
                actions += [self._stop(stem, "unused") for stem in list(stock.stems)]
                del self._stocks[stock.kind]
        for stock in sorted(self._stocks.values(), key=lambda stock: (self._fresh(stock, now), -stock.used_at)):
            if self._starting() >= self.limits.max_starting:
                break
            if self._due(stock, now) <= now and (now >= stock.wait_until or load < self.limits.quiet_load):
                actions += self._fill(stock, now)
        return actions

    def close(self) -> list[StemAction]:
        """Keep none any more."""
        self.closed = True
        return [self._stop(stem, "closing") for stock in self._stocks.values() for stem in list(stock.stems)]

    def next_due(self, now: float, load: int) -> float | None:
        """When `tick` is to be called next, in the future; None = not before something happens."""
        if self.closed or not self._stocks:
            return None
        due = min(stock.used_at for stock in self._stocks.values()) + self.limits.unused_after_s
        if self._starting() < self.limits.max_starting:
            for stock in self._stocks.values():
                wanted_at = self._due(stock, now)
                if wanted_at <= now:
                    # it was due and not started: the machine is busy, or there is no room
                    is_waiting = now < stock.wait_until and load >= self.limits.quiet_load
                    wanted_at = now + (self.limits.retry_s if is_waiting else self.limits.no_room_retry_s)
                due = min(due, wanted_at)
        return max(due, now + self.limits.retry_s / 10)

    # -------------------------------------------------------------------------------------------- questions

    @property
    def stems(self) -> tuple[Stem, ...]:
        """Every stem that is starting or ready."""
        return tuple(stem for stock in self._stocks.values() for stem in stock.stems)

    @property
    def kinds(self) -> tuple[StemKind, ...]:
        """The kinds in use."""
        return tuple(self._stocks)

    def ready(self, kind: StemKind) -> int:
        """How many stems of a kind are ready."""
        stock = self._stocks.get(kind)
        return 0 if stock is None else sum(stem.state is StemState.READY for stem in stock.stems)

    def is_coming(self, kind: StemKind) -> bool:
        """Whether a stem of a kind is being started, or will be as soon as there is a turn."""
        stock = self._stocks.get(kind)
        if stock is None or self.closed or stock.failures:
            return False
        return any(stem.state is StemState.STARTING for stem in stock.stems) or self._has_room(0)

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for stem in self.stems:
            counts[stem.state] = counts.get(stem.state, 0) + 1
        if self._stopping:
            counts[StemState.STOPPING] = self._stopping
        shown = ", ".join(f"{state} {count}" for state, count in counts.items()) or "none"
        return f"<Stems{' (closed)' if self.closed else ''}: {shown}; kinds in use {len(self._stocks)}>"

    # -------------------------------------------------------------------------------------------- decisions

    def _due(self, stock: _Stock, now: float) -> float:
        """When a stem of this kind is to be started next."""
        if self._fresh(stock, now) < self.limits.per_kind:
            return stock.refill_at
        oldest = min(stem.since for stem in stock.stems)
        return max(stock.refill_at, oldest + self.limits.max_age_s)

    def _fresh(self, stock: _Stock, now: float) -> int:
        """How many stems are not to be replaced."""
        return sum(now < stem.since + self.limits.max_age_s for stem in stock.stems)

    def _fill(self, stock: _Stock, now: float) -> list[StemAction]:
        actions: list[StemAction] = []
        if not self._has_room(0):
            victim = self._victim(stock, now)
            if victim is None:
                return []
            actions.append(self._stop(victim, "makes room"))
            if not self._has_room(-1):  # the one that goes is still there for a moment
                return actions
        stem = Stem(next(self._ids), stock.kind, now)
        stock.stems.append(stem)
        return [*actions, StartStem(stem)]

    def _victim(self, stock: _Stock, now: float) -> Stem | None:
        """What may go for a stem of `stock`: an old one of it, or one of a kind that was used less recently."""
        old = next((stem for stem in stock.stems if now >= stem.since + self.limits.max_age_s), None)
        if old is not None or stock.stems:
            return old
        others = [other for other in self._stocks.values() if other.stems and other.used_at < stock.used_at]
        return min(others, key=lambda other: other.used_at).stems[0] if others else None

    def _has_room(self, more: int) -> bool:
        count = len(self.stems) + self._stopping + more + 1
        return count <= self.limits.max_stems and count * self.limits.stem_memory_mb <= self.limits.memory_mb

    def _starting(self) -> int:
        return sum(stem.state is StemState.STARTING for stem in self.stems)

    def _stop(self, stem: Stem, why: str) -> StopStem:
        _move(stem, StemState.STOPPING)
        self._stocks[stem.kind].stems.remove(stem)
        self._stopping += 1
        return StopStem(stem, why)


def _move(stem: Stem, to: StemState) -> None:
    if to not in MOVES[stem.state]:
        raise IllegalStemMove(f"stem {stem.id}: {stem.state} -> {to}")
    stem.state = to
