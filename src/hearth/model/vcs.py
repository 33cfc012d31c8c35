"""Git hosts: installations, repositories there, what hosts tell us, and what we tell them. Pure words, no I/O.

Sources that are fetched live in `sources`; what every git host must be able to do is `hearth.ports.GitHost`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

# Fetches need these two as well, so they live there; they are words of this module too.
from hearth.model.sources import CloneAccess as CloneAccess
from hearth.model.sources import CloneSource as CloneSource
from hearth.model.sources import GitSource


class Provider(StrEnum):
    """The kinds of git hosts, as on the wire. `git` is a plain git server: https, ssh or a folder."""

    GIT = "git"
    GITHUB = "github"
    GITEA = "gitea"
    FORGEJO = "forgejo"
    GITLAB = "gitlab"
    BITBUCKET = "bitbucket"


@dataclass(frozen=True, slots=True)
class Installation:
    """A link of one project to an account on a git host.

    `organization` is the account's name there, `provider_installation_id` what the host calls the link (GitHub App),
    `base_url` where the host is, without credentials. `credentials` are in clear in memory and encrypted at rest, and
    never leave the server; their names depend on the provider: `token` and `username` for https, `privateKey` and
    `knownHosts` for ssh. `webhook_secret` signs what the host sends; encrypted at rest as well. `repositories` are
    ids of repositories to list where the host itself cannot list them. `created_by` is a user's id or `""`.
    """

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    provider: Provider
    organization: str
    base_url: str
    provider_installation_id: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)
    webhook_secret: str = field(default="", repr=False)
    repositories: tuple[str, ...] = ()
    created_by: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class RepositoryLink:
    """A function's connection to a repository; one per function.

    `pull_requests` are the ids of pull requests from forks that were approved. `webhook_id` is what the host calls
    the webhook it sends to us, `""` where none is registered.
    """

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    function_id: str
    installation_id: str
    provider_repository_id: str
    pull_requests: tuple[str, ...] = ()
    webhook_id: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class ProviderRepository:
    """A repository as its host describes it. `id` is stable and at most 128 characters; `url` is its page, if any.

    `organization` is the owner's name; `default_branch` may be `""` for an empty repository.
    """

    id: str
    name: str
    organization: str
    default_branch: str
    private: bool = False
    url: str = ""
    pushed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RepositoryPage:
    """One page of repositories. `total` is how many there are, as far as the host says."""

    total: int
    items: tuple[ProviderRepository, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch and the full hash of its newest commit."""

    name: str
    commit: str


@dataclass(frozen=True, slots=True)
class Content:
    """One entry of a folder: its `name` in it, whether it is a folder, its size (0 for a folder or if unknown)."""

    name: str
    is_directory: bool
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class HostedCommit:
    """A commit as its host describes it; addresses are `""` where the host has no pages."""

    hash: str
    message: str
    author: str
    author_url: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A pull request as it is now. `id` is its number at the host, as text. `branch` and `commit` are its head's.

    `is_external` says that the head is in another repository (a fork): its code comes from somebody who may not push.
    `source` is where the head can be fetched if the repository itself does not serve it; None = it does.
    """

    id: str
    repository_id: str
    branch: str
    commit: str
    base_branch: str
    is_external: bool
    title: str = ""
    url: str = ""
    source: GitSource | None = None


class CommitState(StrEnum):
    """What a commit's status says of a deployment."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True)
class CommitStatus:
    """What is shown at a commit: `context` names what it is about (a later one replaces an earlier one of it)."""

    state: CommitState
    target_url: str
    description: str
    context: str


# ------------------------------------------------------------------------------------- what a host tells us


@dataclass(frozen=True, slots=True)
class PushEvent:
    """Branch `branch` of a repository moved from `before` to `after` (full hashes, `""` = did not / does not exist).

    Only says where to look: what is built is what the host answers when it is asked afterwards. `others` are further
    branches of the same push, where a host tells of all of them at once (Bitbucket).
    """

    repository_id: str
    branch: str
    before: str
    after: str
    provider_installation_id: str = ""
    others: tuple["PushEvent", ...] = ()


@dataclass(frozen=True, slots=True)
class PullRequestEvent:
    """A pull request was opened, got commits, or was closed (`is_closed`)."""

    pull_request: PullRequest
    is_closed: bool = False
    provider_installation_id: str = ""


@dataclass(frozen=True, slots=True)
class InstallationEvent:
    """The link itself changed at the host; `is_deleted` = it is no more."""

    provider_installation_id: str
    is_deleted: bool


@dataclass(frozen=True, slots=True)
class Ignored:
    """Authentic, but nothing to act on; `reason` is for the answer and the log."""

    reason: str


HostEvent = PushEvent | PullRequestEvent | InstallationEvent | Ignored


def is_zero(hash: str) -> bool:
    """Whether a hash is git's way to say "none"."""
    return not hash.strip("0")
