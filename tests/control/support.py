"""Control over a real store; building and running are scripted by the test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from hearth.auth.secrets import VariableCipher
from hearth.control.builds import Builds
from hearth.control.connections import Connections
from hearth.control.environment import Environment
from hearth.control.events import EventBus
from hearth.control.executions import ExecutionsControl
from hearth.control.gates import Gates
from hearth.control.jobs import JobKind, build_job
from hearth.control.kept_bodies import KeptBodies
from hearth.control.pushes import Pushes
from hearth.control.queued import QueuedExecutions
from hearth.control.repairs import Repairs
from hearth.control.reports import Reports
from hearth.control.retention import Retention
from hearth.control.rules import Domains, RuleBook
from hearth.control.runnables import Runnables
from hearth.control.sources import Sources
from hearth.control.specifications import Specifications
from hearth.control.starting import DeploymentStarter
from hearth.control.uploads import Uploads, upload_key
from hearth.control.views import ControlLimits
from hearth.jobs.deliveries import Deliveries
from hearth.jobs.dispatcher import Dispatcher
from hearth.jobs.handlers import Handlers
from hearth.jobs.reaper import Reaper
from hearth.jobs.worker import Worker
from hearth.model.resources import Deployment
from hearth.model.running import (
    Artifact,
    BuildRequest,
    BuildResult,
    InstanceKey,
    InstanceTemplate,
    Invocation,
    Result,
)
from hearth.model.sources import Commit, Fetched, FetchRequest, PublishRequest
from hearth.ports import Executor, Store
from hearth.store import open_store
from hearth.store.files.local import LocalFiles
from tests.store.samples import KEY, FakeClock, deployment, function, project
from tests.support.databases import put_database

ARTIFACT = Artifact("artifacts/abc", "abc", 10)
NODE = "here"
#: The runtime that `tests.store.samples.function` is written for.
RUNTIMES = ({"$id": "node-22", "name": "Node.js", "version": "22"},)


class ScriptedBuilder:
    """Builds what the test says: `outcome` is a result to return or an exception to raise, once `go` is set."""

    def __init__(self) -> None:
        self.outcome: BuildResult | Exception = BuildResult(ARTIFACT)
        self.go = asyncio.Event()
        self.go.set()
        self.started = asyncio.Event()
        self.ended_early = 0
        self.requests: list[BuildRequest] = []

    async def build(self, request: BuildRequest, on_log: Callable[[str], None]) -> BuildResult:
        self.requests.append(request)
        on_log("first line\n")
        self.started.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended_early += 1
            raise
        on_log("last line\n")
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class ScriptedFetcher:
    """Fetches what the test says, once `go` is set: `outcome` is what to return or raise."""

    def __init__(self, files: LocalFiles) -> None:
        self.outcome: Fetched | Exception = Fetched(6, "1.0.2", Commit("c" * 40, "Ada", "a message\n"))
        self.go = asyncio.Event()
        self.go.set()
        self.started = asyncio.Event()
        self.ended_early = 0
        self.requests: list[FetchRequest] = []
        self.published: list[PublishRequest] = []
        self._files = files

    async def fetch(self, request: FetchRequest, on_log: Callable[[str], None]) -> Fetched:
        self.requests.append(request)
        on_log("fetching\n")
        self.started.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.ended_early += 1
            raise
        if isinstance(self.outcome, Exception):
            raise self.outcome
        async with self._files.scratch() as path:
            path.write_bytes(b"source")
            await self._files.adopt(request.key, path)
        return self.outcome

    async def publish(self, request: PublishRequest, on_log: Callable[[str], None]) -> str:
        self.published.append(request)
        assert await self._files.size(request.archive_key) == 6
        return "d" * 40


class NotingExecutor:
    """Runs nothing and notes what it was asked for; `invoke` waits for `answer`."""

    def __init__(self) -> None:
        self.prepared: list[InstanceTemplate] = []
        self.retired: list[str] = []
        self.kept: list[tuple[object, ...]] = []
        """What it was told to keep ready, as it came."""
        self.invoked: list[Invocation] = []
        self.called = asyncio.Event()
        self.answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

    def submit(self, invocation: Invocation) -> "asyncio.Future[Result]":
        self.invoked.append(invocation)
        self.called.set()
        return asyncio.ensure_future(asyncio.shield(self.answer))

    async def invoke(self, invocation: Invocation) -> Result:
        return await self.submit(invocation)

    async def prepare(self, template: InstanceTemplate) -> None:
        self.prepared.append(template)

    def keep(self, template: InstanceTemplate, count: int) -> None:
        self.kept.append(("keep", template.key.deployment_id, count))

    def keep_only(self, function_id: str, key: InstanceKey | None) -> None:
        self.kept.append(("only", function_id, key and key.deployment_id))

    async def wait_kept(self, template: InstanceTemplate) -> None:
        self.kept.append(("wait", template.key.deployment_id))

    async def retire(self, deployment_id: str) -> None:
        self.retired.append(deployment_id)

    async def remove(self, deployment_id: str) -> None:
        self.retired.append(deployment_id)


class World:
    """Everything around builds and executions of one project with one function, `f`."""

    def __init__(self, store: Store, files: LocalFiles, clock: FakeClock) -> None:
        self.store, self.files, self.clock = store, files, clock
        self.builder, self.executor = ScriptedBuilder(), NotingExecutor()
        self.fetcher = ScriptedFetcher(files)
        self.events: list[str] = []
        self.bus = bus = EventBus()
        bus.subscribe(lambda occurrence: self.events.append(occurrence.event))
        self.limits = ControlLimits()
        specifications = Specifications(0, 0)
        environment = Environment(endpoint="http://api/v1", region="r", runtimes=RUNTIMES, mint_key=lambda *_: "key")
        self.runnables = Runnables(store, specifications, environment)
        starter = DeploymentStarter(clock=clock, limits=self.limits)
        common: dict[str, Any] = {"store": store, "clock": clock, "events": bus}
        executor = cast(Executor, self.executor)
        self.uploads = Uploads(files=files, starter=starter, limits=self.limits, **common)
        self.builds = Builds(
            sources=Sources(
                store=store,
                files=files,
                fetcher=self.fetcher,
                connections=Connections(store=store, clock=clock, hosts={}, endpoint="http://api/v1"),
                limits=self.limits,
            ),
            builder=self.builder,
            executor=executor,
            environment=environment,
            specifications=specifications,
            runnables=self.runnables,
            starter=starter,
            rule_book=RuleBook(Domains("functions.localhost")),
            limits=self.limits,
            **common,
        )
        running: dict[str, Any] = {
            "gates": Gates(),
            "bodies": (bodies := KeptBodies(store)),
            "executor": executor,
            "runnables": self.runnables,
            "mint_key": lambda *_: "key",
            "mint_user_jwt": lambda *claims: "/".join(map(str, claims)),
            **common,
        }
        self.bodies = bodies
        self.queued = QueuedExecutions(**running)
        self.executions = ExecutionsControl(queued=self.queued, **running)
        self.repairs = Repairs(
            store=store,
            clock=clock,
            executions=self.executions,
            uploads=self.uploads,
            builds=self.builds,
            limits=self.limits,
        )
        self.handlers = Handlers(
            store=store,
            files=files,
            builds=self.builds,
            queued=self.queued,
            deliveries=cast(Deliveries, None),
            retention=cast(Retention, None),
            pushes=cast(Pushes, None),
            reports=cast(Reports, None),
        )
        self.held: set[str] = set()
        self.reaper = Reaper(
            store=store, clock=clock, handlers=self.handlers, node=NODE, is_held=lambda job_id: job_id in self.held
        )

    def worker(self, owner: str = f"{NODE}/w") -> Worker:
        handlers = {JobKind.BUILD: self.handlers.build}
        return Worker(
            store=self.store,
            clock=self.clock,
            owner=owner,
            handlers=handlers,
            concurrency=dict.fromkeys(handlers, 2),
            on_dead=self.handlers.dead,
        )

    def dispatcher(self, places: int = 2, owner: str = f"{NODE}/d") -> Dispatcher:
        return Dispatcher(store=self.store, clock=self.clock, owner=owner, queued=self.queued, places=places)

    async def deploy(self, id: str, **fields: Any) -> Deployment:
        """Insert a deployment whose source is complete, with its build job."""
        fields = {"source_key": upload_key("p", id), "source_size_bytes": 1, "source_total_bytes": 1} | fields
        async with self.store.begin("p") as unit:
            made = await unit.deployments.insert(deployment(id, **fields))
            await unit.jobs.enqueue(replace(build_job(made, 900, self.clock.now()), id=f"job-{id}"))
        return made

    async def deployment(self, id: str) -> Deployment:
        async with self.store.view("p") as unit:
            found = await unit.deployments.get("f", id)
        assert found is not None
        return found

    async def active(self) -> str:
        async with self.store.view("p") as unit:
            found = await unit.functions.get("f")
        assert found is not None
        return found.deployment_id


@asynccontextmanager
async def world(data_dir: Path, database: str = "") -> AsyncIterator[World]:
    clock = FakeClock()
    if not database:
        put_database(data_dir)
    store = await open_store(database, data_dir=data_dir, secret=VariableCipher(KEY), clock=clock)
    files = LocalFiles(data_dir)
    try:
        await store.projects.insert(project())
        async with store.begin("p") as unit:
            await unit.functions.insert(function())
        here = World(store, files, clock)
        yield here
        await here.bodies.close()
    finally:
        await files.close()
        await store.close()
