"""The executor of this machine: turns an invocation into a result with instances of its own."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence

from hearth.executor.calls import PendingResult, Ticket
from hearth.executor.code_cache import CodeCache
from hearth.executor.instance import Surroundings
from hearth.executor.instances import Instances
from hearth.executor.limits import ExecutorLimits
from hearth.executor.sandbox.spec import Driver, SandboxFailed
from hearth.executor.stem_keeper import StemKeeper
from hearth.model.figures import ExecutorFigures
from hearth.model.refusals import PlatformFault, Unavailable
from hearth.model.running import InstanceKey, InstanceTemplate, Invocation, Outcome, Result
from hearth.model.streaming import HearLog, LogLines
from hearth.ports import Clock, FileNotStored, Files
from hearth.runtimes.families import family_of
from hearth.runtimes.packs import Packs


class LocalExecutor:
    """Implements `ports.Executor`. Construct and use it inside one event loop; `start` before the first call."""

    def __init__(
        self,
        driver: Driver,
        packs: Packs,
        files: Files,
        data_dir: str | os.PathLike[str],
        limits: ExecutorLimits,
        clock: Clock,
    ) -> None:
        self._packs = packs
        self._limits = limits
        self._monotonic = clock.monotonic
        self._slots: dict[str, int] = {}
        self._cache = CodeCache(driver, files, data_dir, limits)
        self._stems = StemKeeper(driver, packs, limits, clock.monotonic, data_dir)
        self._instances = Instances(Surroundings(driver, packs, self._cache, self._stems, limits, clock.monotonic))

    def __repr__(self) -> str:
        return f"<LocalExecutor {self._instances.pool!r}, {self._stems!r}>"

    async def start(self) -> None:
        """Take over the code cache of an earlier process, and start stem cells of the runtimes it used."""
        await self._cache.open()
        self._stems.open()

    def submit(self, invocation: Invocation) -> PendingResult:
        """Begin to run one request (see `ports.Executor.submit`)."""
        template = invocation.template
        future = PendingResult()
        if len(invocation.body) > self._limits.max_request_bytes:
            errors = f"The request body is larger than the limit of {self._limits.max_request_bytes} bytes.\n"
            future.ticket = None
            future.set_result(Result(Outcome.COMPLETED, 413, errors=errors))
            return future
        now = self._monotonic()
        ticket = Ticket(
            template,
            now + invocation.wait_s,
            self._slots.get(template.runtime) or self._expected_slots(template.runtime),
            invocation=invocation,
            future=future,
            submitted=now,
        )
        future.ticket = ticket
        future.withdraw = self._instances.withdraw
        self._instances.submit(ticket)
        return future

    async def invoke(self, invocation: Invocation) -> Result:
        """Run one request in an instance and return what the function did (see `ports.Executor.invoke`)."""
        return await self.submit(invocation)

    def follow_logs(self, function_id: str, hear: HearLog) -> Sequence[LogLines]:
        """Let `hear` be told of each line of a function's executions (see `ports.Executor.follow_logs`)."""
        return self._instances.follow_logs(function_id, hear)

    def unfollow_logs(self, function_id: str, hear: HearLog) -> None:
        """Tell `hear` nothing more. Fine to call twice."""
        self._instances.unfollow_logs(function_id, hear)

    async def prepare(self, template: InstanceTemplate) -> None:
        """Unpack a deployment's code and have a stem cell for it. Raises Unavailable when the code is not to be had."""
        try:
            await asyncio.gather(self._cache.prepare(template.artifact), self._stems.warm(template))
        except (FileNotStored, SandboxFailed, PlatformFault) as problem:
            raise Unavailable(
                f"The code of deployment {template.key.deployment_id} could not be unpacked: {problem}"
            ) from problem

    def keep(self, template: InstanceTemplate, count: int) -> None:
        """From now on let there be `count` instances of this template (see `ports.Executor.keep`)."""
        self._instances.keep(template, count)

    def keep_only(self, function_id: str, key: InstanceKey | None) -> None:
        """Keep no instances ready of a function but those of `key`."""
        self._instances.keep_only(function_id, key)

    async def wait_kept(self, template: InstanceTemplate) -> None:
        """Wait for the instances that are to be kept, as long as a start may take. Never raises."""
        limits = self._limits
        await self._instances.wait_kept(template.key, limits.start_timeout_s + limits.load_timeout_s)

    async def retire(self, deployment_id: str) -> None:
        """Let the instances of a deployment end: no new request goes to them, running ones finish."""
        self._instances.retire(deployment_id)

    async def remove(self, deployment_id: str) -> None:
        """End the instances of a deployment that is no more (see `ports.Executor.remove`)."""
        self._instances.remove(deployment_id)

    def figures(self) -> ExecutorFigures:
        """How instances and stems stand now."""
        pool = self._instances.pool
        members = pool.members
        return ExecutorFigures(
            instances=dict(Counter(member.state.value for member in members)),
            memory_mb=pool.memory_mb,
            waiting=pool.waiting,
            started=self._instances.started,
            rejected=dict(self._instances.rejected),
            stems=dict(Counter((stem.kind.runtime, stem.state.value) for stem in self._stems.plan.stems)),
            stems_taken=self._stems.taken,
        )

    async def close(self, grace_s: float) -> None:
        """Refuse new work, let running invocations end for up to `grace_s` seconds, then stop everything."""
        await self._stems.close()
        await self._instances.close(grace_s)
        await self._cache.close()

    def _expected_slots(self, runtime: str) -> int:
        """A guess at what an instance runs at once; of a language, so it is looked up once for each runtime."""
        pack = self._packs.get(runtime)
        if pack is None:
            return 1
        slots = self._slots[runtime] = self._limits.concurrency if family_of(pack.family).is_concurrent else 1
        return slots
