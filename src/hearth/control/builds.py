"""What happens around a build: statuses, live log, result, activation (contract: functions-api 9.1).

Every move is a compare-and-move, so whatever arrives late (a result of a canceled build, a second worker) finds
the row moved and is dropped.
"""

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from hearth import tracing
from hearth.control.environment import Environment
from hearth.control.requiring import activate
from hearth.control.rules import RuleBook
from hearth.control.runnables import Runnables
from hearth.control.sources import Sources
from hearth.control.specifications import Specifications
from hearth.control.starting import DeploymentStarter
from hearth.control.views import BUILD_MEMORY_MIN_MB, LOG_LIMIT_CHARS, VARIABLES_MAX, ControlLimits
from hearth.model.figures import BuildFigures
from hearth.model.resources import Deployment, Function, Rule, Variable
from hearth.model.running import BuildRequest, BuildResult
from hearth.model.statuses import DEPLOYMENT_FINAL, DeploymentStatus
from hearth.ports import Builder, Clock, Events, Executor, SourceUnavailable, Store, Unit

log = structlog.get_logger(__name__)

#: Seconds between two writes of a running build's log to its deployment: with the builder's own batching, a line is
#: there within 200 ms of being printed.
LOG_INTERVAL_S = 0.1
#: Characters of a build's output held between two such writes; what is beyond is cut from the front.
_PENDING_MAX = LOG_LIMIT_CHARS


class Builds:
    """Carries one build from its job to its end. Called by workers, the reaper and `cancel`."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        events: Events,
        sources: Sources,
        builder: Builder,
        executor: Executor,
        environment: Environment,
        specifications: Specifications,
        runnables: Runnables,
        starter: DeploymentStarter,
        rule_book: RuleBook,
        limits: ControlLimits,
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._sources = sources
        self._builder = builder
        self._executor = executor
        self._environment = environment
        self._specifications = specifications
        self._runnables = runnables
        self._starter = starter
        self._rule_book = rule_book
        self._limits = limits
        self._running: dict[str, asyncio.Task[object]] = {}
        self.figures = BuildFigures()

    def stop(self, deployment_id: str) -> None:
        """End the running build of a deployment that was canceled or deleted, if it runs in this process."""
        task = self._running.get(deployment_id)
        if task is not None:
            task.cancel("the build was canceled")

    async def run(self, project_id: str, function_id: str, deployment_id: str, *, use_cache: bool = True) -> None:
        """Build one deployment to its end, without `use_cache` from nothing.

        Returns when the deployment is final, also when it was canceled meanwhile.

        PlatformFault means ours failed (the job may be tried again). If this call itself is cancelled (the server
        stops), the deployment is left for the next attempt.
        """
        async with self._store.begin(project_id) as unit:
            function = await unit.functions.get(function_id)
            deployment = await unit.deployments.get(function_id, deployment_id)
            if function is None or deployment is None or deployment.status in DEPLOYMENT_FINAL:
                return
            if deployment.status is DeploymentStatus.BUILDING:
                await unit.deployments.move(deployment_id, DeploymentStatus.WAITING)
            started = self._clock.now()
            moved = await unit.deployments.move(
                deployment_id, DeploymentStatus.PROCESSING, build_started_at=started, build_ended_at=None
            )
            if moved is None and deployment.status is not DeploymentStatus.PROCESSING:
                return
            await self._starter.note_latest(unit, function_id)
            variables = await _variables(unit, function_id)
        span = tracing.begin(
            "build",
            function_id=function_id,
            deployment_id=deployment_id,
            project_id=project_id,
            runtime=function.runtime,
        )
        build = asyncio.create_task(self._prepare_and_build(function, deployment, variables, use_cache, span))
        self._running[deployment_id] = build
        try:
            prepared, result = await asyncio.shield(build)
        except asyncio.CancelledError:
            ours = not build.cancelled()
            build.cancel()
            await asyncio.wait([build])
            if ours:
                raise  # this call was cancelled, not the build
            self.figures.ended[DeploymentStatus.CANCELED] += 1
            if span is not None:
                span.end("canceled")
            await self._sources.forget_if_gone(project_id, function_id, deployment_id)
            return
        finally:
            del self._running[deployment_id]
        began = time.time()
        await self._finish(function, prepared, result, started, variables)
        if span is not None:
            span.step("finish", began, time.time())
            span.end(result.message if result.artifact is None else "")

    async def fail(self, project_id: str, function_id: str, deployment_id: str, reason: str) -> None:
        """End a build that cannot go on (lost worker, our fault) as failed, with `reason` as its last log line."""
        async with self._store.begin(project_id) as unit:
            await self.fail_in(unit, function_id, deployment_id, reason)
        self._runnables.drop(project_id, function_id)

    async def fail_in(self, unit: Unit, function_id: str, deployment_id: str, reason: str) -> None:
        """`fail` inside the caller's transaction, so that job and deployment end together."""
        deployment = await unit.deployments.get(function_id, deployment_id)
        if deployment is None or deployment.status in DEPLOYMENT_FINAL:
            return
        await unit.deployments.append_log(deployment_id, _red(reason), LOG_LIMIT_CHARS)
        now = self._clock.now()
        await unit.deployments.move(
            deployment_id,
            DeploymentStatus.FAILED,
            build_ended_at=now,
            build_duration_s=_duration(deployment.build_started_at, now),
        )
        await self._starter.note_latest(unit, function_id)
        self.figures.ended[DeploymentStatus.FAILED] += 1

    async def note_retry(self, unit: Unit, deployment_id: str, reason: str) -> None:
        """Put a lost build back to waiting, saying so in its log, in the caller's transaction."""
        await unit.deployments.append_log(deployment_id, _red(f"{reason} The build is started again."), LOG_LIMIT_CHARS)
        await unit.deployments.move(deployment_id, DeploymentStatus.WAITING)

    async def _prepare_and_build(
        self,
        function: Function,
        deployment: Deployment,
        variables: tuple[tuple[Variable, ...], tuple[Variable, ...]],
        use_cache: bool,
        span: tracing.Span | None,
    ) -> tuple[Deployment, BuildResult]:
        """Fetch the source if need be, then build; the deployment is given back as its source made it."""
        writer = _LogWriter(self._store, self._events, deployment, marks_building=False)
        began = time.time()
        try:
            prepared = await self._sources.prepare(deployment, writer.write)
        except SourceUnavailable as problem:
            return deployment, BuildResult(None, str(problem))
        finally:
            await writer.close()
        fetched = time.time()
        try:
            return prepared, await self._build(function, prepared, variables, use_cache)
        finally:
            if span is not None:
                span.step("prepare the source", began, fetched)
                span.step("build", fetched, time.time())

    async def _build(
        self,
        function: Function,
        deployment: Deployment,
        variables: tuple[tuple[Variable, ...], tuple[Variable, ...]],
        use_cache: bool,
    ) -> BuildResult:
        specification = self._specifications.get(function.build_specification)
        memory_mb = max(specification.memory_mb, BUILD_MEMORY_MIN_MB)
        timeout_s = self._limits.build_timeout_s
        environment = self._environment.of_build(
            function, deployment, specification.cpus, memory_mb, timeout_s, *variables
        )
        request = BuildRequest(
            deployment_id=deployment.id,
            project_id=deployment.project_id,
            function_id=function.id,
            runtime=function.runtime,
            source_key=deployment.source_key,
            entrypoint=deployment.entrypoint,
            commands=deployment.commands,
            environment=environment,
            cpus=specification.cpus,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            output_limit_bytes=self._limits.build_output_bytes,
            variables={variable.key: variable.value for variable in (*variables[0], *variables[1])},
            use_cache=use_cache,
            secrets=(environment["APPWRITE_FUNCTION_API_KEY"], *_secrets(variables)),
        )
        writer = _LogWriter(self._store, self._events, deployment)
        try:
            return await self._builder.build(request, writer.write)
        finally:
            await writer.close()

    async def _finish(
        self,
        function: Function,
        deployment: Deployment,
        result: BuildResult,
        started: datetime,
        variables: tuple[tuple[Variable, ...], tuple[Variable, ...]],
    ) -> None:
        if result.artifact is None:
            await self.fail(function.project_id, function.id, deployment.id, result.message)
        else:
            await self._ready(function, deployment, result, started, variables)
        async with self._store.view(function.project_id) as unit:
            final = await unit.deployments.get(function.id, deployment.id)
        self.figures.seconds.add((self._clock.now() - started).total_seconds())
        if final is not None:
            if final.status is DeploymentStatus.READY:
                self.figures.ended[final.status] += 1
            name = f"functions.{function.id}.deployments.{deployment.id}.update"
            self._events.emit(function.project_id, name, final)

    async def _ready(
        self,
        function: Function,
        deployment: Deployment,
        result: BuildResult,
        started: datetime,
        variables: tuple[tuple[Variable, ...], tuple[Variable, ...]],
    ) -> None:
        artifact = result.artifact
        assert artifact is not None  # noqa: S101 - the caller looked; narrows the type
        fields: dict[str, Any] = {
            "artifact_key": artifact.key,
            "artifact_digest": artifact.digest,
            "build_size_bytes": artifact.size_bytes,
        }
        async with self._store.view(function.project_id) as unit:
            settings = await unit.function_settings.get(function.id)
        template = self._runnables.template(function, replace(deployment, **fields), settings, *variables)
        # Unpacked before the deployment is ready, so that the first execution need not wait for it.
        await self._executor.prepare(template)
        if settings.min_instances and deployment.activate and function.enabled:
            # The new ones are up before the old ones go. If it is not made active after all, the event ends them.
            self._executor.keep(template, settings.min_instances)
            await self._executor.wait_kept(template)
        now = self._clock.now()
        replaced = ""
        pointed: tuple[Rule, ...] = ()
        async with self._store.begin(function.project_id) as unit:
            duration = _duration(started, now)
            built = await unit.deployments.move(
                deployment.id, DeploymentStatus.READY, build_ended_at=now, build_duration_s=duration, **fields
            )
            current = await unit.functions.get(function.id)
            if built is None or current is None:
                return
            # The row's own flag counts: a newer deployment may have taken it over while this one was built.
            if built.activate:
                await activate(unit, current, built)
                await unit.functions.update(function.id, live=True)
                replaced = current.deployment_id
            if built.provider_branch:
                pointed = await unit.rules.point("function", function.id, built.provider_branch, built.id)
            await self._starter.note_latest(unit, function.id)
        self._runnables.drop(function.project_id, function.id)
        await self._runnables.get(function.project_id, function.id)  # so that the first execution need not read it
        self._rule_book.put(*pointed)
        if replaced not in ("", deployment.id):
            await self._executor.retire(replaced)


class _LogWriter:
    """Writes a running build's output to its deployment a few times a second, and the first of it at once."""

    def __init__(self, store: Store, events: Events, deployment: Deployment, *, marks_building: bool = True) -> None:
        self._store = store
        self._events = events
        self._deployment = deployment
        self._pending: list[str] = []
        self._pending_chars = 0
        self._arrived = asyncio.Event()
        self._closing = asyncio.Event()
        self._building = not marks_building
        self._task = asyncio.create_task(self._run())

    def write(self, text: str) -> None:
        """Take a piece of output; bounded, the oldest goes first."""
        self._pending.append(text)
        self._pending_chars += len(text)
        if self._pending_chars > 2 * _PENDING_MAX:
            kept = "".join(self._pending)[-_PENDING_MAX:]
            self._pending, self._pending_chars = [kept], len(kept)
        self._arrived.set()

    async def close(self) -> None:
        """Write what is left. Shielded, so that the log of a build that was ended is kept too."""
        self._closing.set()
        self._arrived.set()
        await asyncio.shield(self._task)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            if self._pending:
                text = "".join(self._pending)
                self._pending, self._pending_chars = [], 0
                await self._append(text)
            if self._closing.is_set():
                if not self._pending:
                    return
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOG_INTERVAL_S):
                    await self._closing.wait()

    async def _append(self, text: str) -> None:
        async with self._store.begin(self._deployment.project_id) as unit:
            if not self._building:
                # The first output of the build marks it as begun (contract: functions-api 9); a fetch does not.
                await unit.deployments.move(self._deployment.id, DeploymentStatus.BUILDING)
                self._building = True
            await unit.deployments.append_log(self._deployment.id, text, LOG_LIMIT_CHARS)
        if self._events.is_watched(self._deployment.project_id):
            await self._show()

    async def _show(self) -> None:
        """Let the console see the log as it grows (contract: functions-api 9.1, 6)."""
        project_id, function_id, id = self._deployment.project_id, self._deployment.function_id, self._deployment.id
        async with self._store.view(project_id) as unit:
            current = await unit.deployments.get(function_id, id)
        if current is not None:
            self._events.progress(project_id, f"functions.{function_id}.deployments.{id}.update", current)


async def _variables(unit: Unit, function_id: str) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
    return (
        await unit.variables.of("project", "", VARIABLES_MAX),
        await unit.variables.of("function", function_id, VARIABLES_MAX),
    )


def _secrets(variables: tuple[tuple[Variable, ...], tuple[Variable, ...]]) -> tuple[str, ...]:
    return tuple(variable.value for part in variables for variable in part if variable.secret)


def _duration(started: datetime | None, ended: datetime) -> int:
    """Whole seconds, rounded up, at least 1 (contract: functions-api 6.2)."""
    return 1 if started is None else max(1, math.ceil((ended - started).total_seconds()))


def _red(text: str) -> str:
    return f"\n\x1b[91m{text}\x1b[0m\n"
