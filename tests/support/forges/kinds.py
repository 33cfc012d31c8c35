"""Every kind of git host beside its stand-in: what a suite over all of them is parametrized with."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hearth.executor.sandbox.egress_policy import parse_allow_list
from hearth.model.vcs import Installation, Provider
from hearth.outbound.caller import Caller
from hearth.ports import GitHost
from hearth.vcs.api import Api
from hearth.vcs.bitbucket import Bitbucket
from hearth.vcs.gitea import Gitea
from hearth.vcs.github import GitHub
from hearth.vcs.github_app import AppKeys, GitHubApp
from hearth.vcs.gitlab import GitLab
from tests.support.forges import bitbucket, gitea, github, gitlab
from tests.support.forges.standin import StandIn, serving, silent
from tests.support.forges.world import Repository, World

SECRET = "webhook secret"
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Side:
    """A host (ours) and the stand-in it speaks to; `slept` are the waits between tries, seconds."""

    kind: str
    server: Any
    host: GitHost
    installation: Installation
    slept: list[float]
    organization: str = "acme"

    def id(self, repository: Repository) -> str:
        return repository.uuid if self.kind.startswith("bitbucket") else str(repository.id)

    def hook_secret(self) -> str:
        return self.host.webhook_secret or SECRET

    def add(self, name: str = "shop", *, private: bool = False) -> Repository:
        made: Repository = self.server.world.add(self.organization, name, private=private)
        return made

    def with_credentials(self, **credentials: str) -> Installation:
        return dataclasses.replace(self.installation, credentials=credentials)


def app_keys(url: str, **changes: str) -> AppKeys:
    """The keys of the app that the stand-in for GitHub knows."""
    keys = AppKeys(
        github.APP_ID,
        "hearth-test",
        github.app_key()[0],
        "secret of the app",
        github.CLIENT_ID,
        github.CLIENT_SECRET,
        url,
    )
    return dataclasses.replace(keys, **changes)


#: One of each kind of webhooks.
SENDERS = ("github", "gitea", "forgejo", "gitlab", "bitbucket")

_Make = Callable[[Api, World], tuple[StandIn, Callable[[str], GitHost], dict[str, str]]]

KINDS: dict[str, _Make] = {
    "github": lambda api, world: (
        github.GitHubStandIn(world),
        lambda url: GitHub(api, GitHubApp(api, app_keys(url))),
        {},
    ),
    "github-token": lambda api, world: (
        github.GitHubStandIn(world),
        lambda url: GitHub(api, None),
        {"token": github.PERSONAL_TOKEN},
    ),
    "gitea": lambda api, world: (gitea.GiteaStandIn(world), lambda url: Gitea(api), {"token": gitea.TOKEN}),
    "forgejo": lambda api, world: (
        gitea.GiteaStandIn(world, "forgejo"),
        lambda url: Gitea(api, Provider.FORGEJO),
        {"token": gitea.TOKEN},
    ),
    "gitlab": lambda api, world: (gitlab.GitLabStandIn(world), lambda url: GitLab(api), {"token": gitlab.TOKEN}),
    "bitbucket": lambda api, world: (
        bitbucket.BitbucketStandIn(world),
        lambda url: Bitbucket(api),
        {"token": bitbucket.TOKEN},
    ),
    "bitbucket-user": lambda api, world: (
        bitbucket.BitbucketStandIn(world, "ada@example.com"),
        lambda url: Bitbucket(api),
        {"token": bitbucket.TOKEN, "username": "ada@example.com"},
    ),
}

#: Those that differ from another one in a detail, which has a test of its own.
ALIKE = ("forgejo", "bitbucket-user")


@asynccontextmanager
async def side(kind: str, *, is_serving: bool = True) -> AsyncIterator[Side]:
    """One kind of host with its stand-in; at its end, every request must have been as documented.

    Without `is_serving` it only makes webhooks.
    """
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    caller = Caller(parse_allow_list(["127.0.0.1"]))
    server, make_host, credentials = KINDS[kind](Api(caller, sleep), World())
    with serving(server) if is_serving else silent(server):
        host = make_host(server.url)
        # GitLab has groups in groups.
        organization = "acme/tools" if kind == "gitlab" else "acme"
        installation = Installation(
            id="i",
            project_id="p",
            created_at=MOMENT,
            updated_at=MOMENT,
            provider=host.provider,
            organization=organization,
            base_url=server.url,
            provider_installation_id=str(github.INSTALLATION) if kind == "github" else "",
            credentials=credentials,
            webhook_secret=SECRET,
        )
        try:
            yield Side(kind, server, host, installation, slept, organization)
        finally:
            await caller.close()
