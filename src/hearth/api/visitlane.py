"""The hot lane of visits: a function's own domain is opened, without the detour through ASGI.

As with the hot lane of executions by key, only requests are taken in which there is nothing to refuse and nothing
special to do; what turns out to be special later (a streamed response, one without a body) is handed back to the
ordinary way with its answer.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hearth.api.call import Services
from hearth.api.client_address import client_behind
from hearth.api.gateway import METHODS, VISIT, Gateway, failed_visit, host_name, passed_headers, visit_view_answer
from hearth.api.heads import BODY_MAX_BYTES, Heads, parse
from hearth.api.messages import Answer
from hearth.control.views import ExecutionView
from hearth.model.headers import Kept, KnownHeaders
from hearth.model.prompt import PromptFuture
from hearth.model.resources import Header

#: Headers of requests that go the ordinary way: their body has no known length, or the client waits for a word.
_SPECIAL = frozenset({b"transfer-encoding", b"expect", b"upgrade"})
_METHODS = frozenset(name.encode() for name in METHODS - {"HEAD"})
_ACME = b"/.well-known/acme-challenge"
#: Answers whose body HTTP has rules of its own for (RFC 9110, 6.4.1).
_BODILESS = frozenset({204, 205, 304})


#: One object for equal headers of different addresses.
_known: Kept[tuple[Header, ...], KnownHeaders] = Kept(KnownHeaders)


@dataclass(frozen=True, slots=True)
class VisitHead:
    """What the head of a plain visit says. `length` is the body's, in bytes; `name` the host without port."""

    name: str
    method: str
    path: str
    headers: Mapping[str, str]
    forwarded: bytes | None
    length: int


def read_visit(head: bytes) -> VisitHead | None:
    """What the head of a request to some host says; None for one that goes the ordinary way."""
    seen = parse(head)
    if seen is None or seen.method not in _METHODS or not seen.url.startswith(b"/"):
        return None
    path, _, query = seen.url.partition(b"?")
    headers = dict(seen.headers)
    length = headers.get(b"content-length", b"0")
    if len(headers) != len(seen.headers) or not _SPECIAL.isdisjoint(headers) or b"#" in seen.url or _ACME in path:
        return None
    if not length.isdigit() or len(length) > 6 or int(length) > BODY_MAX_BYTES:
        return None
    return VisitHead(
        host_name(headers.get(b"host", b"").decode("latin-1")),
        seen.method.decode("ascii"),
        (path + b"?" + query if query else path).decode("latin-1"),
        _known.of(tuple(passed_headers(headers).items())),
        headers.get(b"x-forwarded-for"),
        int(length),
    )


class VisitLane:
    """Begins visits for the HTTP server. `open` is False once the server is stopping."""

    def __init__(self, services: Services, gateway: Gateway, answered: Counter[tuple[str, int]]) -> None:
        self.open = True
        self.heads = Heads(read_visit)
        self.mark = services.settings.functions_domain.lower().strip(".").encode()
        """Bytes that the head of every visit has, as nearly all clients write it; `b""` = nothing is taken."""
        self._services = services
        self._gateway = gateway
        self._answered = answered

    def begin(
        self,
        head: VisitHead,
        body: bytes,
        peer: str,
        done: Callable[[int, bytes], None],
        hand_over: Callable[[Answer], None],
    ) -> bool:
        """Begin a visit and later call `done` with status and the whole answer from its headers on, or `hand_over`.

        False, and nothing has happened, when this request has to go the ordinary way.
        """
        rule = self._gateway.rule_of_visit(head.name) if self.open else None
        if rule is None:
            return False
        running = self._services.control.executions.begin_visit(
            rule.project_id,
            rule.resource_id,
            method=head.method,
            path=head.path,
            headers=head.headers,
            body=body,
            client_ip=client_behind(peer, head.forwarded, self._services.settings.trusted_proxies),
        )
        if running is None:
            return False
        project_id = rule.project_id

        def answered(ended: "PromptFuture[ExecutionView]") -> None:
            error = ended.exception()
            if error is None:
                answer = visit_view_answer(ended.result())
            else:
                fault = error if isinstance(error, Exception) else RuntimeError(str(error))
                answer = failed_visit(fault, head.method, head.name, project_id)
            if answer.stream is not None or answer.status in _BODILESS:
                hand_over(answer)
                return
            self._answered[VISIT, answer.status] += 1
            lines = [b"%b: %b\r\n" % header for header in answer.headers]
            if answer.content_type:
                lines.append(b"content-type: %b\r\n" % answer.content_type)
            lines.append(b"content-length: %d\r\n\r\n" % len(answer.body))
            done(answer.status, b"".join((*lines, answer.body)))

        running.on_done(answered)
        return True
