"""Runs one program in one sandbox to its end: request in, log out, answer back, and never longer than allowed."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from hearth.build.flow import LogFlow, OutputPump
from hearth.executor.sandbox.spec import Driver, SandboxExit, SandboxSpec

T = TypeVar("T")

#: The program inside is not trusted: an answer is short or it is none.
ANSWER_MAX_BYTES = 1024 * 1024
#: Seconds between two looks at whether the sandbox has to be stopped.
WATCH_S = 1.0
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Ran:
    """How it went. `stopped` says why we ended it (`timeout` or what `stop_if` said), `""` if it ended by itself."""

    exit: SandboxExit
    answer: bytes
    stopped: str = ""


TIMEOUT = "timeout"


async def run_sandbox(
    driver: Driver,
    spec: SandboxSpec,
    flow: LogFlow,
    *,
    deadline: float,
    request: bytes = b"",
    stop_if: Callable[[], str] = lambda: "",
) -> Ran:
    """Start `spec`, send `request` over its channel, and return once everything in it has ended.

    `deadline` is in seconds of the event loop's clock; `stop_if` is asked once a second and ends the sandbox by
    naming a reason. Messages both ways are a 4-byte big-endian length and that many bytes. Raises SandboxFailed if
    it cannot be started. If cancelled, the sandbox is ended first.
    """
    sandbox = await driver.start(spec)
    pump = OutputPump(sandbox.output, flow)
    talk = asyncio.create_task(_talk(sandbox.channel, request))
    end = asyncio.create_task(sandbox.wait())
    stopped = ""
    try:
        try:
            stopped = await _watch(end, deadline, stop_if)
        finally:
            if not end.done():
                await settled(sandbox.kill())
            exit = await settled(end)
            await asyncio.wait([talk], timeout=WATCH_S)
        return Ran(exit, talk.result() if talk.done() else b"", stopped)
    finally:
        talk.cancel()
        await asyncio.wait([talk])
        pump.finish()
        os.close(sandbox.output)
        if sandbox.channel is not None:
            sandbox.channel.close()


async def _watch(end: "asyncio.Task[SandboxExit]", deadline: float, stop_if: Callable[[], str]) -> str:
    """Wait for the end; returns why it must be brought about, or `""`."""
    clock = asyncio.get_running_loop().time
    while not end.done():
        left = deadline - clock()
        if left <= 0:
            return TIMEOUT
        reason = stop_if()
        if reason:
            return reason
        await asyncio.wait([end], timeout=min(left, WATCH_S))
    return ""


async def _talk(channel: socket.socket | None, request: bytes) -> bytes:
    """Send the request and read the answer; `b""` if the other side ended before or answered too much."""
    if channel is None:
        return b""
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(channel, len(request).to_bytes(_LENGTH_BYTES, "big") + request)
        length = int.from_bytes(await _exactly(channel, _LENGTH_BYTES), "big")
        return await _exactly(channel, length) if length <= ANSWER_MAX_BYTES else b""
    except (OSError, EOFError):
        return b""


async def _exactly(channel: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < length:
        piece = await loop.sock_recv(channel, length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


async def settled(work: Awaitable[T]) -> T:
    """Wait for `work` to its end even if cancelled meanwhile; the cancellation goes on afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:  # noqa: BLE001 - raised below, from the task
            break
    if cancelled is not None:
        raise cancelled
    return task.result()
