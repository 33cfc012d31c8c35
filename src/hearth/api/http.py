"""The HTTP/1.1 protocol: uvicorn's own, with a short way for the requests of the hot lane.

Where a request begins with what is read, and its head is one that the hot lane takes, the parser is not asked: the head
is known again by its bytes (`heads`). Parsing, keep-alive, timeouts, pipelining and everything that is not hot stay
uvicorn's. A hot request waits in place of uvicorn's request cycle, so that one pipelined behind it keeps its turn.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from hearth.api.app import ABORT
from hearth.api.gateway import ANSWER
from hearth.api.heads import END, HEAD_MAX_BYTES, START, Head
from hearth.api.hotlane import HotLane
from hearth.api.messages import BODY_IDLE_S, Answer
from hearth.api.visitlane import VisitHead, VisitLane

_Done = Callable[[int, bytes], None]


class _NoEvent:
    """Stands for the event of a cycle: nobody waits for it."""

    def set(self) -> None:
        """Nothing to wake."""


class _HotCycle:
    """What uvicorn's protocol looks at of the request that is being answered."""

    __slots__ = ("_finish", "disconnected", "keep_alive", "response_complete")

    message_event = _NoEvent()

    def __init__(self, finish: "Callable[[_HotCycle, int, bytes], None]") -> None:
        self._finish = finish
        self.disconnected = False
        self.keep_alive = True
        self.response_complete = False

    def done(self, status: int, rest: bytes) -> None:
        """The answer is there: its status, and all of it from its headers on."""
        self._finish(self, status, rest)


def hot_protocol(lane: HotLane, visits: VisitLane) -> type[HttpToolsProtocol]:
    """The protocol class to give to uvicorn (`http=`)."""

    class HotProtocol(HttpToolsProtocol):
        """One connection of a client."""

        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            self._is_between = True
            """The parser has the whole of every message it has begun."""
            self._held = b""
            """A hot request whose body has not come whole; the timer is its patience."""
            self._patience: asyncio.TimerHandle | None = None
            self._idle_timer: asyncio.TimerHandle | None = None
            self._idle_since = 0.0

        def data_received(self, data: bytes) -> None:
            if self._held:
                data = self._release() + data
            if not (self._is_between and self._take(data)):
                super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self._release()
            if self._idle_timer is not None:
                self._idle_timer.cancel()
                self._idle_timer = None
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._is_between = False
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            scope: Any = self.scope
            scope[ABORT] = self.transport.abort
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._is_between = True
            super().on_message_complete()

        def on_response_complete(self) -> None:
            self._idle_since = self.loop.time()
            super().on_response_complete()

        def _take(self, data: bytes) -> bool:
            """Begin the request that `data` begins with, if it is a hot one, or keep it until its body is whole."""
            is_visit = not data.startswith(START)
            if is_visit and (not visits.mark or visits.mark not in data[:HEAD_MAX_BYTES]):
                return False
            cycle = self.cycle
            if not (cycle is None or cycle.response_complete) or self.pipeline:  # type: ignore[redundant-expr]
                return False
            start = data.find(END) + len(END)
            if start < len(END) or self.scheme != "http" or self.transport.is_closing():
                return False
            head = visits.heads.read(data[:start]) if is_visit else lane.heads.read(data[:start])
            if head is None:
                return False
            end = start + head.length
            if end > len(data):
                self._unset_keepalive_if_required()
                self._held = data
                self._patience = self.loop.call_later(BODY_IDLE_S, self._on_impatience)
                return True
            if not self._begin(head, data[start:end]):
                return False
            if end < len(data):  # pipelined
                super().data_received(data[end:])
            return True

        def _begin(self, head: Head | VisitHead, body: bytes) -> bool:
            cycle = _HotCycle(self._finish)
            former, self.cycle = self.cycle, cycle  # type: ignore[assignment]
            peer = self.client[0] if self.client else ""
            if type(head) is Head:
                begun = lane.begin(head, body, peer, cycle.done)
            else:
                begun = self._visit(head, body, peer, cycle)
            if not begun:
                self.cycle = former
                return False
            if self.timeout_keep_alive_task is not None:
                self._unset_keepalive_if_required()
            return True

        def _visit(self, head: Any, body: bytes, peer: str, cycle: _HotCycle) -> bool:
            def hand_over(answer: Answer) -> None:
                self._hand_over(cycle, head.method, answer)

            return visits.begin(head, body, peer, cycle.done, hand_over)

        def _hand_over(self, cycle: _HotCycle, method: str, answer: Answer) -> None:
            """Let the ordinary way send an answer: it knows streams, and answers without a body."""
            scope: Any = {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.3"},
                "http_version": "1.1",
                "method": method,
                "scheme": self.scheme,
                "path": "/",
                "raw_path": b"/",
                "query_string": b"",
                "root_path": "",
                "headers": [],
                "client": self.client,
                "server": self.server,
                ANSWER: answer,
                ABORT: self.transport.abort,
            }
            ordinary = RequestResponseCycle(
                scope=scope,
                transport=self.transport,
                flow=self.flow,
                logger=self.logger,
                access_logger=self.access_logger,
                access_log=self.access_log,
                default_headers=self.server_state.default_headers,
                message_event=asyncio.Event(),
                expect_100_continue=False,
                keep_alive=cycle.keep_alive,
                on_response=self.on_response_complete,
            )
            ordinary.more_body = False
            if cycle.disconnected or self.transport.is_closing():
                ordinary.disconnected = True
                ordinary.message_event.set()
            self.cycle = ordinary
            self._start_asgi_task(ordinary, self.app)

        def _release(self) -> bytes:
            """What was kept of a request; nothing is from now on."""
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None
            held, self._held = self._held, b""
            return held

        def _on_impatience(self) -> None:
            """The ordinary way has the rules, and the words, for a body that does not come."""
            super().data_received(self._release())

        def _finish(self, cycle: _HotCycle, status: int, rest: bytes) -> None:
            cycle.response_complete = True
            transport = self.transport
            if cycle.disconnected or transport.is_closing():
                return
            common = lane.common_headers(self.server_state.default_headers)
            if cycle.keep_alive:
                transport.write(b"".join((STATUS_LINE[status], common, rest)))
            else:
                transport.write(b"".join((STATUS_LINE[status], common, b"connection: close\r\n", rest)))
                transport.close()
            if self.pipeline or not cycle.keep_alive:
                self.on_response_complete()
                return
            self.server_state.total_requests += 1
            self._idle_since = self.loop.time()
            if self._idle_timer is None:
                self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._on_idle)

        def _on_idle(self) -> None:
            """Close a connection on which nothing has come for uvicorn's time; one timer serves many requests."""
            self._idle_timer = None
            cycle = self.cycle
            if self._held or not self._is_between or not (cycle is None or cycle.response_complete):  # type: ignore[redundant-expr]
                return  # its end starts the clock anew
            left = self._idle_since + self.timeout_keep_alive - self.loop.time()
            if left > 0:
                self._idle_timer = self.loop.call_later(left, self._on_idle)
            elif not self.transport.is_closing():
                self.transport.close()

    return HotProtocol
