"""What git hosts tell us, acted on: pushes build, deleted branches clean up, forks wait (contract: side-services 12).

An event only says where to look. What is built is what the host answers when it is asked, compared with the commit that
was acted on last: so an event that is repeated, forged in its order or lost changes nothing, and polling is the same.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from hearth.control.deployments import DeploymentsControl
from hearth.control.git_deployments import GitDeployments, vcs_fields
from hearth.control.git_hosts import GitHosts, host_of, refusing, require_installation
from hearth.control.jobs import push_job
from hearth.control.pull_requests import PullRequests, fork_branch
from hearth.control.rules import DEPLOYMENT, FUNCTION, VERIFIED, RuleBook
from hearth.control.starting import DeploymentStarter
from hearth.model.ids import unique_id
from hearth.model.pushes import is_production, preview_domain, reason_to_skip
from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment, Function, Rule
from hearth.model.sources import GitSource, ReferenceKind
from hearth.model.statuses import DEPLOYMENT_FINAL
from hearth.model.vcs import (
    HostedCommit,
    Ignored,
    Installation,
    InstallationEvent,
    Provider,
    ProviderRepository,
    PullRequestEvent,
    PushEvent,
    RepositoryLink,
)
from hearth.ports import BadSignature, Clock, Conflict, Events, GitHost, GitHostFailed, NoSuchRepository, Store, Unit

log = structlog.get_logger(__name__)

#: New branches of one repository that a poll acts on in one round; the rest follow in the next.
BRANCHES_PER_POLL = 50


@dataclass(frozen=True, slots=True)
class _Push:
    """A branch that moved: where, its newest commit, and for each link its function and why it is not built."""

    installation: Installation
    repository: ProviderRepository
    branch: str
    commit: HostedCommit
    functions: tuple[tuple[Function, str], ...]


class Pushes:
    """Use cases of events and polls. `functions_domain` is what previews of branches live below."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        events: Events,
        hosts: GitHosts,
        git_deployments: GitDeployments,
        deployments: DeploymentsControl,
        starter: DeploymentStarter,
        rule_book: RuleBook,
        pull_requests: PullRequests,
        functions_domain: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._hosts = hosts
        self._git_deployments = git_deployments
        self._deployments = deployments
        self._starter = starter
        self._rule_book = rule_book
        self._pull_requests = pull_requests
        self._functions_domain = functions_domain

    # -------------------------------------------------------------------------------------- what arrives

    async def receive(
        self, *, provider: str, project_id: str, installation_id: str, headers: Mapping[str, str], body: bytes
    ) -> str:
        """Take a webhook of a git host; returns what becomes of it, in words. The signature is checked first.

        `installation_id` names whose secret signs it, `""` = the whole server's. A body that came before is ignored.
        Raises `installation_not_found`, `user_unauthorized` for a wrong signature,
        `general_argument_invalid`.
        """
        host = host_of(self._hosts, provider)
        owner: Installation | None = None
        if installation_id:
            async with self._store.view(project_id) as unit:
                owner = await require_installation(unit, installation_id)
            if owner.provider != provider:
                raise Refusal("installation_not_found")
        secret = owner.webhook_secret if owner is not None else host.webhook_secret
        try:
            if not secret:
                raise BadSignature("There is no secret to check it with; name the installation in the address.")
            event = host.parse_webhook(headers, body, secret)
        except BadSignature as bad:
            raise Refusal("user_unauthorized", f"The signature of the webhook is refused: {bad}") from bad
        except ValueError as problem:
            raise Refusal("general_argument_invalid", f"The webhook cannot be read: {problem}") from problem
        if isinstance(event, Ignored):
            return f"ignored: {event.reason}"
        told = (owner,) if owner is not None else await self._installations(provider, event.provider_installation_id)
        digest = hashlib.sha256(body).hexdigest()
        taken = [await self._take(installation, event, digest) for installation in told]
        return "accepted" if any(taken) else "ignored: nothing here is connected to it, or it came before"

    async def _installations(self, provider: str, provider_installation_id: str) -> Sequence[Installation]:
        if not provider_installation_id:
            return ()
        return await self._store.projects.installations(provider, provider_installation_id)

    async def _take(
        self, installation: Installation, event: PushEvent | PullRequestEvent | InstallationEvent, digest: str
    ) -> bool:
        """Queue what an event asks for, unless it was queued already; whether there was anything."""
        if isinstance(event, InstallationEvent):
            if event.is_deleted:
                log.warning("installation removed at its host", installation_id=installation.id)
            return False
        if isinstance(event, PullRequestEvent):
            if event.is_closed:
                closed = event.pull_request
                async with self._store.begin(installation.project_id) as unit:
                    await unit.repository_links.note_pull_request(installation.id, closed.repository_id, closed.id, "")
                return False
            about = {"repositoryId": event.pull_request.repository_id, "pullRequest": event.pull_request.id}
            payloads = [about]
        else:
            payloads = [
                {"repositoryId": it.repository_id, "branch": it.branch, "before": it.before}
                for it in (event, *event.others)
            ]
        repository_id = payloads[0]["repositoryId"]
        async with self._store.begin(installation.project_id) as unit:
            if not await unit.repository_links.of_repository(installation.id, repository_id):
                return False
            now = self._clock.now()
            for number, payload in enumerate(payloads):
                occasion = hashlib.sha256(f"{installation.id}/{digest}/{number}".encode()).hexdigest()[:36]
                try:
                    await unit.jobs.enqueue(
                        push_job(installation.project_id, installation.id, payload, now, id=occasion)
                    )
                except Conflict:
                    return False
        return True

    async def poll(self, provider: Provider) -> None:
        """Look at every connected repository of a provider, and act on branches that moved. Repeatable."""
        for installation in await self._store.projects.installations(provider):
            async with self._store.view(installation.project_id) as unit:
                links = await unit.repository_links.of_installation(installation.id)
            for repository_id in dict.fromkeys(link.provider_repository_id for link in links):
                try:
                    await self._poll_repository(installation, repository_id)
                except (GitHostFailed, NoSuchRepository, Refusal) as problem:
                    log.warning("repository not polled", installation_id=installation.id, reason=str(problem))

    async def _poll_repository(self, installation: Installation, repository_id: str) -> None:
        host = host_of(self._hosts, installation.provider)
        branches = {branch.name: branch.commit for branch in await host.branches(installation, repository_id)}
        async with self._store.begin(installation.project_id) as unit:
            heads = await unit.repository_links.heads(installation.id, repository_id)
            if not heads:  # seen for the first time: what is there is not news
                for name, commit in branches.items():
                    await unit.repository_links.set_head(installation.id, repository_id, name, commit)
                return
        moved = [name for name, commit in branches.items() if heads.get(name) != commit]
        gone = [name for name in heads if name not in branches]
        for name in [*gone, *moved[:BRANCHES_PER_POLL]]:
            await self.push(installation.project_id, installation.id, repository_id, name, "")

    # -------------------------------------------------------------------------------------- a push

    async def push(self, project_id: str, installation_id: str, repository_id: str, branch: str, before: str) -> None:
        """Bring a branch up to date: build what it asks for, or clean up if it is gone. Does nothing the second time.

        `before` is where the host says it was, `""` if unknown. Raises GitHostFailed and NoSuchRepository (to be tried
        again).
        """
        async with self._store.view(project_id) as unit:
            installation = await unit.installations.get(installation_id)
            links = await unit.repository_links.of_repository(installation_id, repository_id)
            heads = await unit.repository_links.heads(installation_id, repository_id)
            functions = [it for link in links if (it := await unit.functions.get(link.function_id)) is not None]
        if installation is None or not functions:
            return
        host = host_of(self._hosts, installation.provider)
        try:
            commit = await host.latest_commit(installation, repository_id, branch)
        except NoSuchRepository:
            # The branch, or the whole repository? In the second case this raises as well.
            if branch in {it.name for it in await host.branches(installation, repository_id)}:
                raise
            await self._clean_up(installation, repository_id, branch, functions)
            return
        if heads.get(branch) == commit.hash:
            return
        judged = []
        for function in functions:
            known = heads.get(branch) or before or heads.get(function.provider_branch, "")
            changed = None
            if function.provider_paths and known:
                changed = await _changed(host, installation, repository_id, known, commit.hash)
            judged.append((function, reason_to_skip(function, branch, commit.message, commit.author, changed)))
        repository = await host.repository(installation, repository_id)
        await self._build(_Push(installation, repository, branch, commit, tuple(judged)))

    async def _build(self, push: _Push) -> None:
        """Make the deployments of a push and note its commit as acted on, all in one transaction."""
        made: list[Deployment] = []
        rules: list[Rule] = []
        installation, branch = push.installation, push.branch
        async with self._store.begin(installation.project_id) as unit:
            links = unit.repository_links
            if (await links.heads(installation.id, push.repository.id)).get(branch) == push.commit.hash:
                return  # somebody else did it meanwhile
            await links.set_head(installation.id, push.repository.id, branch, push.commit.hash)
            for judged, reason in push.functions:
                function = await unit.functions.get(judged.id)
                if reason or function is None or function.provider_repository_id != push.repository.id:
                    log.info("push not built", function_id=judged.id, branch=branch, reason=reason or "disconnected")
                    continue
                source = self._git_deployments.source_of(function, ReferenceKind.COMMIT, push.commit.hash)
                made.append(
                    await self._deploy(
                        unit, function, push, source, activate=is_production(function, branch), shown_branch=branch
                    )
                )
                if not is_production(function, branch):
                    rules += await self._preview_rule(unit, function, branch)
        self._rule_book.put(*rules)
        for rule in rules:
            self._events.emit(installation.project_id, f"rules.{rule.id}.create", rule)
        self._tell(made)

    async def _deploy(
        self,
        unit: Unit,
        function: Function,
        push: _Push,
        source: GitSource,
        *,
        activate: bool,
        shown_branch: str,
    ) -> Deployment:
        deployment = await unit.deployments.insert(
            self._git_deployments.new_deployment(
                function, source, vcs_fields(push.repository, shown_branch, push.commit, source), activate=activate
            )
        )
        await self._starter.queue(unit, function, deployment)
        return deployment

    def _tell(self, made: Sequence[Deployment]) -> None:
        for deployment in made:
            name = f"functions.{deployment.function_id}.deployments.{deployment.id}.create"
            self._events.emit(deployment.project_id, name, deployment)

    async def _preview_rule(self, unit: Unit, function: Function, branch: str) -> Sequence[Rule]:
        """The domain of a branch, made with its first push; it leads to the newest ready deployment of the branch."""
        domain = preview_domain(function, branch, self._functions_domain)
        if self._rule_book.has(domain):
            return ()
        now = self._clock.now()
        rule = Rule(
            id=unique_id(),
            project_id=function.project_id,
            created_at=now,
            updated_at=now,
            domain=domain,
            type=DEPLOYMENT,
            resource_type=FUNCTION,
            resource_id=function.id,
            branch=branch,
            status=VERIFIED,
        )
        try:
            return (await unit.rules.insert(rule),)
        except Conflict:
            return ()

    async def _clean_up(
        self, installation: Installation, repository_id: str, branch: str, functions: Sequence[Function]
    ) -> None:
        """A branch is gone: so are its preview domain and its deployments, except an active or unfinished one."""
        dropped: list[Rule] = []
        doomed: list[Deployment] = []
        async with self._store.begin(installation.project_id) as unit:
            await unit.repository_links.set_head(installation.id, repository_id, branch, "")
            for function in functions:
                domain = preview_domain(function, branch, self._functions_domain)
                rule = self._rule_book.find(domain)
                if rule is not None and rule.branch == branch and await unit.rules.delete(rule.id):
                    dropped.append(rule)
                if is_production(function, branch):
                    continue
                doomed += [
                    it
                    for it in await unit.deployments.all_of(function.id)
                    if it.provider_branch == branch
                    and it.git_source is not None
                    and it.git_source.repository_id == repository_id
                    and it.id != function.deployment_id
                    and it.status in DEPLOYMENT_FINAL
                ]
        self._rule_book.drop(*dropped)
        for rule in dropped:
            self._events.emit(installation.project_id, f"rules.{rule.id}.delete", rule)
        for deployment in doomed:
            try:
                await self._deployments.delete(deployment.project_id, deployment.function_id, deployment.id)
            except Refusal:
                continue  # deleted meanwhile

    # -------------------------------------------------------------------------------------- pull requests

    async def pull_request(self, project_id: str, installation_id: str, repository_id: str, id: str) -> None:
        """A pull request from a fork is built where it was approved; others are pushes of their branch anyway.

        All have a comment that says how their deployments stand (`PullRequests`).
        """
        async with self._store.view(project_id) as unit:
            installation = await unit.installations.get(installation_id)
            links = await unit.repository_links.of_repository(installation_id, repository_id)
        if installation is None or not links:
            return
        host = host_of(self._hosts, installation.provider)
        pull_request = await host.pull_request(installation, repository_id, id)
        for link in links if pull_request.is_external else ():
            if id in link.pull_requests:
                await self._build_external(installation, link, id)
            else:
                log.info("pull request of a fork waits for approval", function_id=link.function_id, pull_request=id)
        await self._pull_requests.seen(installation, pull_request)

    async def authorize(self, project_id: str, installation_id: str, *, link_id: str, pull_request: str) -> None:
        """Let a pull request of a fork be built for one function: now, and at each later push to it.

        `link_id` is the id of the link or of the function. It never becomes active. Raises `installation_not_found`,
        `repository_not_found`, `provider_contribution_conflict` (approved already), and the host's refusals.
        """
        async with self._store.view(project_id) as unit:
            installation = await require_installation(unit, installation_id)
            links = unit.repository_links
            link = await links.get(link_id) or await links.of_function(link_id)
        if link is None or link.installation_id != installation_id:
            raise Refusal("repository_not_found")
        if pull_request in link.pull_requests:
            raise Refusal("provider_contribution_conflict")
        with refusing():
            await self._build_external(installation, link, pull_request)
        async with self._store.begin(project_id) as unit:
            current = await unit.repository_links.get(link.id)
            if current is not None and pull_request not in current.pull_requests:
                await unit.repository_links.update(link.id, pull_requests=(*current.pull_requests, pull_request))

    async def _build_external(self, installation: Installation, link: RepositoryLink, id: str) -> None:
        host = host_of(self._hosts, installation.provider)
        repository = await host.repository(installation, link.provider_repository_id)
        pull_request = await host.pull_request(installation, link.provider_repository_id, id)
        commit = HostedCommit(pull_request.commit, pull_request.title, "", "", pull_request.url)
        shown = fork_branch(id)
        async with self._store.begin(installation.project_id) as unit:
            function = await unit.functions.get(link.function_id)
            if function is None:
                return
            existing = await unit.deployments.all_of(function.id)
            if any(it.provider_commit_hash == commit.hash and it.provider_branch == shown for it in existing):
                return
            source = self._git_deployments.source_of(function, ReferenceKind.COMMIT, commit.hash)
            if pull_request.source is not None:  # a public fork, fetched without our credentials
                source = GitSource(pull_request.source.url, ReferenceKind.COMMIT, commit.hash, source.root_directory)
            push = _Push(installation, repository, shown, commit, ())
            made = await self._deploy(unit, function, push, source, activate=False, shown_branch=shown)
        self._tell([made])


async def _changed(
    host: GitHost, installation: Installation, repository_id: str, before: str, after: str
) -> tuple[str, ...] | None:
    """The paths a push changed; None where nobody can tell, and then everything is built."""
    try:
        return await host.changed_files(installation, repository_id, before, after)
    except (GitHostFailed, NoSuchRepository) as problem:
        log.warning("changed files not known; building", installation_id=installation.id, reason=str(problem))
        return None
