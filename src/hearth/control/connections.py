"""Functions connected to repositories: connect, disconnect, and the source of a deployment (functions-api 5.1, 5.3)."""

import urllib.parse
from collections.abc import Mapping

import structlog

from hearth.control.git_hosts import GitHosts, host_of, require_installation
from hearth.model.ids import unique_id
from hearth.model.refusals import PlatformFault, Refusal
from hearth.model.resources import Function
from hearth.model.sources import CloneSource
from hearth.model.vcs import Installation, RepositoryLink
from hearth.ports import Clock, GitHostFailed, NoSuchRepository, Store, Unit

log = structlog.get_logger(__name__)

#: What a function holds of its repository, when it holds none (contract: functions-api 5.3).
DISCONNECTED: Mapping[str, object] = {
    "installation_id": "",
    "provider_repository_id": "",
    "provider_branch": "",
    "provider_root_directory": "",
    "provider_silent_mode": True,
    "provider_branches": (),
    "provider_paths": (),
}


class Connections:
    """Keeps the links between functions and repositories. `endpoint` is where hosts send their webhooks, `/v1` incl."""

    def __init__(self, *, store: Store, clock: Clock, hosts: GitHosts, endpoint: str) -> None:
        self._store = store
        self._clock = clock
        self._hosts = hosts
        self._endpoint = endpoint

    async def prepare(self, project_id: str, installation_id: str, repository_id: str) -> Mapping[str, str]:
        """What is to be known before a function is connected: the branches as they are now, empty if nobody knows.

        A host that does not answer now is no reason to refuse (contract: functions-api 5.10). Raises
        `installation_not_found`.
        """
        if not installation_id:
            return {}
        async with self._store.view(project_id) as unit:
            installation = await require_installation(unit, installation_id)
        if not repository_id:
            return {}
        try:
            branches = await host_of(self._hosts, installation.provider).branches(installation, repository_id)
        except (GitHostFailed, NoSuchRepository, PlatformFault, Refusal) as problem:
            log.warning("branches of a repository not known yet", installation_id=installation_id, reason=str(problem))
            return {}
        return {branch.name: branch.commit for branch in branches}

    async def link(self, unit: Unit, function: Function, heads: Mapping[str, str]) -> None:
        """Connect a function as it now stands to its repository, in the caller's transaction.

        The branches of a repository that is new here are taken as seen: only what is pushed from now on is built.
        """
        installation_id, repository_id = function.installation_id, function.provider_repository_id
        if not repository_id:
            return
        now = self._clock.now()
        await unit.repository_links.insert(
            RepositoryLink(
                id=unique_id(),
                project_id=function.project_id,
                created_at=now,
                updated_at=now,
                function_id=function.id,
                installation_id=installation_id,
                provider_repository_id=repository_id,
            )
        )
        if not await unit.repository_links.heads(installation_id, repository_id):
            for branch, commit in heads.items():
                await unit.repository_links.set_head(installation_id, repository_id, branch, commit)

    async def unlink(self, unit: Unit, function_id: str) -> RepositoryLink | None:
        """Take a function's link away, in the caller's transaction; the last one takes what is known of branches."""
        link = await unit.repository_links.of_function(function_id)
        if link is None:
            return None
        await unit.repository_links.delete(link.id)
        if not await unit.repository_links.of_repository(link.installation_id, link.provider_repository_id):
            await unit.repository_links.forget_heads(link.installation_id, link.provider_repository_id)
        return link

    async def register(self, function: Function) -> None:
        """Make the host tell us of pushes, after the link was committed. A host that refuses is logged, not fatal."""
        async with self._store.view(function.project_id) as unit:
            link = await unit.repository_links.of_function(function.id)
            installation = await unit.installations.get(function.installation_id)
        if link is None or installation is None or not installation.webhook_secret:
            return
        host = host_of(self._hosts, installation.provider)
        try:
            webhook_id = await host.register_webhook(
                installation, link.provider_repository_id, self.events_url(installation), installation.webhook_secret
            )
        except (GitHostFailed, NoSuchRepository) as problem:
            log.warning("webhook not registered at the git host", function_id=function.id, reason=str(problem))
            return
        if webhook_id:
            async with self._store.begin(function.project_id) as unit:
                await unit.repository_links.update(link.id, webhook_id=webhook_id)

    async def unregister(self, project_id: str, link: RepositoryLink) -> None:
        """Take the webhook of a link that is gone back, unless another function of the repository needs it."""
        if not link.webhook_id:
            return
        async with self._store.view(project_id) as unit:
            installation = await unit.installations.get(link.installation_id)
            others = await unit.repository_links.of_repository(link.installation_id, link.provider_repository_id)
        if installation is None or any(other.webhook_id == link.webhook_id for other in others):
            return
        try:
            await host_of(self._hosts, installation.provider).unregister_webhook(
                installation, link.provider_repository_id, link.webhook_id
            )
        except (GitHostFailed, NoSuchRepository) as problem:
            log.warning("webhook left at the git host", installation_id=installation.id, reason=str(problem))

    async def disconnect(self, project_id: str, function_id: str) -> None:
        """Disconnect a function, and empty what it holds of its repository."""
        async with self._store.begin(project_id) as unit:
            link = await self.unlink(unit, function_id)
            await unit.functions.update(function_id, **DISCONNECTED)
        if link is not None:
            await self.unregister(project_id, link)

    def events_url(self, installation: Installation) -> str:
        """Where the webhooks of an installation are received."""
        query = urllib.parse.urlencode({"project": installation.project_id, "installation": installation.id})
        return f"{self._endpoint}/vcs/{installation.provider}/events?{query}"

    async def clone_source(self, project_id: str, installation_id: str, repository_id: str) -> CloneSource:
        """Where a connected repository is fetched from, with credentials that are valid now.

        Raises GitHostFailed, NoSuchRepository, and `installation_not_found`.
        """
        async with self._store.view(project_id) as unit:
            installation = await require_installation(unit, installation_id)
        return await host_of(self._hosts, installation.provider).clone_source(installation, repository_id)
