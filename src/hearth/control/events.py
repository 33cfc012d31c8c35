"""Says what happened to whom. Listeners (webhooks, realtime, event-triggered functions) subscribe in the app."""

from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

#: Called with project id, the concrete event name and the resource it happened to. Must not block or raise.
Listener = Callable[[str, str, object], None]


class EventBus:
    """Hands each event to every listener, in the order of subscription, on the caller's event-loop tick."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Add a listener; only while the app is being composed."""
        self._listeners.append(listener)

    def emit(self, project_id: str, event: str, subject: object) -> None:
        """Tell everyone that `event` happened to `subject` (the resource as it is now).

        A listener that fails is logged and does not disturb what caused the event.
        """
        for listener in self._listeners:
            try:
                listener(project_id, event, subject)
            except Exception:
                log.exception("event listener failed", project_id=project_id, event_name=event)
