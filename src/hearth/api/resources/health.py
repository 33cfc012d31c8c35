"""Whether the server is there and well (contract: clients 5.1 for the version, which needs no credentials)."""

from time import perf_counter
from typing import Any

from hearth import CONTRACT_VERSION
from hearth.api.call import Call
from hearth.api.messages import TEXT_TYPE, Answer
from hearth.api.routes import Reply, Route


async def version(call: Call) -> Any:
    return {"version": CONTRACT_VERSION}


async def status(call: Call) -> Any:
    """Raises what the part that does not answer raised: 500, with the reason in the log."""
    started = perf_counter()
    await call.control.health.ping()
    return {"name": "http", "ping": round((perf_counter() - started) * 1000), "status": "pass"}


async def ping(call: Call) -> Answer:
    return Answer(200, b"Pong!", TEXT_TYPE)


ROUTES = (
    Route(
        name="health.version",
        method="GET",
        path="/v1/health/version",
        handler=version,
        summary="Version of the API this server speaks.",
        scopes=("public",),
        model="healthVersion",
    ),
    Route(
        name="health.get",
        method="GET",
        path="/v1/health",
        handler=status,
        summary="Whether the server and what it depends on answer. `ping` is in milliseconds.",
        scopes=("health.read",),
        model="healthStatus",
    ),
    Route(
        name="ping",
        method="GET",
        path="/v1/ping",
        handler=ping,
        summary="Answers `Pong!`: whether the endpoint and the project are right.",
        scopes=("public", "global"),
        replies=(Reply(200, ("text/plain",), "The text `Pong!`."),),
    ),
)
