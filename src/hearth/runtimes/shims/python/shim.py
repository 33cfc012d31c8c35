"""The server inside a Python instance: takes frames from descriptor 3, calls the handler, answers.

A plain handler runs in the main thread, one request at a time, with no event loop in between; an `async def` one is
interleaved on an event loop, and a context variable keeps the prints of its executions apart.
Standard library only, Python >= 3.9. The helper modules carry a prefix so that user modules cannot meet them.
"""

from __future__ import annotations

import _thread
import contextvars
import os
import sys
import time
from types import ModuleType

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    Handler = Callable[["Context"], Any]

_FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
if _FOLDER not in sys.path:
    sys.path.insert(0, _FOLDER)

if TYPE_CHECKING:
    from hearth.runtimes.shims.python import hearth_channel as channel
    from hearth.runtimes.shims.python import hearth_output as output
    from hearth.runtimes.shims.python import hearth_stream as stream
    from hearth.runtimes.shims.python.hearth_context import Request, Response, response_headers, to_bytes
    from hearth.runtimes.shims.python.hearth_json import decode
else:
    import hearth_channel as channel
    import hearth_output as output
    import hearth_stream as stream
    from hearth_context import Request, Response, response_headers, to_bytes
    from hearth_json import decode

sys.path.remove(_FOLDER)

RETURN_MISSING = "Return statement missing. return context.res.empty() if no response is expected."
RETURN_INVALID = "Return value invalid. Return the result of one of the context.res methods."
SIGNATURE_INVALID = "Function signature invalid. Did you forget to export a 'main' function?"
TIMED_OUT = "Execution timed out."
LOAD_ERROR_MAX_CHARS = 100_000
CO_ASYNC = 0x80 | 0x200  # inspect.CO_COROUTINE, inspect.CO_ASYNC_GENERATOR
#: Needed for loading code, for telling what went wrong, and by what many functions and `async def` handlers import.
#: `asyncio` itself, with the `ssl` it brings, would be 3 MB of every instance; with these there it takes 7 ms.
WARM_MODULES = (
    *("importlib.util", "inspect", "site", "traceback", "json", "logging", "typing", "subprocess"),
    *("concurrent.futures", "socket", "selectors"),
)
# The first lines of an execution leave at once, so that a handler that then blocks or dies has been heard, and so does
# a line after a pause; a flood is gathered into larger frames, which a thread sends where no further line does.
DIRECT_LINES = 32
PAUSE_S = 0.05
BATCH_BYTES = 16 * 1024
LOG_FRAME_BYTES = 512 * 1024

_current: contextvars.ContextVar[Execution | None] = contextvars.ContextVar("execution", default=None)
_running: dict[int, Execution] = {}
_response = Response()
_stream_window = 0


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
        return Context(self, Request(self.frame, body, _enforced_headers))

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
                headers = _completed(result.get("headers"))
                body = to_bytes(result.get("body", b""))
            except Exception as problem:
                self.fail(problem)
            else:
                self.answer(status, headers, body)

    def begin_stream(self, result: Any, source: Any) -> tuple[stream.Outflow, Any, Any]:
        """Answer with the head; returns what carries the pieces, and where they come from (plain or async).

        Raises for a result that cannot be sent.
        """
        status, headers = 200, _completed(None)
        if isinstance(result, dict):
            status = valid_status(result.get("statusCode", 200))
            headers = _completed(result.get("headers"))
        plain, later = stream.iterate(source)
        outflow = stream.Outflow(self.id, _stream_window, self.flush)
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
            header = {"type": "response", "id": self.id, "status": status, "headers": headers or _completed(None)}
            if timed_out:
                header["timed_out"] = True
            channel.send_response(header, body, self.take_pending())

    def close(self) -> None:
        self.is_open = False
        _running.pop(self.id, None)


def valid_status(given: Any) -> int:
    """The status code of an answer. Raises ValueError for what is none."""
    status = int(given)
    if not 100 <= status <= 999:
        raise ValueError(f"Invalid status code: {status}")
    return status


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
            waiting = list(_running.values())
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


def _find_sink() -> output.Sink | None:
    """Where native output written now belongs; None = to no execution."""
    execution = _current.get()
    if execution is None:
        if len(_running) != 1:
            return None
        execution = next(iter(_running.values()), None)  # a thread of its own has no context
    if execution is None:
        return None
    return execution.native if execution.is_open else _discard


# ------------------------------------------------------------------------------------------------ loading

_enforced_headers: dict[str, str] = {}
_warmed: set[str] = set()
"""Modules imported before there was a deployment."""


class LoadFailed(Exception):
    """The code cannot be run; the message says why."""


def load(code: str, entrypoint: str) -> Handler:
    """Import the entrypoint and return its `main`. Raises LoadFailed."""
    file = os.path.join(code, entrypoint)
    if not os.path.isfile(file):
        raise LoadFailed(f"Failed to load entrypoint, file {entrypoint} does not exist.")
    if _warmed:
        _cool_down(code)
    _extend_path(code, os.path.dirname(file))
    # The code folder is the package `function`, so that `from .helper import x` works in an entrypoint.
    package = ModuleType("function")
    package.__path__ = [code]
    sys.modules["function"] = package
    try:
        module = _import(code, entrypoint)
    except SystemExit:
        raise
    except BaseException as problem:
        raise LoadFailed(f"{output.describe(problem)}\nFailed to load entrypoint {entrypoint}.") from problem
    handler = getattr(module, "main", None)
    if not callable(handler):
        raise LoadFailed(SIGNATURE_INVALID)
    typed: Handler = handler
    return typed


def _import(code: str, entrypoint: str) -> ModuleType:
    import importlib

    stem, extension = os.path.splitext(os.path.normpath(entrypoint))
    if extension == ".py" and "." not in stem:
        return importlib.import_module("function." + stem.replace("/", "."))
    import importlib.util

    spec = importlib.util.spec_from_file_location("function.entrypoint", os.path.join(code, entrypoint))
    if spec is None or spec.loader is None:
        raise ImportError(f"{entrypoint} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _extend_path(code: str, entry_folder: str) -> None:
    """Code folder first, then what the build installed into its virtual environment, the entry's folder last."""
    packages: list[str] = []
    library = os.path.join(code, "runtime-env", "lib")
    if os.path.isdir(library):
        for name in sorted(os.listdir(library)):
            folder = os.path.join(library, name, "site-packages")
            if name.startswith("python") and os.path.isdir(folder):
                packages.append(folder)
    sys.path[:0] = [code]
    if packages:
        import site

        for folder in packages:
            site.addsitedir(folder)  # honours .pth files
    if entry_folder not in sys.path:
        sys.path.append(entry_folder)


_load: Callable[[str, str], Handler] = load
_completed: Callable[[Any], Any] = response_headers


def assign(frame: channel.Header) -> Handler | None:
    """Take the one deployment of this instance; None if its code could not be loaded."""
    global _stream_window
    _stream_window = frame["window"]
    os.environ.update(frame["environment"])
    sys.argv = [os.path.join(frame["code"], frame["entrypoint"])]
    try:
        enforced = decode(os.environ.get("OPEN_RUNTIMES_HEADERS") or "{}")
        _enforced_headers.update({str(name).lower(): str(value) for name, value in enforced.items()})
        handler = _load(frame["code"], frame["entrypoint"])
    except LoadFailed as problem:
        text = str(problem)
    except Exception as problem:
        text = output.describe(problem)
    else:
        return handler
    channel.write(channel.frame({"type": "load_failed", "error": text[:LOAD_ERROR_MAX_CHARS]}))
    return None


# ------------------------------------------------------------------------------------------------ serving


def leave(problem: BaseException) -> None:
    """End this process the way `problem` (SystemExit or KeyboardInterrupt) asks for."""
    code = 1
    if isinstance(problem, SystemExit):
        given = problem.code
        code = 0 if given is None else given if isinstance(given, int) else 1
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code & 0xFF)


def exit_from_handler(execution: Execution, problem: BaseException) -> None:
    """User code asked to end the process: say so in its log, then do it."""
    execution.error(output.describe(problem))
    execution.flush()
    leave(problem)


def receive(frame: channel.Header, body: bytes) -> Execution | None:
    """Take one frame of a request; returns its execution once the request is complete."""
    kind = frame["type"]
    if kind == "request":
        execution = Execution(frame, body)
        _running[execution.id] = execution
        return None if frame["more"] else execution
    waiting = _running.get(frame["id"])
    if waiting is None:
        return None  # canceled meanwhile
    if kind == "body":
        waiting.parts.append(body)
        return None if frame["more"] else waiting
    if kind == "cancel":
        waiting.close()
        if waiting.outflow is not None:
            waiting.outflow.stop()
        if waiting.task is not None:
            waiting.task.cancel()
    elif kind == "ack" and waiting.outflow is not None:
        waiting.outflow.acknowledge(frame["size"])
    return None


def serve_plain(reader: channel.Reader, handler: Handler) -> None:
    """Run requests one after the other in this thread."""
    while True:
        received = reader.take()
        while received is None:
            reader.read()
            received = reader.take()
        execution = receive(*received)
        if execution is None:
            continue
        try:
            result = handler(execution.context())
            if result is not None and not isinstance(result, dict) and hasattr(result, "__await__"):
                result = _run_awaitable(result)
            source = None if result is None else stream.source_of(result)
            if source is not None and execution.is_open:
                _stream_plain(reader, execution, result, source)
                continue
        except Exception as problem:
            execution.fail(problem)
        except BaseException as problem:
            exit_from_handler(execution, problem)
        else:
            execution.finish(result)


def _stream_plain(reader: channel.Reader, execution: Execution, result: Any, source: Any) -> None:
    """Send what `source` gives; while there is no room, this thread reads what the host says."""
    outflow, plain, later = execution.begin_stream(result, source)

    def listen(wait: bool) -> None:
        if wait or stream.has_arrived():
            reader.read()
        received = reader.take()
        while received is not None:
            receive(*received)
            received = reader.take()

    if plain is not None:
        stream.run_plain(outflow, plain, listen)
    else:
        _run_awaitable(_relay(outflow, later, listen))
    execution.end_stream()


async def _relay(outflow: stream.Outflow, source: Any, listen: Callable[[bool], None]) -> None:
    """An async source of a plain handler, which has the event loop for itself: waiting for the host may block it."""
    try:
        async for value in source:
            for piece in stream.pieces(value):
                listen(False)
                while outflow.is_open and outflow.room < len(piece):
                    listen(True)
                if not outflow.is_open:
                    return
                outflow.send(piece)
    finally:
        if hasattr(source, "aclose"):
            await source.aclose()


def _run_awaitable(awaitable: Awaitable[Any]) -> Any:
    """A plain handler that returned an awaitable: run it to its end."""
    import asyncio

    async def wait() -> Any:
        return await awaitable

    return asyncio.run(wait())


def serve_async(reader: channel.Reader, handler: Handler) -> None:
    """Run requests interleaved on an event loop."""
    import asyncio

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def run(execution: Execution) -> None:
        _current.set(execution)
        timer = loop.call_later(execution.frame["timeout"], time_out, execution)
        try:
            result = handler(execution.context())
            if hasattr(result, "__await__"):
                result = await result
            source = None if result is None else stream.source_of(result)
            if source is None:
                execution.finish(result)
            elif execution.is_open:
                outflow, plain, later = execution.begin_stream(result, source)
                await stream.run_async(outflow, plain, later, loop.create_future)
                execution.end_stream()
        except asyncio.CancelledError as problem:
            if execution.is_open:
                execution.fail(problem)
            else:
                execution.end_stream()  # canceled by the host, which waits for the end of a streamed response
        except Exception as problem:
            execution.fail(problem)
        except BaseException as problem:
            exit_from_handler(execution, problem)
        finally:
            timer.cancel()

    def time_out(execution: Execution) -> None:
        execution.time_out()
        if execution.task is not None:
            execution.task.cancel()

    def on_readable() -> None:
        try:
            reader.read()
        except channel.HostGone:
            os._exit(0)
        received = reader.take()
        while received is not None:
            execution = receive(*received)
            if execution is not None:
                execution.task = loop.create_task(run(execution))
            received = reader.take()

    loop.add_reader(channel.CHANNEL, on_readable)
    loop.call_soon(on_buffered, reader, loop, run)
    loop.run_forever()


def on_buffered(reader: channel.Reader, loop: Any, run: Callable[[Execution], Any]) -> None:
    """Requests that arrived together with the assignment, before there was an event loop."""
    received = reader.take()
    while received is not None:
        execution = receive(*received)
        if execution is not None:
            execution.task = loop.create_task(run(execution))
        received = reader.take()


def is_async(handler: Handler) -> bool:
    """Whether calling it gives a coroutine or an async generator. `inspect` knows best, but takes 8 ms to import."""
    if "inspect" in sys.modules or "functools" in sys.modules:  # marks and partials cannot be there without
        import inspect

        for function in (handler, type(handler).__call__):
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                return True
        return False
    return _has_async_code(handler) or _has_async_code(type(handler).__call__)


def _has_async_code(function: Any) -> bool:
    function = getattr(function, "__func__", function)
    return bool(getattr(getattr(function, "__code__", None), "co_flags", 0) & CO_ASYNC)


def _warm_up() -> None:
    """Before there is a deployment: import now what loading and running its code would import then."""
    import importlib

    before = set(sys.modules)
    for name in WARM_MODULES:
        importlib.import_module(name)
    _warmed.update(set(sys.modules) - before)


def _cool_down(code: str) -> None:
    """Forget what was imported ahead if the code has a module of such a name, which has to come first."""
    own = {name.partition(".")[0] for name in os.listdir(code)}
    if own & _warmed:
        for name in _warmed:
            sys.modules.pop(name, None)


def _is_assigned() -> bool:
    """Whether the assignment has arrived already: this instance is wanted now and must not be kept waiting."""
    import select

    return bool(select.select([channel.CHANNEL], [], [], 0)[0])


def _after_fork() -> None:
    """A forked child is not the instance: its output goes to the real stdout, and it cannot answer requests."""
    global _flusher
    _flusher = None
    _running.clear()
    _current.set(None)
    os.close(channel.CHANNEL)


def main(loader: Callable[[str, str], Handler] = load, completed: Callable[[Any], Any] = response_headers) -> None:
    """Serve until the host has gone; `loader` and `completed` are for a handler and headers that are not the user's."""
    global _load, _completed
    _load, _completed = loader, completed
    os.set_inheritable(channel.CHANNEL, False)
    os.set_blocking(channel.CHANNEL, True)
    os.register_at_fork(after_in_child=_after_fork)
    output.capture_native(_find_sink)
    if not _is_assigned():
        _warm_up()
    version = ".".join([str(part) for part in sys.version_info[:3]])
    channel.write(channel.frame({"type": "ready", "pid": os.getpid(), "version": version}))
    reader = channel.Reader()
    try:
        received = reader.take()
        while received is None:
            reader.read()
            received = reader.take()
        try:
            handler = assign(received[0])
        except SystemExit as problem:
            os.write(2, f"{output.describe(problem)}\n".encode("utf-8", "replace"))
            leave(problem)
            return
        if handler is None:
            while True:  # the host ends this instance
                reader.read()
        runs_async = is_async(handler)
        concurrency = received[0].get("concurrency", 1) if runs_async else 1
        channel.write(channel.frame({"type": "loaded", "concurrency": concurrency}))
        if runs_async:
            serve_async(reader, handler)
        else:
            serve_plain(reader, handler)
    except channel.HostGone:
        os._exit(0)


if __name__ == "__main__":
    main()
