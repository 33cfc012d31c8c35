"""Projects: who may see which, names, and what is switched off in them (contract: side-services 3)."""

from collections.abc import Sequence
from typing import Any

from hearth.auth.scopes import team_scopes
from hearth.control.runnables import ProjectCache
from hearth.model.actor import Actor
from hearth.model.ids import custom_id
from hearth.model.people import CONSOLE
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Project
from hearth.ports import Clock, Conflict, Page, Store

#: Services a project can switch off for everybody but keys and admins (contract: functions-api 1, check 12).
SERVICES = (
    *("account", "avatars", "databases", "tablesdb", "locale", "health", "project", "storage", "teams", "users"),
    *("vcs", "sites", "functions", "proxy", "graphql", "migrations", "messaging", "advisor"),
)
#: Protocols, likewise (check 13).
PROTOCOLS = ("rest", "graphql", "websocket")

_TEAM = "team:"


class ProjectsControl:
    """Use cases of projects. Every method but `get` of the cache is for administration, never on a hot path."""

    def __init__(self, *, store: Store, clock: Clock, cache: ProjectCache, region: str) -> None:
        self._store = store
        self._clock = clock
        self._cache = cache
        self._region = region
        self._teams: dict[str, str] = {}

    async def load(self) -> None:
        """Remember the organization of every project, and nothing else; at start, before the first request."""
        self._cache.drop_all()
        self._teams = {project.id: project.team_id for project in await self._store.projects.all()}

    def team_of(self, project_id: str) -> str:
        """The organization of a project, from memory; `""` when it has none."""
        return self._teams.get(project_id, "")

    async def get(self, project_id: str) -> Project | None:
        """The project from memory, or None: for every request."""
        return await self._cache.get(project_id)

    async def create(
        self, actor: Actor, *, project_id: str, name: str, team_id: str, region: str | None = None
    ) -> Project:
        """Make a project in an organization the caller may make projects in.

        Raises `project_reserved_project`, `project_region_unsupported`, `team_not_found` (also for one the caller is
        not in), `general_unauthorized_scope`, `project_already_exists`.
        """
        if project_id == CONSOLE:
            raise Refusal("project_reserved_project")
        if region is not None and region not in ("", self._region):
            raise Refusal("project_region_unsupported")
        id = custom_id(project_id)
        async with self._store.view(CONSOLE) as unit:
            team = await unit.teams.get(team_id)
        if team is None or f"{_TEAM}{team_id}" not in actor.roles:
            raise Refusal("team_not_found")
        _require(actor, team_id, id, "projects.write")
        now = self._clock.now()
        try:
            project = await self._store.projects.insert(Project(id, name, now, now, team_id, self._region))
        except Conflict:
            raise Refusal("project_already_exists") from None
        self._teams[id] = team_id
        return project

    async def list(self, actor: Actor, called: str, query: ListQuery) -> Page[Project]:
        """The projects of the organizations the caller is in; none unless the console was called.

        `called` is the project of the call. A team of any other project is no organization, whatever its id: users
        choose the ids of their teams.
        """
        teams = _teams(actor.roles) if called == CONSOLE else []
        return await self._store.projects.list(query, teams)

    async def target(self, actor: Actor, called: str, wanted: str, scope: str) -> Project:
        """The project a call is about: the one it was sent to, or one its path names.

        `called` is the project of the call, `wanted` the one of the path. The pipeline has checked the scopes of the
        caller in `called` only, so from the console his place in the organization of `wanted` decides.
        Raises `project_not_found` (also for one the caller may not see) and `general_unauthorized_scope`.
        """
        project = await self._cache.get(wanted) if called in (CONSOLE, wanted) else None
        if project is None:
            raise Refusal("project_not_found")
        if called == CONSOLE:
            _require(actor, project.team_id, project.id, scope)
        return project

    async def rename(self, project_id: str, name: str) -> Project:
        """Raises `project_not_found`."""
        return await self._update(project_id, name=name)

    async def move(self, actor: Actor, project_id: str, team_id: str) -> Project:
        """Give a project to another organization of the caller. Raises `team_not_found`, `project_not_found`."""
        if "projects.write" not in team_scopes(actor.roles, team_id, project_id):
            raise Refusal("team_not_found")
        return await self._update(project_id, team_id=team_id)

    async def label(self, project_id: str, labels: Sequence[str]) -> Project:
        """Replace all labels. Raises `project_not_found`."""
        return await self._update(project_id, labels=tuple(dict.fromkeys(labels)))

    async def switch_services(self, project_id: str, services: Sequence[str], enabled: bool) -> Project:
        """Switch services on or off. Raises `project_not_found`."""
        project = await self._require(project_id)
        off = _switched(SERVICES, project.services_off, services, enabled)
        return await self._update(project_id, services_off=off)

    async def switch_protocols(self, project_id: str, protocols: Sequence[str], enabled: bool) -> Project:
        """Switch protocols on or off. Raises `project_not_found`."""
        project = await self._require(project_id)
        off = _switched(PROTOCOLS, project.protocols_off, protocols, enabled)
        return await self._update(project_id, protocols_off=off)

    async def _require(self, project_id: str) -> Project:
        project = await self._cache.get(project_id)
        if project is None:
            raise Refusal("project_not_found")
        return project

    async def _update(self, project_id: str, **changes: Any) -> Project:
        project = await self._store.projects.update(project_id, **changes)
        self._cache.drop(project_id)
        if project is None:
            raise Refusal("project_not_found")
        self._teams[project_id] = project.team_id
        return project


def _teams(roles: Sequence[str]) -> list[str]:
    return [role.removeprefix(_TEAM) for role in roles if role.startswith(_TEAM) and "/" not in role]


def _require(actor: Actor, team_id: str, project_id: str, scope: str) -> None:
    """Raises unless the caller's place in the organization gives `scope` in the project."""
    scopes = team_scopes(actor.roles, team_id, project_id)
    if not scopes:
        raise Refusal("project_not_found")
    if scope not in scopes:
        raise Refusal("general_unauthorized_scope", f'{actor.label} (role: users) missing scopes (["{scope}"])')


def _switched(known: Sequence[str], off: Sequence[str], names: Sequence[str], enabled: bool) -> tuple[str, ...]:
    changed = set(off) - set(names) if enabled else set(off) | set(names)
    return tuple(name for name in known if name in changed)
