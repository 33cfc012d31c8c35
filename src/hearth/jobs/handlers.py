"""What is done for each kind of job, and what becomes of its resource when the job is lost."""

from datetime import datetime

import structlog

from hearth.control.builds import Builds
from hearth.control.jobs import JobKind
from hearth.control.pushes import Pushes
from hearth.control.queued import QueuedExecutions
from hearth.control.reports import Reports
from hearth.control.retention import Retention
from hearth.control.sweeping import delete_all
from hearth.control.uploads import upload_key
from hearth.jobs.deliveries import Deliveries
from hearth.jobs.worker import JobFailed, retry_at
from hearth.model.resources import Execution, Job
from hearth.ports import Files, GitHostFailed, NoSuchRepository, Store, Unit

log = structlog.get_logger(__name__)


class Handlers:
    """One method per kind, `handle` of the worker and `lost` of the reaper."""

    def __init__(
        self,
        *,
        store: Store,
        files: Files,
        builds: Builds,
        queued: QueuedExecutions,
        deliveries: Deliveries,
        retention: Retention,
        pushes: Pushes,
        reports: Reports,
    ) -> None:
        self._store = store
        self._files = files
        self._builds = builds
        self._queued = queued
        self._deliveries = deliveries
        self._retention = retention
        self._pushes = pushes
        self._reports = reports

    async def build(self, job: Job) -> None:
        """Build the deployment `resource_id`."""
        use_cache = job.payload.get("useCache", True)
        await self._builds.run(job.project_id, job.payload["functionId"], job.resource_id, use_cache=use_cache)

    async def webhook(self, job: Job) -> None:
        """Tell a webhook of one event."""
        await self._deliveries.deliver(job)

    async def push(self, job: Job) -> None:
        """Act on a push or a pull request. Raises JobFailed with the host's reason."""
        payload = job.payload
        try:
            if "pullRequest" in payload:
                await self._pushes.pull_request(
                    job.project_id, job.resource_id, payload["repositoryId"], payload["pullRequest"]
                )
            else:
                await self._pushes.push(
                    job.project_id, job.resource_id, payload["repositoryId"], payload["branch"], payload["before"]
                )
        except (GitHostFailed, NoSuchRepository) as problem:
            raise JobFailed(str(problem)) from problem

    async def report(self, job: Job) -> None:
        """Show at the git host how a deployment stands. Raises JobFailed with the host's reason."""
        try:
            await self._reports.report(job.project_id, job.payload["functionId"], job.resource_id)
        except (GitHostFailed, NoSuchRepository) as problem:
            raise JobFailed(str(problem)) from problem

    async def sweep(self, job: Job) -> None:
        """Remove what is past its retention."""
        await self._retention.sweep()

    async def purge(self, job: Job) -> None:
        """Remove files of deleted deployments, and the executions of a deleted function. Repeatable."""
        for deployment_id in job.payload["uploads"]:
            key = upload_key(job.project_id, deployment_id)
            await self._files.discard_upload(key)
            await self._files.delete(key)
        for key in job.payload["sources"]:
            await self._files.delete(key)
        for key in job.payload["artifacts"]:
            # Equal builds share one artifact; the last deployment that has it takes it along.
            if not await self._store.projects.artifact_in_use(key):
                await self._files.delete(key)
        function_id = job.payload["functionId"]
        if not function_id:
            return

        async def letters(limit: int) -> int:
            async with self._store.begin(job.project_id) as unit:
                return await unit.dead_letters.delete_of(function_id, limit)

        async def executions(limit: int) -> int:
            async with self._store.begin(job.project_id) as unit:
                return await unit.executions.delete_of(function_id, limit)

        async def usage(limit: int) -> int:
            async with self._store.begin(job.project_id) as unit:
                return await unit.usage.delete_of(function_id, limit)

        ids = {"project_id": job.project_id, "function_id": function_id}
        await delete_all(letters, "dead letters of a deleted function", **ids)
        await delete_all(usage, "usage of a deleted function", **ids)
        await delete_all(executions, "executions of a deleted function", **ids)

    async def dead(self, job: Job, error: str) -> None:
        """The job failed for good by a fault of ours: its resource must end too."""
        async with self._store.begin(job.project_id) as unit:
            reason = error if job.kind == JobKind.WEBHOOK else f"The platform failed: {error}"
            await self.end_resource(unit, job, reason, is_late=False)

    async def retry_at(self, job: Job, now: datetime) -> datetime | None:
        """When a lost job is tried again; None if it is not."""
        return await self._queued.retry_at(job) if job.kind == JobKind.EXECUTE else retry_at(job, now)

    async def end_resource(self, unit: Unit, job: Job, reason: str, *, is_late: bool) -> Execution | None:
        """End what a dead job was about, in the caller's transaction; `is_late` = it outlived its deadline.

        An execution that has ended is returned: `announce` it after the commit.
        """
        if job.kind == JobKind.BUILD:
            await self._builds.fail_in(unit, job.payload["functionId"], job.resource_id, reason)
        elif job.kind == JobKind.EXECUTE:
            return await self._queued.fail_in(unit, job, reason, is_late=is_late)
        elif job.kind == JobKind.WEBHOOK:
            await self._deliveries.give_up_in(unit, job, reason)
        else:
            log.error("job ended without success", job_id=job.id, kind=job.kind, reason=reason)
        return None

    def announce(self, ended: Execution | None) -> None:
        """Say that an execution has ended."""
        if ended is not None:
            self._queued.announce_lost(ended)

    async def note_retry(self, unit: Unit, job: Job, reason: str) -> None:
        """A lost job is tried again: its resource says so."""
        if job.kind == JobKind.BUILD:
            await self._builds.note_retry(unit, job.resource_id, reason)
        elif job.kind == JobKind.EXECUTE:
            await self._queued.wait_again_in(unit, job, reason)
