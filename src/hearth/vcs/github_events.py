"""What GitHub's webhooks say; the signature is checked before all else."""

from collections.abc import Mapping
from typing import Any

from hearth.model.vcs import HostEvent, Ignored, InstallationEvent
from hearth.vcs.answers import pull_request_event, push_event
from hearth.vcs.reading import (
    Malformed,
    find,
    number,
    read_json,
    text,
)
from hearth.vcs.signatures import check_digest

_EVENTS = frozenset({"push", "pull_request", "installation"})
_CHANGES = frozenset({"opened", "reopened", "synchronize"})


def parse_event(headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
    """The event of one delivery. Raises BadSignature and, for what is authentic but makes no sense, Malformed."""
    check_digest(headers, ("x-hub-signature-256",), body, secret)
    event = headers.get("x-github-event", "")
    if event not in _EVENTS:
        return Ignored(f"nothing is done about the event {event[:60]!r}")
    content = read_json(body)
    installation = find(content, "installation", "id")
    installation_id = "" if installation is None else str(number(content, "installation", "id"))
    if event == "installation":
        return _installation_event(content, installation_id)
    repository = str(number(content, "repository", "id"))
    if event == "push":
        return push_event(content, repository, installation_id)
    return pull_request_event(content, repository, _CHANGES, installation_id)


def _installation_event(content: Any, installation_id: str) -> HostEvent:
    if not installation_id:
        raise Malformed("installation.id is missing")
    action = text(content, "action")
    if action in ("deleted", "suspend", "unsuspend", "new_permissions_accepted"):
        return InstallationEvent(installation_id, action == "deleted")
    return Ignored(f"nothing is done about an installation that was {action[:60]}")
