"""How deployments of pushes stand, shown at the git host: commit statuses and comments, unless a function is silent.

Listens to events on the same tick; what is to be said becomes a durable job, because hosts are slow and may be away.
"""

import asyncio

import structlog

from hearth.control.git_hosts import GitHosts, host_of
from hearth.control.jobs import report_job
from hearth.control.pull_requests import PullRequests, is_fork_branch
from hearth.model.events import Occurrence
from hearth.model.resources import Deployment
from hearth.model.statuses import DeploymentStatus
from hearth.model.vcs import CommitState, CommitStatus, Provider
from hearth.ports import Clock, Store

log = structlog.get_logger(__name__)

#: Reports that wait to become jobs, at most; more are dropped and logged: a status is a courtesy.
WAITING_MAX = 1_000
_CONTEXT_CHARS = 100

_STATES = {
    DeploymentStatus.READY: (CommitState.SUCCESS, "The deployment is ready."),
    DeploymentStatus.FAILED: (CommitState.FAILURE, "The deployment failed."),
    DeploymentStatus.CANCELED: (CommitState.FAILURE, "The deployment was canceled."),
}
_PENDING = (CommitState.PENDING, "The deployment is being built.")


class Reports:
    """Listener of the event bus and handler of report jobs. `console_url` is where people look at deployments."""

    def __init__(
        self, *, store: Store, clock: Clock, hosts: GitHosts, pull_requests: PullRequests, console_url: str
    ) -> None:
        self._store = store
        self._clock = clock
        self._hosts = hosts
        self._pull_requests = pull_requests
        self._console_url = console_url
        self._waiting: asyncio.Queue[Deployment] = asyncio.Queue(WAITING_MAX)
        self._loop: asyncio.Task[None] | None = None

    def heard(self, occurrence: Occurrence) -> None:
        """Note a deployment of a connected repository whose state is news. Called for every event."""
        deployment = occurrence.subject
        if not isinstance(deployment, Deployment) or deployment.git_source is None:
            return
        # What comes from a public fork is fetched without an installation, and still shown at its pull request.
        is_fork = is_fork_branch(deployment.provider_branch)
        if not (deployment.git_source.installation_id or is_fork) or not deployment.provider_commit_hash:
            return
        try:
            self._waiting.put_nowait(deployment)
        except asyncio.QueueFull:
            log.error("commit status dropped: too many wait", deployment_id=deployment.id)

    def start(self) -> None:
        """Begin to turn what was heard into jobs."""
        self._loop = asyncio.create_task(self._run(), name="reports")

    async def close(self) -> None:
        """Stop; what was heard and is not queued yet is not said."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])

    async def _run(self) -> None:
        while True:
            deployment = await self._waiting.get()
            try:
                async with self._store.begin(deployment.project_id) as unit:
                    function = await unit.functions.get(deployment.function_id)
                    installation = None
                    if function is not None and deployment.git_source is not None:
                        installation_id = deployment.git_source.installation_id or function.installation_id
                        installation = await unit.installations.get(installation_id)
                    is_wanted = function is not None and not function.provider_silent_mode
                    # A plain git server has nowhere to show it.
                    if is_wanted and installation is not None and installation.provider is not Provider.GIT:
                        await unit.jobs.enqueue(report_job(deployment, self._clock.now()))
            except Exception:
                log.exception("commit status not queued", deployment_id=deployment.id)

    async def report(self, project_id: str, function_id: str, deployment_id: str) -> None:
        """Say how a deployment stands now. Raises GitHostFailed and NoSuchRepository (to be tried again)."""
        async with self._store.view(project_id) as unit:
            function = await unit.functions.get(function_id)
            deployment = await unit.deployments.get(function_id, deployment_id)
            if function is None or deployment is None or deployment.git_source is None:
                return
            source = deployment.git_source
            installation = await unit.installations.get(source.installation_id or function.installation_id)
        repository_id = source.repository_id or function.provider_repository_id
        if installation is None or not repository_id:
            return
        branch = deployment.provider_branch
        await self._pull_requests.follow(installation, repository_id, branch)
        state, description = _STATES.get(deployment.status, _PENDING)
        await host_of(self._hosts, installation.provider).set_status(
            installation,
            repository_id,
            deployment.provider_commit_hash,
            CommitStatus(state, self._console_url, description, f"hearth/{function.name}"[:_CONTEXT_CHARS]),
        )
