"""Traces, where the operator asks for them by the standard `OTEL_*` variables; otherwise nothing is even imported.

A span says what took how long for one request, execution or build. Who is above it goes from hand to hand as a W3C
`traceparent`: in by the header of a request, through the queue with the stored request, out to the function.
"""

import os
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

TRACEPARENT = "traceparent"


class Span(Protocol):
    """Something that takes time. Times are seconds since 1970."""

    @property
    def traceparent(self) -> str:
        """This span as the parent of others."""

    def set(self, **attributes: str | int | float | bool) -> None:
        """Say more about it."""

    def step(self, name: str, start_s: float, end_s: float) -> None:
        """A part of it that is over."""

    def end(self, error: str = "") -> None:
        """It is over; with `error` it failed for that reason."""


class Tracer(Protocol):
    """Makes spans and sends them away."""

    def begin(
        self, name: str, parent: str, start_s: float | None, is_server: bool, attributes: Mapping[str, str]
    ) -> Span: ...
    def close(self) -> None: ...


_tracer: Tracer | None = None
_current: ContextVar[str] = ContextVar("traceparent", default="")


def start(environment: Mapping[str, str] = os.environ) -> bool:
    """Begin to trace if the environment asks for it; whether it does. Once, before anything is to be traced."""
    global _tracer
    if not is_asked_for(environment):
        return False
    try:
        from hearth.otel import OtelTracer
    except ImportError as error:
        log.warning(
            "OTEL_* asks for traces, but the extra is not installed: pip install 'hearth[otel]'", missing=str(error)
        )
        return False
    _tracer = OtelTracer()
    log.info("traces are sent by OTLP over HTTP")
    return True


def is_asked_for(environment: Mapping[str, str]) -> bool:
    """By the names of the OpenTelemetry specification."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "")
    named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return exporter == "otlp" or (exporter == "" and any(environment.get(name) for name in named))


def stop() -> None:
    """Send what is left, for some seconds at most, and trace no more."""
    global _tracer
    if _tracer is not None:
        _tracer.close()
        _tracer = None


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


def begin(
    name: str, parent: str = "", *, start_s: float | None = None, is_server: bool = False, **attributes: str
) -> Span | None:
    """Begin a span now, or at `start_s`; below this task's current one if no `parent` is named. None = no traces."""
    if _tracer is None:
        return None
    return _tracer.begin(name, parent or _current.get(), start_s, is_server, attributes)


def enter(span: Span) -> None:
    """From here on spans of this task are below this one."""
    _current.set(span.traceparent)


def current() -> str:
    """The `traceparent` for what this task asks others to do; `""` without traces."""
    return _current.get()


def leave() -> None:
    """From here on this task belongs to no span."""
    _current.set("")
