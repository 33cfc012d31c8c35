"""Deployments whose source comes from git: templates, repositories at a host (contract: functions-api 5.9, 5.10).

Nothing is fetched here: the deployment notes where its source is, and its build fetches it (`sources`).
"""

import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from hearth.control.git_hosts import GitHosts, host_of, refusing, require_installation
from hearth.control.requiring import require_function
from hearth.control.sources import branch_page
from hearth.control.starting import DeploymentStarter
from hearth.model.ids import unique_id
from hearth.model.refusals import Refusal, invalid_param
from hearth.model.resources import Deployment, Function
from hearth.model.sources import (
    STARTERS_URL,
    GitSource,
    ReferenceKind,
    name_problem,
    normal_folder,
    reference_problem,
    shortened,
)
from hearth.model.statuses import DeploymentStatus
from hearth.model.vcs import HostedCommit, ProviderRepository
from hearth.ports import Clock, Events, GitHostFailed, NoSuchRepository, Store

log = structlog.get_logger(__name__)

#: Templates that come with the platform, whatever HEARTH_TEMPLATES_URL says.
STARTERS = ("hearth", "starters")
#: Where the repositories of a mirror have their pages.
_PUBLIC_PAGES = "https://github.com"


class GitDeployments:
    """Use cases `create template deployment` and `create VCS deployment`.

    `templates_url` is the base of template repositories, without credentials; `file:///...` is a folder of them.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        events: Events,
        starter: DeploymentStarter,
        hosts: GitHosts,
        templates_url: str,
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._starter = starter
        self._hosts = hosts
        self._templates_url = templates_url

    async def create_template(
        self,
        project_id: str,
        function_id: str,
        *,
        repository: str,
        owner: str,
        root_directory: str,
        kind: str,
        reference: str,
        activate: bool,
    ) -> Deployment:
        """Deploy a folder of a template's repository; `reference` may be a range of tags.

        A connected function gets it into its repository: as a commit on the production branch, below its root
        directory, which is then built (contract: functions-api 9.2). Raises `general_argument_invalid`,
        `function_not_found`; for a connected function also `installation_not_found`, `provider_repository_not_found`
        and `general_provider_failure`.
        """
        reference_kind = ReferenceKind(kind)
        for name, value in (("repository", repository), ("owner", owner)):
            if problem := name_problem(value):
                raise invalid_param(name, problem)
        folder = normal_folder(root_directory)
        if folder is None:
            raise invalid_param("rootDirectory", "Value must be a folder inside the repository, without `..`")
        is_starter = (owner, repository) == STARTERS
        if not is_starter and (problem := reference_problem(reference_kind, reference)):
            raise invalid_param("reference", problem)
        source = GitSource(
            STARTERS_URL if is_starter else f"{self._templates_url}/{owner}/{repository}",
            reference_kind,
            reference,
            folder,
        )
        function, connected = await self._connection(project_id, function_id)
        if connected is not None:
            onto = replace(self.source_of(function, ReferenceKind.BRANCH, function.provider_branch), template=source)
            shown = vcs_fields(connected, function.provider_branch, None, onto)
            return await self._create(project_id, function_id, shown, onto, activate)
        page = "" if is_starter else self._page(owner, repository)
        fields = {
            "provider_repository_name": repository,
            "provider_repository_owner": owner,
            "provider_repository_url": page,
            "provider_branch": source.reference,
            "provider_branch_url": branch_page(page, source.reference),
        }
        return await self._create(project_id, function_id, fields, source, activate)

    async def _connection(self, project_id: str, function_id: str) -> tuple[Function, ProviderRepository | None]:
        """A function, and the repository it is connected to, which must be there (contract: functions-api 5.9)."""
        async with self._store.view(project_id) as unit:
            function = await require_function(unit, function_id)
            if not function.installation_id:
                return function, None
            installation = await require_installation(unit, function.installation_id)
        if not function.provider_repository_id:
            raise Refusal("provider_repository_not_found")
        if problem := reference_problem(ReferenceKind.BRANCH, function.provider_branch):
            raise invalid_param("providerBranch", f"{problem}. Update the function first")
        if installation.base_url.startswith("file://"):
            raise Refusal(
                "general_provider_failure",
                "The function is connected to a repository in a folder of this machine, where nothing is ever written. "
                "Put the template's code there yourself, and it is deployed.",
            )
        with refusing():
            host = host_of(self._hosts, installation.provider)
            return function, await host.repository(installation, function.provider_repository_id)

    async def create_vcs(
        self, project_id: str, function_id: str, *, kind: str, reference: str, activate: bool
    ) -> Deployment:
        """Deploy a branch or commit of the repository that the function is connected to.

        A branch is deployed at the commit it has now. A reference that is not there is no refusal: the build fails
        with the reason. Raises `function_not_found`, `installation_not_found`, `provider_repository_not_found`,
        `general_provider_failure`.
        """
        async with self._store.view(project_id) as unit:
            function = await require_function(unit, function_id)
        reference_kind = ReferenceKind(kind)
        if problem := reference_problem(reference_kind, reference):
            raise invalid_param("reference", problem)
        return await self.deploy(function, reference_kind, reference, activate=activate)

    async def deploy_production(self, function: Function) -> None:
        """Deploy the production branch of a function that was just connected; what goes wrong is logged."""
        try:
            await self.deploy(function, ReferenceKind.BRANCH, function.provider_branch, activate=True)
        except Refusal as refusal:
            log.warning("first deployment of a repository not made", function_id=function.id, reason=refusal.message)

    async def deploy(self, function: Function, kind: ReferenceKind, reference: str, *, activate: bool) -> Deployment:
        """As `create_vcs`, for a function that was read and a reference that was checked."""
        if not function.installation_id:
            raise Refusal(
                "installation_not_found",
                f"The function {function.id} is not connected to a git repository, so there is no {kind} {reference} "
                "to deploy. Upload its code or deploy a template instead.",
            )
        async with self._store.view(function.project_id) as unit:
            installation = await require_installation(unit, function.installation_id)
        if not function.provider_repository_id:
            raise Refusal("provider_repository_not_found")
        host = host_of(self._hosts, installation.provider)
        with refusing():
            repository = await host.repository(installation, function.provider_repository_id)
        try:
            commit = await host.latest_commit(installation, repository.id, reference)
        except (GitHostFailed, NoSuchRepository):
            commit = None  # the build says what is wrong with the reference
        branch = reference if kind is ReferenceKind.BRANCH else ""
        source = self.source_of(function, kind, reference)
        return await self._create(
            function.project_id, function.id, vcs_fields(repository, branch, commit, source), source, activate
        )

    def source_of(self, function: Function, kind: ReferenceKind, reference: str) -> GitSource:
        """Where a connected function's code is fetched from: the address comes with the credentials, at the fetch."""
        return GitSource(
            "",
            kind,
            reference,
            normal_folder(function.provider_root_directory) or "",
            installation_id=function.installation_id,
            repository_id=function.provider_repository_id,
        )

    def new_deployment(
        self, function: Function, source: GitSource, fields: Mapping[str, Any], *, activate: bool
    ) -> Deployment:
        """A deployment that is to be stored, with the function's settings as they are."""
        now = self._clock.now()
        return Deployment(
            id=unique_id(),
            project_id=function.project_id,
            function_id=function.id,
            created_at=now,
            updated_at=now,
            type="vcs",
            status=DeploymentStatus.WAITING,
            entrypoint=function.entrypoint,
            commands=function.commands,
            activate=activate,
            git_source=source,
            **fields,
        )

    def _page(self, owner: str, repository: str) -> str:
        base = _PUBLIC_PAGES if self._templates_url.startswith("file://") else self._templates_url
        return f"{base}/{owner}/{repository}"

    async def _create(
        self, project_id: str, function_id: str, fields: Mapping[str, Any], source: GitSource, activate: bool
    ) -> Deployment:
        async with self._store.begin(project_id) as unit:
            function = await require_function(unit, function_id)
            if function.installation_id != source.installation_id:
                raise Refusal(
                    "general_provider_failure",
                    "The function was connected to a repository or disconnected meanwhile. Deploy again.",
                )
            deployment = await unit.deployments.insert(self.new_deployment(function, source, fields, activate=activate))
            await self._starter.queue(unit, function, deployment)
        self._events.emit(project_id, f"functions.{function_id}.deployments.{deployment.id}.create", deployment)
        return deployment


def vcs_fields(
    repository: ProviderRepository, branch: str, commit: HostedCommit | None, source: GitSource
) -> dict[str, Any]:
    """What a deployment shows of a connected repository, its branch and its commit (contract: functions-api 6.2)."""
    page = repository.url
    fields = {
        "provider_repository_name": repository.name,
        "provider_repository_owner": repository.organization,
        "provider_repository_url": page,
        "provider_branch": branch,
        "provider_branch_url": f"{page}/tree/{urllib.parse.quote(branch)}" if page and branch else "",
    }
    if commit is None:
        is_commit = source.kind is ReferenceKind.COMMIT
        return fields | ({"provider_commit_hash": source.reference} if is_commit else {})
    return fields | {
        "provider_commit_hash": commit.hash,
        "provider_commit_author": commit.author,
        "provider_commit_author_url": commit.author_url,
        "provider_commit_message": shortened(commit.message),
        "provider_commit_url": commit.url,
    }
