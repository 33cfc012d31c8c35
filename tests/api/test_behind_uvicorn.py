"""The application behind the server that runs it in production: sockets, not a test transport."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from hearth.api.routes import FIELDS_LIMIT_BYTES
from tests.api.support import KEY, World

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HEADERS = {"x-appwrite-project": "p1", "x-appwrite-key": KEY}


@asynccontextmanager
async def served(world: World) -> AsyncIterator[int]:
    """The port of a running server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            world.app, http="httptools", ws="none", lifespan="off", server_header=False, log_config=None
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            async with asyncio.timeout(10):
                await task


@asynccontextmanager
async def connected(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client with a key, over real connections."""
    async with served(world) as port:
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, headers=HEADERS, trust_env=False) as client:
            yield client


async def test_a_client_that_hangs_up_cancels_its_call(world: World) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def long(*_: Any, **__: Any) -> Any:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    world.executions.results["create"] = long
    async with served(world) as port, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        writer.write(
            f"POST /v1/functions/f1/executions HTTP/1.1\r\nhost: x\r\n{head}content-length: 2\r\n\r\n{{}}".encode()
        )
        await entered.wait()
        writer.close()
        await cancelled.wait()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert (await client.get("/v1/health/version")).status_code == 200


async def test_a_client_that_sends_too_much_gets_to_read_why(world: World) -> None:
    """It sends its whole body before it reads; a connection closed too early would show it a broken pipe."""
    async with connected(world) as client:
        answer = await client.post("/v1/functions", content=b"x" * (FIELDS_LIMIT_BYTES * 8))
        after = await client.get("/v1/functions/f1")
    assert (answer.status_code, answer.json()["type"]) == (400, "general_argument_invalid")
    assert (answer.headers["connection"], answer.headers["server"]) == ("close", "Appwrite")
    assert after.status_code == 200


async def test_one_connection_serves_many_requests_with_unread_bodies_between(world: World) -> None:
    """DELETE carries a body nobody reads (contract: clients 1.1)."""
    async with connected(world) as client:
        for _ in range(3):
            deleted = await client.request("DELETE", "/v1/functions/f1", json={})
            read = await client.get("/v1/functions/f1")
            head = await client.head("/v1/functions/f1")
            assert (deleted.status_code, read.status_code, head.status_code) == (204, 200, 200)
            assert "content-length" not in deleted.headers
