"""One synchronous run, from its start to its record: the hot path, made of callbacks."""

import math
from datetime import datetime
from typing import Protocol

import msgspec

from hearth.control.gates import Key
from hearth.control.invocations import RunRequest, ShownHeaders, fail, finish
from hearth.control.kept_bodies import RawBodies, raw_bodies
from hearth.control.run_figures import RunFigures
from hearth.control.run_spans import end_run
from hearth.control.streams import LEFT, ResponseStream
from hearth.control.views import SYNC_WAIT_S, ExecutionView
from hearth.model.function_settings import FunctionSettings
from hearth.model.prompt import Pending, PromptFuture, follow
from hearth.model.refusals import PlatformFault, Refusal
from hearth.model.resources import Execution
from hearth.model.running import Outcome, Result
from hearth.tracing import Span

_SYNC_TIMEOUT_REASON = f"Synchronous function execution timed out after {SYNC_WAIT_S:g} seconds.\nError Code: 408"
_INTERNAL_REASON = "The platform failed while it ran this execution. The server log has the details."


class Runs(Protocol):
    """What a run says to those who began it (`hearth.control.executions`). All is called from the event loop."""

    figures: RunFigures

    def now(self) -> datetime:
        """The time."""

    def record(self, execution: Execution) -> Pending[Execution]:
        """Store the end of a run."""

    def record_late(self, execution: Execution, fault: PlatformFault, bodies: RawBodies | None) -> None:
        """Store the end of a run when the database is back, which it was not for `record`."""

    def keep_bodies(self, bodies: RawBodies) -> None:
        """Keep the bodies of a run that is recorded."""

    def ended(self, run: "SyncRun") -> None:
        """A run has been recorded (or could not be)."""

    def emit(self, execution: Execution, action: str) -> None:
        """Say what happened to an execution."""


class Keeping(msgspec.Struct, frozen=True):
    """How the bodies of a run are kept."""

    settings: FunctionSettings
    request: RunRequest

    def bodies(self, final: Execution, result: Result | None, stream: ResponseStream | None) -> RawBodies:
        """What is to be kept, when it is over."""
        streamed = stream.copied() if stream is not None and stream.has_begun else None
        return raw_bodies(self.settings, final, final.updated_at, self.request, result, streamed)


class SyncRun:
    """One synchronous run from its start to its record. Callbacks, not a task: this is the hot path."""

    __slots__ = (
        "_control",
        "_failure",
        "_final",
        "_is_logging",
        "_result",
        "_running",
        "_runtime",
        "_stream",
        "answer",
        "due",
        "execution",
        "gate",
        "keeping",
        "span",
    )

    def __init__(
        self,
        control: Runs,
        execution: Execution,
        stream: ResponseStream | None,
        runtime: str,
        due: float,
        *,
        logging: bool,
    ) -> None:
        self._control = control
        self.due = due
        """Seconds of the event loop's clock: when it is given up; infinite from the moment its response streams."""
        self.execution = execution
        self.span: Span | None = None
        self.gate: Key | None = None
        """Where its end is to be counted."""
        self.keeping: Keeping | None = None
        """What its bodies are kept by; None for a function that has none kept."""
        self._is_logging = logging
        self._result: Result | None = None
        self._failure: Exception | None = None
        self._final: Execution | None = None
        self._running: Pending[Result] | None = None
        self.answer: PromptFuture[ExecutionView] = PromptFuture()
        """Done once the execution is recorded or its response begins to stream; the caller may cancel it and leave."""
        self._runtime = runtime
        self._stream = stream
        if stream is not None:
            stream.begun = self._on_stream

    def start(self, running: Pending[Result]) -> None:
        """Follow a run that has begun."""
        self._running = running
        follow(running, self._on_result)

    def give_up(self) -> None:
        """Its time is over."""
        if self._running is not None:
            self._running.cancel()

    def _on_stream(self) -> None:
        """The function streams its response: the caller gets it now, and the function's own timeout holds from here."""
        stream = self._stream
        assert stream is not None  # noqa: S101 - it called this
        self.due = math.inf
        if self.answer.done():
            stream.abort(LEFT)
            return
        shown = ShownHeaders(self.execution.id, stream.headers, None)
        self.answer.set_result(ExecutionView(self.execution, b"", shown, stream))

    def _on_result(self, running: Pending[Result]) -> None:
        now = self._control.now()
        if running.cancelled():
            self._failure = Refusal("function_synchronous_timeout")
            final = fail(self.execution, _SYNC_TIMEOUT_REASON, now, duration_s=SYNC_WAIT_S)
        elif (error := running.exception()) is None:
            self._result = result = running.result()
            self._final = final = finish(self.execution, result, logging=self._is_logging, now=now)
            self._control.figures.ran_once(final, self._runtime, result)
            follow(self._control.record(final), self._on_recorded)
            return
        else:
            # Whatever went wrong is ours; the record must end all the same.
            self._failure = error if isinstance(error, Exception) else PlatformFault(str(error))
            final = fail(self.execution, str(error) if isinstance(error, PlatformFault) else _INTERNAL_REASON, now)
        self._final = final
        self._control.figures.ended(final, self._runtime)
        follow(self._control.record(final), self._on_recorded)

    def _on_recorded(self, recording: Pending[Execution]) -> None:
        result = self._result
        if self._is_special or result is None or recording.exception() is not None:
            self._on_recorded_specially(recording)
            return
        if self._stream is not None:
            self._stream.let_go()
        control, execution, answer = self._control, recording.result(), self.answer
        control.ended(self)
        control.emit(execution, "create")
        if not answer.done():  # else whoever asked has left
            body = result.body
            shown = ShownHeaders(execution.id, result.headers, len(body))
            answer.set_result(ExecutionView(execution, body, shown))

    @property
    def _is_special(self) -> bool:
        """Whether there is more to do at the end than to answer."""
        stream = self._stream
        return self.keeping is not None or self.span is not None or (stream is not None and stream.has_begun)

    def _on_recorded_specially(self, recording: Pending[Execution]) -> None:
        unstored = recording.exception()
        bodies = None
        if self.keeping is not None and self._final is not None:
            bodies = self.keeping.bodies(self._final, self._result, self._stream)
        if isinstance(unstored, PlatformFault) and self._final is not None:
            self._control.record_late(self._final, unstored, bodies)
        elif unstored is None and bodies is not None:
            self._control.keep_bodies(bodies)
        self._control.ended(self)
        if self.span is not None and self._final is not None:
            end_run(self.span, self._final, self._result)
        error = unstored or self._failure
        if recording.exception() is None:
            self._control.emit(recording.result(), "create")
        if self._stream is not None and self._stream.has_begun:
            result = self._result
            is_broken = error is not None or result is None or result.broken or result.outcome is not Outcome.COMPLETED
            self._stream.end(None if recording.exception() else recording.result(), is_broken=is_broken)
        if self.answer.done():
            return  # whoever asked has left, or has his answer
        if error is not None:
            self.answer.set_exception(error)
        elif self._result is not None:
            body = self._result.body
            shown = ShownHeaders(self.execution.id, self._result.headers, len(body))
            self.answer.set_result(ExecutionView(recording.result(), body, shown))
