"""One request in an instance: what the shim has said about it so far, and the result made of that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from hearth.executor.actions import Member, Waiter
from hearth.executor.hints import LOOKED_THROUGH_BYTES, met_limit
from hearth.executor.logs import NATIVE_NOTICE, LogTail
from hearth.executor.response_headers import NO_HEADERS, CheckedHeaders
from hearth.executor.run_specs import run_limits
from hearth.executor.sandbox.spec import SandboxExit
from hearth.model.prompt import Pending, PromptFuture
from hearth.model.resources import Header
from hearth.model.running import InstanceTemplate, Invocation, Outcome, Result
from hearth.model.streaming import StreamReceiver

TIMED_OUT = "Execution timed out."


@dataclass(frozen=True, slots=True)
class Ended:
    """How an instance ended, as the executions in it are told. Also the failure of a start."""

    outcome: Outcome
    reason: str


class Ticket(Waiter, eq=False, kw_only=True):
    """A request on its way: waits in the pool, then runs as a Call. `future` gets the Result or an exception."""

    invocation: Invocation
    future: Pending[Result]
    submitted: float
    """Monotonic seconds."""
    member: Member | None = None
    call_id: int = 0


class PendingResult(PromptFuture[Result]):
    """The result of a request to come. Cancelled, it takes the request back, wherever that is."""

    __slots__ = ("ticket", "withdraw")

    ticket: Ticket | None
    """None once it is done: the two would hold each other until the collector comes, six objects for each run."""
    withdraw: Callable[[Ticket], None]

    def cancel(self) -> bool:
        """Nobody waits for it any more; False if it was done already."""
        was_open = super().cancel()
        ticket, self.ticket = self.ticket, None
        if was_open and ticket is not None:
            self.withdraw(ticket)
        return was_open


def let_go(future: Pending[Result]) -> None:
    """A request is over: its future, which is done or about to be, holds its ticket no longer."""
    if type(future) is PendingResult:
        future.ticket = None


class Followed(Protocol):
    """Whoever is told of a call's log as it grows (`live.CallLog`)."""

    def advance(self, call: "Call", *, is_over: bool = False) -> None: ...


class Call(msgspec.Struct, eq=False):
    """One request that an instance has accepted."""

    id: int
    ticket: Ticket
    started: float
    deadline: float
    is_cold: bool
    share_s: float
    """Where the account of its instance stood when it began (`shares.Shares`)."""
    logs: LogTail | None = None
    errors: LogTail | None = None
    has_native: bool = False
    status: int = 0
    headers: CheckedHeaders = NO_HEADERS
    body: list[bytes] = []
    size: int = 0
    timed_out: bool = False
    followed: Followed | None = None
    receiver: StreamReceiver | None = None
    """Who gets the body as it comes, once that has begun."""
    head: tuple[Header, ...] = ()
    """The headers that `receiver` was given."""
    is_streamed: bool = False
    outstanding: int = 0
    """Bytes of a streamed body that the shim has sent beyond what it was told is consumed."""
    consumed: int = 0
    """Bytes consumed that the shim has not been told of."""
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None

    def log(self, stream: str, text: bytes) -> None:
        """Take text of a log frame."""
        if stream == "error":
            if self.errors is None:
                self.errors = LogTail()
            self.errors.add_line(text)
        elif stream == "native":
            self.native(text)
            return
        else:
            if self.logs is None:
                self.logs = LogTail()
            self.logs.add_line(text)
        if self.followed is not None:
            self.followed.advance(self)

    def native(self, text: bytes) -> None:
        """Take output that did not come through context.log: announced once (contract: runtime-contract 4)."""
        if self.logs is None:
            self.logs = LogTail()
        if not self.has_native:
            self.has_native = True
            self.logs.add_line(NATIVE_NOTICE)
        self.logs.add(text)
        if self.followed is not None:
            self.followed.advance(self)

    def complete(self, now: float, *, broken: bool = False) -> Result:
        """The result of an answer that has arrived whole, or (`broken`) of a streamed one that the shim gave up."""
        invocation = self.ticket.invocation
        if broken:
            self.status, self.headers, self.body = 500, NO_HEADERS, []
        body = self.body
        headers = self.checked_headers() if self.receiver is None else self.head
        if self.status >= 500 and self.errors is not None:
            hint = met_limit(self.errors.tail(LOOKED_THROUGH_BYTES), run_limits(invocation.template))
            if hint:
                self.errors.add_line(f"{hint}\n".encode())
        if self.followed is not None:
            self.followed.advance(self, is_over=True)
        return Result(
            Outcome.TIMED_OUT if self.timed_out else Outcome.COMPLETED,
            self.status,
            headers,
            body[0] if len(body) == 1 else b"".join(body),
            self.logs.text("Logs") if self.logs is not None and invocation.logging else "",
            self.errors.text("Errors") if self.errors is not None and invocation.logging else "",
            now - self.started,
            self.started - self.ticket.submitted,
            self.is_cold,
            broken,
            self.cpu_s,
            self.peak_memory_bytes,
        )

    def failed(self, outcome: Outcome, reason: str, now: float, last_output: str = "", status: int = 500) -> Result:
        """The result of a run that never answered: what it logged so far, then `reason`, then what was output last."""
        if self.errors is None:
            self.errors = LogTail()
        errors = self.errors
        errors.add_line(f"{reason}\n".encode())
        if last_output:
            errors.add_line(last_output.encode())
        if self.followed is not None:
            self.followed.advance(self, is_over=True)
        is_logged = self.ticket.invocation.logging
        return Result(
            outcome,
            status,
            logs=self.logs.text("Logs") if self.logs is not None and is_logged else "",
            errors=errors.text("Errors") if is_logged else "",
            duration_s=now - self.started,
            queued_s=self.started - self.ticket.submitted,
            cold=self.is_cold,
            broken=self.is_streamed,
            cpu_s=self.cpu_s,
            peak_memory_bytes=self.peak_memory_bytes,
        )

    def checked_headers(self) -> tuple[Header, ...]:
        """The headers that may leave the executor; each dropped one is an error line."""
        headers = self.headers
        for line in headers.dropped:
            self.log("error", line)
        return headers.pairs


def failed_before_running(ended: Ended, ticket: Ticket, now: float) -> Result:
    """The result for a request whose instance could not load the code or died while loading it."""
    return Result(
        ended.outcome,
        503 if ended.outcome is Outcome.LOAD_FAILED else 500,
        errors=f"{ended.reason}\n" if ticket.invocation.logging else "",
        queued_s=now - ticket.submitted,
        cold=True,
    )


def reason_of(exit: SandboxExit, template: InstanceTemplate, last_output: str) -> Ended:
    """What to tell the executions of an instance that ended like this."""
    limits = run_limits(template)
    # V8 ends itself by a signal when its heap is full; there is no other sign of it than its last words.
    if exit.out_of_memory or (exit.signal is not None and "heap out of memory" in last_output):
        return Ended(Outcome.OUT_OF_MEMORY, f"The function used more memory than its limit of {template.memory_mb} MB.")
    if exit.code == -1:
        return Ended(Outcome.CRASHED, "The instance was lost while the function was running.")
    hint = met_limit(last_output.encode(), limits)
    if exit.pids_exhausted:
        hint = f"It had met its limit of {limits.pids} processes and threads."
    hint = hint and f" {hint}"
    if exit.signal is not None:
        return Ended(Outcome.CRASHED, f"The function's process was ended by {_signal_name(exit.signal)}.{hint}")
    return Ended(Outcome.CRASHED, f"The function's process exited with code {exit.code}.{hint}")


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
