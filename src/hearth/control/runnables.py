"""What a warm execution needs, kept in memory: no SQL read on the hot path (architecture: the paths).

An entry is loaded on first use and dropped by every write that could change it. A load that was overtaken by a
write is used once but not kept.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from hearth.control.environment import Environment
from hearth.control.specifications import Specifications
from hearth.control.views import VARIABLES_MAX
from hearth.model.function_settings import DEFAULT_SETTINGS, Egress, FunctionSettings
from hearth.model.resources import Deployment, Function, Project, Variable
from hearth.model.running import Artifact, InstanceKey, InstanceTemplate
from hearth.model.statuses import DeploymentStatus
from hearth.ports import Store


@dataclass(frozen=True, slots=True)
class Runnable:
    """A function with its active deployment and, when that is ready, the template of its instances.

    `known_runtime` is false when the catalogue does not have the function's runtime any more.
    """

    function: Function
    deployment: Deployment | None
    template: InstanceTemplate | None
    known_runtime: bool = True
    settings: FunctionSettings = DEFAULT_SETTINGS


class Runnables:
    """The cache of `Runnable` by project and function. `environment` composes what an instance is given."""

    def __init__(self, store: Store, specifications: Specifications, environment: Environment) -> None:
        self._store = store
        self._specifications = specifications
        self._environment = environment
        self._entries: dict[tuple[str, str], Runnable] = {}
        self._others: dict[tuple[str, str], dict[str, Runnable]] = {}
        self._generation = 0

    def peek(self, project_id: str, function_id: str) -> Runnable | None:
        """The entry if it is in memory; never waits."""
        return self._entries.get((project_id, function_id))

    async def get(self, project_id: str, function_id: str) -> Runnable | None:
        """The function ready to be decided upon, or None when there is no such function."""
        entry = self._entries.get((project_id, function_id))
        if entry is not None:
            return entry
        generation = self._generation
        entry = await self._load(project_id, function_id)
        if entry is not None and generation == self._generation:
            self._entries[project_id, function_id] = entry
        return entry

    async def get_deployment(self, project_id: str, function_id: str, deployment_id: str) -> Runnable | None:
        """The same with a deployment of the function that need not be the active one (None in it if there is none)."""
        active = self._entries.get((project_id, function_id))
        if active is not None and active.function.deployment_id == deployment_id:
            return active
        entry = self._others.get((project_id, function_id), {}).get(deployment_id)
        if entry is not None:
            return entry
        generation = self._generation
        entry = await self._load(project_id, function_id, deployment_id)
        if entry is not None and entry.deployment is not None and generation == self._generation:
            self._others.setdefault((project_id, function_id), {})[deployment_id] = entry
        return entry

    def drop(self, project_id: str, function_id: str) -> None:
        """Forget a function: called after every committed write to it, its settings, deployments or variables."""
        self._generation += 1
        self._entries.pop((project_id, function_id), None)
        self._others.pop((project_id, function_id), None)

    def drop_project(self, project_id: str) -> None:
        """Forget all functions of a project: its variables changed."""
        self._generation += 1
        self._entries = {key: entry for key, entry in self._entries.items() if key[0] != project_id}
        self._others = {key: entries for key, entries in self._others.items() if key[0] != project_id}

    def drop_all(self) -> None:
        """Forget everything: anything may have changed."""
        self._generation += 1
        self._entries.clear()
        self._others.clear()

    async def _load(self, project_id: str, function_id: str, deployment_id: str = "") -> Runnable | None:
        async with self._store.view(project_id) as unit:
            function = await unit.functions.get(function_id)
            if function is None:
                return None
            settings = await unit.function_settings.get(function_id)
            if not self._environment.knows(function.runtime):
                return Runnable(function, None, None, known_runtime=False, settings=settings)
            deployment = None
            if wanted := deployment_id or function.deployment_id:
                deployment = await unit.deployments.get(function_id, wanted)
            if deployment is None or deployment.status is not DeploymentStatus.READY:
                return Runnable(function, deployment, None, settings=settings)
            project_variables = await unit.variables.of("project", "", VARIABLES_MAX)
            variables = await unit.variables.of("function", function_id, VARIABLES_MAX)
        template = self.template(function, deployment, settings, project_variables, variables)
        return Runnable(function, deployment, template, settings=settings)

    def template(
        self,
        function: Function,
        deployment: Deployment,
        settings: FunctionSettings,
        project_variables: tuple[Variable, ...],
        variables: tuple[Variable, ...],
    ) -> InstanceTemplate:
        """What an executor needs to start an instance of `deployment` with these variables."""
        specification = self._specifications.get(function.runtime_specification)
        environment = self._environment.of_run(function, deployment, specification, project_variables, variables)
        return InstanceTemplate(
            key=InstanceKey(deployment.id, _digest(environment, settings), specification.slug),
            project_id=function.project_id,
            function_id=function.id,
            runtime=function.runtime,
            artifact=Artifact(deployment.artifact_key, deployment.artifact_digest, deployment.build_size_bytes),
            entrypoint=deployment.entrypoint,
            environment=environment,
            cpus=specification.cpus,
            memory_mb=specification.memory_mb,
            egress=settings.egress,
            egress_allow=settings.egress_allow if settings.egress is Egress.LIST else (),
        )


class ProjectCache:
    """Projects by id, in memory; they change rarely and only through control."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[str, Project] = {}
        self._generation = 0

    async def get(self, project_id: str) -> Project | None:
        """The project, or None. Unknown ids are not remembered, so they cannot fill the memory."""
        project = self._entries.get(project_id)
        if project is None:
            generation = self._generation
            project = await self._store.projects.get(project_id)
            if project is not None and generation == self._generation:
                self._entries[project_id] = project
        return project

    def drop_all(self) -> None:
        """Forget all projects."""
        self._generation += 1
        self._entries.clear()

    def drop(self, project_id: str) -> None:
        """Forget a project: called after every committed write to it."""
        self._generation += 1
        self._entries.pop(project_id, None)


def _digest(environment: Mapping[str, str], settings: FunctionSettings) -> str:
    """A fingerprint of an environment and where code may connect to; what has equal ones may share an instance."""
    text = "\0".join(f"{key}={environment[key]}" for key in sorted(environment))
    if settings.egress is not Egress.DEFAULT:
        text += "\0\0" + "\0".join((settings.egress, *settings.egress_allow))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
