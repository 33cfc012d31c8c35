"""Pushes, deleted branches and pull requests of forks, acted on over the real store and a host made up here."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import pytest

from hearth.control.connections import Connections
from hearth.control.deployments import DeploymentsControl
from hearth.control.git_deployments import GitDeployments
from hearth.control.jobs import JobKind
from hearth.control.pull_requests import PullRequests
from hearth.control.pushes import Pushes
from hearth.control.reports import Reports
from hearth.control.rules import Domains, RuleBook
from hearth.control.sources import Sources
from hearth.control.starting import DeploymentStarter
from hearth.model.events import Occurrence
from hearth.model.refusals import Refusal
from hearth.model.sources import CloneAccess, CloneSource, GitSource, ReferenceKind
from hearth.model.vcs import (
    Branch,
    CommitState,
    CommitStatus,
    HostedCommit,
    HostEvent,
    Installation,
    InstallationEvent,
    Provider,
    ProviderRepository,
    PullRequest,
    PullRequestEvent,
    PushEvent,
)
from hearth.ports import BadSignature, FileNotStored, GitHost, NoSuchRepository
from tests.control.support import World
from tests.store.samples import NOW

pytestmark = pytest.mark.anyio


def commit_hash(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


class MadeUpHost:
    """One repository `r`, whose branches, messages, changes and pull requests are what a test says."""

    provider = Provider.GITEA
    webhook_secret = ""

    def __init__(self) -> None:
        self.heads: dict[str, str] = {"main": commit_hash("first")}
        self.messages: dict[str, str] = {}
        self.author = "Ada"
        self.changes: tuple[str, ...] | None = None
        self.compared: list[tuple[str, str]] = []
        self.pull: PullRequest | None = None
        self.comments: list[str] = []
        self.statuses: list[tuple[str, str, CommitState]] = []

    async def branches(self, installation: Installation, repository: str) -> tuple[Branch, ...]:
        return tuple(Branch(name, commit) for name, commit in self.heads.items())

    async def repository(self, installation: Installation, id: str) -> ProviderRepository:
        return ProviderRepository(id, "r", "team", "main", url="https://git.test/team/r")

    async def latest_commit(self, installation: Installation, repository: str, ref: str) -> HostedCommit:
        if ref not in self.heads:
            raise NoSuchRepository("no such branch")
        commit = self.heads[ref]
        return HostedCommit(commit, self.messages.get(commit, "a message"), self.author)

    async def changed_files(
        self, installation: Installation, repository: str, before: str, after: str
    ) -> tuple[str, ...] | None:
        self.compared.append((before, after))
        return self.changes

    async def clone_source(self, installation: Installation, repository: str) -> CloneSource:
        return CloneSource("https://git.test/team/r.git", CloneAccess("deploy", "t0ken"))

    async def pull_request(self, installation: Installation, repository: str, id: str) -> PullRequest:
        if self.pull is None or self.pull.id != id:
            raise NoSuchRepository("no such pull request")
        return self.pull

    async def comment(
        self, installation: Installation, repository: str, pull_request: str, marker: str, text: str
    ) -> None:
        assert marker in text
        self.comments.append(text)

    async def set_status(self, installation: Installation, repository: str, commit: str, status: CommitStatus) -> None:
        self.statuses.append((repository, commit, status.state))

    async def register_webhook(self, installation: Installation, repository: str, url: str, secret: str) -> str:
        return "hook-1"

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
        if headers.get("signed-by") != secret:
            raise BadSignature("not signed")
        told = json.loads(body)
        if "pull" in told:
            assert self.pull is not None
            return PullRequestEvent(self.pull, is_closed="closed" in told)
        if "uninstalled" in told:
            return InstallationEvent("1", is_deleted=True)
        return PushEvent("r", told["branch"], "", "")


class Side:
    """The world with its function `f` connected to the host, and what acts on pushes."""

    def __init__(self, world: World) -> None:
        self.world, self.host = world, MadeUpHost()
        hosts: dict[Provider, GitHost] = {Provider.GITEA: cast(GitHost, self.host)}
        starter = DeploymentStarter(clock=world.clock, limits=world.limits)
        common: dict[str, Any] = {"store": world.store, "clock": world.clock, "events": world.bus}
        self.connections = Connections(store=world.store, clock=world.clock, hosts=hosts, endpoint="http://api/v1")
        self.book = RuleBook(Domains("functions.test"))
        self.git_deployments = GitDeployments(
            starter=starter, hosts=hosts, templates_url="https://templates.test", **common
        )
        self.sources = Sources(
            store=world.store,
            files=world.files,
            fetcher=world.fetcher,
            connections=self.connections,
            limits=world.limits,
        )
        pull_requests = PullRequests(
            store=world.store,
            hosts=hosts,
            rule_book=self.book,
            functions_domain="functions.test",
            endpoint="https://api.test:8443/v1",
        )
        self.reports = Reports(
            store=world.store, clock=world.clock, hosts=hosts, pull_requests=pull_requests, console_url="http://c"
        )
        self.pushes = Pushes(
            pull_requests=pull_requests,
            hosts=hosts,
            git_deployments=self.git_deployments,
            deployments=DeploymentsControl(
                files=world.files,
                executor=world.executor,  # type: ignore[arg-type]
                runnables=world.runnables,
                starter=starter,
                uploads=world.uploads,
                builds=world.builds,
                **common,
            ),
            starter=starter,
            rule_book=self.book,
            functions_domain="functions.test",
            **common,
        )

    async def connect(self, **settings: Any) -> None:
        installation = Installation(
            "i", "p", NOW, NOW, Provider.GITEA, "team", "https://git.test", webhook_secret="secret"
        )
        heads = dict(self.host.heads)
        async with self.world.store.begin("p") as unit:
            await unit.installations.insert(installation)
            fields = {"installation_id": "i", "provider_repository_id": "r", "provider_branch": "main"}
            function = await unit.functions.update("f", **(fields | settings))
            assert function is not None
            await self.connections.link(unit, function, heads)
        await self.connections.register(function)

    async def push(self, branch: str, name: str, message: str = "a message") -> None:
        self.host.heads[branch] = commit_hash(name)
        self.host.messages[commit_hash(name)] = message
        await self.pushes.push("p", "i", "r", branch, "")

    async def deployments(self) -> list[tuple[str, str, bool]]:
        async with self.world.store.view("p") as unit:
            return [
                (it.provider_branch, it.provider_commit_hash, it.activate) for it in await unit.deployments.all_of("f")
            ]

    async def receive(self, body: Any, secret: str = "secret", installation_id: str = "i") -> str:
        return await self.pushes.receive(
            provider="gitea",
            project_id="p",
            installation_id=installation_id,
            headers={"signed-by": secret},
            body=json.dumps(body).encode(),
        )


@pytest.fixture
def side(here: World) -> Side:
    return Side(here)


async def test_what_is_there_when_a_function_is_connected_is_no_push(side: Side) -> None:
    await side.connect()
    await side.pushes.push("p", "i", "r", "main", "")
    await side.pushes.poll(Provider.GITEA)
    assert await side.deployments() == []
    async with side.world.store.view("p") as unit:
        link = await unit.repository_links.of_function("f")
        assert link is not None
        assert link.webhook_id == "hook-1"


async def test_a_push_is_built_once_however_often_it_is_told(side: Side) -> None:
    await side.connect()
    await side.push("main", "second")
    await side.pushes.push("p", "i", "r", "main", commit_hash("first"))
    await side.pushes.poll(Provider.GITEA)
    assert await side.deployments() == [("main", commit_hash("second"), True)]


async def test_a_branch_is_a_preview_with_one_domain_until_it_is_deleted(side: Side) -> None:
    await side.connect()
    await side.push("feature/x", "one")
    await side.push("feature/x", "two")
    assert [(branch, active) for branch, _, active in await side.deployments()] == [("feature/x", False)] * 2
    (domain,) = side.book._rules
    assert domain.startswith("branch-feature-x-")
    async with side.world.store.begin("p") as unit:
        for deployment in await unit.deployments.all_of("f"):
            await unit.jobs.cancel_of(JobKind.BUILD, deployment.id)
        await side.world.builds.fail_in(unit, "f", (await unit.deployments.all_of("f"))[0].id, "for this test")
    del side.host.heads["feature/x"]
    await side.pushes.push("p", "i", "r", "feature/x", "")
    assert side.book._rules == {}
    left = await side.deployments()
    assert len(left) == 1, "an unfinished deployment ends by itself"


async def test_skipped_messages_branches_and_paths_build_nothing_and_are_not_looked_at_again(side: Side) -> None:
    await side.connect(provider_branches=("main", "!wip"), provider_paths=("a/**",))
    side.host.changes = ("b/x",)
    await side.push("main", "second")
    await side.push("wip", "third")
    side.host.changes = ("a/x",)
    await side.push("main", "fourth", "words [skip ci]")
    assert await side.deployments() == []
    await side.push("main", "fifth")
    assert await side.deployments() == [("main", commit_hash("fifth"), True)]
    assert side.host.compared[-1] == (commit_hash("fourth"), commit_hash("fifth"))


async def test_where_nobody_can_tell_what_changed_it_is_built(side: Side) -> None:
    await side.connect(provider_paths=("a/**",))
    side.host.changes = None
    await side.push("main", "second")
    assert len(await side.deployments()) == 1


async def test_a_webhook_is_believed_by_its_signature_and_queued_once(side: Side) -> None:
    await side.connect()
    assert await side.receive({"branch": "main", "delivery": 1}) == "accepted"
    assert (await side.receive({"branch": "main", "delivery": 1})).startswith("ignored")
    assert await side.receive({"branch": "main", "delivery": 2}) == "accepted"
    assert (await side.receive({"uninstalled": True})).startswith("ignored")
    for secret, installation_id, type in (
        ("wrong", "i", "user_unauthorized"),
        ("", "i", "user_unauthorized"),
        ("", "", "user_unauthorized"),
        ("secret", "none", "installation_not_found"),
    ):
        with pytest.raises(Refusal) as refused:
            await side.receive({"branch": "main"}, secret, installation_id)
        assert refused.value.type == type
    jobs = [job for job in await side.world.store.jobs.unfinished() if job.kind == JobKind.PUSH]
    assert len(jobs) == 2


async def test_a_fork_waits_for_approval_and_never_becomes_active_or_a_branch(side: Side) -> None:
    await side.connect(provider_silent_mode=False)
    side.host.pull = PullRequest("7", "r", "main", commit_hash("fork"), "main", is_external=True, title="evil")
    await side.pushes.pull_request("p", "i", "r", "7")
    assert await side.deployments() == []
    assert "approves it" in side.host.comments[0]
    for link_id, type in (("none", "repository_not_found"),):
        with pytest.raises(Refusal) as refused:
            await side.pushes.authorize("p", "i", link_id=link_id, pull_request="7")
        assert refused.value.type == type
    await side.pushes.authorize("p", "i", link_id="f", pull_request="7")
    assert await side.deployments() == [("pull/7", commit_hash("fork"), False)]
    with pytest.raises(Refusal) as again:
        await side.pushes.authorize("p", "i", link_id="f", pull_request="7")
    assert again.value.type == "provider_contribution_conflict"
    await side.pushes.pull_request("p", "i", "r", "7")
    side.host.pull = PullRequest("7", "r", "main", commit_hash("fork-2"), "main", is_external=True)
    await side.pushes.pull_request("p", "i", "r", "7")
    assert [it[0] for it in await side.deployments()] == ["pull/7", "pull/7"]


async def test_a_template_of_a_connected_function_becomes_a_commit_that_is_built_once(side: Side) -> None:
    await side.connect(provider_root_directory="functions/f")
    template = {"repository": "t", "owner": "o", "root_directory": "node", "kind": "tag", "reference": "1.*"}
    made = await side.git_deployments.create_template("p", "f", activate=True, **template)
    assert (made.provider_repository_name, made.provider_branch, made.activate) == ("r", "main", True)
    kept = await side.world.deployment(made.id)
    assert kept.git_source == GitSource(
        "",
        ReferenceKind.BRANCH,
        "main",
        "functions/f",
        "i",
        "r",
        template=GitSource("https://templates.test/o/t", ReferenceKind.TAG, "1.*", "node"),
    )
    prepared = await side.sources.prepare(kept, lambda text: None)
    commit = "d" * 40
    (pushed,) = side.world.fetcher.published
    assert (pushed.branch, pushed.root_directory, pushed.message) == ("main", "functions/f", "Create 'Name' function")
    assert pushed.clone == await side.host.clone_source(cast(Installation, None), "r")
    of_template, of_commit = side.world.fetcher.requests
    assert (of_template.source.url, of_template.access) == ("https://templates.test/o/t", None)
    assert (of_commit.source.reference, of_commit.source.url) == (commit, "https://git.test/team/r.git")
    assert of_commit.access == CloneAccess("deploy", "t0ken")
    assert prepared.git_source == GitSource("", ReferenceKind.COMMIT, commit, "functions/f", "i", "r")
    with pytest.raises(FileNotStored):
        await side.world.files.size(of_template.key)

    # The host tells of the push, before or after: it is the platform's own.
    side.host.heads["main"] = commit
    await side.pushes.push("p", "i", "r", "main", "")
    side.host.author = "Hearth"
    await side.push("main", "another of ours")
    assert len(await side.deployments()) == 1


async def test_a_template_is_not_put_into_a_folder_of_the_machine_or_on_an_impossible_branch(side: Side) -> None:
    await side.connect(provider_branch="--upload-pack=x")
    template = {"repository": "t", "owner": "o", "root_directory": "", "kind": "tag", "reference": "1"}
    for words in ("providerBranch", "nothing is ever written"):
        with pytest.raises(Refusal) as refused:
            await side.git_deployments.create_template("p", "f", activate=True, **template)
        assert words in refused.value.message
        async with side.world.store.begin("p") as unit:
            await unit.functions.update("f", provider_branch="main")
            await unit.installations.update("i", base_url="file:///srv/git")


async def test_the_comment_of_a_pull_request_follows_its_branch_until_it_is_closed(side: Side) -> None:
    await side.connect(provider_silent_mode=False)
    async with side.world.store.begin("p") as unit:
        await unit.functions.update("f", name="sh|op` @all")
    side.host.pull = PullRequest("7", "r", "feature/x", commit_hash("one"), "main", is_external=False)
    await side.pushes.pull_request("p", "i", "r", "7")
    assert side.host.comments == [], "nothing is deployed"
    await side.push("feature/x", "one")
    (domain,) = side.book._rules
    async with side.world.store.view("p") as unit:
        (made,) = await unit.deployments.all_of("f")
    await side.reports.report("p", "f", made.id)
    row = f"| `shop @all` | building | {commit_hash('one')[:12]} | https://{domain}:8443 |"
    assert side.host.comments[-1].splitlines()[-1] == row
    await side.world.builds.fail("p", "f", made.id, "for this test")
    await side.reports.report("p", "f", made.id)
    assert side.host.comments[-1].splitlines()[-1] == row.replace("building", "failed")
    assert side.host.statuses[-1] == ("r", commit_hash("one"), CommitState.FAILURE)

    assert (await side.receive({"pull": 7, "closed": True})).startswith("ignored")
    told = len(side.host.comments)
    await side.reports.report("p", "f", made.id)
    assert len(side.host.comments) == told
    await side.pushes.pull_request("p", "i", "r", "7")
    async with side.world.store.begin("p") as unit:
        await unit.functions.update("f", provider_silent_mode=True)
    await side.reports.report("p", "f", made.id)
    assert len(side.host.comments) == told + 1, "opened again, and then silent"


async def test_a_public_fork_is_shown_at_its_pull_request_though_it_is_fetched_without_credentials(side: Side) -> None:
    await side.connect(provider_silent_mode=False)
    there = GitSource("https://git.test/eve/r.git", ReferenceKind.COMMIT, commit_hash("fork"))
    side.host.pull = PullRequest("7", "r", "main", commit_hash("fork"), "main", is_external=True, source=there)
    await side.pushes.pull_request("p", "i", "r", "7")
    await side.pushes.authorize("p", "i", link_id="f", pull_request="7")
    async with side.world.store.view("p") as unit:
        (made,) = await unit.deployments.all_of("f")
    assert made.git_source is not None
    assert made.git_source.installation_id == ""
    side.reports.heard(Occurrence("p", "functions.f.deployments.d.create", made))
    assert side.reports._waiting.qsize() == 1
    await side.reports.report("p", "f", made.id)
    assert side.host.statuses == [("r", commit_hash("fork"), CommitState.PENDING)]
    assert "| building |" in side.host.comments[-1]
