"""Looks at plain git servers from time to time, because nothing tells us of their pushes unless they have a hook."""

import asyncio

import structlog

from hearth.control.pushes import Pushes
from hearth.model.vcs import Provider

log = structlog.get_logger(__name__)


class Polling:
    """A loop that polls every `interval_s` seconds (0 = never); a round that takes longer delays the next one."""

    def __init__(self, *, pushes: Pushes, interval_s: float) -> None:
        self._pushes = pushes
        self._interval_s = interval_s
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin the loop."""
        if self._interval_s:
            self._loop = asyncio.create_task(self._run(), name="polling")

    async def close(self) -> None:
        """End the loop; a look under way is ended with it."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                await self._pushes.poll(Provider.GIT)
            except Exception:
                log.exception("polling of git servers failed; the next round follows")
