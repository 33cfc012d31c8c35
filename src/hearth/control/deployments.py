"""Deployments: list, read, rebuild, cancel, delete, download (contract: functions-api 5.8, 5.11-5.14, 9).

Uploads live in `uploads`, what happens around a running build in `builds`.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

from hearth.control.builds import Builds
from hearth.control.git_hosts import require_installation
from hearth.control.jobs import JobKind, purge_job
from hearth.control.requiring import require_function
from hearth.control.runnables import Runnables
from hearth.control.starting import DeploymentStarter
from hearth.control.uploads import Uploads, upload_key
from hearth.control.views import LOG_LIMIT_CHARS, Download, UploadedPart
from hearth.model.ids import unique_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment
from hearth.model.sources import GitSource, ReferenceKind
from hearth.model.statuses import DeploymentStatus
from hearth.ports import Clock, Events, Executor, FileNotStored, Files, Page, Store, Unit

_CANCELED_LINE = "\n\x1b[93mBuild has been canceled.\x1b[0m\n"


class DeploymentsControl:
    """Use cases of deployments."""

    def __init__(
        self,
        *,
        store: Store,
        files: Files,
        clock: Clock,
        events: Events,
        executor: Executor,
        runnables: Runnables,
        starter: DeploymentStarter,
        uploads: Uploads,
        builds: Builds,
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._events = events
        self._executor = executor
        self._runnables = runnables
        self._starter = starter
        self._uploads = uploads
        self._builds = builds

    def scratch(self) -> AbstractAsyncContextManager[Path]:
        """A file to spool an upload's part into."""
        return self._files.scratch()

    async def check_upload(self, project_id: str, function_id: str, entrypoint: str | None) -> None:
        """See `Uploads.check`."""
        await self._uploads.check(project_id, function_id, entrypoint)

    async def upload(
        self,
        project_id: str,
        function_id: str,
        *,
        part: UploadedPart | None,
        content_range: str | None,
        upload_id: str,
        activate: bool,
        entrypoint: str | None,
        commands: str | None,
        type: str,
        use_cache: bool = True,
    ) -> Deployment:
        """See `Uploads.receive`."""
        return await self._uploads.receive(
            project_id,
            function_id,
            part=part,
            content_range=content_range,
            upload_id=upload_id,
            activate=activate,
            entrypoint=entrypoint,
            commands=commands,
            type=type,
            use_cache=use_cache,
        )

    async def list(self, project_id: str, function_id: str, query: ListQuery) -> Page[Deployment]:
        """Raises `function_not_found`."""
        async with self._store.view(project_id) as unit:
            await require_function(unit, function_id)
            return await unit.deployments.list(function_id, query)

    async def get(self, project_id: str, function_id: str, deployment_id: str) -> Deployment:
        """Raises `function_not_found`, `deployment_not_found`."""
        async with self._store.view(project_id) as unit:
            return await _require(unit, function_id, deployment_id)

    async def duplicate(
        self, project_id: str, function_id: str, deployment_id: str, *, use_cache: bool = True
    ) -> Deployment:
        """Build the stored source again with the function's current settings; always activates.

        A source that is not stored is fetched again, at the commit that was fetched before if there is one. Raises
        `function_not_found`, `deployment_not_found` (also when there is no source any more), `installation_not_found`.
        """
        async with self._store.view(project_id) as unit:
            original = await _require(unit, function_id, deployment_id)
        await self._check_installation(original)
        new_id = unique_id()
        key = await self._copy_source(original, upload_key(project_id, new_id))
        try:
            deployment = await self._store_duplicate(project_id, function_id, original, new_id, key, use_cache)
        except BaseException:
            if key:
                await self._files.delete(key)
            raise
        self._events.emit(project_id, f"functions.{function_id}.deployments.{deployment.id}.update", deployment)
        return deployment

    async def _check_installation(self, original: Deployment) -> None:
        """A source that has to be fetched again needs its installation. Raises `installation_not_found`."""
        source = original.git_source
        if source is None or not source.installation_id or original.source_key:
            return
        async with self._store.view(original.project_id) as unit:
            await require_installation(unit, source.installation_id)

    async def _copy_source(self, original: Deployment, key: str) -> str:
        """Copy a stored source to `key`; `""` if it has to be fetched. Raises `deployment_not_found`."""
        if original.source_key:
            try:
                await self._files.copy(original.source_key, key)
                return key
            except FileNotStored:
                pass  # it may still be fetched
        if original.git_source is None:
            raise Refusal("deployment_not_found")
        return ""

    async def _store_duplicate(
        self, project_id: str, function_id: str, original: Deployment, new_id: str, key: str, use_cache: bool
    ) -> Deployment:
        async with self._store.begin(project_id) as unit:
            function = await require_function(unit, function_id)
            now = self._clock.now()
            deployment = await unit.deployments.insert(
                Deployment(
                    id=new_id,
                    project_id=project_id,
                    function_id=function_id,
                    created_at=now,
                    updated_at=now,
                    type=original.type,
                    status=DeploymentStatus.WAITING,
                    entrypoint=function.entrypoint or original.entrypoint,
                    commands=function.commands,
                    activate=True,
                    source_key=key,
                    source_size_bytes=original.source_size_bytes if key else 0,
                    source_total_bytes=original.source_total_bytes if key else 0,
                    source_chunks_total=original.source_chunks_total,
                    source_chunks_uploaded=original.source_chunks_total,
                    provider_repository_name=original.provider_repository_name,
                    provider_repository_owner=original.provider_repository_owner,
                    provider_repository_url=original.provider_repository_url,
                    provider_commit_hash=original.provider_commit_hash,
                    provider_commit_author_url=original.provider_commit_author_url,
                    provider_commit_author=original.provider_commit_author,
                    provider_commit_message=original.provider_commit_message,
                    provider_commit_url=original.provider_commit_url,
                    provider_branch=original.provider_branch,
                    provider_branch_url=original.provider_branch_url,
                    git_source=_fixed(original),
                )
            )
            await self._starter.queue(unit, function, deployment, use_cache=use_cache)
            return deployment

    async def cancel(self, project_id: str, function_id: str, deployment_id: str) -> Deployment:
        """Cancel a build that has not ended; canceling twice is fine.

        Raises `function_not_found`, `deployment_not_found`, `build_already_completed`.
        """
        async with self._store.begin(project_id) as unit:
            deployment = await _require(unit, function_id, deployment_id)
            if deployment.status in (DeploymentStatus.READY, DeploymentStatus.FAILED):
                raise Refusal("build_already_completed")
            if deployment.status is DeploymentStatus.CANCELED:
                return deployment
            now = self._clock.now()
            started = deployment.build_started_at
            await unit.deployments.append_log(deployment_id, _CANCELED_LINE, LOG_LIMIT_CHARS)
            canceled = await unit.deployments.move(
                deployment_id,
                DeploymentStatus.CANCELED,
                build_ended_at=now,
                build_duration_s=0 if started is None else int((now - started).total_seconds()),
            )
            if canceled is None:
                raise Refusal("build_already_completed")
            await unit.jobs.cancel_of(JobKind.BUILD, deployment_id)
            await self._starter.note_latest(unit, function_id)
        self._builds.stop(deployment_id)
        return canceled

    async def delete(self, project_id: str, function_id: str, deployment_id: str) -> None:
        """Delete a deployment, active or not; a running build of it is ended, files follow in a job.

        Raises `function_not_found`, `deployment_not_found`.
        """
        async with self._store.begin(project_id) as unit:
            function = await require_function(unit, function_id)
            deployment = await _require(unit, function_id, deployment_id)
            await unit.jobs.cancel_of(JobKind.BUILD, deployment_id)
            await unit.deployments.delete(deployment_id)
            if function.deployment_id == deployment_id:
                await unit.functions.update(function_id, deployment_id="", deployment_created_at=None)
                await unit.rules.point("function", function_id, "", "")
            await self._starter.note_latest(unit, function_id)
            await unit.jobs.enqueue(purge_job(project_id, "", [deployment], self._clock.now()))
        self._builds.stop(deployment_id)
        self._runnables.drop(project_id, function_id)
        await self._executor.retire(deployment_id)
        self._events.emit(project_id, f"functions.{function_id}.deployments.{deployment_id}.delete", deployment)

    async def download(self, project_id: str, function_id: str, deployment_id: str, kind: str) -> Download:
        """The bytes of a deployment's `source` or `output`. Raises as `get`, also when there is no such file."""
        deployment = await self.get(project_id, function_id, deployment_id)
        key = deployment.source_key if kind == "source" else deployment.artifact_key
        if not key:
            raise Refusal("deployment_not_found")
        try:
            size = await self._files.size(key)
        except FileNotStored:
            raise Refusal("deployment_not_found") from None

        def read(start: int, length: int) -> AsyncIterator[bytes]:
            return self._files.read(key, start, length)

        if kind == "source":
            return Download(size, f"{deployment_id}-source.tar.gz", "application/gzip", read)
        return Download(size, f"{deployment_id}-output-code.tar.gz", "application/octet-stream", read)


async def _require(unit: Unit, function_id: str, deployment_id: str) -> Deployment:
    await require_function(unit, function_id)
    deployment = await unit.deployments.get(function_id, deployment_id)
    if deployment is None:
        raise Refusal("deployment_not_found")
    return deployment


def _fixed(deployment: Deployment) -> GitSource | None:
    """The git source of a deployment at the commit it was fetched at, so that a branch that moved changes nothing."""
    source, commit = deployment.git_source, deployment.provider_commit_hash
    return replace(source, kind=ReferenceKind.COMMIT, reference=commit) if source is not None and commit else source
