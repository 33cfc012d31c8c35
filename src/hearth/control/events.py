"""Says what happened to whom. Listeners (webhooks, realtime, event-triggered functions) subscribe in the app."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import structlog

from hearth.model.events import Occurrence, Published, parse
from hearth.model.refusals import invalid_param
from hearth.ports import Unit

log = structlog.get_logger(__name__)

#: Called with each occurrence. Must not block or raise.
Listener = Callable[[Occurrence], None]
#: Whether a listener would do anything now about an event of a project.
Wants = Callable[[str], bool]


class Recorder(Protocol):
    """Keeps events for functions (`hearth.triggers.events`); cheap where no function listens."""

    async def record(self, unit: Unit, occurrence: Occurrence) -> None:
        """In the transaction of the change."""

    async def record_alone(self, occurrence: Occurrence) -> None:
        """In a transaction of its own, committed on return."""


class EventBus:
    """Hands each event to every listener, in the order of subscription, on the caller's event-loop tick."""

    def __init__(self) -> None:
        self._listeners: list[tuple[Listener, tuple[type, ...]]] = []
        """Each with the kinds of subjects it is told of; none = every kind."""
        self._told: dict[type, list[Listener]] = {}
        """Who is told of a kind of subject; filled as kinds come."""
        self._wants: dict[Listener, Wants] = {}
        self._asked: dict[type, list[Wants]] = {}
        """Who is to be asked whether a kind of subject is of interest; filled as kinds come."""
        self._watchers: list[Listener] = []
        self._is_watched: list[Callable[[str], bool]] = []
        self._recorder: Recorder | None = None

    def record_with(self, recorder: Recorder) -> None:
        """Keep events for functions with `recorder`; only while the app is being composed."""
        self._recorder = recorder

    async def record(self, unit: Unit, event: str, subject: object, *, user_id: str = "") -> None:
        """See `hearth.ports.Events`."""
        if self._recorder is not None:
            await self._recorder.record(unit, Occurrence(unit.project_id, event, subject, user_id))

    def subscribe(self, listener: Listener, *kinds: type, wants: Wants | None = None) -> None:
        """Add a listener of what happens to resources of these kinds (none = of all); only at composition.

        `wants` tells whether it would do anything now about an event of a project; without, it always may.
        """
        self._listeners.append((listener, kinds))
        self._wants[listener] = wants or _always
        self._told.clear()
        self._asked.clear()

    def watch(self, listener: Listener, is_watched: Callable[[str], bool], wants: Wants | None = None) -> None:
        """Add a listener that is also told of progress, while `is_watched(project_id)`; only at composition."""
        self.subscribe(listener, wants=wants)
        self._watchers.append(listener)
        self._is_watched.append(is_watched)

    def emit(self, project_id: str, event: str, subject: object, *, user_id: str = "") -> None:
        """Tell everyone that `event` happened to `subject` (the resource as it is now).

        A listener that fails is logged and does not disturb what caused the event.
        """
        kind = type(subject)
        told = self._told.get(kind)
        if told is None:
            told = self._told[kind] = [each for each, of in self._listeners if not of or issubclass(kind, of)]
        _tell(told, Occurrence(project_id, event, subject, user_id))

    def is_heard(self, project_id: str, kind: type) -> bool:
        """See `hearth.ports.Events`."""
        asked = self._asked.get(kind)
        if asked is None:
            told = [each for each, of in self._listeners if not of or issubclass(kind, of)]
            asked = self._asked[kind] = [self._wants[each] for each in told]
        for wants in asked:  # noqa: SIM110 - any() makes a generator, and this is asked for every execution
            if wants(project_id):
                return True
        return False

    def progress(self, project_id: str, event: str, subject: object) -> None:
        """Tell those who watch, and nobody else, how something under way stands (a build's log as it grows)."""
        _tell(self._watchers, Occurrence(project_id, event, subject))

    def is_watched(self, project_id: str) -> bool:
        """Whether somebody watches a project, so that it is worth to find out how things stand."""
        return any(ask(project_id) for ask in self._is_watched)

    async def publish(self, project_id: str, *, event: str, payload: Mapping[str, Any], user_id: str = "") -> None:
        """Emit an event that a caller knows of; what functions are to do about it is committed on return.

        Raises `general_argument_invalid` for one that may not be published.

        It must be concrete (ids, no `*`), name an action, and be in the table of events; what happens to functions
        only the server itself can say.
        """
        named = None if "*" in event else parse(event)
        if named is None or not named.tail:
            raise invalid_param(
                "event",
                "Value must be an event of the table with ids instead of `*` and an action, such as users.5f3a.create",
            )
        if named.resources[0][0] == "functions":
            raise invalid_param("event", "Events of functions are published by the server itself")
        if self._recorder is not None:
            await self._recorder.record_alone(Occurrence(project_id, event, Published(payload), user_id))
        self.emit(project_id, event, Published(payload), user_id=user_id)


def _always(project_id: str) -> bool:
    return True


def _tell(listeners: list[Listener], occurrence: Occurrence) -> None:
    for listener in listeners:
        try:
            listener(occurrence)
        except Exception:
            log.exception("event listener failed", project_id=occurrence.project_id, event_name=occurrence.event)
