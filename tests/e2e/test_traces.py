"""Traces of a real server, received by OTLP over HTTP and decoded with the library's own messages."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from hearth.tracing import is_asked_for
from tests.support.api import create_function, deploy, execute, ok
from tests.support.runtimes import runtime_of
from tests.support.server import running_server, wait_for

SOURCE = "def main(context):\n    return context.res.text(context.req.headers.get('traceparent', ''))\n"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Receiver:
    """Keeps every span it is sent, with the attributes of the resource."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.problems: list[str] = []

    def take(self, path: str, encoding: str, body: bytes) -> None:
        if path != "/v1/traces":
            self.problems.append(f"sent to {path}")
        request = ExportTraceServiceRequest.FromString(gzip.decompress(body) if encoding == "gzip" else body)
        for one in request.resource_spans:
            self.resources.append({it.key: it.value.string_value for it in one.resource.attributes})
            self.spans += [span for scope in one.scope_spans for span in scope.spans]

    def named(self, name: str, trace: str = "") -> list[Span]:
        return [span for span in list(self.spans) if span.name == name and trace in ("", span.trace_id.hex())]


@contextmanager
def receiving() -> Iterator[tuple[str, Receiver]]:
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.take(self.path, self.headers.get("content-encoding", ""), body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def attributes(span: Span) -> dict[str, Any]:
    return {it.key: getattr(it.value, str(it.value.WhichOneof("value"))) for it in span.attributes}


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_request_an_execution_and_a_build_are_one_tree_each() -> None:
    with receiving() as (address, received):
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        }
        with running_server(settings) as server, server.client() as client:
            create_function(client, "f", runtime_of("python"), entrypoint="main.py")
            deployment = deploy(client, "f", {"main.py": SOURCE})
            client.headers["traceparent"] = f"00-{TRACE}-{PARENT}-01"
            told = execute(client, "f")["responseBody"]
            queued = execute(client, "f", **{"async": True})["$id"]
            del client.headers["traceparent"]
            path = f"/functions/f/executions/{queued}"
            wait_for(lambda: ok(client.get(path))["status"] == "completed", 30, "the execution in the background")
        # The server has stopped, so everything was sent.
    assert received.problems == []
    assert received.resources[0]["service.name"] == "hearth"
    assert received.resources[0]["deployment.environment.name"] == "test"
    requests = received.named("POST request", TRACE)
    assert [span.parent_span_id.hex() for span in requests] == [PARENT, PARENT]
    assert {attributes(span)["http.response.status_code"] for span in requests} == {201, 202}
    runs = {attributes(span)["hearth.execution_id"]: span for span in received.named("execution", TRACE)}
    assert len(runs) == 2
    later = runs.pop(queued)
    (now,) = runs.values()
    assert told == f"00-{TRACE}-{now.span_id.hex()}-01", "the function goes on where we stopped"
    by_status = {attributes(span)["http.response.status_code"]: span.span_id for span in requests}
    assert (now.parent_span_id, later.parent_span_id) == (by_status[201], by_status[202])
    steps = {(span.name, span.parent_span_id) for span in received.spans}
    for step in ("wait for an instance", "invoke"):
        assert {(step, now.span_id), (step, later.span_id)} <= steps
    assert ("queue", later.span_id) in steps
    assert ("queue", now.span_id) not in steps
    [build] = received.named("build")[-1:]
    [whole] = [span for span in received.named("build") if attributes(span)]
    assert attributes(whole)["hearth.deployment_id"] == deployment["$id"]
    assert {name for name, parent in steps if parent == whole.span_id} == {"prepare the source", "build", "finish"}
    assert build.start_time_unix_nano <= build.end_time_unix_nano


@pytest.mark.slow
def test_without_otel_variables_nothing_of_it_is_imported() -> None:
    code = (
        "import sys, hearth.server; from hearth import tracing; assert not tracing.start({});"
        "print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_the_standard_variables_say_whether_to_trace(environment: dict[str, str], asked: bool) -> None:
    assert is_asked_for(environment) is asked
