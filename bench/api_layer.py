"""What the API layer costs per request: CPU time of the warm path with control replaced by an immediate answer.

`python -m bench.api_layer` prints microseconds per request for the routes below, medians of several rounds.
"""

import json
import platform
import statistics
import time
from collections.abc import MutableMapping
from typing import Any

from tests.api.support import KEY, PROJECT, World

ROUNDS = 7
REQUESTS = 5_000
TARGET_US = 60.0  # one core, create execution with a project key

_HEADERS = [
    (b"host", b"127.0.0.1:8080"),
    (b"user-agent", b"AppwriteNodeJSSDK/27.1.0 (linux; x64) Node.js/v22"),
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"content-type", b"application/json"),
    (b"x-sdk-name", b"Node.js"),
    (b"x-sdk-platform", b"server"),
    (b"x-sdk-language", b"nodejs"),
    (b"x-sdk-version", b"27.1.0"),
    (b"x-appwrite-response-format", b"1.9.5"),
    (b"x-appwrite-project", PROJECT.id.encode()),
    (b"x-appwrite-key", KEY.encode()),
]
_BODY = json.dumps({"body": "{}", "path": "/hello?x=1", "headers": {"x-own": "1"}}).encode()


def _scope(method: str, path: str, body: bytes) -> MutableMapping[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "scheme": "http",
        "client": ("127.0.0.1", 5000),
        "headers": [*_HEADERS, (b"content-length", str(len(body)).encode())],
    }


async def _round(world: World, method: str, path: str, body: bytes) -> float:
    sent = 0

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal sent
        sent += message["type"] == "http.response.body"

    scope = _scope(method, path, body)
    started = time.process_time()
    for _ in range(REQUESTS):
        await world.app(scope, receive, send)
        world.executions.calls.clear()
        world.functions.calls.clear()
        world.identify.seen.clear()
    spent = time.process_time() - started
    assert sent == REQUESTS
    return spent / REQUESTS * 1e6


async def main() -> None:
    """Measure and print."""
    world = World()
    print(f"API layer, us CPU per request ({platform.machine()}, Python {platform.python_version()})")
    for name, method, path, body in (
        ("create execution", "POST", "/v1/functions/f1/executions", _BODY),
        ("get function", "GET", "/v1/functions/f1", b""),
        ("health version", "GET", "/v1/health/version", b""),
    ):
        rounds = [await _round(world, method, path, body) for _ in range(ROUNDS)]
        print(f"  {name:20} {statistics.median(rounds):6.1f}   (best {min(rounds):.1f})")
    print(f"  target for create execution: {TARGET_US:g}")


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())
