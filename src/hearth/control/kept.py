"""Keeps instances ready for functions that ask for it (`minInstances`): tells the executor, whenever one changes.

What the executor is told is made of the function as it is in the database, read again after every change of it, its
settings, deployments or variables, and at the start.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable

import structlog

from hearth.control.runnables import Runnables
from hearth.model.events import Occurrence
from hearth.model.resources import Deployment, Function, Variable
from hearth.ports import Executor, Store

log = structlog.get_logger(__name__)

RETRY_S = 1.0

#: Project and function.
Key = tuple[str, str]


class KeptInstances:
    """Listener of the event bus and a loop. `start` it when the executor is up; `close` it before that."""

    def __init__(self, *, store: Store, runnables: Runnables, executor: Executor) -> None:
        self._store = store
        self._runnables = runnables
        self._executor = executor
        self._kept: set[Key] = set()
        self._changed: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._is_settled = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def heard(self, occurrence: Occurrence) -> None:
        """Look again at a function to which something happened. Called for every event; free for all others."""
        project_id, subject = occurrence.project_id, occurrence.subject
        if isinstance(subject, Function):
            self._look_at((project_id, subject.id))
        elif isinstance(subject, Deployment):
            self._look_at((project_id, subject.function_id))
        elif isinstance(subject, Variable):
            if subject.resource_type == "function":
                self._look_at((project_id, subject.resource_id))
            else:
                for key in self._kept:
                    if key[0] == project_id:
                        self._look_at(key)

    async def reload(self) -> None:
        """Look again at all functions that are kept or ask for it."""
        for key in await self._store.kept_functions():
            self._look_at(key)
        for key in self._kept:
            self._look_at(key)

    def start(self) -> None:
        """Begin to keep what is to be kept."""
        self._is_settled.clear()
        self._loop = asyncio.create_task(self._run(), name="kept instances")

    async def settled(self) -> None:
        """Wait until the executor has been told of everything heard so far."""
        await self._is_settled.wait()

    async def close(self) -> None:
        """Tell the executor nothing more."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])

    def _look_at(self, key: Key) -> None:
        self._changed[key] = None
        self._is_settled.clear()
        self._wake.set()

    async def _run(self) -> None:
        await self._insist(self._load)
        while True:
            self._wake.clear()
            while self._changed:
                key = next(iter(self._changed))
                del self._changed[key]
                await self._insist(functools.partial(self._look, key))
            self._is_settled.set()
            await self._wake.wait()

    async def _insist(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it until it goes well: the database may be away for a while."""
        while True:
            try:
                return await work()
            except Exception:
                log.exception("kept_instances_not_read")
                await asyncio.sleep(RETRY_S)

    async def _load(self) -> None:
        for key in await self._store.kept_functions():
            self._changed.setdefault(key)

    async def _look(self, key: Key) -> None:
        runnable = await self._runnables.get(*key)
        wanted = runnable.settings.min_instances if runnable is not None and runnable.function.enabled else 0
        if runnable is not None and runnable.template is not None and wanted:
            self._kept.add(key)
            self._executor.keep(runnable.template, wanted)
            self._executor.keep_only(key[1], runnable.template.key)
        else:
            # Also for one that was never kept here: a deployment that was to become active may have been brought up.
            self._kept.discard(key)
            self._executor.keep_only(key[1], None)
