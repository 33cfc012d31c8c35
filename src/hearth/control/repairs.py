"""What a server that was killed left half done, put right at the next start and by maintenance.

Jobs are the reaper's (`hearth.jobs.reaper`); here is everything that has no job: executions that were running,
uploads whose last step was not reached, uploads that nobody continues.
"""

from datetime import timedelta

import structlog

from hearth.control.builds import Builds
from hearth.control.executions import ExecutionsControl
from hearth.control.jobs import JobKind, build_job
from hearth.control.uploads import Uploads
from hearth.control.views import ControlLimits
from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment
from hearth.model.statuses import DeploymentStatus
from hearth.ports import Clock, FileNotStored, Store

log = structlog.get_logger(__name__)

_LOST = "The server was stopped while the execution was running."


class Repairs:
    """Run once before the server takes requests, and `uploads_only` from time to time."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        executions: ExecutionsControl,
        uploads: Uploads,
        builds: Builds,
        limits: ControlLimits,
    ) -> None:
        self._store = store
        self._clock = clock
        self._executions = executions
        self._uploads = uploads
        self._builds = builds
        self._limits = limits

    async def at_start(self) -> None:
        """Open the execution log, end what a killed server had begun, complete and sweep uploads."""
        interrupted = await self._store.execution_log.open()
        for execution in interrupted:
            await self._executions.interrupted(execution, _LOST)
        if interrupted:
            log.warning("executions of the last run were recorded as failed", count=len(interrupted))
        await self.deployments()

    async def deployments(self) -> None:
        """Give every unfinished deployment without a job what it lacks, or an end with a reason."""
        unfinished: list[Deployment] = []
        for project in await self._store.projects.all():
            async with self._store.view(project.id) as unit:
                unfinished += await unit.deployments.unfinished()
        # Read after the deployments: one that was queued in between is then seen with its job, never without.
        waiting_for = {job.resource_id for job in await self._store.jobs.unfinished() if job.kind == JobKind.BUILD}
        for deployment in unfinished:
            if deployment.id not in waiting_for:
                await self._repair(deployment)

    async def _repair(self, deployment: Deployment) -> None:
        if deployment.source_key or deployment.git_source is not None:
            await self._queue_again(deployment)
            return
        async with self._store.view(deployment.project_id) as unit:
            chunks = await unit.deployments.chunks(deployment.id)
        if sum(end - start + 1 for start, end in chunks) >= deployment.source_total_bytes > 0:
            try:
                await self._uploads.complete(deployment)
            except (Refusal, FileNotStored):
                await self._fail(deployment, "The uploaded source was lost. Deploy the code again.")
        elif self._clock.now() - deployment.updated_at > timedelta(seconds=self._limits.upload_idle_s):
            hours = self._limits.upload_idle_s / 3600
            await self._fail(deployment, f"The upload was not completed within {hours:g} hours. Deploy the code again.")

    async def _queue_again(self, deployment: Deployment) -> None:
        """A build without a job: cannot happen by our own writes, but must not wait for ever."""
        log.warning("build had no job and is queued again", deployment_id=deployment.id)
        async with self._store.begin(deployment.project_id) as unit:
            if deployment.status is not DeploymentStatus.WAITING:
                await self._builds.note_retry(unit, deployment.id, "The build was lost.")
            await unit.jobs.enqueue(build_job(deployment, self._limits.build_timeout_s, self._clock.now()))

    async def _fail(self, deployment: Deployment, reason: str) -> None:
        await self._builds.fail(deployment.project_id, deployment.function_id, deployment.id, reason)
