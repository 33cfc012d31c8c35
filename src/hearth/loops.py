"""What goes on beside requests: jobs, triggers, instances that are kept, and what other servers on a store change."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from hearth.api.payloads import owner_payload
from hearth.control.builds import Builds
from hearth.control.elsewhere import ChangesElsewhere
from hearth.control.events import EventBus
from hearth.control.hosting import Hosting
from hearth.control.jobs import JobKind
from hearth.control.kept import KeptInstances
from hearth.control.pushes import Pushes
from hearth.control.queued import QueuedExecutions
from hearth.control.repairs import Repairs
from hearth.control.reports import Reports
from hearth.control.retention import Retention
from hearth.control.runnables import Runnables
from hearth.jobs.deliveries import Deliveries
from hearth.jobs.dispatcher import Dispatcher
from hearth.jobs.handlers import Handlers
from hearth.jobs.maintenance import Maintenance
from hearth.jobs.polling import Polling
from hearth.jobs.reaper import Reaper
from hearth.jobs.worker import Worker
from hearth.model.resources import Deployment, Function, Variable
from hearth.ports import Clock, Executor, Files, Poster, Store
from hearth.settings import Settings
from hearth.triggers.alarm import Alarm
from hearth.triggers.events import EventTriggers
from hearth.triggers.scheduler import Scheduler

PURGE_CONCURRENCY = 1
WEBHOOK_CONCURRENCY = 16
EVENT_CONCURRENCY = 4
PUSH_CONCURRENCY = 4
REPORT_CONCURRENCY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Loops:
    """All that runs without a request. `load`, `take_back` and `start`; at a stop `quiet` and then `close`."""

    deliveries: Deliveries
    worker: Worker
    dispatcher: Dispatcher
    reaper: Reaper
    maintenance: Maintenance
    scheduler: Scheduler
    event_triggers: EventTriggers
    kept: KeptInstances
    elsewhere: ChangesElsewhere
    polling: Polling
    reports: Reports

    async def load(self) -> None:
        """Read who follows what happens: before anything does that a function or a webhook is told of."""
        await self.event_triggers.load()
        self.deliveries.start()

    async def take_back(self) -> None:
        """Take the jobs back that a killed server of this machine held."""
        await self.reaper.at_start()

    def start(self) -> None:
        """Let everything run. The executor must be started."""
        self.kept.start()
        self.elsewhere.start()
        self.reaper.start()
        self.worker.start()
        self.dispatcher.start()
        self.scheduler.start()
        self.maintenance.start()
        self.reports.start()
        self.polling.start()

    async def quiet(self) -> None:
        """End what makes work, and take up no more of what there is: what runs goes on until `close`."""
        await self.polling.close()
        await self.reports.close()
        await self.maintenance.close()
        await self.scheduler.close()
        await self.elsewhere.close()
        await self.kept.close()
        await self.reaper.close()
        self.worker.pause()
        self.dispatcher.pause()

    async def close(self) -> None:
        """End what still runs. The executor must be closed."""
        await self.dispatcher.close()
        await self.worker.close()
        await self.deliveries.close()


def compose_loops(
    settings: Settings,
    *,
    store: Store,
    clock: Clock,
    node: str,
    files: Files,
    events: EventBus,
    executor: Executor,
    runnables: Runnables,
    builds: Builds,
    queued: QueuedExecutions,
    hosting: Hosting,
    poster: Poster,
    repairs: Repairs,
    retention: Retention,
    pushes: Pushes,
    reports: Reports,
    forget_keys: Callable[[], None],
    forget_people: Callable[[], None],
) -> Loops:
    """Make all loops and let them hear what they follow. `node` names this machine: jobs are held in its name."""
    deliveries = Deliveries(
        store=store,
        clock=clock,
        webhooks=hosting.webhooks,
        book=hosting.webhook_book,
        poster=poster,
        payload_of=owner_payload,
    )
    events.subscribe(deliveries.heard, wants=hosting.webhook_book.has)
    handlers = Handlers(
        store=store,
        files=files,
        builds=builds,
        queued=queued,
        deliveries=deliveries,
        retention=retention,
        pushes=pushes,
        reports=reports,
    )
    dispatcher = Dispatcher(
        store=store,
        clock=clock,
        owner=f"{node}/{uuid.uuid4().hex}",
        queued=queued,
        places=settings.async_concurrency,
    )
    event_triggers = EventTriggers(store=store, clock=clock, queued=queued, payload_of=owner_payload)
    events.record_with(event_triggers)
    events.subscribe(event_triggers.heard, Function)
    scheduler = Scheduler(store=store, clock=clock, queued=queued, make_alarm=Alarm)
    events.subscribe(scheduler.heard, Function, Deployment)
    kept = KeptInstances(store=store, runnables=runnables, executor=executor)
    events.subscribe(kept.heard, Function, Deployment, Variable)
    elsewhere = ChangesElsewhere(
        store=store,
        clock=clock,
        runnables=runnables,
        forget_keys=forget_keys,
        forget_people=forget_people,
        reload_hosting=hosting.load,
        follow=(event_triggers.heard, scheduler.heard, kept.heard),
        reload=(event_triggers.load, scheduler.reload, kept.reload),
    )
    store.on_changes(elsewhere.heard)
    worker = Worker(
        store=store,
        clock=clock,
        owner=f"{node}/{uuid.uuid4().hex}",
        handlers={
            JobKind.BUILD: handlers.build,
            JobKind.PURGE: handlers.purge,
            JobKind.WEBHOOK: handlers.webhook,
            JobKind.SWEEP: handlers.sweep,
            JobKind.EVENT: event_triggers.fan_out,
            JobKind.PUSH: handlers.push,
            JobKind.REPORT: handlers.report,
        },
        concurrency={
            JobKind.BUILD: settings.build_concurrency,
            JobKind.PURGE: PURGE_CONCURRENCY,
            JobKind.WEBHOOK: WEBHOOK_CONCURRENCY,
            JobKind.SWEEP: 1,
            JobKind.EVENT: EVENT_CONCURRENCY,
            JobKind.PUSH: PUSH_CONCURRENCY,
            JobKind.REPORT: REPORT_CONCURRENCY,
        },
        on_dead=handlers.dead,
        in_turn=[JobKind.BUILD],
    )
    reaper = Reaper(
        store=store,
        clock=clock,
        handlers=handlers,
        node=node,
        is_held=lambda job_id: dispatcher.holds(job_id) or worker.holds(job_id),
    )
    return Loops(
        deliveries=deliveries,
        worker=worker,
        dispatcher=dispatcher,
        reaper=reaper,
        maintenance=Maintenance(repairs=repairs, retention=retention),
        scheduler=scheduler,
        event_triggers=event_triggers,
        kept=kept,
        elsewhere=elsewhere,
        polling=Polling(pushes=pushes, interval_s=settings.git_poll_interval),
        reports=reports,
    )
