"""Who listens to what, and the hand-over of events to them. In memory, for one event loop."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hearth.api.payloads import owner_payload, reader_payload
from hearth.api.realtime.filters import Wanted
from hearth.api.realtime.reach import Reach, console_channels, reach_of
from hearth.control.memberships import MembershipView
from hearth.model.actor import Actor
from hearth.model.events import Occurrence, parse, variants
from hearth.model.people import CONSOLE
from hearth.model.times import to_wire
from hearth.ports import Clock

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Subscription:
    """Some channels, and which of their events are wanted."""

    channels: frozenset[str]
    wanted: Wanted


@dataclass(slots=True, eq=False)
class Watcher:
    """One connection, as the hub sees it.

    `offer` takes a text frame and never waits; `reconsider` is called when what its user may do may have changed;
    `stop` when the server stops.
    """

    project_id: str
    actor: Actor
    offer: Callable[[bytes], None]
    reconsider: Callable[[], None]
    stop: Callable[[], None]
    subscriptions: dict[str, Subscription] = field(default_factory=dict)


class Hub:
    """All watchers, by project and channel. `team_of` names the organization of a project."""

    def __init__(self, clock: Clock, team_of: Callable[[str], str]) -> None:
        self._clock = clock
        self._team_of = team_of
        self._watchers: set[Watcher] = set()
        self._index: dict[tuple[str, str], set[Watcher]] = {}

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._watchers)

    def add(self, watcher: Watcher) -> None:
        """A connection was opened."""
        self._watchers.add(watcher)

    def remove(self, watcher: Watcher) -> None:
        """A connection is over. Fine to call twice."""
        for id in list(watcher.subscriptions):
            self.unsubscribe(watcher, id)
        self._watchers.discard(watcher)

    def subscribe(self, watcher: Watcher, id: str, subscription: Subscription) -> None:
        """Add a subscription, or replace the one of that id."""
        self.unsubscribe(watcher, id)
        watcher.subscriptions[id] = subscription
        for channel in subscription.channels:
            self._index.setdefault((watcher.project_id, channel), set()).add(watcher)

    def unsubscribe(self, watcher: Watcher, id: str) -> bool:
        """Take a subscription away; False if there is none of that id."""
        gone = watcher.subscriptions.pop(id, None)
        if gone is None:
            return False
        still = {channel for other in watcher.subscriptions.values() for channel in other.channels}
        for channel in gone.channels - still:
            key = watcher.project_id, channel
            watchers = self._index.get(key, set())
            watchers.discard(watcher)
            if not watchers:
                self._index.pop(key, None)
        return True

    def is_watched(self, project_id: str) -> bool:
        """Whether somebody at the console listens to a project."""
        return any((CONSOLE, channel) in self._index for channel in console_channels(project_id))

    def has_watchers(self, project_id: str) -> bool:
        """Whether anybody is connected, of whichever project."""
        return bool(self._watchers)

    def heard(self, occurrence: Occurrence) -> None:
        """Send an event to everybody it reaches. Called for every event; free while nobody listens."""
        if not self._watchers:
            return
        sending: _Sending | None = None
        for reach in reach_of(occurrence, self._team_of(occurrence.project_id)):
            for watcher in self._candidates(reach):
                sending = sending or _Sending(occurrence, to_wire(self._clock.now()))
                sending.send(watcher, reach)
        if occurrence.event.startswith(("users.", "teams.")):
            self._reconsider(occurrence)

    def stop(self) -> None:
        """The server stops: every connection is told so."""
        for watcher in list(self._watchers):
            watcher.stop()

    def _candidates(self, reach: Reach) -> Iterable[Watcher]:
        found: set[Watcher] = set()
        for channel in reach.channels:
            found |= self._index.get((reach.project_id, channel), set())
        return [watcher for watcher in found if not reach.roles.isdisjoint(watcher.actor.roles)]

    def _reconsider(self, occurrence: Occurrence) -> None:
        """Users and teams changed: those whom it may concern are looked at anew."""
        named = parse(occurrence.event)
        if named is None:
            return
        kind, id = named.resources[0]
        for watcher in list(self._watchers):
            actor = watcher.actor
            if watcher.project_id == occurrence.project_id and actor.user_id:
                subject = occurrence.subject
                member = isinstance(subject, MembershipView) and subject.membership.user_id == actor.user_id
                if (kind == "users" and actor.user_id == id) or (
                    kind == "teams" and (member or f"team:{id}" in actor.roles)
                ):
                    watcher.reconsider()


class _Sending:
    """One event on its way: what is equal for all who hear of it is made once."""

    def __init__(self, occurrence: Occurrence, timestamp: str) -> None:
        self._occurrence = occurrence
        self._timestamp = timestamp
        self._events = msgspec.Raw(_encode(variants(occurrence.event)))
        self._payloads: dict[bool, tuple[Mapping[str, Any], msgspec.Raw] | None] = {}

    def send(self, watcher: Watcher, reach: Reach) -> None:
        made = self._payload(as_owner=reach.as_owner)
        if made is None:
            return
        payload, raw = made
        channels = frozenset(reach.channels)
        ids = [
            id
            for id, subscription in watcher.subscriptions.items()
            if not channels.isdisjoint(subscription.channels) and subscription.wanted(payload)
        ]
        if ids:
            data = {
                "events": self._events,
                "channels": reach.channels,
                "timestamp": self._timestamp,
                "payload": raw,
                "subscriptions": ids,
            }
            watcher.offer(_encode({"type": "event", "data": data}))

    def _payload(self, *, as_owner: bool) -> tuple[Mapping[str, Any], msgspec.Raw] | None:
        if as_owner not in self._payloads:
            subject = self._occurrence.subject
            payload = owner_payload(subject) if as_owner else reader_payload(subject)
            self._payloads[as_owner] = None if payload is None else (payload, msgspec.Raw(_encode(payload)))
        return self._payloads[as_owner]
