"""What several git hosts say in one form: GitHub's, which Gitea and Forgejo took over, and parts of it elsewhere."""

from collections.abc import Collection, Mapping
from typing import Any

from hearth.model.vcs import Content, HostedCommit, HostEvent, Ignored, PullRequest, PullRequestEvent, PushEvent
from hearth.ports import GitHostFailed, NoSuchRepository
from hearth.vcs.reading import Malformed, branch_of, commit_hash, find, items, needed, needed_hash, number, size, text

#: Entries of a folder that are taken.
CONTENTS_MAX = 1_000


class ByToken:
    """The part of `hearth.ports.GitHost` that hosts without a page to install anything have in common."""

    webhook_secret = ""

    def authorize_url(self, state: str) -> str:
        """See the port. There is none: installations are made with a token."""
        return ""

    async def authorized(self, query: Mapping[str, str]) -> tuple[str, str]:
        """See the port."""
        raise GitHostFailed("There is no page to sign in at: make the installation with a token.")


def read_id(answer: Any) -> int:
    """The number a host knows something by."""
    return number(answer, "id")


def read_login(answer: Any) -> str:
    """The name of an account."""
    return needed(answer, "login")


def at(ref: str) -> dict[str, str | int]:
    """The query that asks for a commit, branch or tag; nothing for the default branch."""
    return {"ref": ref} if ref else {}


def read_marked(answer: Any, marker: str) -> list[int]:
    """The ids of the comments of a list that hold a marker."""
    return [number(entry, "id") for entry in items(answer) if marker in text(entry, "body")]


def read_contents(answer: Any) -> tuple[Content, ...]:
    """The entries of a folder. Raises NoSuchRepository for a file."""
    if isinstance(answer, dict):
        raise NoSuchRepository("that is a file, not a folder")
    found = [
        Content(needed(entry, "name"), text(entry, "type") == "dir", size(entry, "size")) for entry in items(answer)
    ]
    return tuple(found[:CONTENTS_MAX])


def read_commit(answer: Any) -> HostedCommit:
    """A commit."""
    return HostedCommit(
        hash=needed_hash(answer, "sha"),
        message=text(answer, "commit", "message"),
        author=text(answer, "commit", "author", "name"),
        author_url=text(answer, "author", "html_url"),
        url=text(answer, "html_url"),
    )


def read_pull_request(answer: Any, repository: str) -> PullRequest:
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


def pull_request_event(content: Any, repository: str, changes: Collection[str], installation_id: str = "") -> HostEvent:
    """What a webhook says of a pull request; `changes` are the host's words for one that was opened or got commits."""
    action = text(content, "action")
    if action not in changes and action != "closed":
        return Ignored(f"nothing is done about a pull request that was {action[:60]}")
    if not isinstance(find(content, "pull_request"), dict):
        raise Malformed("pull_request is missing")
    found = read_pull_request(content["pull_request"], repository)
    return PullRequestEvent(found, action == "closed", installation_id)


def push_event(content: Any, repository: str, installation_id: str = "") -> HostEvent:
    """What a webhook says of one branch."""
    branch = branch_of(needed(content, "ref"))
    if not branch:
        return Ignored("not a branch")
    return PushEvent(repository, branch, commit_hash(content, "before"), commit_hash(content, "after"), installation_id)
