"""Events, posting to the outside, time."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from hearth.ports.store import Unit


class Events(Protocol):
    """Says what happened to whom (webhooks, realtime and event-triggered functions listen)."""

    def emit(self, project_id: str, event: str, subject: object, *, user_id: str = "") -> None:
        """`event` is the concrete dotted name, `subject` the resource as it is now, `user_id` the acting user."""

    def is_heard(self, project_id: str, kind: type) -> bool:
        """Whether `emit` with a subject of this kind would do anything now; where it would not, it may be left out."""

    async def record(self, unit: "Unit", event: str, subject: object, *, user_id: str = "") -> None:
        """Keep for functions, in the transaction of a change, the event that is emitted once it is committed.

        To be called for every event that is not one of functions; takes what `emit` takes.
        """

    def progress(self, project_id: str, event: str, subject: object) -> None:
        """As `emit`, for realtime watchers only: how something under way stands."""

    def is_watched(self, project_id: str) -> bool:
        """Whether `progress` of this project would reach anybody now."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What came back from a POST to the outside: the status and the beginning of the text."""

    status: int
    text: str


class PostFailed(Exception):
    """A POST to the outside got no answer; the text is for the user. `again` says whether trying again may help."""

    def __init__(self, reason: str, *, again: bool = True) -> None:
        self.again = again
        super().__init__(reason)


class Poster(Protocol):
    """Posts to addresses that users chose, within the operator's rules about where connections may go."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, *, verify: bool) -> Posted:
        """POST once, bounded in time; `verify` says whether certificates are checked. Raises PostFailed."""


class Clock(Protocol):
    """Time, injected so that tests need not sleep."""

    def now(self) -> datetime:
        """UTC, whole milliseconds."""

    def monotonic(self) -> float:
        """Seconds, for durations and deadlines."""
