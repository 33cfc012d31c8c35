"""A server with realtime on a loopback port, and a plain WebSocket client for it."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from websockets.asyncio.client import ClientConnection, connect

from hearth.serving import REALTIME_FRAME_BYTES
from tests.api.whole import Whole


@asynccontextmanager
async def serving(app: Whole) -> AsyncIterator[int]:
    """The port of the application behind the server that runs it in production."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app.app,
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=REALTIME_FRAME_BYTES,
            ws_per_message_deflate=False,
            lifespan="off",
            server_header=False,
            log_config=None,
            log_level="warning",
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            async with asyncio.timeout(10):
                await task


class Socket:
    """One connection: frames as objects, each waited for with a bound."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            frame: dict[str, Any] = json.loads(await self.connection.recv())
        return frame

    async def send(self, kind: str, data: Any = None) -> None:
        frame = {"type": kind} if data is None else {"type": kind, "data": data}
        await self.connection.send(json.dumps(frame))

    async def ask(self, kind: str, data: Any = None) -> dict[str, Any]:
        await self.send(kind, data)
        return await self.receive()

    async def event(self) -> dict[str, Any]:
        frame = await self.receive()
        assert frame["type"] == "event", frame
        data: dict[str, Any] = frame["data"]
        return data

    async def silent(self) -> None:
        """Nothing has been sent: the answer to a ping is the next frame."""
        assert await self.ask("ping") == {"type": "pong"}

    async def closed(self) -> int:
        """Wait for the end and return its code."""
        async with asyncio.timeout(10):
            await self.connection.wait_closed()
        code = self.connection.close_code
        assert code is not None
        return code


@asynccontextmanager
async def connected(port: int, query: str, **headers: str) -> AsyncIterator[Socket]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"ws://127.0.0.1:{port}/v1/realtime?{query}"
    async with connect(url, additional_headers=sent, ping_interval=None, proxy=None) as connection:
        yield Socket(connection)
