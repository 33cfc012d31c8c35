"""What other servers of the database changed: forgotten at once, and read again soon after by those who hold it.

Every server keeps functions, rules, keys and the like in memory, and its own writes keep that true. Of the writes of
others it hears through the database, with their commit.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from hearth.control.runnables import Runnables
from hearth.model.events import Occurrence
from hearth.model.queries import ListQuery
from hearth.model.resources import Function
from hearth.ports import ChangedElsewhere, Clock, MemoryKind, Store

log = structlog.get_logger(__name__)

#: How long changes collect before they are read: a build elsewhere makes several.
COLLECT_S = 0.1
_RETRY_S, _RETRY_MAX_S = 0.5, 5.0
_PAGE = 100

#: Reads everything of one kind again.
Reload = Callable[[], Awaitable[None]]


class ChangesElsewhere:
    """Hears of changes (`heard`, to be given to `Store.on_changes`) and has them read again by a loop.

    `follow` are told of each function that changed, as if it had happened here; nobody else is, since the event
    itself was told where it happened. `reload` have everything read again after notices may have been missed,
    `reload_hosting` reads projects, rules, platforms and webhooks.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        runnables: Runnables,
        forget_keys: Callable[[], None],
        forget_people: Callable[[], None],
        reload_hosting: Reload,
        follow: Sequence[Callable[[Occurrence], None]],
        reload: Sequence[Reload],
    ) -> None:
        self._store = store
        self._clock = clock
        self._runnables = runnables
        self._forget_keys = forget_keys
        self._forget_people = forget_people
        self._reload_hosting = reload_hosting
        self._follow = follow
        self._reload = reload
        self._functions: dict[tuple[str, str], None] = {}
        self._projects: dict[str, None] = {}
        self._is_anything = False
        self._is_hosting = False
        self._is_reading_hosting = False
        self._wake = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def heard(self, change: ChangedElsewhere) -> None:
        """Something was committed. Forgets what must not be used any more; the rest is read soon."""
        if change.is_own:
            # What is being read may be older than this write, which memory has already.
            if MemoryKind.HOSTING in change.kinds and self._is_reading_hosting:
                self._is_hosting = True
            return
        if MemoryKind.KEYS in change.kinds:
            self._forget_keys()
        if MemoryKind.PEOPLE in change.kinds:
            self._forget_people()
        self._is_hosting = self._is_hosting or MemoryKind.HOSTING in change.kinds
        if change.functions is None and not change.project_id:
            self._runnables.drop_all()
            self._is_anything = True
        elif change.functions is None:
            self._runnables.drop_project(change.project_id)
            self._projects[change.project_id] = None
        else:
            for function_id in change.functions:
                self._runnables.drop(change.project_id, function_id)
                self._functions[change.project_id, function_id] = None
        if self._is_hosting or self._is_anything or self._projects or self._functions:
            self._wake.set()

    def start(self) -> None:
        """Begin to read what was heard of."""
        self._loop = asyncio.create_task(self._run(), name="changes elsewhere")

    async def close(self) -> None:
        """Read nothing more."""
        if self._loop is not None:
            self._loop.cancel()
            await asyncio.wait([self._loop])

    async def _run(self) -> None:
        pause_s = _RETRY_S
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(COLLECT_S)
            try:
                await self._read()
                pause_s = _RETRY_S
            except Exception as error:  # noqa: BLE001 - top of a task; the database may be away
                log.warning("changes of other servers are not read yet", error=str(error))
                self._wake.set()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RETRY_MAX_S)

    async def _read(self) -> None:
        """Read everything heard of; what fails stays to be read."""
        while self._is_hosting:
            await self._read_hosting()
        if self._is_anything:
            for reload in self._reload:
                await reload()
            self._is_anything = False
        while self._projects:
            project_id = next(iter(self._projects))
            for function_id in await self._functions_of(project_id):
                self._functions[project_id, function_id] = None
            del self._projects[project_id]
        while self._functions:
            project_id, function_id = next(iter(self._functions))
            async with self._store.view(project_id) as unit:
                function = await unit.functions.get(function_id)
            self._functions.pop((project_id, function_id), None)
            self._tell(project_id, function_id, function)

    async def _read_hosting(self) -> None:
        self._is_hosting, self._is_reading_hosting = False, True
        try:
            await self._reload_hosting()
        except BaseException:
            self._is_hosting = True
            raise
        finally:
            self._is_reading_hosting = False

    async def _functions_of(self, project_id: str) -> list[str]:
        ids: list[str] = []
        cursor = ""
        while True:
            async with self._store.view(project_id) as unit:
                page = await unit.functions.list(ListQuery(limit=_PAGE, cursor=cursor, count=False))
            ids += [function.id for function in page.items]
            if len(page.items) < _PAGE:
                return ids
            cursor = page.items[-1].id

    def _tell(self, project_id: str, function_id: str, function: Function | None) -> None:
        action = "delete" if function is None else "update"
        if function is None:
            now = self._clock.now()
            function = Function(function_id, project_id, now, now, name="", runtime="")
        occurrence = Occurrence(project_id, f"functions.{function_id}.{action}", function)
        for follow in self._follow:
            follow(occurrence)
