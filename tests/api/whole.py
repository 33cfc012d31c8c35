"""The application over the real control, store and files; only what runs code is replaced."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
from argon2 import PasswordHasher

from hearth.api.app import create_app
from hearth.api.settings import ApiSettings
from hearth.auth.identify import Identify
from hearth.auth.keys import hash_secret
from hearth.auth.passwords import Passwords
from hearth.auth.people import People
from hearth.auth.secrets import VariableCipher
from hearth.auth.tokens import Tokens
from hearth.control.bodies import BodiesControl
from hearth.control.builds import Builds
from hearth.control.connections import Connections
from hearth.control.control import Control
from hearth.control.dead_letters import DeadLettersControl
from hearth.control.deployments import DeploymentsControl
from hearth.control.environment import Environment
from hearth.control.events import EventBus
from hearth.control.executions import ExecutionsControl
from hearth.control.function_settings import FunctionSettingsControl
from hearth.control.functions import FunctionsControl
from hearth.control.gates import Gates
from hearth.control.git_deployments import GitDeployments
from hearth.control.hosting import compose_hosting
from hearth.control.idempotency import Idempotency
from hearth.control.installations import InstallationsControl
from hearth.control.kept_bodies import KeptBodies
from hearth.control.logs import LogsControl
from hearth.control.people import people_control
from hearth.control.pull_requests import PullRequests
from hearth.control.pushes import Pushes
from hearth.control.queued import QueuedExecutions
from hearth.control.replays import ReplaysControl
from hearth.control.rules import Domains, RuleBook
from hearth.control.runnables import Runnables
from hearth.control.sources import Sources
from hearth.control.specifications import Specifications
from hearth.control.starting import DeploymentStarter
from hearth.control.uploads import Uploads
from hearth.control.usage import UsageControl
from hearth.control.variables import VariablesControl
from hearth.control.views import ControlLimits
from hearth.executor.sandbox.egress_policy import parse_allow_list
from hearth.model.events import Occurrence
from hearth.model.resources import ApiKey, Project
from hearth.model.running import InstanceKey, InstanceTemplate, Invocation, Outcome, Result
from hearth.model.sources import CloneSource
from hearth.model.statuses import DeploymentStatus
from hearth.model.streaming import HearLog, LogLines
from hearth.model.vcs import Branch, Content, HostedCommit, Provider
from hearth.ports import Builder, Executor, Fetcher, GitHost, GitReader, NoSuchRepository, Runtimes, Store, Unit
from hearth.store import open_store
from hearth.store.files.local import LocalFiles
from hearth.vcs.plain import PlainGit
from tests.api.support import ALL_SCOPES, NOW, RUNTIMES, FixedClock
from tests.support.databases import put_database

#: Passwords of tests need not withstand anything.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PROJECT_ID, OTHER_PROJECT_ID = "default", "other"
SECRET, OTHER_SECRET = "standard_here", "standard_elsewhere"


class AnsweringExecutor:
    """Runs nothing: every invocation is answered with `result`."""

    def __init__(self) -> None:
        self.result = Result(Outcome.COMPLETED, 200, (("content-type", "text/plain"),), b"done", "logged\n", "", 0.01)
        self.invocations: list[Invocation] = []
        self.retired: list[str] = []
        self.kept: list[tuple[str, int]] = []
        self.hearers: list[HearLog] = []
        """Who follows logs now."""
        self.logged: list[LogLines] = []
        """What who begins to follow is told of what runs."""

    def submit(self, invocation: Invocation) -> "asyncio.Future[Result]":
        self.invocations.append(invocation)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        future.set_result(self.result)
        return future

    async def invoke(self, invocation: Invocation) -> Result:
        return await self.submit(invocation)

    def follow_logs(self, function_id: str, hear: HearLog) -> Sequence[LogLines]:
        self.hearers.append(hear)
        return self.logged

    def unfollow_logs(self, function_id: str, hear: HearLog) -> None:
        if hear in self.hearers:
            self.hearers.remove(hear)

    def keep(self, template: InstanceTemplate, count: int) -> None:
        self.kept.append((template.function_id, count))

    def keep_only(self, function_id: str, key: InstanceKey | None) -> None:
        self.kept.append((function_id, 0))

    async def wait_kept(self, template: InstanceTemplate) -> None:
        return

    async def retire(self, deployment_id: str) -> None:
        self.retired.append(deployment_id)

    async def remove(self, deployment_id: str) -> None:
        self.retired.append(deployment_id)


class NotingRecorder:
    """Notes which events were kept for functions in the transaction of their change, and which were only emitted."""

    def __init__(self) -> None:
        self.kept: Counter[tuple[str, str, str]] = Counter()
        self.only_emitted: list[Occurrence] = []

    async def record(self, unit: Unit, occurrence: Occurrence) -> None:
        assert unit.project_id == occurrence.project_id
        self.kept[_key(occurrence)] += 1

    async def record_alone(self, occurrence: Occurrence) -> None:
        self.kept[_key(occurrence)] += 1

    def heard(self, occurrence: Occurrence) -> None:
        self.kept[_key(occurrence)] -= 1
        if self.kept[_key(occurrence)] < 0 and not occurrence.event.startswith("functions."):
            self.only_emitted.append(occurrence)


def _key(occurrence: Occurrence) -> tuple[str, str, str]:
    return occurrence.project_id, occurrence.event, occurrence.user_id


class AllRuntimes:
    """Every known runtime, all of them available."""

    def all(self) -> Any:
        return RUNTIMES

    def exists(self, id: str) -> bool:
        return any(row["$id"] == id for row in RUNTIMES)

    def available(self, id: str) -> bool:
        return self.exists(id)

    def installed(self) -> Any:
        return RUNTIMES

    def how_to_get(self, id: str) -> str:
        return f"Install {id}."


class KnownRepositories:
    """Answers for repositories without any git: every one has the same branch, but for those named `missing`."""

    commit_hash = "a" * 40

    async def branches(self, source: CloneSource) -> tuple[tuple[Branch, ...], str]:
        if "missing" in source.url:
            raise NoSuchRepository("There is no such repository.")
        return (Branch("main", self.commit_hash),), "main"

    async def contents(self, source: CloneSource, path: str, ref: str) -> tuple[Content, ...]:
        await self.branches(source)
        if "empty" in source.url:
            return ()
        return (Content("package.json", False), Content("src", True)) if not path else (Content("main.js", False),)

    async def commit(self, source: CloneSource, ref: str) -> HostedCommit:
        return HostedCommit(self.commit_hash, "a message", "Ada")


class Whole:
    """One composed application and a client with the key of its project."""

    def __init__(self, store: Store, files: LocalFiles) -> None:
        clock, events, limits = FixedClock(), EventBus(), ControlLimits()
        self.store, self.clock = store, clock
        self.executor = AnsweringExecutor()
        executor = cast(Executor, self.executor)
        runtimes = cast(Runtimes, AllRuntimes())
        self.tokens = tokens = Tokens(b"t" * 32)
        specifications = Specifications(0, 0)
        environment = Environment(endpoint="http://api.test/v1", region="here", runtimes=RUNTIMES, mint_key=tokens.mint)
        self.people = people = People(store, tokens, clock)
        self.runnables = runnables = Runnables(store, specifications, environment)
        domains = Domains("functions.localhost")
        rule_book = RuleBook(domains)
        starter = DeploymentStarter(clock=clock, limits=limits)
        common: dict[str, Any] = {"store": store, "clock": clock, "events": events}
        running: dict[str, Any] = {**common, "executor": executor, "runnables": runnables}
        self.hosts: dict[Provider, GitHost] = {Provider.GIT: PlainGit(cast(GitReader, KnownRepositories()))}
        connections = Connections(store=store, clock=clock, hosts=self.hosts, endpoint="http://api.test/v1")
        git_deployments = GitDeployments(starter=starter, hosts=self.hosts, templates_url="https://git.test", **common)
        uploads = Uploads(files=files, starter=starter, limits=limits, **common)
        builds = Builds(
            sources=Sources(
                store=store, files=files, fetcher=cast(Fetcher, None), connections=connections, limits=limits
            ),
            builder=cast(Builder, None),
            environment=environment,
            specifications=specifications,
            starter=starter,
            rule_book=rule_book,
            limits=limits,
            **running,
        )
        deployments = DeploymentsControl(files=files, starter=starter, uploads=uploads, builds=builds, **running)
        self.identify = Identify(store, tokens, clock, people)
        self.addresses: dict[str, frozenset[str]] = {}
        self.hosting = hosting = compose_hosting(
            rule_book=rule_book,
            domains=domains,
            region="default",
            mint_key=tokens.mint,
            forget_keys=self.identify.forget_keys,
            resolve=self._resolve,
            **running,
        )
        self.events = events
        executing: dict[str, Any] = {
            "gates": Gates(),
            "bodies": (kept_bodies := KeptBodies(store)),
            "mint_key": tokens.mint,
            "mint_user_jwt": tokens.mint_user_jwt,
            **running,
        }
        self.kept_bodies = kept_bodies
        self.queued = QueuedExecutions(**executing)
        self.idempotency = Idempotency(store=store, clock=clock, owner="here/1")
        executions = ExecutionsControl(queued=self.queued, **executing)
        logs = LogsControl(store=store, executor=executor, executions=executions)
        events.watch(logs.heard, lambda project_id: False)
        control = Control(
            projects=hosting.projects,
            keys=hosting.keys,
            platforms=hosting.platforms,
            project_variables=hosting.project_variables,
            rules=hosting.rules,
            webhooks=hosting.webhooks,
            events=events,
            rule_book=rule_book,
            origin_book=hosting.origin_book,
            functions=FunctionsControl(
                connections=connections,
                git_deployments=git_deployments,
                runtimes=runtimes,
                specifications=specifications,
                rule_book=rule_book,
                **running,
            ),
            function_settings=FunctionSettingsControl(check_egress=parse_allow_list, **running),
            variables=VariablesControl(**running),
            deployments=deployments,
            git_deployments=git_deployments,
            installations=InstallationsControl(
                store=store,
                clock=clock,
                hosts=self.hosts,
                connections=connections,
                runtimes=runtimes,
                seal=lambda text: text,
                unseal=lambda text: text,
            ),
            connections=connections,
            pushes=Pushes(
                pull_requests=PullRequests(
                    store=store,
                    hosts=self.hosts,
                    rule_book=rule_book,
                    functions_domain=domains.functions,
                    endpoint="http://api/v1",
                ),
                hosts=self.hosts,
                git_deployments=git_deployments,
                deployments=deployments,
                starter=starter,
                rule_book=rule_book,
                functions_domain=domains.functions,
                **common,
            ),
            executions=executions,
            logs=logs,
            usage=UsageControl(store=store, clock=clock, specifications=specifications),
            dead_letters=DeadLettersControl(store=store, runnables=runnables, queued=self.queued),
            bodies=(bodies := BodiesControl(store=store, runnables=runnables, bodies=kept_bodies)),
            replays=ReplaysControl(
                bodies=bodies,
                executions=executions,
                queued=self.queued,
                runnables=runnables,
                mint_user_jwt=tokens.mint_user_jwt,
            ),
            idempotency=self.idempotency,
            people=people_control(
                passwords=Passwords(CHEAP), mint_user_jwt=tokens.mint_user_jwt, forget=people.forget, **common
            ),
            runtimes=runtimes,
            specifications=specifications,
            health=store,
        )
        self.recorder = NotingRecorder()
        events.record_with(self.recorder)
        events.subscribe(self.recorder.heard)
        self.app = create_app(control, self.identify, settings=ApiSettings(), clock=clock)
        events.watch(self.app.hub.heard, self.app.hub.is_watched)

    async def _resolve(self, name: str) -> frozenset[str]:
        return self.addresses.get(name, frozenset())

    def client(self, key: str = SECRET, **headers: str) -> httpx.AsyncClient:
        """A client of the project, with one of its keys."""
        sent = {"x-appwrite-project": PROJECT_ID, "x-appwrite-key": key, **headers}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://api.test/v1", headers=sent, timeout=30
        )

    async def build(self, function_id: str, deployment_id: str) -> None:
        """Make a deployment ready and active, as a build would."""
        async with self.store.begin(PROJECT_ID) as unit:
            await unit.deployments.move(deployment_id, DeploymentStatus.BUILDING)
            await unit.deployments.move(
                deployment_id, DeploymentStatus.READY, artifact_key="artifacts/a", artifact_digest="0" * 64
            )
            await unit.functions.update(function_id, deployment_id=deployment_id, deployment_created_at=NOW)
        self.runnables.drop(PROJECT_ID, function_id)


@asynccontextmanager
async def whole(data_dir: Path) -> AsyncIterator[Whole]:
    """The application over an empty data folder with two projects, each with a key."""
    put_database(data_dir)
    store = await open_store("", data_dir=data_dir, secret=VariableCipher(bytes(32)), clock=FixedClock())
    files = LocalFiles(data_dir)
    try:
        await store.execution_log.open()
        for project_id, secret in ((PROJECT_ID, SECRET), (OTHER_PROJECT_ID, OTHER_SECRET)):
            await store.projects.insert(Project(project_id, project_id, NOW, NOW))
            async with store.begin(project_id) as unit:
                scopes = tuple(sorted(ALL_SCOPES))
                await unit.keys.insert(
                    ApiKey(f"key-{project_id}", project_id, "k", hash_secret(secret), scopes, NOW, NOW)
                )
        composed = Whole(store, files)
        await composed.hosting.load()
        yield composed
        await composed.kept_bodies.close()
        assert composed.recorder.only_emitted == [], "each is to be given to `Events.record` in its transaction"
    finally:
        await files.close()
        await store.close()
