"""One instance: a sandbox from its start to its end. What is said in it is `conversation.py`'s business.

Which request comes here is decided by the pool.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import structlog

from hearth.executor.actions import Member
from hearth.executor.calls import Call, Ended, Ticket, reason_of
from hearth.executor.conversation import Conversation
from hearth.executor.limits import ExecutorLimits
from hearth.executor.live import LiveLogs
from hearth.executor.logs import decode
from hearth.executor.run_specs import code_mount, egress_list, instance_spec, run_limits
from hearth.executor.sandbox.spec import Driver, Mount, Sandbox, SandboxExit, SandboxFailed
from hearth.executor.stem_keeper import StartedStem, StemKeeper
from hearth.model.refusals import PlatformFault, Unavailable
from hearth.model.running import Artifact, Outcome
from hearth.ports import FileNotStored
from hearth.runtimes.locations import CODE_INSIDE
from hearth.runtimes.packs import Packs

log = structlog.get_logger(__name__)

T = TypeVar("T")

OUTPUT_READ_BYTES = 64 * 1024
OUTPUT_READS_AT_END = 64
LAST_OUTPUT_BYTES = 8 * 1024
#: How long after the end of the process its channel may still deliver what was written before.
LAST_WORDS_S = 1.0
#: How long a process may live without its channel before it is ended.
SILENT_S = 0.5

DELETED = Ended(Outcome.CRASHED, "The function was deleted while it was running.")
STOPPED = Ended(Outcome.CRASHED, "The server was stopped while the function was running.")


class StartFailed(Exception):
    """An instance did not come up. `failure` is the code's fault (Ended) or ours (PlatformFault)."""

    def __init__(self, failure: Ended | PlatformFault) -> None:
        self.failure = failure
        super().__init__(str(failure))


class Owner(Protocol):
    """Whoever keeps the instances: hears what happens to one. Called from the event loop."""

    def on_started(self, instance: "Instance", slots: int) -> None: ...
    def on_released(self, instance: "Instance", healthy: bool) -> None: ...
    def on_broken(self, instance: "Instance", why: str) -> None: ...
    def on_ended(self, instance: "Instance", failure: object, crashed: bool) -> None: ...


class Codes(Protocol):
    """Whoever has the code of deployments as folders (`code_cache.CodeCache`)."""

    def use(self, artifact: Artifact) -> contextlib.AbstractAsyncContextManager[Path]:
        """The folder of an artifact, for as long as the context lasts."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every instance needs and none owns. `monotonic` gives seconds."""

    driver: Driver
    packs: Packs
    cache: Codes
    stems: StemKeeper
    limits: ExecutorLimits
    monotonic: Callable[[], float]
    live: LiveLogs = field(default_factory=LiveLogs)
    code_folder: str = CODE_INSIDE
    """Where an instance finds its code; `""` = in the folder that `cache` gives, where nothing is shown elsewhere."""


class Instance:
    """A sandbox with a shim. `live` is its whole life; the other methods are called in between."""

    def __init__(self, member: Member, surroundings: Surroundings, owner: Owner) -> None:
        self.member = member
        self._around = surroundings
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._conversation = Conversation(member, surroundings.limits, surroundings.monotonic, surroundings.live, self)
        self._sandbox: Sandbox | None = None
        self._stem: StartedStem | None = None
        """A stem that is being made into this instance."""
        self._starting: asyncio.Task[int] | None = None
        self._exit: asyncio.Task[SandboxExit] | None = None
        self._stop_asked: asyncio.Future[None] = self._loop.create_future()
        self._ending: Ended | None = None
        """Why the executions in it end, where the exit of the process does not tell."""
        self._is_at_fault = False
        """It is being ended for what it did."""
        self._last_output = bytearray()
        self._is_frozen = False
        self._is_to_be_frozen = False
        self._freezer: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Instance {self.member.id} {self.member.state}, {len(self._conversation.calls)} running>"

    @property
    def calls(self) -> Iterable[Call]:
        """The requests that run in it."""
        return self._conversation.calls.values()

    # -------------------------------------------------------------------------------------------- its life

    async def live(self) -> None:
        """Start, serve until the process ends or `stop` is called, clean up. Reports to the owner; never raises."""
        failure: object = None
        async with contextlib.AsyncExitStack() as held:
            self._starting = starting = self._loop.create_task(self._start(held), name=f"start {self.member.id}")
            try:
                slots = await starting
            except asyncio.CancelledError:
                if not self._stop_asked.done():
                    failure = Unavailable("The start of the instance was given up.")
            except StartFailed as problem:
                failure = problem.failure
            except Exception as problem:
                log.exception("instance_start_failed", **self._ids())
                failure = Unavailable(f"The instance could not be started: {problem}")
            else:
                self._owner.on_started(self, slots)
                await self._first_of(self._stop_asked, None)
            crashed = failure is None and (self._is_at_fault or not self._stop_asked.done())
            await self._end()
        if failure is not None:
            log.warning("instance_not_started", reason=str(failure), **self._ids())
        self._owner.on_ended(self, failure, crashed)

    def stop(self, ended: Ended | None = None) -> None:
        """Ask for its end; `live` then ends it. `ended` is what executions still running in it are told."""
        if self._stop_asked.done():
            return
        self._ending = self._ending or ended
        self._stop_asked.set_result(None)
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()

    def begin(self, ticket: Ticket) -> bool:
        """Run a request; its future gets the result. False (and nothing sent) when the shim cannot be reached."""
        call = self._conversation.begin(ticket)
        if call is None:
            return False
        if self._last_output and len(self._conversation.calls) == 1:
            if self.member.served == 1:
                call.native(bytes(self._last_output))  # what was output while loading belongs to the first execution
            self._last_output.clear()  # anything later to nobody
        return True

    def abandon(self, ticket: Ticket) -> None:
        """Nobody waits for this request any more."""
        self._conversation.abandon(ticket)

    def freeze(self, frozen: bool) -> None:
        """Stop or continue its processes. Returns at once; of several calls the last one counts."""
        self._is_to_be_frozen = frozen
        if self._freezer is None or self._freezer.done():
            self._freezer = self._loop.create_task(self._freeze(), name=f"freeze {self.member.id}")

    async def _freeze(self) -> None:
        while self._sandbox is not None and self._is_frozen is not self._is_to_be_frozen:
            frozen = self._is_to_be_frozen
            try:
                await self._sandbox.freeze(frozen)
            except SandboxFailed as problem:
                log.warning("instance_not_frozen", frozen=frozen, error=str(problem), **self._ids())
                if not frozen:
                    reason = "The function's process could not be continued."
                    self.on_broken("cannot be continued", Ended(Outcome.CRASHED, reason))
                return
            self._is_frozen = frozen

    async def _start(self, held: contextlib.AsyncExitStack) -> int:
        """Bring it up; returns how many requests it runs at once. Raises StartFailed."""
        template = self.member.template
        limits = self._around.limits
        talk = self._conversation
        pack = self._around.packs.get(template.runtime)
        if pack is None:
            raise StartFailed(Unavailable(f"The runtime {template.runtime} is not installed on this machine."))
        try:
            code = str(await held.enter_async_context(self._around.cache.use(template.artifact)))
            if not await self._grow_from_stem(code_mount(code, pack)):
                self._sandbox = sandbox = await self._around.driver.start(
                    instance_spec(self.member.id, template, pack, code)
                )
                self._exit = self._loop.create_task(sandbox.wait(), name=f"exit of {sandbox.id}")
                self._loop.add_reader(sandbox.output, self.read_output)
                await self._loop.create_unix_connection(lambda: talk, sock=sandbox.channel)
        except (SandboxFailed, FileNotStored, PlatformFault) as problem:
            raise StartFailed(Unavailable(f"The instance could not be started: {problem}")) from problem
        talk.assign(
            template, self._around.code_folder or code, self._sandbox.meter if self._sandbox is not None else None
        )
        if not await self._first_of(talk.ready, limits.start_timeout_s):
            raise StartFailed(self._report_failure())
        if not await self._first_of(talk.loaded, limits.load_timeout_s):
            raise StartFailed(self._load_failure())
        answer = talk.loaded.result()
        if isinstance(answer, str):
            raise StartFailed(Ended(Outcome.LOAD_FAILED, answer))
        self.read_output()
        return answer

    async def _grow_from_stem(self, code: Mount) -> bool:
        """Make a stem cell into this instance, all but its assignment; False if there is none that can be used."""
        template = self.member.template
        self._stem = stem = self._around.stems.take(template)
        if stem is None:
            return False
        limits = run_limits(template)
        reachable = egress_list(template)
        try:
            if limits != stem.limits or reachable is not None:
                changes = [stem.sandbox.mount(code), stem.sandbox.retune(limits)]
                if reachable is not None:
                    changes.append(stem.sandbox.limit_egress(reachable))
                await asyncio.gather(*changes)
            else:
                await stem.sandbox.mount(code)
            if stem.has_ended():
                raise SandboxFailed("it has ended")
        except SandboxFailed as problem:
            log.warning("stem_not_used", error=str(problem), **self._ids())
            await stem.end()
            self._stem = None
            return False
        self._stem = None
        self._sandbox, self._exit = stem.sandbox, stem.exit
        self._loop.add_reader(stem.sandbox.output, self.read_output)
        self._conversation.take_over(stem.transport)
        return True

    async def _first_of(self, answer: "asyncio.Future[T]", timeout_s: float | None) -> bool:
        """Wait for `answer` or the end of the process; whether the answer is there (False after the timeout)."""
        exit = self._exit
        assert exit is not None  # noqa: S101 - there is a process
        waited: set[asyncio.Future[Any]] = {answer, exit}
        await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and exit.done():
            await self._last_words()
        return answer.done()

    def _report_failure(self) -> Ended | PlatformFault:
        """Why the language server never reported."""
        if self._ending is not None:
            return self._ending
        what = f"The language server of {self.member.template.runtime}"
        exit = self._exit_now()
        if exit is None:
            return Unavailable(f"{what} did not report within {self._around.limits.start_timeout_s:g} seconds.")
        how = f"exited with code {exit.code}" if exit.signal is None else f"was ended by signal {exit.signal}"
        return Unavailable(f"{what} {how} before it was ready. {self._output_text()}".strip())

    def _load_failure(self) -> Ended:
        """Why the code was not loaded, where the shim could not say it."""
        if self._ending is not None:
            return self._ending
        output = self._output_text()
        exit = self._exit_now()
        if exit is None:
            text = f"The code did not finish loading within {self._around.limits.load_timeout_s:g} seconds."
            return Ended(Outcome.LOAD_FAILED, f"{text}\n{output}".strip())
        ended = reason_of(exit, self.member.template, output)
        outcome = ended.outcome if ended.outcome is Outcome.OUT_OF_MEMORY else Outcome.LOAD_FAILED
        return Ended(outcome, f"Failed to load the code. {ended.reason}\n{output}".strip())

    def _exit_now(self) -> SandboxExit | None:
        return self._exit.result() if self._exit is not None and self._exit.done() else None

    async def _end(self) -> None:
        """End the process and give back everything; executions still running are told why."""
        sandbox = self._sandbox
        if self._freezer is not None:
            await asyncio.gather(self._freezer, return_exceptions=True)
        exit = SandboxExit(code=-1, signal=None)
        if self._stem is not None:
            await self._stem.end()
        if sandbox is not None:
            try:
                exit = await sandbox.kill()
            except Exception:
                log.exception("instance_not_killed", **self._ids())
            await self._last_words()
        if self._exit is not None:
            self._exit.cancel()
            await asyncio.gather(self._exit, return_exceptions=True)
        output = self._output_text()
        ended = self._ending or reason_of(exit, self.member.template, output)
        if not self._stop_asked.done() and self._conversation.loaded.done():
            running = len(self._conversation.calls)
            log.info("instance_ended", reason=ended.reason, running=running, **self._ids())
        was_connected = self._conversation.was_connected
        self._conversation.end(ended, output, exit)
        if sandbox is not None:
            if sandbox.channel is not None and not was_connected:
                sandbox.channel.close()
            self._sandbox = None
            self._loop.remove_reader(sandbox.output)
            os.close(sandbox.output)

    async def _last_words(self) -> None:
        """Take in what was written before the process ended."""
        if self._conversation.was_connected:
            await asyncio.wait({self._conversation.disconnected}, timeout=LAST_WORDS_S)
        for _ in range(OUTPUT_READS_AT_END):
            if not self.read_output():
                return

    def _ids(self) -> dict[str, object]:
        template = self.member.template
        return {
            "instance": self.member.id,
            "function": template.function_id,
            "deployment": template.key.deployment_id,
            "runtime": template.runtime,
        }

    # -------------------------------------------------------------------------------------------- from the conversation

    def on_released(self, healthy: bool) -> None:
        self._owner.on_released(self, healthy)

    def on_broken(self, why: str, ended: Ended | None) -> None:
        log.info("instance_given_up", why=why, **self._ids())
        self._ending = self._ending or ended
        if ended is not None:
            self._is_at_fault = True
            if not self._conversation.loaded.done():
                self._conversation.fail_loading(ended.reason)  # `_start` is waiting for it
                return
        self._owner.on_broken(self, why)

    def on_disconnected(self) -> None:
        if not self._stop_asked.done():
            self._loop.call_later(SILENT_S, self._on_silence)

    def _on_silence(self) -> None:
        """The channel is gone and the process is not."""
        if self._exit is not None and not self._exit.done() and not self._stop_asked.done():
            reason = "The function's process closed its control channel."
            self.on_broken("closed its channel", Ended(Outcome.CRASHED, reason))

    # -------------------------------------------------------------------------------------------- output

    def read_output(self) -> bool:
        """Take what stdout and stderr of the sandbox hold; whether there may be more."""
        sandbox = self._sandbox
        if sandbox is None:
            return False
        try:
            data = os.read(sandbox.output, OUTPUT_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(sandbox.output)
            return False
        self._conversation.native_output(data)
        self._last_output += data
        del self._last_output[:-LAST_OUTPUT_BYTES]
        return True

    def _output_text(self) -> str:
        return decode(self._last_output).strip()
