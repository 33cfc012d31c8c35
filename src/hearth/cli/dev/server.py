"""`hearth dev`: the HTTP server on loopback, what it prints, and the watch for changes.

A request is mapped to the handler, and its answer back, as a visit of the function's domain is (`api.gateway`).
"""

import asyncio
import contextlib
import errno
import itertools
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog
import uvicorn
from watchfiles import Change, DefaultFilter, awatch

from hearth.api.gateway import BODY_MAX_BYTES, METHODS, passed_headers, path_of, visit_answer
from hearth.api.messages import Answer, ClientGone, Receive, Request, Scope, Send
from hearth.cli.client import output
from hearth.cli.client.packing import rules_of
from hearth.cli.client.problems import NotSetUp, Problem
from hearth.cli.client.push import read_env_file
from hearth.cli.dev.building import build, cache_folder, inputs_digest
from hearth.cli.dev.compiling import compile_version, is_compiled
from hearth.cli.dev.program import Program
from hearth.cli.dev.session import Session
from hearth.control.invocations import RunRequest, run_headers
from hearth.control.streams import ResponseStream, StreamBroken
from hearth.model.ids import unique_id
from hearth.model.refusals import PlatformFault, Refusal
from hearth.model.running import Result
from hearth.model.streaming import LogLines, LogStream

HOST = "127.0.0.1"
_GIVE_UP_S = 3


def run(program: Program, port: int, env_file: Path | None) -> int:
    """Serve until SIGINT or SIGTERM. Raises Problem for a port that is taken, or a missing environment file."""
    cache = cache_folder(program, os.environ)
    variables = _variables(program, env_file)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with _listener(port) as listener:
        pack = program.pack
        output.say(f"{program.id}: {program.entrypoint} with {pack.id} ({pack.version}), from {program.folder}")
        output.say("It runs as a plain process with your rights: nothing isolates it here, unlike on a server.")
        asyncio.run(_serve(program, cache, listener, env_file, variables))
    return 0


async def _serve(
    program: Program, cache: Path, listener: socket.socket, env_file: Path | None, variables: Mapping[str, str]
) -> None:
    await _try_build(program, cache, variables)
    begun = time.monotonic()
    versions = itertools.count(1)

    def on_loaded(problem: str | None) -> None:
        if problem is None:
            output.say(f"loaded in {(time.monotonic() - begun) * 1000:.0f} ms")
        else:
            output.say(f"The code cannot be loaded; requests get 503 until it is changed.\n{problem.rstrip()}")

    session = Session(program, cache, on_loaded)
    session.follow_logs(_print_lines)

    async def renew(now: Mapping[str, str]) -> None:
        nonlocal begun
        folder = None
        if is_compiled(program):
            output.say("compiling ...")
            try:
                folder = await asyncio.to_thread(compile_version, program, cache, now, next(versions))
            except Problem as error:
                meanwhile = "The version before it goes on" if session.has_code else "Requests get 503"
                output.say(f"{error} {meanwhile} until a file is changed and it does.")
                return
        begun = time.monotonic()
        session.reload(now, folder)

    await renew(variables)
    config = uvicorn.Config(
        DevApp(session), log_level="critical", access_log=False, lifespan="off", ws="none", server_header=False,
        date_header=False, timeout_graceful_shutdown=_GIVE_UP_S,
    )  # fmt: skip
    server = _Server(config)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    output.say(f"http://{HOST}:{listener.getsockname()[1]}/ (Ctrl-C ends it)")
    stopped = asyncio.Event()

    async def watch() -> None:
        digest = inputs_digest(program)
        watched = [program.folder, *([env_file.parent] if env_file and env_file.parent != program.folder else [])]
        watch_filter = _Changes(program, _env_path(program, env_file))
        async for changes in awatch(*watched, watch_filter=watch_filter, stop_event=stopped, recursive=True):
            names = sorted({os.path.relpath(path, program.folder) for _, path in changes})
            output.say(f"changed: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
            try:
                now = _variables(program, env_file)
            except Problem as error:
                output.say(str(error))
                continue
            if inputs_digest(program) != digest:
                await _try_build(program, cache, now)
                digest = inputs_digest(program)
            await renew(now)

    watcher = asyncio.create_task(watch(), name="watch for changes")
    try:
        await server.serve(sockets=[listener])
    finally:
        stopped.set()
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        await session.close()


class _Server(uvicorn.Server):
    """Signals are ours: the library sends itself, in the end, the signal that it had caught."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        self.should_exit = True


class DevApp:
    """ASGI: every path is the function's."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            await self._run(request, send)
        except ClientGone:
            return

    async def _run(self, request: Request, send: Send) -> None:
        if request.method not in METHODS:
            await _send(request, _text(501, f"The method {request.method[:32]} is not known here."), send)
            return
        try:
            body = await request.body(BODY_MAX_BYTES)
        except Refusal as refusal:
            await _send(request, _text(413, str(refusal)), send)
            return
        id, path, begun = unique_id(), path_of(request), time.monotonic()
        client = request.scope.get("client")
        asked = RunRequest(
            method=request.method,
            path=path,
            headers=passed_headers(request.headers),
            body=body,
            client_ip=client[0] if client else HOST,
        )
        stream = ResponseStream()
        headers = run_headers(id, asked, "")
        future = self._session.submit(id, request.method, path, headers, body, stream)
        streaming = asyncio.get_running_loop().create_future()
        stream.begun = lambda: None if streaming.done() else streaming.set_result(None)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({future, streaming, gone}, return_when=asyncio.FIRST_COMPLETED)
            if stream.has_begun:
                await self._stream(request, stream, future, send)
            elif not future.done():
                output.say(f"{id} {request.method} {path}: the caller left, the request was ended")
                return
            else:
                await _send(request, _answer_of(future), send)
        finally:
            gone.cancel()
            if not future.done():
                future.cancel()
        _print_end(id, request.method, path, future, begun)

    async def _stream(
        self, request: Request, stream: ResponseStream, future: "asyncio.Future[Result]", send: Send
    ) -> None:
        future.add_done_callback(lambda ended: stream.end(None, is_broken=ended.cancelled() or ended.result().broken))
        try:
            await _send(request, visit_answer(stream.status_code, stream.headers, b"", stream), send)
        except StreamBroken:
            # The headers are out: only an end of the connection can say that the body is not whole.
            raise ClientGone from None
        finally:
            await stream.aclose()


def _answer_of(future: "asyncio.Future[Result]") -> Answer:
    try:
        result = future.result()
    except PlatformFault as fault:
        return _text(503, str(fault))
    return visit_answer(result.status_code, result.headers, result.body)


async def _send(request: Request, answer: Answer, send: Send) -> None:
    headers = list(answer.headers)
    if answer.content_type:
        headers.append((b"content-type", answer.content_type))
    if answer.stream is None and answer.status != 204:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if request.method != "HEAD" and answer.stream is not None:
        async for piece in answer.stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else answer.body})


def _text(status: int, message: str) -> Answer:
    return Answer(status, f"{message}\n".encode(), b"text/plain; charset=utf-8", is_visit=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _print_lines(told: LogLines) -> None:
    mark = "error" if told.stream is LogStream.ERRORS else "log"
    for line in told.lines:
        print(f"{told.execution_id} {mark:5} {output.plain(line)}", flush=True)


def _print_end(id: str, method: str, path: str, future: "asyncio.Future[Result]", begun: float) -> None:
    took = f"{(time.monotonic() - begun) * 1000:.0f} ms"
    if future.cancelled():
        how = "ended, its reader left"
    elif future.exception() is not None:
        how = f"503: {future.exception()}"
    else:
        result = future.result()
        how = str(result.status_code) + ("" if result.outcome == "completed" else f" {result.outcome}")
    print(f"{id} {method} {output.plain(path)} {how} {took}", flush=True)


async def _try_build(program: Program, cache: Path, variables: Mapping[str, str]) -> None:
    """The build step; where it fails, that is told, and the code runs with what there is."""
    try:
        await asyncio.to_thread(build, program, cache, variables)
    except Problem as error:
        output.say(f"{error} It is tried again with the next change of a file it depends on.")


def _env_path(program: Program, env_file: Path | None) -> Path:
    return env_file or program.folder / ".env"


def _variables(program: Program, env_file: Path | None) -> dict[str, str]:
    """What the environment file says. Raises NotSetUp if one that was named is missing."""
    path = _env_path(program, env_file)
    if path.is_file():
        return read_env_file(path)
    if env_file is not None:
        raise NotSetUp(f"There is no file {env_file}.")
    return {}


class _Changes(DefaultFilter):
    """Which changes count: those of files that would be deployed, and of the environment file."""

    def __init__(self, program: Program, env_path: Path) -> None:
        super().__init__()
        self._folder = program.folder
        self._env = str(env_path)
        self._rules = rules_of(program.folder, program.ignore)

    def __call__(self, change: Change, path: str) -> bool:
        if path == self._env:
            return True
        try:
            relative = Path(path).relative_to(self._folder)
        except ValueError:
            return False
        return super().__call__(change, path) and not self._rules.match_file(relative.as_posix())


@contextlib.contextmanager
def _listener(port: int) -> Iterator[socket.socket]:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise Problem(f"Port {port} is taken. Choose another one with --port, 0 for any free one.") from error
            raise Problem(f"Port {port} cannot be used: {error.strerror}") from error
        yield listener
    finally:
        listener.close()
