"""Runs functions when something happened that they listen to (contract: functions-api 14).

An event is kept as a job in the transaction of the change it tells of, if any function of the project may want it: so
what was committed is also told, whatever is killed in between. A worker makes of it one execution per function, whose
id is made of job and function: a job that is done twice makes none twice.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import structlog

from hearth import CONTRACT_VERSION
from hearth.control.invocations import RunRequest
from hearth.control.jobs import event_job
from hearth.control.queued import QueuedExecutions
from hearth.control.stored_runs import QueuedRun
from hearth.model.events import Occurrence, variants
from hearth.model.resources import Function, Job
from hearth.model.statuses import Trigger
from hearth.ports import Clock, Conflict, Listening, Store, Unit

log = structlog.get_logger(__name__)

#: Functions that are read, and executions that are committed, at one time.
SLICE = 200

#: The wire form of what an event happened to, as the owner of a project sees it; None for what has no such form.
PayloadOf = Callable[[object], Mapping[str, Any] | None]


class ListenerBook:
    """What the functions of each project listen to, in memory, because every change asks."""

    def __init__(self) -> None:
        self._events: dict[str, dict[str, tuple[str, ...]]] = {}

    def put(self, project_id: str, function_id: str, events: tuple[str, ...]) -> None:
        """Take over what a function listens to now; nothing is fine."""
        if events:
            self._events.setdefault(project_id, {})[function_id] = events
            return
        known = self._events.get(project_id, {})
        known.pop(function_id, None)
        if not known:
            self._events.pop(project_id, None)

    def is_wanted(self, project_id: str, event: str) -> bool:
        """Whether some function of the project listens to `event`. Free where none listens to anything."""
        known = self._events.get(project_id)
        if known is None or event.startswith("functions."):
            return False
        names = frozenset(variants(event))
        return any(not names.isdisjoint(events) for events in known.values())


class EventTriggers:
    """Recorder of the event bus, its listener for changes of functions, and handler of event jobs."""

    def __init__(self, *, store: Store, clock: Clock, queued: QueuedExecutions, payload_of: PayloadOf) -> None:
        self._store = store
        self._clock = clock
        self._queued = queued
        self._payload_of = payload_of
        self._book = ListenerBook()
        self._meanwhile: list[tuple[str, str, tuple[str, ...]]] | None = None
        """What was heard while the book is read anew."""

    async def load(self) -> None:
        """Fill the book anew; at start before the first request, and when any function may have changed."""
        book = ListenerBook()
        meanwhile = self._meanwhile = []
        after = -1
        while page := await self._store.listeners.page(after, SLICE):
            for it in page:
                book.put(it.project_id, it.function_id, it.events)
            after = page[-1].sequence
        for heard in meanwhile:  # what was read may be older
            book.put(*heard)
        self._book, self._meanwhile = book, None

    def heard(self, occurrence: Occurrence) -> None:
        """Follow what functions listen to. Called for every event; free for all others."""
        function = occurrence.subject
        if isinstance(function, Function):
            is_gone = occurrence.event == f"functions.{function.id}.delete"
            now = function.project_id, function.id, () if is_gone else function.events
            self._book.put(*now)
            if self._meanwhile is not None:
                self._meanwhile.append(now)

    async def record(self, unit: Unit, occurrence: Occurrence) -> None:
        """Keep an event in the transaction of its change. See `hearth.control.events.Recorder`."""
        if (job := self._job(occurrence)) is not None:
            await unit.jobs.enqueue(job)

    async def record_alone(self, occurrence: Occurrence) -> None:
        """Keep an event that comes with no change of ours; it is committed on return."""
        if (job := self._job(occurrence)) is not None:
            await self._store.jobs.enqueue(job)

    async def fan_out(self, job: Job) -> None:
        """Make the executions of one event; all are committed on return. May be repeated."""
        names = frozenset(variants(job.payload["event"]))
        request = RunRequest(
            method="POST",
            path="/",
            headers={"content-type": "application/json", "user-agent": f"Appwrite/{CONTRACT_VERSION}"},
            body=job.payload["body"].encode(),
            trigger=Trigger.EVENT,
            user_id=job.payload["userId"],
            real_user_id=job.payload["userId"],
            event=job.payload["event"],
        )
        after = -1
        while page := await self._store.listeners.page(after, SLICE, job.project_id):
            await self._accept(job, request, [it for it in page if not names.isdisjoint(it.events)])
            after = page[-1].sequence

    async def _accept(self, job: Job, request: RunRequest, wanting: list[Listening]) -> None:
        accepted = [
            self._queued.accept_run(
                QueuedRun(it.project_id, it.function_id, it.deployment_id, it.timeout_s),
                request,
                id=occasion_id(job.id, it.function_id),
            )
            for it in wanting
        ]
        fault: Exception | None = None
        for storing in accepted:
            try:
                await storing
            except Conflict:
                continue  # an earlier attempt made it
            except Exception as error:  # noqa: BLE001 - the others are looked at too; the job is tried again
                fault = error
        if fault is not None:
            raise fault

    def _job(self, occurrence: Occurrence) -> Job | None:
        if not self._book.is_wanted(occurrence.project_id, occurrence.event):
            return None
        payload = self._payload_of(occurrence.subject)
        if payload is None:
            return None
        document = {
            "event": occurrence.event,
            "userId": occurrence.user_id,
            "body": msgspec.json.encode(payload).decode(),
        }
        return event_job(occurrence.project_id, document, self._clock.now())


def occasion_id(job_id: str, function_id: str) -> str:
    """The id of the execution of one event in one function: sorts by time as the job's does, 36 characters."""
    return job_id + hashlib.blake2b(function_id.encode(), digest_size=8).hexdigest()
