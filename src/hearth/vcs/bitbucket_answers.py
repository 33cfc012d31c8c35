"""What Bitbucket Cloud's answers and webhooks say (API 2.0), as our words. Pure; raises Malformed as `reading` does."""

import dataclasses
import urllib.parse
from typing import Any

from hearth.model.sources import GitSource, ReferenceKind
from hearth.model.vcs import (
    Branch,
    Content,
    HostedCommit,
    HostEvent,
    Ignored,
    ProviderRepository,
    PullRequest,
    PushEvent,
)
from hearth.ports import GitHostFailed, NoSuchRepository
from hearth.vcs.api import FILE_BYTES, Query, clone_url
from hearth.vcs.reading import Malformed, find, flag, items, moment, needed, needed_hash, number, size, text


def next_query(answer: Any) -> Query | None:
    """The parameters of a list's next page, None after the last: pages have numbers for some lists only."""
    link = text(answer, "next")
    try:
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(link).query)) or None
    except ValueError:
        raise Malformed("next is not an address") from None


def read_uuid(answer: Any) -> str:
    """The id of a webhook."""
    return needed(answer, "uuid")


def read_repository(answer: Any) -> ProviderRepository:
    """One repository; its name is the slug, as in addresses."""
    owner, _, slug = needed(answer, "full_name").rpartition("/")
    return ProviderRepository(
        id=needed(answer, "uuid"),
        name=slug,
        organization=owner,
        default_branch=text(answer, "mainbranch", "name"),
        private=flag(answer, "is_private"),
        url=text(answer, "links", "html", "href"),
        pushed_at=moment(answer, "updated_on"),
    )


def read_repositories(answer: Any) -> tuple[list[ProviderRepository], int]:
    """A page of repositories, and how many there are."""
    found = [read_repository(entry) for entry in items(answer, "values")]
    return found, number(answer, "size")


def read_branches(answer: Any) -> list[Branch]:
    """A page of branches."""
    return [Branch(needed(entry, "name"), needed_hash(entry, "target", "hash")) for entry in items(answer, "values")]


def read_kind(answer: Any) -> str:
    """`commit_file` or `commit_directory`. Raises GitHostFailed for a file that is too large to be read."""
    if text(answer, "type") == "commit_file" and number(answer, "size") > FILE_BYTES:
        raise GitHostFailed(f"The file has more than {FILE_BYTES} bytes.")
    return text(answer, "type")


def read_contents(answer: Any) -> list[Content]:
    """A page of a folder's entries."""
    return [
        Content(
            needed(entry, "path").rstrip("/").rpartition("/")[2],
            text(entry, "type") == "commit_directory",
            size(entry, "size"),
        )
        for entry in items(answer, "values")
    ]


def read_commit(answer: Any) -> HostedCommit:
    """One commit."""
    return HostedCommit(
        hash=needed_hash(answer, "hash"),
        message=text(answer, "message"),
        # `Name <address>`, where the address belongs to no account.
        author=text(answer, "author", "user", "display_name") or text(answer, "author", "raw").partition(" <")[0],
        author_url=text(answer, "author", "user", "links", "html", "href"),
        url=text(answer, "links", "html", "href"),
    )


def read_changed(answer: Any) -> set[str]:
    """The paths on a page of differences, both of a renamed one."""
    entries = items(answer, "values")
    return {text(entry, side, "path") for entry in entries for side in ("old", "new")} - {""}


def read_marked(answer: Any, marker: str) -> list[int]:
    """The ids of the comments that hold our marker."""
    return [
        number(entry, "id")
        for entry in items(answer, "values")
        if marker in text(entry, "content", "raw") and not flag(entry, "deleted")
    ]


def read_hooks(answer: Any, url: str) -> list[str]:
    """The ids of the webhooks to an address."""
    return [needed(entry, "uuid") for entry in items(answer, "values") if text(entry, "url") == url]


def read_pull_request(answer: Any, repository: str, base: str, commit: str = "") -> PullRequest:
    """A pull request; `commit` is the whole hash, where it is known: Bitbucket abbreviates it here."""
    commit = commit or needed(answer, "source", "commit", "hash")
    # The repository of a source is null once a fork was deleted.
    is_external = text(answer, "source", "repository", "uuid") != repository
    fork = text(answer, "source", "repository", "full_name")
    # Bitbucket serves a fork's commits from the fork only.
    try:
        source = GitSource(clone_url(base, fork), ReferenceKind.COMMIT, commit) if is_external and fork else None
    except NoSuchRepository as error:
        raise Malformed(str(error)) from None
    return PullRequest(
        id=str(number(answer, "id")),
        repository_id=repository,
        branch=needed(answer, "source", "branch", "name"),
        commit=commit,
        base_branch=needed(answer, "destination", "branch", "name"),
        is_external=is_external,
        title=text(answer, "title"),
        url=text(answer, "links", "html", "href"),
        source=source,
    )


def read_push(content: Any, repository: str) -> HostEvent:
    """What a push did to branches; one push may change several."""
    found: list[PushEvent] = []
    for change in items(content, "push", "changes"):
        old, new = find(change, "old"), find(change, "new")
        if "branch" in (text(old, "type"), text(new, "type")):
            name = text(new, "name") or needed(old, "name")
            before = needed_hash(old, "target", "hash") if old is not None else ""
            after = needed_hash(new, "target", "hash") if new is not None else ""
            found.append(PushEvent(repository, name, before, after))
    if not found:
        return Ignored("no branch was changed")
    return dataclasses.replace(found[0], others=tuple(found[1:]))
