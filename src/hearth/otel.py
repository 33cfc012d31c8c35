"""Spans by the OpenTelemetry SDK (the extra `hearth[otel]`), sent by OTLP over HTTP. Imported only where asked for."""

import os
from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from hearth import __version__, tracing
from hearth.tracing import TRACEPARENT

_NS = 1_000_000_000


class OtelTracer:
    """See `hearth.tracing.Tracer`. Endpoint, headers, sampler, batches and resource are what `OTEL_*` says."""

    def __init__(self) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME") or "hearth"
        resource = Resource.create({"service.name": name, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("hearth", __version__)
        self._read = TraceContextTextMapPropagator().extract

    def begin(
        self, name: str, parent: str, start_s: float | None, is_server: bool, attributes: Mapping[str, str]
    ) -> tracing.Span:
        """See `Tracer`."""
        above = self._read({TRACEPARENT: parent}, Context()) if parent else Context()
        start = None if start_s is None else int(start_s * _NS)
        kind = SpanKind.SERVER if is_server else SpanKind.INTERNAL
        made = self._tracer.start_span(name, above, kind, start_time=start)
        span = OtelSpan(self, made)
        span.set(**attributes)
        return span

    def step(self, above: Span, name: str, start_s: float, end_s: float) -> None:
        """A span below another one that is over."""
        made = self._tracer.start_span(name, set_span_in_context(above, Context()), start_time=int(start_s * _NS))
        made.end(int(max(start_s, end_s) * _NS))

    def close(self) -> None:
        """See `Tracer`."""
        self._provider.shutdown()


class OtelSpan:
    """See `hearth.tracing.Span`. Names of attributes have dots for underscores, those of ours begin with `hearth`."""

    def __init__(self, tracer: OtelTracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> str:
        """See `Span`."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def set(self, **attributes: str | int | float | bool) -> None:
        """See `Span`."""
        for name, value in attributes.items():
            if value != "":
                self._span.set_attribute(_STANDARD.get(name, f"hearth.{name}"), value)

    def step(self, name: str, start_s: float, end_s: float) -> None:
        """See `Span`."""
        self._tracer.step(self._span, name, start_s, end_s)

    def end(self, error: str = "") -> None:
        """See `Span`."""
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error[:500]))
        self._span.end()


#: What the semantic conventions of OpenTelemetry have names for.
_STANDARD = {"method": "http.request.method", "status": "http.response.status_code", "route": "http.route"}
