"""Git hosts, and looking into repositories without one."""

from collections.abc import Mapping
from typing import Protocol

from hearth.model.sources import CloneSource
from hearth.model.vcs import (
    Branch,
    CommitStatus,
    Content,
    HostedCommit,
    HostEvent,
    Installation,
    Provider,
    ProviderRepository,
    PullRequest,
    RepositoryPage,
)


class BadSignature(Exception):
    """A webhook of a git host is not signed, or not by who knows the secret."""


class GitHostFailed(Exception):
    """A git host could not be reached or refused; the text is for the user and never holds a credential."""


class NoSuchRepository(Exception):
    """The installation sees no such repository at its host (or no such branch, commit, folder or file in it)."""


class GitHost(Protocol):
    """One kind of git host; implementations are in `hearth.vcs`, one object each for the life of the server.

    Every call names the installation it is for, and is bounded in time. `repository` and `id` are the host's id of a
    repository (`ProviderRepository.id`), `ref` a branch or a full commit hash. All calls that speak to the host may
    raise GitHostFailed and NoSuchRepository, and nothing else but PlatformFault.
    """

    provider: Provider
    webhook_secret: str
    """The secret of webhooks that belong to the whole server (GitHub App); `""` = each installation has its own."""

    async def complete(self, installation: Installation) -> Installation:
        """Check an installation that is about to be stored at its host, and fill in what only the host knows.

        Raises GitHostFailed with what its creator can do, ValueError naming what is wrong with its fields.
        """

    def authorize_url(self, state: str) -> str:
        """The host's page where a user installs us, which leads back with `state`; `""` where there is none."""

    async def authorized(self, query: Mapping[str, str]) -> tuple[str, str]:
        """The host's id of the installation, and the account's name, from what the user's browser brought back.

        Raises GitHostFailed. Called only for hosts with an `authorize_url`.
        """

    async def repositories(self, installation: Installation, search: str, offset: int, limit: int) -> RepositoryPage:
        """Repositories whose name contains `search` (`""` = all), in the host's order; `offset` is a multiple of
        `limit`.
        """

    async def repository(self, installation: Installation, id: str) -> ProviderRepository: ...

    async def create_repository(self, installation: Installation, name: str, private: bool) -> ProviderRepository:
        """Raises GitHostFailed also where the host cannot do it."""

    async def branches(self, installation: Installation, repository: str) -> tuple[Branch, ...]: ...

    async def contents(self, installation: Installation, repository: str, path: str, ref: str) -> tuple[Content, ...]:
        """The entries of a folder (`""` = the root), at most 1,000; `ref` `""` = the default branch."""

    async def file(self, installation: Installation, repository: str, path: str, ref: str) -> bytes:
        """A file of at most 256 KiB (a larger one raises GitHostFailed)."""

    async def latest_commit(self, installation: Installation, repository: str, ref: str) -> HostedCommit:
        """The newest commit of a branch, or the commit itself."""

    async def changed_files(
        self, installation: Installation, repository: str, before: str, after: str
    ) -> tuple[str, ...] | None:
        """Paths that differ between two commits (both names of a renamed one); None when the host cannot say."""

    async def pull_request(self, installation: Installation, repository: str, id: str) -> PullRequest:
        """A pull request as it is now. Raises NoSuchRepository also for a host that has none."""

    async def clone_source(self, installation: Installation, repository: str) -> CloneSource:
        """Where the repository is cloned from, with credentials that are valid now."""

    async def set_status(self, installation: Installation, repository: str, commit: str, status: CommitStatus) -> None:
        """Show a deployment's state at a commit; does nothing where the host has no such thing."""

    async def comment(
        self, installation: Installation, repository: str, pull_request: str, marker: str, text: str
    ) -> None:
        """Write a comment, replacing our earlier one that holds `marker` (an HTML comment, part of `text`)."""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
        """What a webhook says. Pure: `headers` have lower-case names; the signature is verified before all else.

        Raises BadSignature; ValueError when what is authentic makes no sense.
        """

    async def register_webhook(self, installation: Installation, repository: str, url: str, secret: str) -> str:
        """Make the host tell `url` of pushes and pull requests, once per repository and address; returns the host's id
        of the webhook, `""` where none is needed or possible (then the repository is polled or hooked by hand).
        """

    async def unregister_webhook(self, installation: Installation, repository: str, webhook_id: str) -> None:
        """Take it back; one that is gone is fine."""


class GitReader(Protocol):
    """Looks into any git repository without a host's API, each time in a sandbox. Raises as `GitHost`."""

    async def branches(self, source: CloneSource) -> tuple[tuple[Branch, ...], str]:
        """All branches, and the name of the default one (`""` = none)."""

    async def contents(self, source: CloneSource, path: str, ref: str) -> tuple[Content, ...]: ...
    async def file(self, source: CloneSource, path: str, ref: str) -> bytes: ...
    async def commit(self, source: CloneSource, ref: str) -> HostedCommit: ...
    async def changed_files(self, source: CloneSource, before: str, after: str) -> tuple[str, ...] | None: ...
    async def host_keys(self, url: str) -> str:
        """The keys an ssh host shows now, as lines of `known_hosts`."""
