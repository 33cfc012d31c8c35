"""Platforms: the apps that may call a project, above all browser origins (contract: side-services 3)."""

from collections.abc import Iterable, Mapping
from typing import Any

from hearth.model.ids import custom_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Platform
from hearth.ports import Clock, Conflict, Page, Store

WEB = "web"
NO_HOSTS: frozenset[str] = frozenset()


class OriginBook:
    """The host names of all web platforms, in memory: asked by every request of a browser."""

    def __init__(self) -> None:
        self._platforms: dict[tuple[str, str], Platform] = {}
        self._hosts: Mapping[str, frozenset[str]] = {}
        self.all: frozenset[str] = NO_HOSTS
        """The hosts of every project: what a preflight, which names no project, is measured by."""

    def hosts(self, project_id: str) -> frozenset[str]:
        """The host names registered in a project."""
        return self._hosts.get(project_id, NO_HOSTS)

    def load(self, platforms: Iterable[Platform]) -> None:
        """Start with these."""
        self._platforms = {(item.project_id, item.id): item for item in platforms if item.type == WEB}
        self._compile()

    def put(self, platform: Platform) -> None:
        """Take over a platform as it is now."""
        if platform.type == WEB:
            self._platforms[platform.project_id, platform.id] = platform
            self._compile()

    def drop(self, project_id: str, platform_id: str) -> None:
        """Forget a deleted platform."""
        if self._platforms.pop((project_id, platform_id), None) is not None:
            self._compile()

    def _compile(self) -> None:
        hosts: dict[str, set[str]] = {}
        for platform in self._platforms.values():
            hosts.setdefault(platform.project_id, set()).add(platform.identifier.lower())
        self._hosts = {project_id: frozenset(names) for project_id, names in hosts.items()}
        self.all = frozenset().union(*self._hosts.values())


class PlatformsControl:
    """Use cases of platforms."""

    def __init__(self, *, store: Store, clock: Clock, book: OriginBook) -> None:
        self._store = store
        self._clock = clock
        self._book = book

    async def load(self) -> None:
        """Fill the book; at start, before the first request."""
        self._book.load(await self._store.projects.platforms())

    async def create(self, project_id: str, *, platform_id: str, type: str, name: str, identifier: str) -> Platform:
        """Raises `platform_already_exists`."""
        now = self._clock.now()
        platform = Platform(custom_id(platform_id), project_id, now, now, type, name, identifier)
        try:
            async with self._store.begin(project_id) as unit:
                platform = await unit.platforms.insert(platform)
        except Conflict:
            raise Refusal("platform_already_exists") from None
        self._book.put(platform)
        return platform

    async def list(self, project_id: str, query: ListQuery) -> Page[Platform]:
        """One page of platforms."""
        async with self._store.view(project_id) as unit:
            return await unit.platforms.list(query)

    async def get(self, project_id: str, platform_id: str) -> Platform:
        """Raises `platform_not_found`."""
        async with self._store.view(project_id) as unit:
            platform = await unit.platforms.get(platform_id)
        if platform is None:
            raise Refusal("platform_not_found")
        return platform

    async def update(
        self, project_id: str, platform_id: str, *, name: str, identifier: str | None, type: str | None = None
    ) -> Platform:
        """Change name and identifier (None = keep). Raises `platform_not_found`, also for one of another `type`."""
        changes: dict[str, Any] = {"name": name}
        changes |= {} if identifier is None else {"identifier": identifier}
        async with self._store.begin(project_id) as unit:
            before = await unit.platforms.get(platform_id)
            if before is None or (type is not None and before.type != type):
                raise Refusal("platform_not_found")
            platform = await unit.platforms.update(platform_id, **changes)
        if platform is None:
            raise Refusal("platform_not_found")
        self._book.put(platform)
        return platform

    async def delete(self, project_id: str, platform_id: str) -> None:
        """Raises `platform_not_found`."""
        async with self._store.begin(project_id) as unit:
            deleted = await unit.platforms.delete(platform_id)
        if not deleted:
            raise Refusal("platform_not_found")
        self._book.drop(project_id, platform_id)
