"""Sources that are fetched: brought into the file store before their build, and what is known of them noted."""

import urllib.parse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hearth.control.connections import Connections
from hearth.control.pull_requests import is_fork_branch
from hearth.control.uploads import upload_key
from hearth.control.views import ControlLimits
from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment
from hearth.model.sources import (
    CloneAccess,
    CloneSource,
    Fetched,
    FetchRequest,
    GitSource,
    PublishRequest,
    ReferenceKind,
    shortened,
)
from hearth.ports import Fetcher, Files, GitHostFailed, NoSuchRepository, SourceUnavailable, Store

#: Seconds one fetch may take, unless a build may take less.
FETCH_TIMEOUT_S = 300.0


class Sources:
    """The step before a build for deployments that come from git. Called by `Builds` only."""

    def __init__(
        self, *, store: Store, files: Files, fetcher: Fetcher, connections: Connections, limits: ControlLimits
    ) -> None:
        self._store = store
        self._files = files
        self._fetcher = fetcher
        self._connections = connections
        self._limits = limits

    async def prepare(self, deployment: Deployment, on_log: Callable[[str], None]) -> Deployment:
        """The deployment with its source in the file store, fetched if it is not there yet; as it is in the database.

        Raises SourceUnavailable with what the user can do, PlatformFault. If cancelled, a fetch is ended first.
        """
        if deployment.git_source is not None and deployment.git_source.template is not None:
            deployment = await self._publish(deployment, deployment.git_source, deployment.git_source.template, on_log)
        source = deployment.git_source
        if source is None or deployment.source_key:
            return deployment
        access: CloneAccess | None = None
        if source.installation_id:
            clone = await self._clone(deployment.project_id, source)
            source, access = replace(source, url=clone.url), clone.access
        request = self._request(deployment, source, upload_key(deployment.project_id, deployment.id), access)
        fetched = await self._fetcher.fetch(request, on_log)
        async with self._store.begin(deployment.project_id) as unit:
            changes = {"source_key": request.key, **_facts(deployment, fetched)}
            stored = await unit.deployments.update(deployment.id, **changes)
        if stored is None:
            await self._files.delete(request.key)
            raise SourceUnavailable("The deployment was deleted while its source was fetched.")
        return stored

    def _request(self, deployment: Deployment, source: GitSource, key: str, access: CloneAccess | None) -> FetchRequest:
        return FetchRequest(
            deployment_id=deployment.id,
            source=source,
            key=key,
            timeout_s=self._timeout_s,
            limit_bytes=self._limits.source_size_bytes,
            access=access,
            # Whoever sends a pull request from a fork must not read what else the installation may read.
            shares_access=not is_fork_branch(deployment.provider_branch),
        )

    @property
    def _timeout_s(self) -> float:
        return min(FETCH_TIMEOUT_S, float(self._limits.build_timeout_s))

    async def _publish(
        self, deployment: Deployment, source: GitSource, template: GitSource, on_log: Callable[[str], None]
    ) -> Deployment:
        """Put a template into the connected repository; the deployment, whose source is now the commit made there.

        The commit is noted as acted on: the push that the host tells of is this one (contract: functions-api 9.2).
        """
        key = _template_key(deployment.project_id, deployment.id)
        try:
            await self._fetcher.fetch(self._request(deployment, template, key, None), on_log)
            async with self._store.view(deployment.project_id) as unit:
                function = await unit.functions.get(deployment.function_id)
            clone = await self._clone(deployment.project_id, source)
            name = function.name if function is not None else deployment.function_id
            asked = PublishRequest(
                deployment_id=deployment.id,
                clone=clone,
                branch=source.reference,
                root_directory=source.root_directory,
                archive_key=key,
                message=f"Create '{name}' function",
                timeout_s=self._timeout_s,
            )
            commit = await self._fetcher.publish(asked, on_log)
        finally:
            await self._files.delete(key)
        made = replace(source, kind=ReferenceKind.COMMIT, reference=commit, template=None)
        async with self._store.begin(deployment.project_id) as unit:
            links = unit.repository_links
            if await links.heads(source.installation_id, source.repository_id):
                await links.set_head(source.installation_id, source.repository_id, source.reference, commit)
            stored = await unit.deployments.update(deployment.id, git_source=made, provider_commit_hash=commit)
        if stored is None:
            raise SourceUnavailable("The deployment was deleted while its template was put into the repository.")
        return stored

    async def _clone(self, project_id: str, source: GitSource) -> CloneSource:
        """The address and credentials of a connected repository, asked for right before they are used."""
        try:
            return await self._connections.clone_source(project_id, source.installation_id, source.repository_id)
        except (GitHostFailed, NoSuchRepository) as problem:
            raise SourceUnavailable(str(problem)) from problem
        except Refusal as refusal:
            raise SourceUnavailable(f"{refusal.message} Connect the function to a repository again.") from refusal

    async def forget_if_gone(self, project_id: str, function_id: str, deployment_id: str) -> None:
        """Remove what a fetch stored at the very moment its deployment was deleted. Called after its task has ended."""
        async with self._store.view(project_id) as unit:
            kept = await unit.deployments.get(function_id, deployment_id)
        if kept is None:
            await self._files.delete(upload_key(project_id, deployment_id))


def _template_key(project_id: str, deployment_id: str) -> str:
    """Where a template waits to be put into a repository."""
    return f"{upload_key(project_id, deployment_id)}.template"


def branch_page(repository_page: str, reference: str) -> str:
    """Where the git host shows a reference (contract: functions-api 9.2), `""` without a host."""
    quoted = urllib.parse.quote(reference, safe="/", errors="replace")
    return f"{repository_page}/blob/{quoted}" if repository_page else ""


def _facts(deployment: Deployment, fetched: Fetched) -> dict[str, Any]:
    """What is known of the source now. A commit of a known branch leaves the branch as it is."""
    source, page = deployment.git_source, deployment.provider_repository_url
    keeps_branch = source is not None and (source.kind is ReferenceKind.COMMIT or bool(source.installation_id))
    branch = deployment.provider_branch if keeps_branch else fetched.reference
    facts: dict[str, Any] = {
        "source_size_bytes": fetched.size_bytes,
        "source_total_bytes": fetched.size_bytes,
        "provider_branch": branch,
        "provider_branch_url": branch_page(page, branch),
    }
    if source is not None and source.installation_id:
        del facts["provider_branch_url"]  # its host's pages are told by the host
    if fetched.commit is not None:
        facts |= {
            "provider_commit_hash": fetched.commit.hash,
            "provider_commit_author": fetched.commit.author,
            "provider_commit_message": shortened(fetched.commit.message),
            "provider_commit_url": deployment.provider_commit_url
            or (f"{page}/commit/{fetched.commit.hash}" if page else ""),
        }
    return facts
