"""Functions: create, read, update, choose the active deployment, delete (contract: functions-api 5.1-5.5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from hearth.control.connections import DISCONNECTED, Connections
from hearth.control.git_deployments import GitDeployments
from hearth.control.jobs import JobKind, purge_job
from hearth.control.remembered import Remembered
from hearth.control.requiring import activate, require_function
from hearth.control.rules import RuleBook
from hearth.control.runnables import Runnables
from hearth.control.specifications import Specifications
from hearth.control.views import VARIABLES_MAX, FunctionView
from hearth.model.ids import custom_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Function
from hearth.model.statuses import DeploymentStatus
from hearth.model.vcs import RepositoryLink
from hearth.ports import Clock, Conflict, Events, Executor, Page, Runtimes, Store, Unit

log = structlog.get_logger(__name__)

#: A change of one of these needs a new build before it takes effect (contract: functions-api 5.3).
_BUILD_INPUTS = ("name", "entrypoint", "commands", "provider_root_directory", "runtime")


class FunctionsControl:
    """Use cases of functions. The caller has been authorised for the project; parameters are validated."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        events: Events,
        executor: Executor,
        runtimes: Runtimes,
        specifications: Specifications,
        runnables: Runnables,
        rule_book: RuleBook,
        connections: Connections,
        git_deployments: GitDeployments,
    ) -> None:
        self._store = store
        self._views = Remembered[FunctionView](store, clock)
        self._pages = Remembered[Page[FunctionView]](store, clock)
        self._clock = clock
        self._events = events
        self._executor = executor
        self._runtimes = runtimes
        self._specifications = specifications
        self._runnables = runnables
        self._rule_book = rule_book
        self._connections = connections
        self._git_deployments = git_deployments

    async def create(
        self,
        project_id: str,
        *,
        function_id: str,
        name: str,
        runtime: str,
        execute: Sequence[str] = (),
        events: Sequence[str] = (),
        schedule: str = "",
        timeout_s: int = 15,
        enabled: bool = True,
        logging: bool = True,
        entrypoint: str = "",
        commands: str = "",
        scopes: Sequence[str] = (),
        installation_id: str = "",
        provider_repository_id: str = "",
        provider_branch: str = "",
        provider_silent_mode: bool = False,
        provider_root_directory: str = "",
        provider_branches: Sequence[str] = (),
        provider_paths: Sequence[str] = (),
        build_specification: str | None = None,
        runtime_specification: str | None = None,
        deployment_retention_days: int = 0,
    ) -> FunctionView:
        """Store a new function; no deployment is made.

        Raises `function_runtime_unsupported`, `installation_not_found`, `general_argument_invalid` (repository
        without installation or branch), `function_already_exists`.
        """
        self._require_runtime(runtime)
        _require_repository_triple(installation_id, provider_repository_id, provider_branch)
        heads = await self._connections.prepare(project_id, installation_id, provider_repository_id)
        now = self._clock.now()
        function = Function(
            id=custom_id(function_id),
            project_id=project_id,
            created_at=now,
            updated_at=now,
            name=name,
            runtime=runtime,
            execute=tuple(execute),
            events=tuple(events),
            schedule=schedule,
            timeout_s=timeout_s,
            enabled=enabled,
            logging=logging,
            entrypoint=entrypoint,
            commands=commands,
            scopes=tuple(scopes),
            deployment_retention_days=deployment_retention_days,
            installation_id=installation_id,
            provider_repository_id=provider_repository_id,
            provider_branch=provider_branch,
            provider_root_directory=provider_root_directory,
            provider_silent_mode=provider_silent_mode,
            provider_branches=tuple(provider_branches),
            provider_paths=tuple(provider_paths),
            build_specification=build_specification or self._specifications.default,
            runtime_specification=runtime_specification or self._specifications.default,
        )
        try:
            async with self._store.begin(project_id) as unit:
                function = await unit.functions.insert(function)
                await self._connections.link(unit, function, heads)
        except Conflict:
            raise Refusal("function_already_exists") from None
        if function.provider_repository_id:
            await self._connections.register(function)
        self._events.emit(project_id, f"functions.{function.id}.create", function)
        return FunctionView(function, ())

    async def get(self, project_id: str, function_id: str) -> FunctionView:
        """Raises `function_not_found`."""

        async def load() -> FunctionView:
            async with self._store.view(project_id) as unit:
                return await _view(unit, await require_function(unit, function_id))

        return await self._views.read((project_id, function_id), load)

    async def list(self, project_id: str, query: ListQuery) -> Page[FunctionView]:
        """One page of functions, each with its variables."""

        async def load() -> Page[FunctionView]:
            async with self._store.view(project_id) as unit:
                page = await unit.functions.list(query)
                return Page(page.total, tuple([await _view(unit, function) for function in page.items]))

        return await load() if query.random else await self._pages.read((project_id, query), load)

    async def update(
        self,
        project_id: str,
        function_id: str,
        *,
        name: str,
        runtime: str = "",
        execute: Sequence[str] = (),
        events: Sequence[str] = (),
        schedule: str = "",
        timeout_s: int = 15,
        enabled: bool = True,
        logging: bool = True,
        entrypoint: str = "",
        commands: str = "",
        scopes: Sequence[str] = (),
        installation_id: str = "",
        provider_repository_id: str | None = None,
        provider_branch: str = "",
        provider_silent_mode: bool = False,
        provider_root_directory: str = "",
        provider_branches: Sequence[str] | None = None,
        provider_paths: Sequence[str] | None = None,
        build_specification: str | None = None,
        runtime_specification: str | None = None,
        deployment_retention_days: int = 0,
    ) -> FunctionView:
        """Replace a function's settings; what is omitted is reset, except what section 5.3 keeps.

        A repository that is given connects the function, and its production branch is deployed if it was not connected
        before; an empty one disconnects it. Raises `function_not_found`, `installation_not_found`,
        `general_argument_invalid`.
        """
        _require_repository_triple(installation_id, provider_repository_id or "", provider_branch)
        heads = await self._connections.prepare(project_id, installation_id, provider_repository_id or "")
        unlinked: RepositoryLink | None = None
        async with self._store.begin(project_id) as unit:
            before = await require_function(unit, function_id)
            changes: dict[str, Any] = {
                "name": name,
                "runtime": runtime or before.runtime,
                "execute": tuple(execute),
                "events": tuple(events),
                "schedule": schedule,
                "timeout_s": timeout_s,
                "enabled": enabled,
                "logging": logging,
                "entrypoint": entrypoint or before.entrypoint,
                "commands": commands,
                "scopes": tuple(scopes),
                "deployment_retention_days": deployment_retention_days,
                "provider_silent_mode": provider_silent_mode,
                "provider_root_directory": provider_root_directory,
                "build_specification": build_specification or before.build_specification,
                "runtime_specification": runtime_specification or before.runtime_specification,
            }
            changes |= {} if provider_branches is None else {"provider_branches": tuple(provider_branches)}
            changes |= {} if provider_paths is None else {"provider_paths": tuple(provider_paths)}
            changes |= _repository_changes(before, installation_id, provider_repository_id, provider_branch)
            if before.provider_repository_id and provider_repository_id is None:
                changes["provider_root_directory"] = before.provider_root_directory
            changes["live"] = all(changes[field] == getattr(before, field) for field in _BUILD_INPUTS)
            function = await unit.functions.update(function_id, **changes)
            if function is None:
                raise Refusal("function_not_found")
            is_moved = _repository_of(function) != _repository_of(before)
            if is_moved:
                unlinked = await self._connections.unlink(unit, function_id)
                await self._connections.link(unit, function, heads)
            view = await _view(unit, function)
        self._runnables.drop(project_id, function_id)
        if unlinked is not None:
            await self._connections.unregister(project_id, unlinked)
        if is_moved and function.provider_repository_id:
            await self._connections.register(function)
        if function.runtime_specification != before.runtime_specification and function.deployment_id:
            await self._executor.retire(function.deployment_id)
        self._events.emit(project_id, f"functions.{function_id}.update", function)
        if function.provider_repository_id and not before.provider_repository_id:
            await self._git_deployments.deploy_production(function)
            return await self.get(project_id, function_id)
        return view

    async def set_deployment(self, project_id: str, function_id: str, deployment_id: str) -> FunctionView:
        """Make a ready deployment the active one; setting the active one again is fine.

        Where instances are kept ready, the new ones are up before the old ones go.
        Raises `function_not_found`, `deployment_not_found`, `build_not_ready`.
        """
        coming = await self._runnables.get_deployment(project_id, function_id, deployment_id)
        if coming is not None and coming.template and coming.settings.min_instances and coming.function.enabled:
            self._executor.keep(coming.template, coming.settings.min_instances)
            await self._executor.wait_kept(coming.template)
        async with self._store.begin(project_id) as unit:
            before = await require_function(unit, function_id)
            deployment = await unit.deployments.get(function_id, deployment_id)
            if deployment is None:
                raise Refusal("deployment_not_found")
            if deployment.status is not DeploymentStatus.READY:
                raise Refusal("build_not_ready")
            function = await activate(unit, before, deployment)
            view = await _view(unit, function)
        self._runnables.drop(project_id, function_id)
        await self._runnables.get(project_id, function_id)  # so that the next execution need not read it
        if before.deployment_id not in ("", deployment_id):
            await self._executor.retire(before.deployment_id)
        self._events.emit(project_id, f"functions.{function_id}.deployments.{deployment_id}.update", function)
        return view

    async def delete(self, project_id: str, function_id: str) -> None:
        """Make the function and all that belongs to it disappear; files and executions follow in a job.

        Raises `function_not_found`.
        """
        async with self._store.begin(project_id) as unit:
            function = await require_function(unit, function_id)
            deployments = await unit.deployments.all_of(function_id)
            for deployment in deployments:
                await unit.jobs.cancel_of(JobKind.BUILD, deployment.id)
                await unit.deployments.delete(deployment.id)
            await unit.variables.delete_of("function", function_id)
            await unit.function_settings.delete(function_id)
            rules = await unit.rules.delete_of("function", function_id)
            unlinked = await self._connections.unlink(unit, function_id)
            await unit.functions.delete(function_id)
            await unit.jobs.enqueue(purge_job(project_id, function_id, deployments, self._clock.now()))
        self._runnables.drop(project_id, function_id)
        self._rule_book.drop(*rules)
        if unlinked is not None:
            await self._connections.unregister(project_id, unlinked)
        for deployment in deployments:
            await self._executor.remove(deployment.id)
        self._events.emit(project_id, f"functions.{function_id}.delete", function)
        log.info("function deleted", project_id=project_id, function_id=function_id, deployments=len(deployments))

    def _require_runtime(self, runtime: str) -> None:
        if not self._runtimes.available(runtime):
            raise Refusal(
                "function_runtime_unsupported",
                f"The runtime {runtime} is known but not installed on this server. "
                f"{self._runtimes.how_to_get(runtime)}",
            )


async def _view(unit: Unit, function: Function) -> FunctionView:
    return FunctionView(function, await unit.variables.of("function", function.id, VARIABLES_MAX))


def _require_repository_triple(installation_id: str, repository_id: str, branch: str) -> None:
    """A repository needs its installation and branch (contract: functions-api 5.1)."""
    if repository_id and not (installation_id and branch):
        raise Refusal(
            "general_argument_invalid",
            "`providerRepositoryId` needs `installationId` and `providerBranch` beside it.",
        )


def _repository_of(function: Function) -> tuple[str, str]:
    return function.installation_id, function.provider_repository_id


def _repository_changes(
    before: Function, installation_id: str, repository_id: str | None, branch: str
) -> Mapping[str, object]:
    """What an update changes of a function's repository (contract: functions-api 5.3)."""
    if repository_id:
        return {
            "installation_id": installation_id,
            "provider_repository_id": repository_id,
            "provider_branch": branch,
        }
    if before.provider_repository_id and repository_id == "":
        return DISCONNECTED
    if before.provider_repository_id:
        return {}
    return {"installation_id": installation_id, "provider_branch": branch}
