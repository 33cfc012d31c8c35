"""The HTTP/1.1 protocol: uvicorn's own, with a short way for the requests of the hot lane.

Parsing, keep-alive, timeouts, pipelining and everything that is not hot stay uvicorn's. A hot request waits in place of
uvicorn's request cycle, so that a request that was pipelined behind it keeps its turn.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from hearth.api.app import ABORT
from hearth.api.hotlane import BODY_MAX_BYTES, HotLane, function_of, is_plain


class _NoEvent:
    """Stands for the event of a cycle: nobody waits for it."""

    def set(self) -> None:
        """Nothing to wake."""


class _HotCycle:
    """What uvicorn's protocol looks at of the request that is being answered."""

    __slots__ = ("disconnected", "keep_alive", "message_event", "response_complete")

    def __init__(self) -> None:
        self.disconnected = False
        self.keep_alive = True
        self.message_event = _NoEvent()
        self.response_complete = False


def hot_protocol(lane: HotLane) -> type[HttpToolsProtocol]:
    """The protocol class to give to uvicorn (`http=`)."""

    class HotProtocol(HttpToolsProtocol):
        """One connection of a client."""

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self._function: str | None = None
            self._parts: list[bytes] = []

        def on_headers_complete(self) -> None:
            self._function = self._hot_function()
            if self._function is None:
                self._begin_cycle()
            else:
                self._parts = []

        def on_body(self, body: bytes) -> None:
            if self._function is None:
                super().on_body(body)
            else:
                self._parts.append(body)

        def on_message_complete(self) -> None:
            function, self._function = self._function, None
            if function is None:
                super().on_message_complete()
                return
            body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            cycle = _HotCycle()

            def done(status: int, rest: bytes) -> None:
                self._finish(cycle, status, rest)

            if lane.begin(function, dict(self.headers), body, self.client[0] if self.client else "", done):
                self.cycle = cycle  # type: ignore[assignment]
                return
            self._begin_cycle()
            if body:
                super().on_body(body)
            super().on_message_complete()

        def _begin_cycle(self) -> None:
            """The ordinary way of a request."""
            scope: Any = self.scope
            scope[ABORT] = self.transport.abort
            super().on_headers_complete()

        def _hot_function(self) -> str | None:
            """The function a hot request is for; None for every request that goes the ordinary way."""
            parser = self.parser
            if (
                parser.get_method() != b"POST"
                or self.expect_100_continue
                or self.scheme != "http"
                or not (self.cycle is None or self.cycle.response_complete)  # type: ignore[redundant-expr]
                or self.pipeline
            ):
                return None
            function = function_of(self.url)
            if function is None or not is_plain(self.headers):
                return None
            if parser.get_http_version() != "1.1" or not parser.should_keep_alive():
                return None
            length = next(value for name, value in self.headers if name == b"content-length")
            return function if length.isdigit() and int(length) <= BODY_MAX_BYTES else None

        def _finish(self, cycle: _HotCycle, status: int, rest: bytes) -> None:
            if cycle.disconnected or self.transport.is_closing():
                cycle.response_complete = True
                return
            parts = [STATUS_LINE[status]]
            for name, value in self.server_state.default_headers:
                parts += (name, b": ", value, b"\r\n")
            if not cycle.keep_alive:
                parts.append(b"connection: close\r\n")
            parts.append(rest)
            self.transport.write(b"".join(parts))
            cycle.response_complete = True
            if not cycle.keep_alive:
                self.transport.close()
            self.on_response_complete()

    return HotProtocol
