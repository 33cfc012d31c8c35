"""One request in a Python instance, from its first frame to its response, and what it logs meanwhile.

Standard library only, Python >= 3.9. Imported while the folder of these modules is on the path (see `shim`).
"""

from __future__ import annotations

import _thread
import os
import time

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar
    from typing import Any

    from hearth.runtimes.shims.python import hearth_channel as channel
    from hearth.runtimes.shims.python import hearth_output as output
    from hearth.runtimes.shims.python import hearth_stream as stream
    from hearth.runtimes.shims.python.hearth_context import Request, Response, response_headers, to_bytes
else:
    import hearth_channel as channel
    import hearth_output as output
    import hearth_stream as stream
    from hearth_context import Request, Response, response_headers, to_bytes

RETURN_MISSING = "Return statement missing. return context.res.empty() if no response is expected."
RETURN_INVALID = "Return value invalid. Return the result of one of the context.res methods."
TIMED_OUT = "Execution timed out."
# The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so does
# a line after a pause; a flood is gathered into larger frames, which a thread sends where no further line does.
DIRECT_LINES = 32
PAUSE_S = 0.05
BATCH_BYTES = 16 * 1024
LOG_FRAME_BYTES = 512 * 1024

current: ContextVar[Execution | None] | None = None
"""Which execution this is, where several run at once; a plain handler starts without it, half a millisecond sooner."""
running: dict[int, Execution] = {}
_response = Response()


class Terms:
    """What holds for every request of this instance; set before the first one."""

    enforced_headers: dict[str, str]
    stream_window: int
    completed: Callable[[Any], Any]

    def __init__(self) -> None:
        self.enforced_headers = {}
        self.stream_window = 0
        self.completed = response_headers


terms = Terms()


class Execution:
    """One request from its first frame to its response."""

    __slots__ = ("_flushed_at", "_lines", "_pending", "_stream", "frame", "id", "is_open", "outflow", "parts", "task")

    def __init__(self, frame: channel.Header, body: bytes) -> None:
        self.frame = frame
        self.id: int = frame["id"]
        self.parts: list[bytes] = [body] if body else []
        self.is_open = True
        self.task: Any | None = None
        self._stream = ""
        self._pending = b""
        self._lines = 0
        self._flushed_at = 0.0
        self.outflow: stream.Outflow | None = None

    def write(self, stream: str, data: bytes) -> None:
        """Add `data` (whole lines, or any piece of native output) to one of the log streams."""
        with channel.lock:
            if not self.is_open or not self.frame["logging"]:
                return
            if self._pending and stream != self._stream:
                self.flush()
            self._stream = stream
            self._pending = self._pending + data if self._pending else data
            if len(self._pending) < BATCH_BYTES:
                if not data.endswith(b"\n"):
                    return
                self._lines += 1
                if self._lines > DIRECT_LINES and time.monotonic() - self._flushed_at < PAUSE_S:
                    _flush_soon()
                    return
            self.flush()

    def native(self, data: bytes) -> None:
        self.write("native", data)

    def error(self, text: str) -> None:
        self.write("error", f"{text}\n".encode("utf-8", "replace"))

    def take_pending(self) -> bytes:
        """Log frames not sent yet; forgets them."""
        data = self._pending
        if not data:
            return b""
        self._pending = b""
        header = {"type": "log", "id": self.id, "stream": self._stream}
        pieces = range(0, len(data), LOG_FRAME_BYTES)
        return b"".join([channel.frame(header, data[at : at + LOG_FRAME_BYTES]) for at in pieces])

    def flush(self) -> None:
        with channel.lock:
            pending = self.take_pending()
            if pending:
                channel.write(pending)
                if self._lines >= DIRECT_LINES:
                    self._flushed_at = time.monotonic()

    def context(self) -> Context:
        parts = self.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        return Context(self, Request(self.frame, body, terms.enforced_headers))

    def finish(self, result: Any) -> None:
        """Answer with what the handler returned."""
        if result is None:
            self.error(RETURN_MISSING)
            self.answer(500, {}, b"")
        elif not isinstance(result, dict):
            self.error(RETURN_INVALID)
            self.answer(500, {}, b"")
        else:
            try:
                status = valid_status(result.get("statusCode", 200))
                headers = terms.completed(result.get("headers"))
                body = to_bytes(result.get("body", b""))
            except Exception as problem:
                self.fail(problem)
            else:
                self.answer(status, headers, body)

    def begin_stream(self, result: Any, source: Any) -> tuple[stream.Outflow, Any, Any]:
        """Answer with the head; returns what carries the pieces, and where they come from (plain or async).

        Raises for a result that cannot be sent.
        """
        status, headers = 200, terms.completed(None)
        if isinstance(result, dict):
            status = valid_status(result.get("statusCode", 200))
            headers = terms.completed(result.get("headers"))
        plain, later = stream.iterate(source)
        outflow = stream.Outflow(self.id, terms.stream_window, self.flush)
        outflow.begin(status, headers)
        self.outflow = outflow
        return outflow, plain, later

    def end_stream(self, broken: bool = False, timed_out: bool = False) -> None:
        """The last frame of a streamed response."""
        with channel.lock:
            outflow, self.outflow = self.outflow, None
            if outflow is not None:
                outflow.end(broken, timed_out)
                outflow.stop()
                self.close()

    def fail(self, problem: BaseException) -> None:
        """Answer for a handler that raised."""
        self.error(output.describe(problem))
        if self.outflow is not None:
            self.end_stream(broken=True)
        else:
            self.answer(500, {}, b"")

    def time_out(self) -> None:
        self.error(TIMED_OUT)
        if self.outflow is not None:
            self.end_stream(broken=True, timed_out=True)
        else:
            self.answer(500, {}, b"", timed_out=True)

    def answer(self, status: int, headers: Any, body: bytes, timed_out: bool = False) -> None:
        with channel.lock:
            if not self.is_open:
                return
            self.close()
            header = {"type": "response", "id": self.id, "status": status, "headers": headers or terms.completed(None)}
            if timed_out:
                header["timed_out"] = True
            channel.send_response(header, body, self.take_pending())

    def close(self) -> None:
        self.is_open = False
        running.pop(self.id, None)


def valid_status(given: Any) -> int:
    """The status code of an answer. Raises ValueError for what is none."""
    status = int(given)
    if not 100 <= status <= 999:
        raise ValueError(f"Invalid status code: {status}")
    return status


def tell_apart() -> ContextVar[Execution | None]:
    """Several executions are going to run at once: what is to be set, in the context of each, to itself."""
    global current
    from contextvars import ContextVar

    current = ContextVar("execution", default=None)
    return current


_flusher: Any | None = None
"""Locked while no flush is asked for; None until one is: most instances never need the thread."""


def _flush_soon() -> None:
    """Let what is gathered leave within PAUSE_S, whatever the handler does meanwhile."""
    global _flusher
    if _flusher is None:
        _flusher = _thread.allocate_lock()
        _flusher.acquire()
        _thread.start_new_thread(_flush_late, (_flusher,))
    if _flusher.locked():
        _flusher.release()


def _flush_late(asked: Any) -> None:
    while True:
        asked.acquire()
        time.sleep(PAUSE_S)
        with channel.lock:
            waiting = list(running.values())
        for execution in waiting:
            execution.flush()


class Context:
    """The argument of a handler (contract: runtime-contract 2 to 4)."""

    __slots__ = ("_execution", "req", "res")

    def __init__(self, execution: Execution, req: Request) -> None:
        self._execution = execution
        self.req = req
        self.res = _response

    def log(self, *messages: Any) -> None:
        self._execution.write("log", f"{output.line(messages)}\n".encode("utf-8", "replace"))

    def error(self, *messages: Any) -> None:
        self._execution.write("error", f"{output.line(messages)}\n".encode("utf-8", "replace"))


def _discard(data: bytes) -> None:
    """Output of an execution that has ended: it must not get into the log of another one."""


def find_sink() -> output.Sink | None:
    """Where native output written now belongs; None = to no execution."""
    execution = None if current is None else current.get()
    if execution is None:
        if len(running) != 1:
            return None
        execution = next(iter(running.values()), None)  # a thread of its own has no context
    if execution is None:
        return None
    return execution.native if execution.is_open else _discard


def after_fork() -> None:
    """A forked child is not the instance: its output goes to the real stdout, and it cannot answer requests."""
    global _flusher
    _flusher = None
    running.clear()
    if current is not None:
        current.set(None)
    os.close(channel.CHANNEL)
