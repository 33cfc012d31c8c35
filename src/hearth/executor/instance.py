"""One instance: a sandbox, the conversation with the shim in it, and the requests that run there.

Which request comes here is decided by the pool; this file starts, speaks, measures time, and ends.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import structlog

from hearth.executor.calls import TIMED_OUT, Call, Ended, Ticket, reason_of
from hearth.executor.code_cache import CodeCache
from hearth.executor.limits import MIB, ExecutorLimits
from hearth.executor.logs import decode
from hearth.executor.pool import Member
from hearth.executor.protocol import (
    BODY_PIECE_BYTES,
    AssignFrame,
    BodyFrame,
    CancelFrame,
    FrameReader,
    FromShim,
    LoadedFrame,
    LoadFailedFrame,
    LogFrame,
    ProtocolError,
    ReadyFrame,
    RequestFrame,
    ResponseFrame,
    encode,
)
from hearth.executor.sandbox.spec import (
    Driver,
    Limits,
    Mount,
    Network,
    Profile,
    Sandbox,
    SandboxExit,
    SandboxFailed,
    SandboxSpec,
)
from hearth.model.refusals import PlatformFault, Unavailable
from hearth.model.running import InstanceTemplate, Outcome, Result
from hearth.ports import FileNotStored
from hearth.runtimes.locations import CODE_INSIDE, SERVER_INSIDE, SHIMS_FOLDER, SHIMS_INSIDE
from hearth.runtimes.packs import Pack, Packs

log = structlog.get_logger(__name__)

T = TypeVar("T")

OUTPUT_READ_BYTES = 64 * 1024
OUTPUT_READS_AT_END = 64
LAST_OUTPUT_BYTES = 8 * 1024
#: How long after the end of the process its channel may still deliver what was written before.
LAST_WORDS_S = 1.0
#: How long a process may live without its channel before it is ended.
SILENT_S = 0.5

STOPPED = Ended(Outcome.CRASHED, "The server was stopped while the function was running.")
BLOCKED = Ended(
    Outcome.CRASHED, "The instance was ended because another execution in it did not give way after its timeout."
)


class StartFailed(Exception):
    """An instance did not come up. `failure` is the code's fault (Ended) or ours (PlatformFault)."""

    def __init__(self, failure: Ended | PlatformFault) -> None:
        self.failure = failure
        super().__init__(str(failure))


class Owner(Protocol):
    """Whoever keeps the instances: hears what happens to one. Called from the event loop, never re-entrantly."""

    def on_started(self, instance: "Instance", slots: int) -> None: ...
    def on_released(self, instance: "Instance", healthy: bool) -> None: ...
    def on_broken(self, instance: "Instance", why: str) -> None: ...
    def on_ended(self, instance: "Instance", failure: object, crashed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every instance needs and none owns."""

    driver: Driver
    packs: Packs
    cache: CodeCache
    limits: ExecutorLimits
    monotonic: Callable[[], float]


class Instance(asyncio.Protocol):
    """A sandbox with a shim. `live` is its whole life; the other methods are called in between."""

    def __init__(self, member: Member, surroundings: Surroundings, owner: Owner) -> None:
        self.member = member
        self._around = surroundings
        self._owner = owner
        self._loop = loop = asyncio.get_running_loop()
        self._reader = FrameReader(self._on_frame)
        self._transport: asyncio.Transport | None = None
        self._sandbox: Sandbox | None = None
        self._starting: asyncio.Task[int] | None = None
        self._exit: asyncio.Task[SandboxExit] | None = None
        self._ready: asyncio.Future[None] = loop.create_future()
        self._loaded: asyncio.Future[int | str] = loop.create_future()
        self._stop_asked: asyncio.Future[None] = loop.create_future()
        self._disconnected: asyncio.Future[None] = loop.create_future()
        self._calls: dict[int, Call] = {}
        self._abandoned: set[int] = set()
        """Requests nobody waits for: what the shim still says about them is no fault."""
        self._last_id = 0
        self._ending: Ended | None = None
        """Why the executions in it end, where the exit of the process does not tell."""
        self._last_output = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def __repr__(self) -> str:
        return f"<Instance {self.member.id} {self.member.state}, {len(self._calls)} running>"

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
            crashed = not self._stop_asked.done()
            await self._end()
        if failure is not None:
            log.warning("instance_not_started", reason=str(failure), **self._ids())
        self._owner.on_ended(self, failure, crashed and failure is None)

    def stop(self, ended: Ended | None = None) -> None:
        """Ask for its end; `live` then ends it. `ended` is what executions still running in it are told."""
        if self._stop_asked.done():
            return
        self._ending = self._ending or ended
        self._stop_asked.set_result(None)
        if self._starting is not None and not self._starting.done():
            self._starting.cancel()

    async def _start(self, held: contextlib.AsyncExitStack) -> int:
        template = self.member.template
        around = self._around
        pack = around.packs.get(template.runtime)
        if pack is None:
            raise StartFailed(Unavailable(f"The runtime {template.runtime} is not installed on this machine."))
        try:
            code = await held.enter_async_context(around.cache.use(template.artifact))
            self._sandbox = sandbox = await around.driver.start(self._spec(pack, str(code)))
        except (SandboxFailed, FileNotStored, PlatformFault) as problem:
            log.error("instance_start_failed", error=str(problem), **self._ids())
            raise StartFailed(Unavailable(f"The instance could not be started: {problem}")) from problem
        self._exit = self._loop.create_task(sandbox.wait(), name=f"exit of {sandbox.id}")
        self._loop.add_reader(sandbox.output, self._read_output)
        await self._loop.create_unix_connection(lambda: self, sock=sandbox.channel)
        transport = cast("asyncio.Transport", self._transport)
        transport.write(
            encode(AssignFrame(template.environment, template.entrypoint, CODE_INSIDE, around.limits.concurrency))
        )
        limits = around.limits
        if not await self._first_of(self._ready, limits.start_timeout_s):
            how = await self._how_it_ended(f"did not report within {limits.start_timeout_s:g} seconds")
            raise StartFailed(Unavailable(f"The language server of {template.runtime} {how}"))
        if not await self._first_of(self._loaded, limits.load_timeout_s):
            raise StartFailed(await self._load_failure())
        answer = self._loaded.result()
        if isinstance(answer, str):
            raise StartFailed(Ended(Outcome.LOAD_FAILED, answer))
        self._read_output()
        return answer

    def _spec(self, pack: Pack, code: str) -> SandboxSpec:
        template = self.member.template
        return SandboxSpec(
            id=f"run-{secrets.token_hex(6)}-{self.member.id}",
            profile=Profile.RUN,
            argv=_command(pack, template),
            environment={"PATH": ":".join(pack.path), "HOME": "/tmp", "LANG": "C.UTF-8", **pack.environment},  # noqa: S108 - inside
            limits=Limits(memory_bytes=template.memory_mb * MIB, cpus=template.cpus),
            mounts=(
                *(Mount(source, target) for source, target in pack.mounts),
                Mount(str(SHIMS_FOLDER), SHIMS_INSIDE),
                Mount(code, CODE_INSIDE),
            ),
            network=Network.GATE,
            working_folder=SERVER_INSIDE,
        )

    async def _first_of(self, answer: "asyncio.Future[T]", timeout_s: float | None) -> bool:
        """Wait for `answer` or the end of the process; whether the answer is there (False after the timeout)."""
        exit = self._exit
        assert exit is not None  # noqa: S101 - there is a process
        waited: set[asyncio.Future[Any]] = {answer, exit}
        await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done() and exit.done():
            await self._last_words()
        return answer.done()

    async def _how_it_ended(self, otherwise: str) -> str:
        exit = cast("asyncio.Task[SandboxExit]", self._exit)
        if not exit.done():
            return f"{otherwise}."
        ended = exit.result()
        how = f"exited with code {ended.code}" if ended.signal is None else f"was ended by signal {ended.signal}"
        return f"{how} before it was ready. {self._output_text()}".strip()

    async def _load_failure(self) -> Ended:
        exit = cast("asyncio.Task[SandboxExit]", self._exit)
        output = self._output_text()
        if self._ending is not None:
            return self._ending
        if not exit.done():
            text = f"The code did not finish loading within {self._around.limits.load_timeout_s:g} seconds."
            return Ended(Outcome.LOAD_FAILED, f"{text}\n{output}".strip())
        ended = reason_of(exit.result(), self.member.template.memory_mb, output)
        outcome = ended.outcome if ended.outcome is Outcome.OUT_OF_MEMORY else Outcome.LOAD_FAILED
        return Ended(outcome, f"Failed to load the code. {ended.reason}\n{output}".strip())

    async def _end(self) -> None:
        """End the process and give back everything; executions still running are told why."""
        sandbox = self._sandbox
        exit = SandboxExit(code=-1, signal=None)
        if sandbox is not None:
            try:
                exit = await sandbox.kill()
            except Exception:
                log.exception("instance_not_killed", **self._ids())
            await self._last_words()
        if self._exit is not None:
            self._exit.cancel()
            await asyncio.gather(self._exit, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        output = self._output_text()
        ended = self._ending or reason_of(exit, self.member.template.memory_mb, output)
        if not self._stop_asked.done() and self._ready.done():
            log.info("instance_ended", reason=ended.reason, running=len(self._calls), **self._ids())
        now = self._around.monotonic()
        for call in self._calls.values():
            self._answer(call, call.failed(ended.outcome, ended.reason, now, output))
        self._calls.clear()
        if self._transport is not None:
            self._transport.abort()
        elif sandbox is not None and sandbox.channel is not None:
            sandbox.channel.close()
        if sandbox is not None:
            self._loop.remove_reader(sandbox.output)
            os.close(sandbox.output)
            self._sandbox = None

    async def _last_words(self) -> None:
        """Take in what was written before the process ended."""
        if self._transport is not None:
            await asyncio.wait({self._disconnected}, timeout=LAST_WORDS_S)
        for _ in range(OUTPUT_READS_AT_END):
            if not self._read_output():
                return

    def _ids(self) -> dict[str, object]:
        template = self.member.template
        return {
            "instance": self.member.id,
            "function": template.function_id,
            "deployment": template.key.deployment_id,
            "runtime": template.runtime,
        }

    # -------------------------------------------------------------------------------------------- requests

    def begin(self, ticket: Ticket) -> bool:
        """Run a request; its future gets the result. False (and nothing sent) when the shim cannot be reached."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        invocation = ticket.invocation
        now = self._around.monotonic()
        self._last_id = id = self._last_id + 1
        body = invocation.body
        is_long = len(body) > BODY_PIECE_BYTES
        frame = RequestFrame(
            id,
            invocation.method,
            invocation.path,
            invocation.headers,
            invocation.timeout_s,
            invocation.logging,
            is_long,
        )
        deadline = now + invocation.timeout_s
        if self.member.slots > 1:
            deadline += self._around.limits.blocked_grace_s
        call = Call(id, ticket, now, deadline, ticket.had_to_wait and self.member.served == 1)
        ticket.call_id = id
        if self._last_output:
            self._take_earlier_output(call)
        self._calls[id] = call
        try:
            if is_long:
                self._write_long(transport, frame, body)
            else:
                transport.write(encode(frame, body))
        except ProtocolError:
            result = Result(Outcome.COMPLETED, 431, errors="The request's headers are too long.\n")
            self._loop.call_soon(self._finish, call, result, True)
        if self._timer is None or deadline < self._timer_due:
            self._arm_timer(deadline, now)
        return True

    def abandon(self, ticket: Ticket) -> None:
        """Nobody waits for this request any more. Others in this instance may end; alone, it is ended at once."""
        call = self._calls.pop(ticket.call_id, None)
        if call is not None:
            self._give_up(call, "canceled")

    def _give_up(self, call: Call, why: str) -> None:
        if not self._calls:
            self._owner.on_broken(self, why)
            return
        self._abandoned.add(call.id)
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(encode(CancelFrame(call.id)))
        self._owner.on_released(self, False)

    def _write_long(self, transport: asyncio.Transport, frame: RequestFrame, body: bytes) -> None:
        view = memoryview(body)
        transport.write(encode(frame, view[:BODY_PIECE_BYTES]))
        for at in range(BODY_PIECE_BYTES, len(body), BODY_PIECE_BYTES):
            end = at + BODY_PIECE_BYTES
            transport.write(encode(BodyFrame(frame.id, end < len(body)), view[at:end]))

    def _finish(self, call: Call, result: Result, healthy: bool) -> None:
        if self._calls.pop(call.id, None) is None:
            return
        self._answer(call, result)
        self._owner.on_released(self, healthy)

    @staticmethod
    def _answer(call: Call, result: Result) -> None:
        future = call.ticket.future
        if not future.done():
            future.set_result(result)

    # -------------------------------------------------------------------------------------------- time

    def _arm_timer(self, deadline: float, now: float) -> None:
        """One timer for all requests: it fires at the earliest deadline it was armed for and looks around."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._around.monotonic()
        overdue = [call for call in self._calls.values() if call.deadline <= now]
        if overdue:
            self._read_output()
            self._ending = BLOCKED
            for call in overdue:
                del self._calls[call.id]
                self._answer(call, call.failed(Outcome.TIMED_OUT, TIMED_OUT, now))
            self._owner.on_broken(self, "timed out")
        elif self._calls:
            self._arm_timer(min(call.deadline for call in self._calls.values()), now)

    # -------------------------------------------------------------------------------------------- the channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._disconnected.done():
            return
        try:
            self._reader.feed(data)
        except ProtocolError as problem:
            log.warning("instance_broke_protocol", error=str(problem), **self._ids())
            self._ending = Ended(
                Outcome.CRASHED,
                f"The function's process wrote to its control channel what must not be there: {problem}.",
            )
            self._disconnected.set_result(None)  # nothing more is read
            cast("asyncio.Transport", self._transport).abort()
            self._owner.on_broken(self, "broke the protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._disconnected.done():
            self._disconnected.set_result(None)
        if not self._stop_asked.done():
            self._loop.call_later(SILENT_S, self._on_silence)

    def _on_silence(self) -> None:
        """The channel is gone and the process is not."""
        if self._exit is not None and not self._exit.done() and not self._stop_asked.done():
            self._ending = Ended(Outcome.CRASHED, "The function's process closed its control channel.")
            self._owner.on_broken(self, "closed its channel")

    def _on_frame(self, frame: FromShim, body: bytes) -> None:
        kind = type(frame)
        if kind is ResponseFrame:
            self._on_response(cast("ResponseFrame", frame), body)
        elif kind is LogFrame:
            logged = cast("LogFrame", frame)
            call = self._call(logged.id)
            if call is not None:
                call.log(logged.stream, body)
        elif kind is BodyFrame:
            piece = cast("BodyFrame", frame)
            call = self._call(piece.id)
            if call is not None:
                if not call.status:
                    raise ProtocolError("a body before its response")
                self._on_body(call, body, piece.more)
        else:
            self._on_start_frame(frame)

    def _on_start_frame(self, frame: FromShim) -> None:
        if isinstance(frame, ReadyFrame) and not self._ready.done():
            self._ready.set_result(None)
        elif isinstance(frame, LoadedFrame) and self._ready.done() and not self._loaded.done():
            self._loaded.set_result(max(1, min(frame.concurrency, self._around.limits.concurrency)))
        elif isinstance(frame, LoadFailedFrame) and self._ready.done() and not self._loaded.done():
            self._loaded.set_result(frame.error)
        else:
            raise ProtocolError(f"{type(frame).__name__} out of turn")

    def _on_response(self, frame: ResponseFrame, body: bytes) -> None:
        call = self._call(frame.id)
        if call is None:
            return
        if call.status:
            raise ProtocolError("a second response to one request")
        if not 100 <= frame.status <= 999:
            raise ProtocolError(f"a status code of {frame.status}")
        call.status = frame.status
        call.headers = frame.headers
        call.timed_out = frame.timed_out
        self._on_body(call, body, frame.more)

    def _on_body(self, call: Call, body: bytes, more: bool) -> None:
        call.size += len(body)
        limit = self._around.limits.max_response_bytes
        now = self._around.monotonic()
        if call.size > limit:
            reason = f"The response body is larger than the limit of {limit} bytes."
            del self._calls[call.id]
            self._answer(call, call.failed(Outcome.COMPLETED, reason, now))
            self._give_up(call, "response too large")
            return
        if body:
            call.body.append(body)
        if not more:
            if len(self._calls) == 1:
                self._read_output()  # what its child processes wrote before they ended is there by now
            self._finish(call, call.complete(now), not call.timed_out)

    def _call(self, id: int) -> Call | None:
        call = self._calls.get(id)
        if call is None and id not in self._abandoned:
            raise ProtocolError("a reply to a request that is not running")
        return call

    # -------------------------------------------------------------------------------------------- output

    def _read_output(self) -> bool:
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
        if len(self._calls) == 1:
            next(iter(self._calls.values())).native(data)
        self._last_output += data
        del self._last_output[:-LAST_OUTPUT_BYTES]
        return True

    def _take_earlier_output(self, call: Call) -> None:
        """What was output while loading belongs to the first execution; anything later to nobody."""
        if self.member.served == 1:
            call.native(bytes(self._last_output))
        if not self._calls:
            self._last_output.clear()

    def _output_text(self) -> str:
        return decode(self._last_output).strip()


def _command(pack: Pack, template: InstanceTemplate) -> list[str]:
    """The pack's command; Node is told how much memory it has, because it cannot see the sandbox's limit."""
    command = list(pack.shim)
    if pack.family == "node":
        command.insert(1, f"--max-old-space-size={max(64, template.memory_mb - 48)}")
    return command
