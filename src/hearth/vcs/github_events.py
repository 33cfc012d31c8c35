"""What GitHub's webhooks say; the signature is checked before all else."""

from collections.abc import Mapping
from typing import Any

from hearth.model.vcs import HostEvent, Ignored, InstallationEvent, PullRequest, PullRequestEvent, PushEvent
from hearth.vcs.reading import (
    Malformed,
    branch_of,
    commit_hash,
    find,
    needed,
    needed_hash,
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
        branch = branch_of(needed(content, "ref"))
        if not branch:
            return Ignored("not a branch")
        before, after = commit_hash(content, "before"), commit_hash(content, "after")
        return PushEvent(repository, branch, before, after, installation_id)
    action = text(content, "action")
    if action not in _CHANGES and action != "closed":
        return Ignored(f"nothing is done about a pull request that was {action[:60]}")
    if not isinstance(find(content, "pull_request"), dict):
        raise Malformed("pull_request is missing")
    found = pull_request(content["pull_request"], repository)
    return PullRequestEvent(found, action == "closed", installation_id)


def pull_request(answer: Any, repository: str) -> PullRequest:
    """A pull request as the interface and webhooks both have it. Its head is served by the repository itself."""
    # The repository of a head is null once a fork was deleted.
    head_repository = find(answer, "head", "repo", "id")
    return PullRequest(
        id=str(number(answer, "number")),
        repository_id=repository,
        branch=needed(answer, "head", "ref"),
        commit=needed_hash(answer, "head", "sha"),
        base_branch=needed(answer, "base", "ref"),
        is_external=head_repository is None or str(head_repository) != repository,
        title=text(answer, "title"),
        url=text(answer, "html_url"),
    )


def _installation_event(content: Any, installation_id: str) -> HostEvent:
    if not installation_id:
        raise Malformed("installation.id is missing")
    action = text(content, "action")
    if action in ("deleted", "suspend", "unsuspend", "new_permissions_accepted"):
        return InstallationEvent(installation_id, action == "deleted")
    return Ignored(f"nothing is done about an installation that was {action[:60]}")
