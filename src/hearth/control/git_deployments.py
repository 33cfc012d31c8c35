"""Deployments whose source comes from git: templates, repositories at a host (contract: functions-api 5.9, 5.10).

Nothing is fetched here: the deployment notes where its source is, and its build fetches it (`sources`).
"""

from hearth.control.functions import require_function
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
)
from hearth.model.statuses import DeploymentStatus
from hearth.ports import Clock, Events, Store

#: Templates that come with the platform, whatever HEARTH_TEMPLATES_URL says.
STARTERS = ("hearth", "starters")
#: Where the repositories of a mirror have their pages.
_PUBLIC_PAGES = "https://github.com"


class GitDeployments:
    """Use cases `create template deployment` and `create VCS deployment`.

    `templates_url` is the base of template repositories, without credentials; `file:///...` is a folder of them.
    """

    def __init__(
        self, *, store: Store, clock: Clock, events: Events, starter: DeploymentStarter, templates_url: str
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._starter = starter
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

        Raises `general_argument_invalid`, `function_not_found`, and `installation_not_found` for a function that is
        connected to a repository: the template would have to be committed there.
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
        page = "" if is_starter else self._page(owner, repository)
        return await self._create(project_id, function_id, source, owner, repository, page, activate)

    async def create_vcs(
        self, project_id: str, function_id: str, *, kind: str, reference: str, activate: bool
    ) -> Deployment:
        """Deploy a branch or commit of the repository that the function is connected to.

        Raises `function_not_found`, `installation_not_found`, `provider_repository_not_found`.
        """
        async with self._store.view(project_id) as unit:
            function = await require_function(unit, function_id)
        source, owner, repository, page = self._connected(function, ReferenceKind(kind), reference)
        return await self._create(project_id, function_id, source, owner, repository, page, activate)

    def _connected(self, function: Function, kind: ReferenceKind, reference: str) -> tuple[GitSource, str, str, str]:
        """Source, owner, name and page of the repository a function is connected to.

        Git hosts come in here. Without one no installation exists, whatever id a function may name.
        """
        if function.installation_id and not function.provider_repository_id:
            raise Refusal("provider_repository_not_found")
        raise Refusal(
            "installation_not_found",
            f"The function {function.id} is not connected to a git repository, so there is no {kind} {reference} to "
            "deploy. Upload its code or deploy a template instead.",
        )

    def _page(self, owner: str, repository: str) -> str:
        base = _PUBLIC_PAGES if self._templates_url.startswith("file://") else self._templates_url
        return f"{base}/{owner}/{repository}"

    async def _create(
        self,
        project_id: str,
        function_id: str,
        source: GitSource,
        owner: str,
        repository: str,
        page: str,
        activate: bool,
    ) -> Deployment:
        async with self._store.begin(project_id) as unit:
            function = await require_function(unit, function_id)
            if function.installation_id:
                raise Refusal("installation_not_found")
            now = self._clock.now()
            deployment = await unit.deployments.insert(
                Deployment(
                    id=unique_id(),
                    project_id=project_id,
                    function_id=function_id,
                    created_at=now,
                    updated_at=now,
                    type="vcs",
                    status=DeploymentStatus.WAITING,
                    entrypoint=function.entrypoint,
                    commands=function.commands,
                    activate=activate,
                    provider_repository_name=repository,
                    provider_repository_owner=owner,
                    provider_repository_url=page,
                    provider_branch=source.reference,
                    provider_branch_url=branch_page(page, source.reference),
                    git_source=source,
                )
            )
            await self._starter.queue(unit, function, deployment)
        self._events.emit(project_id, f"functions.{function_id}.deployments.{deployment.id}.create", deployment)
        return deployment
