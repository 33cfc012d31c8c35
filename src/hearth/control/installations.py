"""Installations, and what clients ask of the repositories behind them (contract: side-services 12)."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
import structlog

from hearth.control.connections import Connections
from hearth.control.git_hosts import GitHosts, host_of, refusing, require_installation
from hearth.model.detection import Detected, detect
from hearth.model.ids import custom_id, unique_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import PlatformFault, Refusal, invalid_param
from hearth.model.vcs import Branch, Content, Installation, Provider, ProviderRepository, RepositoryPage
from hearth.ports import Clock, Conflict, GitHost, GitHostFailed, NoSuchRepository, Page, Runtimes, Store

log = structlog.get_logger(__name__)

#: Bytes of randomness in a webhook secret that the server makes.
SECRET_BYTES = 32
#: Seconds a user may take at the host's page to install us.
AUTHORIZE_S = 3_600
#: Folders below the root that a detection looks into.
_FOLDERS_LOOKED = 2
#: Repositories of a page whose runtime is detected, how many at a time, and seconds that may take in all.
RUNTIMES_MAX = 25
RUNTIMES_AT_ONCE = 4
RUNTIMES_S = 5.0
#: Seconds a runtime counts where the host does not say when a repository was pushed to.
RUNTIMES_AGE_S = 600
#: Detected runtimes that are remembered.
RUNTIMES_TOLD_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Detection:
    """A detected runtime: `runtime` is the newest one of the catalogue, preferably one installed here."""

    runtime: str
    entrypoint: str
    commands: str


class InstallationsControl:
    """Use cases of installations. `seal` and `unseal` (raises ValueError) protect what goes through a browser."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        hosts: GitHosts,
        connections: Connections,
        runtimes: Runtimes,
        seal: Callable[[str], str],
        unseal: Callable[[str], str],
    ) -> None:
        self._store = store
        self._clock = clock
        self._hosts = hosts
        self._connections = connections
        self._runtimes = runtimes
        self._seal = seal
        self._unseal = unseal
        self._told: dict[tuple[str, str, str, datetime | int], str] = {}

    async def create(
        self,
        project_id: str,
        *,
        installation_id: str,
        provider: str,
        base_url: str,
        organization: str,
        token: str,
        username: str,
        private_key: str,
        known_hosts: str,
        repositories: tuple[str, ...],
        webhook_secret: str,
        user_id: str,
    ) -> Installation:
        """Link the project to an account by credentials, after they were tried.

        Without a `webhook_secret` the server makes one. Raises `general_argument_invalid`, `general_provider_failure`
        with the host's reason.
        """
        host = host_of(self._hosts, provider)
        given = {"token": token, "username": username, "privateKey": private_key, "knownHosts": known_hosts}
        now = self._clock.now()
        asked = Installation(
            id=custom_id(installation_id),
            project_id=project_id,
            created_at=now,
            updated_at=now,
            provider=Provider(provider),
            organization=organization,
            base_url=base_url,
            credentials={name: value for name, value in given.items() if value},
            webhook_secret=webhook_secret or secrets.token_hex(SECRET_BYTES),
            repositories=repositories,
            created_by=user_id,
        )
        try:
            with refusing():
                installation = await host.complete(asked)
        except ValueError as problem:
            raise Refusal("general_argument_invalid", str(problem)) from problem
        return await self._insert(installation)

    async def get(self, project_id: str, installation_id: str) -> Installation:
        """Raises `installation_not_found`."""
        async with self._store.view(project_id) as unit:
            return await require_installation(unit, installation_id)

    async def list(self, project_id: str, query: ListQuery) -> Page[Installation]:
        """One page of installations."""
        async with self._store.view(project_id) as unit:
            return await unit.installations.list(query)

    async def delete(self, project_id: str, installation_id: str) -> None:
        """Forget it and its credentials; functions stay as they are, and are disconnected. `installation_not_found`."""
        installation = await self.get(project_id, installation_id)
        async with self._store.view(project_id) as unit:
            links = await unit.repository_links.of_installation(installation_id)
        for link in links:
            await self._connections.disconnect(project_id, link.function_id)
        async with self._store.begin(project_id) as unit:
            await unit.installations.delete(installation.id)

    # -------------------------------------------------------------------------------------- by the host's page

    def authorize(self, project_id: str, *, provider: str, success: str | None, failure: str | None) -> str:
        """The host's page where the user installs us. Raises `general_provider_failure` where there is none."""
        state = {
            "project": project_id,
            "provider": provider,
            "success": success or "",
            "failure": failure or "",
            "until": self._clock.now().timestamp() + AUTHORIZE_S,
        }
        url = host_of(self._hosts, provider).authorize_url(self._seal(msgspec.json.encode(state).decode()))
        if not url:
            raise Refusal(
                "general_provider_failure",
                f"{provider} has no installation page on this server. Create the installation with its address and a "
                "token or key: POST /v1/vcs/installations.",
            )
        return url

    async def authorized(self, *, provider: str, query: Mapping[str, str]) -> str:
        """Store the installation the user comes back from; returns the address to send the browser to, `""` = none.

        Raises `general_argument_invalid` for a state that is not ours or too old, and the host's refusals.
        """
        host = host_of(self._hosts, provider)
        try:
            state = msgspec.json.decode(self._unseal(query.get("state", "")))
            fresh = state["provider"] == provider and state["until"] >= self._clock.now().timestamp()
        except (ValueError, KeyError, TypeError):
            fresh = False
        if not fresh:
            raise invalid_param("state", "Value must be what /authorize gave out within the last hour")
        with refusing():
            provider_id, organization = await host.authorized(query)
        now = self._clock.now()
        known = await self._store.projects.installations(provider, provider_id)
        if not any(it.project_id == state["project"] for it in known):
            await self._insert(
                Installation(
                    id=unique_id(),
                    project_id=state["project"],
                    created_at=now,
                    updated_at=now,
                    provider=Provider(provider),
                    organization=organization,
                    base_url="",
                    provider_installation_id=provider_id,
                )
            )
        return str(state["success"])

    # -------------------------------------------------------------------------------------- repositories

    async def repositories(
        self, project_id: str, installation_id: str, *, search: str, offset: int, limit: int
    ) -> RepositoryPage:
        """One page of the installation's repositories. `offset` must be a multiple of `limit`."""
        if offset % limit:
            raise Refusal("general_argument_invalid", "The offset must be a multiple of the limit.")
        installation = await self.get(project_id, installation_id)
        with refusing():
            return await host_of(self._hosts, installation.provider).repositories(installation, search, offset, limit)

    async def runtimes_of(
        self, project_id: str, installation_id: str, repositories: Sequence[ProviderRepository]
    ) -> Mapping[str, str]:
        """The runtime each repository of a page is for, by its id; those that cannot be told in time are left out.

        At most `RUNTIMES_MAX` are looked into, for `RUNTIMES_S` seconds; what was told before is not asked again
        until somebody pushes, or for a while where the host does not say when. Raises `installation_not_found`.
        """
        installation = await self.get(project_id, installation_id)
        host = host_of(self._hosts, installation.provider)
        at_once = asyncio.Semaphore(RUNTIMES_AT_ONCE)
        told: dict[str, str] = {}
        now = int(self._clock.now().timestamp())

        async def look(repository: ProviderRepository) -> None:
            key = (project_id, installation_id, repository.id, repository.pushed_at or now - now % RUNTIMES_AGE_S)
            found = self._told.get(key)
            if found is None:
                async with at_once:
                    try:
                        detected = detect(await self._file_names(host, installation, repository.id, ""))
                    except (GitHostFailed, NoSuchRepository, PlatformFault):
                        return
                found = self._newest(detected) if detected else ""
                self._told[key] = found
                while len(self._told) > RUNTIMES_TOLD_MAX:
                    del self._told[next(iter(self._told))]
            if found:
                told[repository.id] = found

        looks = [asyncio.create_task(look(repository)) for repository in repositories[:RUNTIMES_MAX]]
        if looks:
            try:
                await asyncio.wait(looks, timeout=RUNTIMES_S)
            finally:
                for task in looks:
                    task.cancel()
                await asyncio.wait(looks)
        return told

    async def repository(
        self, project_id: str, installation_id: str, *, repository_id: str
    ) -> tuple[Installation, ProviderRepository]:
        """Raises `installation_not_found`, `provider_repository_not_found`, `general_provider_failure`."""
        installation = await self.get(project_id, installation_id)
        with refusing():
            host = host_of(self._hosts, installation.provider)
            return installation, await host.repository(installation, repository_id)

    async def create_repository(
        self, project_id: str, installation_id: str, *, name: str, private: bool
    ) -> tuple[Installation, ProviderRepository]:
        """Raises as `repository`."""
        installation = await self.get(project_id, installation_id)
        with refusing():
            host = host_of(self._hosts, installation.provider)
            return installation, await host.create_repository(installation, name, private)

    async def branches(self, project_id: str, installation_id: str, *, repository_id: str) -> tuple[Branch, ...]:
        """Raises as `repository`."""
        installation = await self.get(project_id, installation_id)
        with refusing():
            return await host_of(self._hosts, installation.provider).branches(installation, repository_id)

    async def contents(
        self, project_id: str, installation_id: str, *, repository_id: str, path: str, ref: str
    ) -> tuple[Content, ...]:
        """Raises as `repository`."""
        installation = await self.get(project_id, installation_id)
        with refusing():
            host = host_of(self._hosts, installation.provider)
            return await host.contents(installation, repository_id, path, ref)

    async def detect(self, project_id: str, installation_id: str, *, repository_id: str, path: str) -> Detection:
        """The runtime, entrypoint and commands of a folder. Raises `function_runtime_not_detected`, and as above."""
        installation = await self.get(project_id, installation_id)
        host = host_of(self._hosts, installation.provider)
        with refusing():
            found = detect(await self._file_names(host, installation, repository_id, path))
        runtime = self._newest(found) if found else ""
        if found is None or not runtime:
            raise Refusal("function_runtime_not_detected")
        return Detection(runtime, found.entrypoint, found.commands)

    async def _file_names(
        self, host: GitHost, installation: Installation, repository_id: str, path: str
    ) -> frozenset[str]:
        """The files of a folder of the default branch and of `src` and `lib` in it. Raises as the host."""
        entries = await host.contents(installation, repository_id, path, "")
        names = [entry.name for entry in entries if not entry.is_directory]
        folders = [entry.name for entry in entries if entry.is_directory and entry.name in ("src", "lib")]
        for folder in folders[:_FOLDERS_LOOKED]:
            below = await host.contents(installation, repository_id, f"{path.strip('/')}/{folder}".strip("/"), "")
            names += [f"{folder}/{entry.name}" for entry in below if not entry.is_directory]
        return frozenset(names)

    def _newest(self, found: Detected) -> str:
        """The newest runtime of a key, of those that can run here if any can."""
        of_key = [str(row["$id"]) for row in self._runtimes.all() if row["key"] == found.key]
        here = [id for id in of_key if self._runtimes.available(id)]
        return max(here or of_key, key=_version, default="")

    async def _insert(self, installation: Installation) -> Installation:
        try:
            async with self._store.begin(installation.project_id) as unit:
                stored = await unit.installations.insert(installation)
        except Conflict:
            raise invalid_param("installationId", "An installation with this id exists already") from None
        log.info("installation created", project_id=stored.project_id, provider=str(stored.provider))
        return stored


def _version(id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in id.partition("-")[2].split(".") if part.isdigit())
