"""The ASGI application: one callable that uvicorn runs. What happens to a request is in `pipeline`."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import structlog

from hearth import log_context, tracing
from hearth.api import formats, origins
from hearth.api.budget import Budget
from hearth.api.call import Identify, Services
from hearth.api.errors import stopping_answer
from hearth.api.gateway import Gateway
from hearth.api.hotlane import HotLane
from hearth.api.limits import RateLimits
from hearth.api.messages import Answer, ClientGone, Receive, Request, Scope, Send, empty_answer
from hearth.api.metrics import METRICS_PATH, Scrapes
from hearth.api.pipeline import Pipeline
from hearth.api.realtime.conversation import Conversation
from hearth.api.realtime.hub import Hub
from hearth.api.routes import Facts
from hearth.api.settings import ApiSettings
from hearth.api.table import all_routes
from hearth.api.visitlane import VisitLane
from hearth.control.control import Control
from hearth.control.streams import StreamBroken
from hearth.ports import Clock

#: Seconds a request may run before its connection is watched for the client leaving; most are done by then.
WATCH_AFTER_S = 0.05
#: What is still read of a refused body, so that the client gets to the answer: bytes and seconds.
LINGER_BYTES = 64 * 1024 * 1024
LINGER_S = 5.0

REALTIME_PATH = "/v1/realtime"

#: Where the scope of a request has a callable that ends its connection at once.
ABORT = "hearth.abort"
#: Answers that have no body whatever a function streams (RFC 9110, 6.4.1).
_BODILESS = frozenset({204, 205, 304})

_SERVER = (b"server", b"Appwrite")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_FALLBACK = {False: (b"x-debug-fallback", b"false"), True: (b"x-debug-fallback", b"true")}
_HSTS = (b"strict-transport-security", b"max-age=10886400")
_CLOSE = (b"connection", b"close")
REQUEST_ID = b"x-request-id"

log = structlog.get_logger(__name__)


class Api:
    """The application. `refuse_new_work` is called once, when the server is told to stop."""

    def __init__(self, services: Services, facts: Facts, scrapes: Scrapes | None = None) -> None:
        self._services = services
        self._settings = services.settings
        self.hub = Hub(services.clock, services.control.projects.team_of)
        self._pipeline = Pipeline(all_routes(facts), services)
        self._origins = services.control.origin_book
        self._gateway = Gateway(services)
        self._scrapes = scrapes
        self.answered: Counter[tuple[str, int]] = Counter()
        """(route, status) -> how many requests were answered so; `""` where no route was meant."""
        self.hot_lane = HotLane(services, self._gateway, self.answered)
        self.visit_lane = VisitLane(services, self._gateway, self.answered)
        """Both are for the HTTP server below us."""
        self.hot_lane.open = not tracing.is_on()
        self._stopping = False

    def refuse_new_work(self) -> None:
        """From now on every new request is answered 503; running ones go on, what only listens is closed."""
        self._stopping = True
        self.hot_lane.open = self.visit_lane.open = False
        self.hub.stop()
        self._services.control.logs.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await _lifespan(receive, send)
        elif kind == "websocket":
            await self._websocket(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Realtime, the only thing that is spoken over WebSockets; anything else is refused before it is accepted."""
        if self._stopping or scope["path"].rstrip("/") != REALTIME_PATH:
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        await Conversation(self._services, self.hub, scope, receive, send).run()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request.id = log_context.begin_request(request.headers.get(REQUEST_ID, b""))
        watch = _Watch(request)
        answer: Answer | None = None
        span = _span_of(request) if tracing.is_on() else None
        try:
            answer = await self._answer(request)
            self.answered[request.route, answer.status] += 1
            log.debug("answered", method=request.method, route=request.route, status=answer.status)
            if answer.stream is None:
                watch.stop()
            await self._send(request, answer, send)
        except ClientGone:
            return
        except StreamBroken:
            watch.stop()
            await _break_off(request)
        except asyncio.CancelledError:
            if not watch.client_gone:
                raise
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
        finally:
            watch.stop()
            if span is not None:
                _end_span(span, request, answer)
            if answer is not None and answer.stream is not None:
                await _close(answer.stream)

    async def _answer(self, request: Request) -> Answer:
        if self._stopping:
            return stopping_answer()
        answer = await self._gateway.answer(request)
        if answer is not None:
            return answer
        if request.method == "OPTIONS":
            return empty_answer()
        if self._scrapes is not None and request.scope["path"] == METRICS_PATH:
            request.route = "metrics"
            return await self._scrapes.answer(request)
        return await self._pipeline.answer(request)

    async def _send(self, request: Request, answer: Answer, send: Send) -> None:
        length = len(answer.body) if answer.stream is None else answer.length
        headers = [] if answer.is_visit else self._standard_headers(request)
        headers += answer.headers
        if answer.content_type:
            headers.append((b"content-type", answer.content_type))
        if answer.status != 204 and length is not None:
            headers.append((b"content-length", b"%d" % length))
        # A body over its limit is not worth reading to its end; an honest one is dropped by the server below us.
        refused_body = answer.status >= 400 and not request.body_done and _has_large_body(request)
        if answer.close or refused_body:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        if request.method == "HEAD" or (length is None and answer.status in _BODILESS):
            await send({"type": "http.response.body", "body": b""})
        elif answer.stream is not None:
            await _send_stream(answer, send)
        elif refused_body:
            await send({"type": "http.response.body", "body": answer.body, "more_body": True})
            await request.drain(LINGER_BYTES, LINGER_S)
            await send({"type": "http.response.body", "body": b""})
        else:
            await send({"type": "http.response.body", "body": answer.body})

    def _standard_headers(self, request: Request) -> list[tuple[bytes, bytes]]:
        """Contract: functions-api 2."""
        sent = request.headers
        headers = [_SERVER, _NOSNIFF, _FALLBACK[b"x-fallback-cookies" in sent and _used_fallback(request)]]
        headers.append((REQUEST_ID, request.id.encode()))
        if b"origin" in sent:
            cors = origins.cors_headers(request, self._settings.allowed_origins)
            headers += cors or origins.cors_headers(request, self._origins.all)
        if request.scope.get("scheme") == "https":
            headers.append(_HSTS)
        warning = formats.warning_for(formats.parse_version(request.header(b"x-appwrite-response-format")))
        if warning:
            headers.append((b"x-appwrite-warning", warning.encode()))
        return headers


def _span_of(request: Request) -> tracing.Span | None:
    """The span of a request, below what its sender says; from here on the task is in it."""
    span = tracing.begin(
        f"{request.method} request",
        request.header(tracing.TRACEPARENT.encode()),
        is_server=True,
        method=request.method,
        request_id=request.id,
    )
    if span is not None:
        tracing.enter(span)
    return span


def _end_span(span: tracing.Span, request: Request, answer: Answer | None) -> None:
    span.set(route=request.route)
    if answer is not None:
        span.set(status=answer.status)
    span.end("" if answer is not None and answer.status < 500 else "the answer is an error" if answer else "no answer")


#: A refused request that announces more than this is closed after its answer instead of being read to its end.
_LARGE_BODY_BYTES = 1024 * 1024


def _has_large_body(request: Request) -> bool:
    announced = request.announced_bytes()
    return announced is None or announced > _LARGE_BODY_BYTES


def _used_fallback(request: Request) -> bool:
    """Whether neither a session header nor a session cookie came, so that the fallback header counts."""
    return not request.header(b"x-appwrite-session") and b"a_session_" not in request.headers.get(b"cookie", b"")


async def _send_stream(answer: Answer, send: Send) -> None:
    assert answer.stream is not None  # noqa: S101 - checked by the caller
    async for chunk in answer.stream:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _close(stream: AsyncIterator[bytes]) -> None:
    """Nobody reads on, whether or not the stream has come to its end."""
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()


async def _break_off(request: Request) -> None:
    """End the connection in the middle of the answer, which the client must not take for complete.

    Raises StreamBroken where the server below us offers no other way than that.
    """
    abort = request.scope.get(ABORT)
    if abort is None:
        raise StreamBroken
    abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _lifespan(receive: Receive, send: Send) -> None:
    """Start and stop belong to whoever composed the server, so there is nothing to do here but agree."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


class _Watch:
    """Cancels the request's task when the client leaves. Watching begins late, so that quick requests pay nothing.

    While the body is still to be read the reader itself learns of it, so watching waits until that is over.
    """

    def __init__(self, request: Request) -> None:
        self.client_gone = False
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(WATCH_AFTER_S, self._begin)
        self._task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Watch no longer. Fine to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _begin(self) -> None:
        if self._request.body_done or not self._request.expects_body:
            self._timer = None
            self._task = self._loop.create_task(self._wait())
        else:
            self._timer = self._loop.call_later(1.0, self._begin)

    async def _wait(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        if self._task is not None and self._owner is not None:
            self.client_gone = True
            self._owner.cancel()


def create_app(
    control: Control, identify: Identify, *, settings: ApiSettings, clock: Clock, scrapes: Scrapes | None = None
) -> Api:
    """The API over `control` as an ASGI callable. Raises ValueError when the table of routes contradicts itself."""
    services = Services(
        control=control,
        identify=identify,
        settings=settings,
        clock=clock,
        limits=RateLimits(clock),
        memory=Budget(
            settings.body_memory_max_bytes, "body_memory_max_bytes", "request bodies fill the memory set aside for them"
        ),
        uploads=Budget(settings.uploads_at_once, "uploads_at_once", "too many uploads are being received"),
    )
    facts = Facts(
        runtimes=tuple(str(item["$id"]) for item in control.runtimes.all()),
        specifications=control.specifications.slugs(),
        function_timeout_max_s=settings.function_timeout_max_s,
        execution_request_max_bytes=settings.execution_request_max_bytes,
    )
    return Api(services, facts, scrapes)


__all__ = ["Api", "ApiSettings", "create_app"]
