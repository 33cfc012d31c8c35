"""The address `/metrics` of the API's own host: for who bears the installation's token, and nobody else.

What the figures are is in `hearth.metrics`. Where a listener of its own is set up, `listen_app` answers there without a
token: who reaches that address may read.
"""

import hmac
from collections.abc import Awaitable, Callable

import structlog

from hearth.api.errors import error_answer
from hearth.api.messages import Answer, Receive, Request, Scope, Send

log = structlog.get_logger(__name__)

METRICS_PATH = "/metrics"
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

#: Makes the page.
Render = Callable[[], Awaitable[bytes]]


class Scrapes:
    """Answers who asks for the figures."""

    def __init__(self, render: Render, token: str) -> None:
        self._render = render
        self._expected = f"Bearer {token}".encode()

    async def answer(self, request: Request) -> Answer:
        """The page, or 401."""
        if not hmac.compare_digest(request.headers.get(b"authorization", b""), self._expected):
            return error_answer(
                401,
                "general_unauthorized_scope",
                "Figures are shown to who sends `Authorization: Bearer` with the token that is in the file "
                "keys/metrics.token of the data folder.",
                {"www-authenticate": "Bearer"},
            )
        return await _page(self._render, request.method)


def listen_app(render: Render) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An ASGI application with the page at `/metrics`, for everybody who can connect to it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == METRICS_PATH:
            answer = await _page(render, scope["method"])
        else:
            answer = Answer(404, b"The figures are at /metrics.\n", b"text/plain; charset=utf-8")
        headers = [(b"content-type", answer.content_type), (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    return app


async def _page(render: Render, method: str) -> Answer:
    if method not in ("GET", "HEAD"):
        return Answer(405, b"Only GET.\n", b"text/plain; charset=utf-8", [(b"allow", b"GET, HEAD")])
    try:
        return Answer(200, await render(), CONTENT_TYPE, [(b"cache-control", b"no-store")])
    except Exception:
        log.exception("the figures could not be collected")
        return Answer(500, b"The figures could not be collected; the log says why.\n", b"text/plain; charset=utf-8")
