"""Carries out what the stem plan decides: starts and ends stem cells, hands ready ones to instances.

Which kinds are in use is noted in `<data_dir>/cache/stems.json`, so that a new server has stems before its first
request. The note is a hint: without it, or with a wrong one, the first requests only start more slowly.
"""

import asyncio
import contextlib
import json
import os
import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import structlog

from hearth.executor.limits import MIB, ExecutorLimits
from hearth.executor.logs import decode
from hearth.executor.protocol import FrameReader, FromShim, ProtocolError, ReadyFrame
from hearth.executor.run_specs import run_limits, stem_kind, stem_spec
from hearth.executor.sandbox.spec import Driver, Limits, Sandbox, SandboxExit, SandboxFailed
from hearth.executor.stems import StartStem, Stem, StemAction, StemKind, StemPlan, StemState
from hearth.model.running import InstanceTemplate
from hearth.runtimes.packs import Packs

log = structlog.get_logger(__name__)

#: How long the end of a build waits for the first stem of a runtime.
WARM_TIMEOUT_S = 3.0
NOTES_MAX = 64
LAST_OUTPUT_BYTES = 4 * 1024


class _Listener(asyncio.Protocol):
    """Hears a stem's shim until it is assigned: `ready`, and nothing else."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        """Done once the shim said what it must not, or has closed its end."""
        self._reader = FrameReader(self._on_frame)

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
        except ProtocolError:
            self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def _on_frame(self, frame: FromShim, body: bytes) -> None:
        if not isinstance(frame, ReadyFrame) or self.ready.done():
            raise ProtocolError(f"{type(frame).__name__} from a stem")
        self.ready.set_result(None)

    def _lost(self) -> None:
        if not self.gone.done():
            self.gone.set_result(None)


@dataclass(eq=False, slots=True)
class StartedStem:
    """A stem whose language is up. Whoever takes it owns all of this, and `end`s it or becomes its instance."""

    sandbox: Sandbox
    transport: asyncio.Transport
    exit: "asyncio.Task[SandboxExit]"
    limits: Limits

    def has_ended(self) -> bool:
        """Whether its process is known to have ended, also where the event loop has not been told yet."""
        if self.exit.done() or self.transport.is_closing():
            return True
        hangup = select.poll()
        hangup.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(hangup.poll(0))

    async def end(self) -> None:
        """End its processes and let go of everything."""
        self.transport.abort()
        try:
            await self.sandbox.kill()
        finally:
            self.exit.cancel()
            await asyncio.gather(self.exit, return_exceptions=True)
            os.close(self.sandbox.output)


class StemKeeper:
    """All stem cells of an executor. Every method is called from the one event loop."""

    def __init__(
        self,
        driver: Driver,
        packs: Packs,
        limits: ExecutorLimits,
        monotonic: Callable[[], float],
        data_dir: str | os.PathLike[str],
    ) -> None:
        self.plan = StemPlan(limits.stems)
        self.load: Callable[[], int] = lambda: 0
        """How many requests run and instances start; set by whoever knows."""
        self._driver = driver
        self._packs = packs
        self._limits = limits
        self._monotonic = monotonic
        self._notes = Path(data_dir) / "cache" / "stems.json"
        self._noted: frozenset[StemKind] = frozenset()
        self._last_limits: dict[StemKind, Limits] = {}
        """Of the last instance of a kind: the next one's are probably the same."""
        self._started: dict[int, StartedStem] = {}
        self._stops: dict[int, asyncio.Future[None]] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._changed: asyncio.Event = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.taken = 0
        """Instances made of stems so far."""
        self.missed = 0
        """Instances for which no stem was ready."""

    def __repr__(self) -> str:
        return f"<StemKeeper {self.plan!r}; taken {self.taken}, missed {self.missed}>"

    def open(self) -> None:
        """Start stems of the kinds an earlier server used."""
        for kind in self._read_notes():
            pack = self._packs.get(kind.runtime)
            if pack is not None:
                self.plan.want(kind, self._monotonic())
        self._noted = frozenset(self.plan.kinds)
        self._keep_up()

    def take(self, template: InstanceTemplate) -> StartedStem | None:
        """A ready stem for an instance of this template, from now on the caller's; None if there is none."""
        kind = self._kind(template)
        if kind is None or self.plan.closed or not self.plan.limits.per_kind:
            return None
        self._last_limits[kind] = run_limits(template)
        stem = self.plan.take(kind, self._monotonic())
        self._note()
        self._keep_up()
        if stem is None:
            self.missed += 1
            return None
        self.taken += 1
        started = self._started.pop(stem.id)
        self._stops.pop(stem.id).set_result(None)
        return started

    async def warm(self, template: InstanceTemplate) -> None:
        """Have a stem for this template; waits for the first of its kind, a few seconds at most. Never raises."""
        kind = self._kind(template)
        if kind is None or self.plan.closed:
            return
        self._last_limits.setdefault(kind, run_limits(template))
        self.plan.want(kind, self._monotonic())
        self._note()
        self._keep_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WARM_TIMEOUT_S):
                while not self.plan.ready(kind) and self.plan.is_coming(kind):
                    self._changed.clear()
                    await self._changed.wait()

    async def close(self) -> None:
        """End every stem."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._act(self.plan.close())
        self._changed.set()
        if self._lives:
            await asyncio.wait(self._lives)

    # -------------------------------------------------------------------------------------------- acting

    def _kind(self, template: InstanceTemplate) -> StemKind | None:
        pack = self._packs.get(template.runtime)
        return None if pack is None else stem_kind(template, pack)

    def _keep_up(self) -> None:
        """Do what is due and set the clock for the rest."""
        now, load = self._monotonic(), self.load()
        self._act(self.plan.tick(now, load))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.plan.next_due(now, load)
        if due is not None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, due - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._keep_up()
        self._note()

    def _act(self, actions: list[StemAction]) -> None:
        for action in actions:
            stem = action.stem
            if isinstance(action, StartStem):
                self._stops[stem.id] = stop = asyncio.get_running_loop().create_future()
                task = asyncio.create_task(self._live(stem, stop), name=f"stem {stem.id}")
                self._lives.add(task)
                task.add_done_callback(self._lives.discard)
            else:
                log.debug("stem_stops", stem=stem.id, why=action.why)
                self._started.pop(stem.id, None)
                self._stops.pop(stem.id).set_result(None)

    async def _live(self, stem: Stem, stop: "asyncio.Future[None]") -> None:
        """A stem from its start until it is taken, asked to stop, or dies. Reports to the plan; never raises."""
        start = asyncio.create_task(self._start(stem), name=f"start of stem {stem.id}")
        await _first_of(start, stop)
        if not start.done():
            start.cancel()
            await asyncio.wait({start})
        if start.cancelled() or start.exception() is not None:
            if not start.cancelled():
                self._log_failure(stem, cast("BaseException", start.exception()))
            self._ended(stem, failed=not stop.done())
            return
        started, listener = start.result()
        if not stop.done():
            self._started[stem.id] = started
            self._act(self.plan.started(stem))
            self._changed.set()
            self._keep_up()
            await _first_of(stop, started.exit, listener.gone)
            if stem.state is StemState.TAKEN:
                return
            self._started.pop(stem.id, None)
        if not stop.done():
            log.warning("stem_died", stem=stem.id, runtime=stem.kind.runtime)
        try:
            await started.end()
        except Exception:
            log.exception("stem_not_killed", stem=stem.id)
        self._ended(stem, failed=not stop.done())

    def _ended(self, stem: Stem, *, failed: bool) -> None:
        self._stops.pop(stem.id, None)
        self.plan.ended(stem, self._monotonic(), failed=failed)
        self._changed.set()
        self._keep_up()

    async def _start(self, stem: Stem) -> tuple[StartedStem, _Listener]:
        """Bring a stem up. Raises SandboxFailed; then, or if cancelled, nothing of it is left."""
        pack = self._packs.get(stem.kind.runtime)
        if pack is None:
            raise SandboxFailed(f"the runtime {stem.kind.runtime} is not installed")
        limits = self._last_limits.get(stem.kind) or Limits((stem.kind.memory_mb or 512) * MIB, 1.0)
        sandbox = await self._driver.start(stem_spec(stem.id, stem.kind, pack, limits))
        loop = asyncio.get_running_loop()
        exit = asyncio.create_task(sandbox.wait(), name=f"exit of {sandbox.id}")
        listener = _Listener()
        transport: asyncio.Transport | None = None
        try:
            transport, _ = await loop.create_unix_connection(lambda: listener, sock=sandbox.channel)
            await _first_of(listener.ready, listener.gone, exit, timeout_s=self._limits.start_timeout_s)
            if not listener.ready.done():
                raise SandboxFailed(f"the language server did not report: {_last_output(sandbox)}")
        except BaseException:
            if transport is not None:
                transport.abort()
            elif sandbox.channel is not None:
                sandbox.channel.close()
            await asyncio.shield(sandbox.kill())
            exit.cancel()
            os.close(sandbox.output)
            raise
        return StartedStem(sandbox, transport, exit, limits), listener

    def _log_failure(self, stem: Stem, problem: BaseException) -> None:
        if isinstance(problem, SandboxFailed):
            log.warning("stem_not_started", stem=stem.id, runtime=stem.kind.runtime, error=str(problem))
        else:
            log.error("stem_not_started", stem=stem.id, runtime=stem.kind.runtime, exc_info=problem)

    # -------------------------------------------------------------------------------------------- notes

    def _read_notes(self) -> list[StemKind]:
        try:
            noted = json.loads(self._notes.read_text())[:NOTES_MAX]
            return [StemKind(str(runtime), int(memory_mb)) for runtime, memory_mb in noted]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError) as problem:
            log.warning("stem_notes_unreadable", path=str(self._notes), error=str(problem))
            return []

    def _note(self) -> None:
        """Write down which kinds are in use, if that has changed."""
        kinds = frozenset(self.plan.kinds)
        if kinds == self._noted or self.plan.closed:
            return
        self._noted = kinds
        partial = self._notes.with_suffix(".partial")
        try:
            self._notes.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(sorted([kind.runtime, kind.memory_mb] for kind in kinds)))
            partial.replace(self._notes)
        except OSError as problem:
            log.warning("stem_notes_not_written", path=str(self._notes), error=str(problem))


async def _first_of(*futures: "asyncio.Future[Any]", timeout_s: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


def _last_output(sandbox: Sandbox) -> str:
    try:
        return decode(os.read(sandbox.output, LAST_OUTPUT_BYTES)).strip() or "it said nothing"
    except OSError:
        return "it said nothing"
