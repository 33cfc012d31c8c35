"""The description of this API by itself: the OpenAPI document, and the page to read it by. Both are public."""

from collections.abc import Callable, Iterable
from functools import cache

import msgspec

from hearth.api.call import Call
from hearth.api.messages import HTML_TYPE, Answer
from hearth.api.openapi import document, page
from hearth.api.openapi.page import PAGE_POLICY
from hearth.api.routes import Handler, Reply, Route


def _send(make: Callable[[], bytes], content_type: bytes, *headers: tuple[bytes, bytes]) -> Handler:
    async def send(call: Call) -> Answer:
        return Answer(200, make(), content_type, [(b"cache-control", b"no-cache"), *headers])

    return send


def routes(others: Iterable[Route]) -> tuple[Route, ...]:
    """The routes that describe `others` and themselves. Made at the first request, then kept."""

    @cache
    def described() -> dict[str, object]:
        return document((*others, *own))

    @cache
    def as_json() -> bytes:
        return msgspec.json.encode(described())

    @cache
    def as_page() -> bytes:
        return page(described()).encode()

    own = (
        Route(
            name="reference.openapi",
            method="GET",
            path="/v1/openapi.json",
            handler=_send(as_json, b"application/json; charset=UTF-8"),
            summary="This API as an OpenAPI 3.1 document.",
            scopes=("public",),
            replies=(Reply(200, ("application/json",), "The document."),),
        ),
        Route(
            name="reference.page",
            method="GET",
            path="/v1/docs",
            handler=_send(as_page, HTML_TYPE, (b"content-security-policy", PAGE_POLICY.encode())),
            summary="This API as a page to read.",
            scopes=("public",),
            replies=(Reply(200, ("text/html",), "The page."),),
        ),
    )
    return own
