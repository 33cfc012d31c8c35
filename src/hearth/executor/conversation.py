"""The conversation with the shim of one instance: requests go out, frames come back, answers are put together.

What comes back is written by user code as far as we know: whatever is not the protocol ends the instance.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from hearth.executor.actions import Member
from hearth.executor.calls import TIMED_OUT, Call, Ended, Ticket, let_go
from hearth.executor.limits import ExecutorLimits
from hearth.executor.live import LiveLogs
from hearth.executor.outgoing import Outgoing
from hearth.executor.protocol import (
    BODY_PIECE_BYTES,
    AckFrame,
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
from hearth.executor.response_headers import ResponseHeaders
from hearth.executor.sandbox.spec import Meter, SandboxExit
from hearth.executor.shares import Shares
from hearth.model.headers import RunHeaders
from hearth.model.running import InstanceTemplate, Outcome, Result

BLOCKED = Ended(
    Outcome.CRASHED, "The instance was ended because another execution in it did not give way after its timeout."
)


class Listener(Protocol):
    """Whoever holds a conversation (an instance). Called from the event loop."""

    def on_released(self, healthy: bool) -> None:
        """A request has ended; with `healthy=False` the instance is to serve no other one."""

    def on_broken(self, why: str, ended: Ended | None) -> None:
        """The instance has to end now; `ended` is what executions in it are told, None = by its exit."""

    def on_disconnected(self) -> None:
        """The shim has closed its end: its process is ending, or has let go of the channel."""

    def read_output(self) -> bool:
        """Hand over (`native_output`) what stdout and stderr hold; whether there may be more."""


class Conversation(asyncio.Protocol):
    """Speaks to one shim. Given to the event loop as the protocol of the channel."""

    def __init__(
        self,
        member: Member,
        limits: ExecutorLimits,
        monotonic: Callable[[], float],
        live: LiveLogs,
        listener: Listener,
    ) -> None:
        self.calls: dict[int, Call] = {}
        """Requests that run, by id."""
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done once the language server has reported."""
        self.loaded: asyncio.Future[int | str] = loop.create_future()
        """How many requests at once are welcome, or why the code could not be loaded."""
        self.disconnected: asyncio.Future[None] = loop.create_future()
        """Done once nothing more will be read."""
        self._loop = loop
        self._member = member
        self._limits = limits
        self._monotonic = monotonic
        self._live = live
        self._listener = listener
        self._reader = FrameReader(self._on_frame)
        self._headers = ResponseHeaders()
        self._shares = Shares()
        self._meter: Meter | None = None
        self._out = Outgoing(loop)
        self._abandoned: set[int] = set()
        """Requests nobody waits for: what the shim still says about them is no fault."""
        self._stopping: dict[int, asyncio.TimerHandle] = {}
        """Streamed responses nobody reads any more, until the shim has stopped them; the timer is its patience."""
        self._last_id = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    @property
    def was_connected(self) -> bool:
        """Whether the channel has been handed to the event loop, which closes it then."""
        return self._out.transport is not None

    def assign(self, template: InstanceTemplate, code: str, meter: Meter | None = None) -> None:
        """Give the shim its deployment, whose code it finds at `code`; the only frame with secrets, sent once.

        `meter` tells from then on what is used.
        """
        self._meter = meter
        frame = AssignFrame(
            template.environment,
            template.entrypoint,
            code,
            self._limits.concurrency,
            self._limits.stream_window_bytes,
        )
        self._out.send_now(encode(frame))

    def take_over(self, transport: asyncio.Transport) -> None:
        """Speak over the channel of a stem cell, whose shim has reported already."""
        self._out.transport = transport
        transport.set_protocol(self)
        self.ready.set_result(None)

    def fail_loading(self, reason: str) -> None:
        """The code will not be loaded, because of what the shim did."""
        if not self.ready.done():
            self.ready.set_result(None)
        if not self.loaded.done():
            self.loaded.set_result(reason)

    def begin(self, ticket: Ticket) -> Call | None:
        """Run a request; its future gets the result. None (and nothing sent) when the shim cannot be reached."""
        out = self._out
        if not out.is_open:
            return None
        invocation = ticket.invocation
        now = self._monotonic()
        self._last_id = id = self._last_id + 1
        body = invocation.body
        is_long = len(body) > BODY_PIECE_BYTES
        headers = invocation.headers
        frame = RequestFrame(
            id,
            invocation.method,
            invocation.path,
            msgspec.Raw(headers.encoded()) if type(headers) is RunHeaders else headers,
            invocation.timeout_s,
            invocation.logging,
            is_long,
        )
        deadline = now + invocation.timeout_s
        if self._member.slots > 1:
            deadline += self._limits.blocked_grace_s
        calls = self.calls
        share_s = self._shares.begin(len(calls), now)
        call = Call(id, ticket, now, deadline, ticket.had_to_wait and self._member.served == 1, share_s)
        if self._live.hearers:
            self._live.attach(call, self._member.template.function_id)
        ticket.call_id = id
        calls[id] = call
        try:
            if is_long:
                out.send_long(frame, body)
            else:
                out.send(encode(frame, body))
        except ProtocolError:
            result = Result(Outcome.COMPLETED, 431, errors="The request's headers are too long.\n")
            self._loop.call_soon(self._finish, call, result, True)
        if self._timer is None or deadline < self._timer_due:
            self._arm_timer(deadline, now)
        return call

    def abandon(self, ticket: Ticket) -> None:
        """Nobody waits for this request any more. Alone, its instance ends at once; else after the others."""
        call = self.calls.pop(ticket.call_id, None)
        if call is not None:
            self._give_up(call, "canceled")

    def native_output(self, data: bytes) -> None:
        """Output of the process or its children belongs to the one execution that runs, if there is one."""
        if len(self.calls) == 1 and not self._stopping:
            next(iter(self.calls.values())).native(data)

    def end(self, ended: Ended, last_output: str, exit: SandboxExit) -> None:
        """Answer what still runs with why it ended, and let go of the channel. `exit` has what was used in all."""
        if self._timer is not None:
            self._timer.cancel()
        for patience in self._stopping.values():
            patience.cancel()
        now = self._monotonic()
        self._shares.close(len(self.calls), exit.cpu_s, exit.peak_memory_bytes)
        for call in self.calls.values():
            self._measure(call, now)
            _answer(call, call.failed(ended.outcome, ended.reason, now, last_output))
        self.calls.clear()
        self._out.abort()

    # -------------------------------------------------------------------------------------------- requests

    def _give_up(self, call: Call, why: str) -> None:
        """The shim need not go on with a request that has been taken out of `calls`."""
        if not self.calls:
            self._listener.on_broken(why, None)
            return
        self._abandoned.add(call.id)
        if self._out.is_open:
            self._out.send_now(encode(CancelFrame(call.id)))
        self._listener.on_released(False)

    def consumed(self, call: Call, size: int) -> None:
        """Whoever reads a streamed response has taken `size` bytes more. The shim is told now and then."""
        call.consumed += size
        if call.consumed * 4 < self._limits.stream_window_bytes or call.id not in self.calls or not self._out.is_open:
            return
        self._out.send_now(encode(AckFrame(call.id, call.consumed)))
        call.outstanding -= call.consumed
        call.consumed = 0

    def abort(self, call: Call, reason: str) -> None:
        """Nobody reads a streamed response any more: the shim is to stop it, or else its instance ends."""
        if call.id not in self.calls:
            return
        now = self._monotonic()
        self._measure(call, now)
        del self.calls[call.id]
        _answer(call, call.failed(Outcome.CANCELED, reason, now, status=call.status))
        if not self._out.is_open:
            self._listener.on_released(False)
            return
        self._out.send_now(encode(CancelFrame(call.id)))
        self._stopping[call.id] = self._loop.call_later(self._limits.cancel_grace_s, self._on_unstopped, call.id)

    def _on_stopped(self, id: int) -> None:
        """The shim has stopped a request: its place is free again."""
        self._stopping.pop(id).cancel()
        self._listener.on_released(True)

    def _on_unstopped(self, id: int) -> None:
        """A request that was to stop goes on: its instance ends, as soon as no other request is in it."""
        del self._stopping[id]
        self._abandoned.add(id)
        if self.calls:
            self._listener.on_released(False)
        else:
            self._listener.on_broken("did not stop", None)

    def _measure(self, call: Call, now: float) -> None:
        """Note what a request has used that ends now; it is still among `calls`."""
        call.cpu_s, call.peak_memory_bytes = self._shares.end(call.share_s, len(self.calls), call.started, now)

    def _finish(self, call: Call, result: Result, healthy: bool) -> None:
        if self.calls.pop(call.id, None) is None:
            return
        _answer(call, result)
        self._listener.on_released(healthy)

    def _arm_timer(self, deadline: float, now: float) -> None:
        """One timer for all requests: it fires at the earliest deadline it was armed for and looks around."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - now), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._monotonic()
        overdue = [call for call in self.calls.values() if call.deadline <= now]
        if overdue:
            self._listener.read_output()
            for call in overdue:
                self._measure(call, now)
                del self.calls[call.id]
                _answer(call, call.failed(Outcome.TIMED_OUT, TIMED_OUT, now))
            self._listener.on_broken("timed out", BLOCKED)
        elif self.calls:
            self._arm_timer(min(call.deadline for call in self.calls.values()), now)

    # -------------------------------------------------------------------------------------------- the channel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.disconnected.done():
            return
        try:
            self._reader.feed(data)
        except ProtocolError as problem:
            self.disconnected.set_result(None)
            self._out.abort()
            reason = f"The function's process wrote to its control channel what must not be there: {problem}."
            self._listener.on_broken("broke the protocol", Ended(Outcome.CRASHED, reason))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.disconnected.done():
            self.disconnected.set_result(None)
        self._listener.on_disconnected()

    def _on_frame(self, frame: FromShim, body: bytes) -> None:
        kind = type(frame)
        if kind is ResponseFrame:
            response = cast("ResponseFrame", frame)
            if response.more or response.stream or not self._on_whole_response(response, body):
                self._on_response(response, body)
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
                if piece.broken:
                    self._on_broken_stream(call, piece.timed_out)
                else:
                    self._on_body(call, body, piece.more)
            elif not piece.more and piece.id in self._stopping:
                self._on_stopped(piece.id)
        else:
            self._on_start_frame(frame)

    def _on_start_frame(self, frame: FromShim) -> None:
        is_loading = self.ready.done() and not self.loaded.done()
        if isinstance(frame, ReadyFrame) and not self.ready.done():
            self.ready.set_result(None)
        elif isinstance(frame, LoadedFrame) and is_loading:
            self._shares.open(self._meter, self._monotonic())
            self.loaded.set_result(max(1, min(frame.concurrency, self._limits.concurrency)))
        elif isinstance(frame, LoadFailedFrame) and is_loading:
            self.loaded.set_result(frame.error)
        else:
            raise ProtocolError(f"{type(frame).__name__} out of turn")

    def _on_whole_response(self, frame: ResponseFrame, body: bytes) -> bool:
        """`_on_response` for one frame that is the whole answer, as nearly all are; False where anything is special."""
        calls = self.calls
        call = calls.get(frame.id)
        if call is None or call.status or len(body) > self._limits.max_response_bytes or not 100 <= frame.status <= 999:
            return False
        call.status = frame.status
        call.headers = self._headers.read(frame.headers)
        call.timed_out = frame.timed_out
        call.body = [body]
        running = len(calls)
        if running == 1:
            self._listener.read_output()  # what its child processes wrote before they ended is there by now
        now = self._monotonic()
        call.cpu_s, call.peak_memory_bytes = self._shares.end(call.share_s, running, call.started, now)
        result = call.complete(now)
        del calls[frame.id]
        future = call.ticket.future
        let_go(future)
        if not future.done():
            future.set_result(result)
        self._listener.on_released(not frame.timed_out)
        return True

    def _on_response(self, frame: ResponseFrame, body: bytes) -> None:
        call = self._call(frame.id)
        if call is None:
            return
        if call.status:
            raise ProtocolError("a second response to one request")
        if not 100 <= frame.status <= 999:
            raise ProtocolError(f"a status code of {frame.status}")
        call.status = frame.status
        call.headers = self._headers.read(frame.headers)
        call.timed_out = frame.timed_out
        if frame.stream:
            call.is_streamed = True
            receiver = call.ticket.invocation.receiver
            if receiver is not None:
                call.head = call.checked_headers()
                call.receiver = receiver
                receiver.on_begin(call.status, call.head, _StreamControl(self, call))
                if call.id not in self.calls:
                    return  # the receiver did not want it
        self._on_body(call, body, frame.more)

    def _on_body(self, call: Call, body: bytes, more: bool) -> None:
        call.size += len(body)
        limits = self._limits
        limit = limits.max_response_bytes if call.receiver is None else limits.max_stream_bytes
        now = self._monotonic()
        if call.size > limit and (limit or call.receiver is None):
            what = "response body" if call.receiver is None else "streamed response body"
            reason = f"The {what} is larger than the limit of {limit} bytes."
            self._measure(call, now)
            del self.calls[call.id]
            _answer(call, call.failed(Outcome.COMPLETED, reason, now))
            self._give_up(call, "response too large")
            return
        if body:
            if call.is_streamed:
                call.outstanding += len(body)
                if call.outstanding > limits.stream_window_bytes:
                    raise ProtocolError("more of a streamed response than was asked for")
            if call.receiver is not None:
                call.receiver.on_body(body)
            else:
                call.body.append(body)
                if call.is_streamed:
                    self.consumed(call, len(body))
        if not more:
            if len(self.calls) == 1:
                self._listener.read_output()  # what its child processes wrote before they ended is there by now
            self._measure(call, now)
            self._finish(call, call.complete(now), not call.timed_out)

    def _on_broken_stream(self, call: Call, timed_out: bool) -> None:
        if not call.is_streamed:
            raise ProtocolError("a broken body that is no stream")
        call.timed_out = timed_out
        now = self._monotonic()
        self._measure(call, now)
        self._finish(call, call.complete(now, broken=True), not timed_out)

    def _call(self, id: int) -> Call | None:
        call = self.calls.get(id)
        if call is None and id not in self._abandoned and id not in self._stopping:
            raise ProtocolError("a reply to a request that is not running")
        return call


class _StreamControl:
    """What the receiver of one streamed response says back (`model.streaming.StreamControl`)."""

    __slots__ = ("_call", "_conversation")

    def __init__(self, conversation: Conversation, call: Call) -> None:
        self._conversation = conversation
        self._call = call

    def consumed(self, size: int) -> None:
        self._conversation.consumed(self._call, size)

    def abort(self, reason: str) -> None:
        self._conversation.abort(self._call, reason)


def _answer(call: Call, result: Result) -> None:
    future = call.ticket.future
    let_go(future)
    if not future.done():
        future.set_result(result)
