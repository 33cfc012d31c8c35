"""The answer of create execution as the hot lane writes it: `wire.created_execution` without a dictionary in between.

For keys, in the newest format only; every other answer is made by `wire`. A test holds the two against each other.
"""

from typing import Any

import msgspec

from hearth.control.invocations import ShownHeaders
from hearth.control.views import ExecutionView
from hearth.model.headers import Kept, KnownPairs
from hearth.model.resources import Execution, Header
from hearth.model.times import to_wire

_encode = msgspec.json.Encoder().encode
_NOTHING = msgspec.UNSET


class _Document(msgspec.Struct, gc=False):
    """An execution on the wire, its fields in the order of `wire.execution`."""

    id: str = msgspec.field(name="$id")
    created_at: str = msgspec.field(name="$createdAt")
    updated_at: str = msgspec.field(name="$updatedAt")
    permissions: tuple[str, ...] = msgspec.field(name="$permissions")
    function_id: str = msgspec.field(name="functionId")
    resource_id: str = msgspec.field(name="resourceId")
    resource_type: str = msgspec.field(name="resourceType")
    deployment_id: str = msgspec.field(name="deploymentId")
    trigger: str
    status: str
    method: str = msgspec.field(name="requestMethod")
    path: str = msgspec.field(name="requestPath")
    request_headers: msgspec.Raw = msgspec.field(name="requestHeaders")
    status_code: int = msgspec.field(name="responseStatusCode")
    body: str = msgspec.field(name="responseBody")
    response_headers: msgspec.Raw = msgspec.field(name="responseHeaders")
    logs: str
    errors: str
    duration_s: float = msgspec.field(name="duration")
    scheduled_at: str | None = msgspec.field(name="scheduledAt")
    queued_s: float | msgspec.UnsetType = msgspec.field(name="queueTime", default=_NOTHING)
    is_cold: bool | msgspec.UnsetType | None = msgspec.field(name="coldStart", default=_NOTHING)
    cpu_s: float | msgspec.UnsetType = msgspec.field(name="cpuTime", default=_NOTHING)
    peak_memory_bytes: int | msgspec.UnsetType = msgspec.field(name="peakMemory", default=_NOTHING)


def document(view: ExecutionView, text: str) -> bytes:
    """The document of a created execution as keys see it; `text` is the response's body."""
    it = view.execution
    queued_s: Any = it.queued_s
    is_cold: Any = it.is_cold
    cpu_s: Any
    peak_bytes: Any
    if queued_s is None:
        queued_s = is_cold = cpu_s = peak_bytes = _NOTHING
    else:
        cpu_s = _NOTHING if it.cpu_s is None else it.cpu_s
        peak_bytes = _NOTHING if it.peak_memory_bytes is None else it.peak_memory_bytes
    return _encode(
        _Document(
            it.id,
            to_wire(it.created_at),
            to_wire(it.updated_at),
            it.permissions,
            it.function_id,
            it.function_id,
            "functions",
            it.deployment_id,
            it.trigger,
            it.status,
            it.request_method,
            it.request_path,
            msgspec.Raw(_pairs(it.request_headers)),
            it.response_status_code,
            text,
            msgspec.Raw(_response_headers(view)),
            it.logs,
            it.errors,
            it.duration_s,
            None if it.scheduled_at is None else to_wire(it.scheduled_at),
            queued_s,
            is_cold,
            cpu_s,
            peak_bytes,
        )
    )


def figure_lines(it: Execution) -> bytes:
    """The header lines of `wire.figures`, as keys see them."""
    if it.queued_s is None:
        return b""
    start = "cold" if it.is_cold else "warm"
    lines = f"x-hearth-start: {start}\r\nx-hearth-queue-ms: {it.queued_s * 1e3:.3f}\r\n"
    if it.cpu_s is not None:
        lines += f"x-hearth-cpu-ms: {it.cpu_s * 1e3:.3f}\r\n"
    if it.peak_memory_bytes is not None:
        lines += f"x-hearth-peak-memory-bytes: {it.peak_memory_bytes}\r\n"
    return lines.encode()


def _response_headers(view: ExecutionView) -> bytes:
    shown = view.response_headers
    if type(shown) is not ShownHeaders:
        return _pairs(tuple(shown) or view.execution.response_headers)
    size = shown.body_bytes
    if type(shown.given) is not KnownPairs or size is None:
        return _pairs(shown.all())
    before, has_length = _known_before.of(shown.given)
    if has_length:
        return b'%b{"name":"x-appwrite-execution-id","value":"%b"}]' % (before, shown.execution_id.encode())
    return b'%b{"name":"content-length","value":"%d"},{"name":"x-appwrite-execution-id","value":"%b"}]' % (
        before,
        size,
        shown.execution_id.encode(),
    )


def _before(given: KnownPairs) -> tuple[bytes, bool]:
    """The beginning of the list of all headers of an answer, and whether the length of its body is among them."""
    shown = ShownHeaders("", given, None).all()[:-1]
    text = _pairs_of(shown)[:-1]
    return text + b"," if shown else text, any(name == "content-length" for name, _ in shown)


def _pairs(headers: tuple[Header, ...]) -> bytes:
    return _known_pairs.of(headers) if type(headers) is KnownPairs else _pairs_of(headers)


def _pairs_of(headers: tuple[Header, ...]) -> bytes:
    return _encode([{"name": name, "value": value} for name, value in headers])


_known_pairs: Kept[KnownPairs, bytes] = Kept(_pairs_of)
_known_before: Kept[KnownPairs, tuple[bytes, bool]] = Kept(_before)
