"""The listeners of the server: taken before root is given up, answered from the event loop to the end of a stop."""

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import Iterator

import structlog
import uvicorn

from hearth.api.http import hot_protocol
from hearth.api.metrics import listen_app
from hearth.app import Application
from hearth.identity import NotAllowed
from hearth.settings import Settings

#: New objects before a round over the young, and rounds before one over the next older (Python: 700, 10, 10).
COLLECTOR_THRESHOLDS = (10_000, 20, 20)

#: How long a connection may be idle. Longer than an instance is: what a function keeps open for its next execution
#: is not closed while it is frozen, when it would find that out only by a request that fails.
IDLE_CONNECTION_S = 75

#: Seconds the HTTP server waits for open connections after everything that runs has ended.
CONNECTION_GRACE_S = 5
#: Connections at once on the listener of the figures, the rest are answered 503.
METRICS_READERS = 16
#: Bytes of one message of a realtime client; the API's own limit is in characters.
REALTIME_FRAME_BYTES = 256 * 1024

log = structlog.get_logger(__name__)


def listen(settings: Settings) -> socket.socket:
    """Take the address of the API. Raises NotAllowed where it is taken or not ours."""
    return _listener(settings.host, settings.port, "--host or --port")


def listen_for_figures(settings: Settings) -> socket.socket | None:
    """Take the address of the figures, None where they have none of their own. Raises NotAllowed as `listen` does."""
    address = settings.metrics_address
    return None if address is None else _listener(*address, "--metrics-listen")


def _listener(host: str, port: int, flags: str) -> socket.socket:
    """A listening socket. Raises NotAllowed, naming the flags by which another one is chosen."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise NotAllowed([f"Cannot listen on {host} port {port}: {error.strerror}. Choose another {flags}."]) from error
    return listener


def reachable(host: str) -> str:
    """Where a client on this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound


def endpoint_of(listener: socket.socket) -> str:
    """The endpoint to give to a client on this machine."""
    host, port = listener.getsockname()[:2]
    shown = reachable(host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}/v1"


async def serve_until(
    app: Application, listener: socket.socket, figures: socket.socket | None, stop: asyncio.Event
) -> None:
    """Answer requests until `stop`, then refuse new ones, let running ones end, and close everything."""
    http = _Http(
        uvicorn.Config(
            app.asgi,
            http=hot_protocol(app.asgi.hot_lane, app.asgi.visit_lane),
            ws="websockets-sansio",
            ws_max_size=REALTIME_FRAME_BYTES,
            ws_per_message_deflate=False,  # a compressor for each connection costs more memory than all else of it
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",  # addresses of WebSockets, which it logs otherwise, can hold a JWT
            proxy_headers=False,  # whom to trust about the client's address is the API's own decision
            server_header=False,
            timeout_keep_alive=IDLE_CONNECTION_S,
            timeout_graceful_shutdown=CONNECTION_GRACE_S,
            backlog=2048,
        )
    )
    _calm_collector()
    serving = asyncio.create_task(http.serve([listener]))
    metrics, showing = _figures_server(app), None
    if figures is not None:
        showing = asyncio.create_task(metrics.serve([figures]))
    log.info("listening", endpoint=endpoint_of(listener), pid=os.getpid())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    log.info("stopping", grace_s=app.grace_s)
    app.refuse_new_work()
    await app.stop()
    http.should_exit = True
    await serving
    if showing is not None:
        metrics.should_exit = True
        await showing
    log.info("stopped")


def _figures_server(app: Application) -> "_Http":
    """Shows /metrics on a listener of its own, to the end of a stop."""
    return _Http(
        uvicorn.Config(
            listen_app(app.render_metrics),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            log_level="warning",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=1,
            limit_concurrency=METRICS_READERS,
        )
    )


def _calm_collector() -> None:
    """Take what the start made (code, tables, routes: it stays for ever) out of the garbage collector's rounds.

    A full round over it takes some 50 ms, in which nothing is answered. What requests make is free of cycles but for
    exceptions, so the rounds over the young may be rarer than Python's, which reckons with scripts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


class _Http(uvicorn.Server):
    """uvicorn without its own signal handlers: the order of a stop is ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
