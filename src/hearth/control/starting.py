"""How every deployment, whatever its source, gets its build queued (contract: functions-api 9.1)."""

from hearth.control.jobs import build_job
from hearth.control.views import ControlLimits
from hearth.model.resources import Deployment, Function
from hearth.ports import Clock, Unit


class DeploymentStarter:
    """The steps that uploads, duplicates, templates and pushes share; each runs in the caller's transaction."""

    def __init__(self, *, clock: Clock, limits: ControlLimits) -> None:
        self._clock = clock
        self._limits = limits

    async def queue(self, unit: Unit, function: Function, deployment: Deployment, *, use_cache: bool = True) -> None:
        """Queue the build of a deployment whose source is complete; without `use_cache` it starts from nothing."""
        if deployment.activate:
            await unit.deployments.clear_activate(function.id, deployment.id)
        job = build_job(deployment, self._limits.build_timeout_s, self._clock.now(), use_cache=use_cache)
        await unit.jobs.enqueue(job)
        await self.note_latest(unit, function.id)

    async def note_latest(self, unit: Unit, function_id: str) -> None:
        """Refresh the function's `latest*` fields from its newest deployment, or empty them."""
        newest = await unit.deployments.newest(function_id)
        await unit.functions.update(
            function_id,
            latest_deployment_id=newest.id if newest else "",
            latest_deployment_created_at=newest.created_at if newest else None,
            latest_deployment_status=newest.status if newest else "",
        )
