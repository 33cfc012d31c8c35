"""The hot lane: an execution asked for with a project's API key, without the detour through ASGI.

It takes only requests in which there is nothing to refuse and nothing special to do; about everything else it says
None before anything has happened, and the request goes the ordinary way (`pipeline`), which has every check, error
and odd case. Both ways end in the same use case and the same wire form; a test holds their answers against each other.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from hearth import log_context
from hearth.api import formats, wire
from hearth.api.call import Services
from hearth.api.created import document, figure_lines
from hearth.api.errors import REQUEST_ID_HEADER, answer_for
from hearth.api.formats import Version, shape
from hearth.api.gateway import Gateway
from hearth.api.grammar import check_headers
from hearth.api.heads import Head, Heads, read_plain
from hearth.api.messages import JSON_TYPE, Answer, RawHeader
from hearth.api.resources.executions import PATH_LIMITS, WRITE_SCOPES, not_text
from hearth.api.validators import Invalid, Text
from hearth.control.views import ExecutionView
from hearth.model.actor import Actor
from hearth.model.headers import TEXT_MAX_BYTES, Kept, KnownHeaders
from hearth.model.ids import unique_id
from hearth.model.prompt import PromptFuture
from hearth.model.refusals import Refusal

ROUTE = "executions.create"


class _Fields(msgspec.Struct):
    """The body of a plain execution; anything else does not decode."""

    body: str = ""
    is_async: bool = msgspec.field(default=False, name="async")
    path: str = "/"
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"] = "POST"
    headers: msgspec.Raw = msgspec.Raw(b"{}")
    scheduled_at: None = msgspec.field(default=None, name="scheduledAt")


_decode = msgspec.json.Decoder(_Fields).decode
_decode_headers = msgspec.json.Decoder(dict[str, str]).decode
_encode = msgspec.json.Encoder().encode
_path = Text(*PATH_LIMITS)


class HotLane:
    """Begins executions for the HTTP server. `open` is False once the server is stopping."""

    def __init__(self, services: Services, gateway: Gateway, answered: Counter[tuple[str, int]]) -> None:
        """`answered` counts routes and statuses."""
        self.open = True
        self._answered = answered
        self._services = services
        self._gateway = gateway
        self.heads = Heads(self._read_head)
        self._given = Kept(_checked_headers)
        self._heads: dict[Version | None, bytes] = {}
        self._common: tuple[Sequence[RawHeader] | None, bytes] = None, b""

    def begin(self, head: Head, body: bytes, peer: str, done: Callable[[int, bytes], None]) -> bool:
        """Begin an execution and later call `done` with status and the whole answer from its headers on.

        False, and nothing has happened, when this request has to go the ordinary way.
        """
        if not self.open or self._gateway.has_custom_hosts:
            return False
        project_id = head.project_id
        services = self._services
        actor = services.identify.recall(head.key, project_id)
        if actor is None or not actor.has_scope(WRITE_SCOPES):
            return False
        try:
            fields = _decode(body) if body else _Fields()
            _path.check(fields.path)
            headers = self._read_headers(fields.headers)
        except (msgspec.DecodeError, UnicodeError, RecursionError, Invalid):
            return False
        running = services.control.executions.begin(
            project_id,
            actor,
            head.function_id,
            body=fields.body.encode(),
            path=fields.path,
            method=fields.method,
            headers=headers,
            client_ip=peer,
            is_async=fields.is_async,
        )
        if running is None:
            return False

        def answered(ended: "PromptFuture[ExecutionView]") -> None:
            done(*self._answer(ended, actor, head.version, project_id, 202 if fields.is_async else 201))

        running.on_done(answered)
        return True

    def _read_headers(self, raw: msgspec.Raw) -> KnownHeaders:
        """The headers of a body in which everything is as it should be. Raises DecodeError or Invalid otherwise."""
        text = bytes(raw)
        return self._given.of(text) if len(text) <= TEXT_MAX_BYTES else _checked_headers(text)

    def _read_head(self, text: bytes) -> Head | None:
        """What a head says, if it is for the API and not for a function's own host."""
        head = read_plain(text)
        return None if head is None or self._gateway.is_function_host(head.host) else head

    def common_headers(self, headers: Sequence[RawHeader]) -> bytes:
        """uvicorn's own headers of every answer as they go out; it makes a new list once a second, for the date."""
        known, text = self._common
        if headers is not known:
            text = b"".join([b"%b: %b\r\n" % header for header in headers])
            self._common = headers, text
        return text

    def _answer(
        self,
        ended: PromptFuture[ExecutionView],
        actor: Actor,
        version: Version | None,
        project_id: str,
        success: int,
    ) -> tuple[int, bytes]:
        error = ended.exception()
        if error is None:
            view = ended.result()
            try:
                text = view.response_body.decode()
            except UnicodeDecodeError:
                error = not_text(view.execution.id)
            else:
                if version is None and actor.is_privileged:
                    body, lines = document(view, text), figure_lines(view.execution)
                else:
                    body = _encode(shape(version, "execution", wire.created_execution(view, actor, text)))
                    figures = wire.figures(view, actor).items()
                    lines = "".join([f"{name}: {value}\r\n" for name, value in figures]).encode("latin-1")
                self._answered[ROUTE, success] += 1
                # The id is also that of the request, which asked for nothing but its execution.
                return success, b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
                    self._head(version),
                    lines,
                    view.execution.id.encode(),
                    len(body),
                    body,
                )
        answer = _refused(error, project_id)
        head = b"".join([b"%b: %b\r\n" % header for header in answer.headers])
        length = b"content-length: %d\r\n\r\n" % len(answer.body)
        self._answered[ROUTE, answer.status] += 1
        return answer.status, b"".join((self._head(version), head, length, answer.body))

    def _head(self, version: Version | None) -> bytes:
        """The headers every answer to a client of this version has (contract: functions-api 2)."""
        head = self._heads.get(version)
        if head is None:
            lines = [b"server: Appwrite", b"x-content-type-options: nosniff", b"x-debug-fallback: false"]
            warning = formats.warning_for(version)
            if warning:
                lines.append(b"x-appwrite-warning: " + warning.encode())
            lines.append(b"content-type: " + JSON_TYPE)
            head = b"".join(line + b"\r\n" for line in lines)
            if len(self._heads) < 256:
                self._heads[version] = head
        return head


def _checked_headers(text: bytes) -> KnownHeaders:
    headers = KnownHeaders(_decode_headers(text))
    check_headers(headers)
    return headers


def _refused(error: BaseException | None, project_id: str) -> Answer:
    fault = error if isinstance(error, Exception) else Refusal("general_server_error")
    # Whatever has just been completed may have run for another request, whose ids are not to be told.
    answer = log_context.blank().run(answer_for, fault, method="POST", route=ROUTE, project_id=project_id)
    said = dict(answer.headers).get(REQUEST_ID_HEADER.encode()) or unique_id().encode()
    answer.headers.append((b"x-request-id", said))
    return answer
