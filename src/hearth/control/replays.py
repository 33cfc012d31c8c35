"""Replays: the stored request of an execution is run once more, by any ready deployment, and the two are compared.

A replay is an execution like any other, within the function's limits, and its record says of what it is one
(`x-hearth-replay-of`). It is told of the user behind the first one, but belongs to nobody: only keys and admins see it.
"""

import asyncio
from dataclasses import dataclass

from msgspec.structs import replace

from hearth.control.bodies import BodiesControl
from hearth.control.comparing import Comparison, compare
from hearth.control.executions import ExecutionsControl
from hearth.control.invocations import MintUserJwt, RunRequest, require_runnable
from hearth.control.queued import QueuedExecutions
from hearth.control.runnables import Runnables
from hearth.control.views import KEY_GRACE_S
from hearth.model.actor import Actor
from hearth.model.bodies import Body, KeptRequest, KeptResponse
from hearth.model.refusals import Refusal
from hearth.model.resources import Execution
from hearth.model.statuses import Trigger


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay and what it is one of; `comparison` is None for one that runs in the background."""

    original: Execution
    execution: Execution
    comparison: Comparison | None


class ReplaysControl:
    """The use case of replays."""

    def __init__(
        self,
        *,
        bodies: BodiesControl,
        executions: ExecutionsControl,
        queued: QueuedExecutions,
        runnables: Runnables,
        mint_user_jwt: MintUserJwt,
    ) -> None:
        self._bodies = bodies
        self._executions = executions
        self._queued = queued
        self._runnables = runnables
        self._mint_user_jwt = mint_user_jwt

    async def replay(
        self,
        project_id: str,
        actor: Actor,
        function_id: str,
        execution_id: str,
        *,
        deployment_id: str | None = None,
        is_async: bool = False,
    ) -> Replay:
        """Run the stored request of an execution with a deployment, None = the active one.

        Raises what `BodiesControl.of` raises, `execution_body_truncated`, `deployment_not_found`, `build_not_ready`,
        and what a synchronous run raises: then the replay has its record all the same.
        """
        original, kept = await self._bodies.of(project_id, actor, function_id, execution_id)
        request = replayed(kept.request, execution_id, deployment_id or "")
        if deployment_id:
            found = await self._runnables.get_deployment(project_id, function_id, deployment_id)
            if found is not None and found.deployment is None:
                raise Refusal("deployment_not_found")
        else:
            found = await self._runnables.get(project_id, function_id)
        runnable, template = require_runnable(found, privileged=True)
        if is_async:
            view = await asyncio.shield(self._queued.accept(runnable, request))
            return Replay(original, view.execution, None)
        if request.real_user_id and request.trigger is not Trigger.EVENT:
            # The first caller's session may be over, so the token stands for the user alone (contract: 12.2).
            lifetime_s = runnable.function.timeout_s + KEY_GRACE_S
            request = replace(request, user_jwt=self._mint_user_jwt(project_id, request.real_user_id, "", lifetime_s))
        view = await self._executions.run_now(runnable, template, request)
        response = KeptResponse(
            view.execution.response_status_code,
            tuple(view.response_headers),
            Body(view.response_body, len(view.response_body)),
        )
        comparison = await asyncio.to_thread(compare, original, kept.response, view.execution, response)
        return Replay(original, view.execution, comparison)


def replayed(kept: KeptRequest, execution_id: str, deployment_id: str) -> RunRequest:
    """A stored request to be run again. Raises `execution_body_truncated`."""
    body = kept.body
    if body.is_truncated:
        raise Refusal(
            "execution_body_truncated",
            f"Only the first {len(body.content)} of the {body.size} bytes of this request's body are stored, so it "
            "cannot be run again. Raise the function's setting `bodiesMaxBytes` for later ones.",
        )
    return RunRequest(
        method=kept.method,
        path=kept.path,
        headers=kept.headers,
        body=body.content,
        trigger=kept.trigger,
        real_user_id=kept.real_user_id,
        client_ip=kept.client_ip,
        event=kept.event,
        replay_of=execution_id,
        deployment_id=deployment_id,
    )
