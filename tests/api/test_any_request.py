"""Whatever is sent, the answer is a well-formed one and never a fault of ours."""

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hearth.control.views import Download
from hearth.ports import Page
from tests.api.support import KEY, World

SEGMENTS = st.sampled_from(
    [
        *(
            "v1",
            "functions",
            "f1",
            "deployments",
            "d1",
            "executions",
            "variables",
            "runtimes",
            "specifications",
            "health",
        ),
        *("version", "duplicate", "download", "build", "status", "", "..", "%2F", "%00", "%ff", "%", "ä", "x" * 50),
    ]
)
PATHS = st.lists(SEGMENTS, max_size=7).map(lambda parts: "/" + "/".join(parts))
LIKELY = st.sampled_from(
    [
        *("/v1/functions", "/v1/functions/f1", "/v1/functions/f1/executions", "/v1/functions/f1/variables"),
        *("/v1/functions/f1/deployments", "/v1/functions/f1/deployments/d1/download"),
    ]
)
NAMES = st.sampled_from(
    [
        *("functionId", "name", "runtime", "execute", "events", "schedule", "timeout", "enabled", "scopes", "headers"),
        *("body", "async", "path", "method", "scheduledAt", "queries", "total", "search", "key", "value", "secret"),
        *("variableId", "activate", "specification", "project", "providerBranches", "deploymentId"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
GOOD = {"functionId": "f1", "variableId": "v1", "name": "n", "runtime": "node-22", "key": "K", "value": "v"}
BODIES = st.one_of(
    st.dictionaries(NAMES, VALUES, max_size=5).map(lambda fields: json.dumps({**GOOD, **fields}).encode()),
    st.binary(max_size=40),
    st.just(b"{}"),
)
QUERIES = st.one_of(
    st.just(b""),
    st.binary(max_size=30),
    st.dictionaries(NAMES, st.text(max_size=8), max_size=3).map(
        lambda fields: "&".join(f"{name}[0]={value}" for name, value in fields.items()).encode()
    ),
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *(
                b"content-type",
                b"origin",
                b"host",
                b"accept",
                b"range",
                b"content-range",
                b"x-forwarded-for",
                b"cookie",
            ),
            *(b"x-appwrite-response-format", b"x-appwrite-session", b"x-fallback-cookies", b"x-appwrite-id"),
        ]
    ),
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"multipart/form-data; boundary=x", b"multipart/form-data", b"1.3.0", b"1.6", b"bytes=0-5"]),
    ),
    max_size=3,
)


async def three_bytes(start: int, length: int) -> AsyncIterator[bytes]:
    yield b"abc"[start : start + length]


@pytest.fixture(scope="module")
def answering() -> World:
    """A world in which every use case succeeds."""
    world = World()
    world.functions.results["set_deployment"] = world.functions.results["get"]
    world.deployments.results["download"] = Download(3, "d1-source.tar.gz", "application/gzip", three_bytes)
    for collection in (world.functions, world.variables, world.deployments, world.executions):
        collection.results["list"] = Page(0, ())
    return world


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]),
    path=PATHS | LIKELY,
    query=QUERIES,
    headers=HEADERS,
    body=BODIES,
)
def test_no_request_is_a_fault_of_ours(
    answering: World, method: str, path: str, query: bytes, headers: dict[bytes, bytes], body: bytes
) -> None:
    sent = {b"x-appwrite-project": b"p1", b"x-appwrite-key": KEY.encode(), **headers}
    scope: MutableMapping[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "scheme": "http",
        "client": ("127.0.0.1", 5),
        "headers": [*sent.items(), (b"content-length", str(len(body)).encode())],
    }
    messages: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    asyncio.run(answering.app(scope, receive, send))
    start, *rest = messages
    answered = dict(start["headers"])
    text = b"".join(message.get("body", b"") for message in rest)
    assert start["status"] < 500, text
    assert answered[b"content-type"]
    assert not any(b"\r" in value or b"\n" in value for value in answered.values())
    if method != "HEAD" and start["status"] != 204:
        assert int(answered[b"content-length"]) == len(text)
    if start["status"] >= 400 and method != "HEAD" and answered[b"content-type"].startswith(b"application/json"):
        assert set(json.loads(text)) == {"message", "code", "type", "version"}
