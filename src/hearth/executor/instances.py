"""Carries out what the pool decides: starts and stops instances, hands requests over, keeps the pool's clock."""

import asyncio
import contextlib
from collections import Counter
from contextvars import Context
from typing import cast

import structlog

from hearth import log_context
from hearth.executor.actions import Action, Assign, Closed, Full, Member, Pause, Reject, Start, State
from hearth.executor.calls import Ended, Ticket, failed_before_running, let_go
from hearth.executor.instance import DELETED, STOPPED, Instance, Surroundings
from hearth.executor.pool import Pool
from hearth.model.refusals import Busy, Unavailable
from hearth.model.running import InstanceKey, InstanceTemplate
from hearth.model.streaming import HearLog, LogLines

log = structlog.get_logger(__name__)

ENDINGS = {"closing": STOPPED, "deleted": DELETED}
"""Why the pool stops an instance -> what its running requests are told; others have run out by then."""

QUEUES = {
    "max_waiting_per_key": "Too many requests for this function wait already",
    "max_waiting": "Too many requests wait already",
}
"""Limits that are met before a request waits at all -> what is said then."""


class Instances:
    """All instances of an executor. Every method is called from the one event loop and returns at once."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.pool = Pool(surroundings.limits.pool)
        self._around = surroundings
        self._monotonic = surroundings.monotonic
        self._by_id: dict[int, Instance] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self.started = 0
        """How many instances were started."""
        self.rejected: Counter[str] = Counter()
        """Limit -> how many requests it has turned away."""
        self._changed = asyncio.Event()
        """Set whenever an instance is up or gone."""
        surroundings.stems.load = self.load

    def load(self) -> int:
        """How many requests run and instances start now."""
        return sum(member.running + (member.state is State.STARTING) for member in self.pool.members)

    def submit(self, ticket: Ticket) -> None:
        """Take a request; its future gets a Result, or Busy or Unavailable."""
        member = self.pool.lend(ticket)
        if member is None:
            self._act(self.pool.request(ticket, ticket.submitted))
            return
        self._begin(ticket, member)

    def withdraw(self, ticket: Ticket) -> None:
        """The caller of a request has left, wherever the request is now."""
        member = ticket.member
        if member is None:
            self._act(self.pool.cancel(ticket, self._monotonic()))
        elif (instance := self._by_id.get(member.id)) is not None:
            instance.abandon(ticket)

    def retire(self, deployment_id: str) -> None:
        """Let the instances of a deployment end."""
        self._act(self.pool.retire(deployment_id, self._monotonic()))

    def keep(self, template: InstanceTemplate, count: int) -> None:
        """Let there be so many instances of a key."""
        self._act(self.pool.keep(template, count, self._monotonic()))

    def keep_only(self, function_id: str, key: InstanceKey | None) -> None:
        """Keep none ready of a function's other keys."""
        self._act(self.pool.keep_others(function_id, key, self._monotonic()))

    async def wait_kept(self, key: InstanceKey, timeout_s: float) -> None:
        """Return when as many are up as are to be kept, one has failed, or after the timeout."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.pool.is_coming(key):
                    self._changed.clear()
                    await self._changed.wait()

    def remove(self, deployment_id: str) -> None:
        """End the instances of a deployment now, with what runs in them; what waits for it fails."""
        self._act(self.pool.remove(deployment_id, DELETED, self._monotonic()))

    def follow_logs(self, function_id: str, hear: HearLog) -> list[LogLines]:
        """See `ports.Executor.follow_logs`."""
        instances = [each for each in self._by_id.values() if each.member.template.function_id == function_id]
        return self._around.live.follow(function_id, hear, [call for each in instances for call in each.calls])

    def unfollow_logs(self, function_id: str, hear: HearLog) -> None:
        """See `ports.Executor.unfollow_logs`."""
        self._around.live.unfollow(function_id, hear)

    async def close(self, grace_s: float) -> None:
        """Refuse new requests, let running ones end for `grace_s` seconds, then end everything."""
        self._act(self.pool.close(self._monotonic()))
        if self._lives and grace_s > 0:
            await asyncio.wait(self._lives, timeout=grace_s)
        for member in self.pool.members:
            self._act(self.pool.stop(member, "closing", self._monotonic()))
        for instance in list(self._by_id.values()):
            instance.stop(STOPPED)
        if self._lives:
            await asyncio.wait(self._lives)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -------------------------------------------------------------------------------------------- from instances

    def on_started(self, instance: Instance, slots: int) -> None:
        self._act(self.pool.started(instance.member, slots, self._monotonic()))
        self._changed.set()

    def on_released(self, instance: Instance, healthy: bool) -> None:
        member = instance.member
        if healthy:
            if self.pool.take_back(member):
                return
            ticket = self.pool.hand_on(member)
            if ticket is not None:
                self._begin(cast("Ticket", ticket), member)  # nothing else is ever given to the pool
                return
        self._act(self.pool.released(member, self._monotonic(), healthy=healthy))

    def on_broken(self, instance: Instance, why: str) -> None:
        self._act(self.pool.stop(instance.member, why, self._monotonic()))

    def on_ended(self, instance: Instance, failure: object, crashed: bool) -> None:
        del self._by_id[instance.member.id]
        self._act(self.pool.ended(instance.member, self._monotonic(), failure=failure, crashed=crashed))
        self._changed.set()

    # -------------------------------------------------------------------------------------------- acting

    def _act(self, actions: list[Action]) -> None:
        for action in actions:  # may grow while it is gone through
            if isinstance(action, Assign):
                ticket = action.waiter
                assert isinstance(ticket, Ticket)  # noqa: S101 - nothing else is ever given to the pool
                ticket.member = action.member
                instance = self._by_id[action.member.id]
                if action.resume:
                    instance.freeze(False)
                if not instance.begin(ticket):
                    actions += self._begin_elsewhere(ticket, action.member)
            elif isinstance(action, Start):
                instance = Instance(action.member, self._around, self)
                self._by_id[action.member.id] = instance
                self.started += 1
                task = asyncio.create_task(
                    instance.live(), name=f"instance {action.member.id}", context=_context_of(action.member)
                )
                self._lives.add(task)
                task.add_done_callback(self._lives.discard)
            elif isinstance(action, Reject):
                self._reject(action)
            elif isinstance(action, Pause):
                self._by_id[action.member.id].freeze(True)
            else:
                log.debug("instance_stops", instance=action.member.id, why=action.why)
                self._by_id[action.member.id].stop(ENDINGS.get(action.why))
        self._keep_time()

    def _begin(self, ticket: Ticket, member: Member) -> None:
        """Let an instance that is awake run a request for which it has a place."""
        ticket.member = member
        if not self._by_id[member.id].begin(ticket):
            self._act(self._begin_elsewhere(ticket, member))

    def _begin_elsewhere(self, ticket: Ticket, member: Member) -> list[Action]:
        """The process of `member` has just died and nothing was sent: another instance may run the request."""
        ticket.member = None
        now = self._monotonic()
        return self.pool.stop(member, "unreachable", now) + self.pool.request(ticket, now)

    def _reject(self, action: Reject) -> None:
        ticket, reason = action.waiter, action.reason
        assert isinstance(ticket, Ticket)  # noqa: S101 - nothing else is ever given to the pool
        let_go(ticket.future)
        if ticket.future.done():
            return
        if isinstance(reason, Ended):
            ticket.future.set_result(failed_before_running(reason, ticket, self._monotonic()))
        elif isinstance(reason, Full):
            self.rejected[reason.limit] += 1
            message = QUEUES.get(reason.limit, "No instance came free in time")
            ticket.future.set_exception(Busy(message, limit=reason.limit, retry_after_s=reason.retry_after_s))
        elif isinstance(reason, Closed):
            ticket.future.set_exception(Unavailable("The server is stopping."))
        else:
            ticket.future.set_exception(Unavailable(str(reason)))

    def _keep_time(self) -> None:
        due = self.pool.next_due()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        delay = max(0.0, due - self._monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._act(self.pool.tick(self._monotonic()))


def _context_of(member: Member) -> Context:
    """An instance outlives the request it was started for: its lines are about its deployment."""
    context, template = log_context.blank(), member.template
    ids = {"deployment_id": template.key.deployment_id, "function_id": template.function_id}
    context.run(log_context.bind, project_id=template.project_id, instance=str(member.id), **ids)
    return context
