"""The server inside a Python instance: takes frames from descriptor 3, calls the handler, answers.

A plain handler runs in the main thread, one request at a time, with no event loop in between; an `async def` one is
interleaved on an event loop, and a context variable keeps the prints of its executions apart.
Standard library only, Python >= 3.9. The helper modules carry a prefix so that user modules cannot meet them.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    Handler = Callable[[Any], Any]

_FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
if _FOLDER not in sys.path:
    sys.path.insert(0, _FOLDER)

if TYPE_CHECKING:
    from hearth.runtimes.shims.python import hearth_channel as channel
    from hearth.runtimes.shims.python import hearth_output as output
    from hearth.runtimes.shims.python import hearth_stream as stream
    from hearth.runtimes.shims.python.hearth_context import response_headers
    from hearth.runtimes.shims.python.hearth_execution import (
        Execution,
        after_fork,
        find_sink,
        running,
        tell_apart,
        terms,
    )
    from hearth.runtimes.shims.python.hearth_json import decode
    from hearth.runtimes.shims.python.hearth_loading import LoadFailed, load, warm_up
else:
    import hearth_channel as channel
    import hearth_output as output
    import hearth_stream as stream
    from hearth_context import response_headers
    from hearth_execution import Execution, after_fork, find_sink, running, tell_apart, terms
    from hearth_json import decode
    from hearth_loading import LoadFailed, load, warm_up

sys.path.remove(_FOLDER)

LOAD_ERROR_MAX_CHARS = 100_000
CO_ASYNC = 0x80 | 0x200  # inspect.CO_COROUTINE, inspect.CO_ASYNC_GENERATOR

_load: Callable[[str, str], Handler] = load


def assign(frame: channel.Header) -> Handler | None:
    """Take the one deployment of this instance; None if its code could not be loaded."""
    terms.stream_window = frame["window"]
    os.environ.update(frame["environment"])
    sys.argv = [os.path.join(frame["code"], frame["entrypoint"])]
    try:
        enforced = decode(os.environ.get("OPEN_RUNTIMES_HEADERS") or "{}")
        terms.enforced_headers.update({str(name).lower(): str(value) for name, value in enforced.items()})
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
        running[execution.id] = execution
        return None if frame["more"] else execution
    waiting = running.get(frame["id"])
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
    current = tell_apart()

    async def run(execution: Execution) -> None:
        current.set(execution)
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


def _is_assigned() -> bool:
    """Whether the assignment has arrived already: this instance is wanted now and must not be kept waiting."""
    import select

    return bool(select.select([channel.CHANNEL], [], [], 0)[0])


def main(loader: Callable[[str, str], Handler] = load, completed: Callable[[Any], Any] = response_headers) -> None:
    """Serve until the host has gone; `loader` and `completed` are for a handler and headers that are not the user's."""
    global _load
    _load, terms.completed = loader, completed
    os.set_inheritable(channel.CHANNEL, False)
    os.set_blocking(channel.CHANNEL, True)
    os.register_at_fork(after_in_child=after_fork)
    output.capture_native(find_sink)
    if not _is_assigned():
        warm_up()
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
