"""Waiting for work that cannot be interrupted, from code that can."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def settled(work: Awaitable[T]) -> T:
    """Run `work` to its end even if the caller is cancelled, and only then let the cancellation go on.

    For steps that must not be cut in half: a statement on a connection that others use next, a write in a
    thread to a descriptor that is closed afterwards. `work` must be short or bounded by itself.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue
        if not task.cancelled():
            task.exception()  # looked at, so that it is not reported as lost: the cancellation wins
        raise
