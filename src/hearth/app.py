"""The composition root: the only place that names implementations. What a start does in which order is in `server`."""

import hmac
import os
import time
import uuid
from collections.abc import Mapping

import structlog

from hearth.api.app import create_app
from hearth.api.metrics import Scrapes
from hearth.api.payloads import owner_payload
from hearth.api.settings import ApiSettings
from hearth.auth.identify import Identify
from hearth.auth.passwords import Passwords
from hearth.auth.people import People
from hearth.auth.secrets import VariableCipher
from hearth.auth.tokens import Tokens
from hearth.build.builder import BuildSettings, SandboxBuilder
from hearth.build.cache import BuildCache
from hearth.build.fetcher import SandboxFetcher, TemplatesHost
from hearth.build.git_sandbox import LocalRepositories
from hearth.build.reader import SandboxGitReader
from hearth.control.bodies import BodiesControl
from hearth.control.bootstrap import bootstrap
from hearth.control.builds import Builds
from hearth.control.connections import Connections
from hearth.control.control import Control
from hearth.control.dead_letters import DeadLettersControl
from hearth.control.deployments import DeploymentsControl
from hearth.control.elsewhere import ChangesElsewhere
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
from hearth.control.jobs import JobKind
from hearth.control.kept import KeptInstances
from hearth.control.kept_bodies import KeptBodies
from hearth.control.logs import LogsControl
from hearth.control.people import people_control
from hearth.control.pull_requests import PullRequests
from hearth.control.pushes import Pushes
from hearth.control.queued import QueuedExecutions
from hearth.control.repairs import Repairs
from hearth.control.replays import ReplaysControl
from hearth.control.reports import Reports
from hearth.control.retention import Retention
from hearth.control.rules import Domains, RuleBook
from hearth.control.run_figures import RunFigures
from hearth.control.runnables import Runnables
from hearth.control.sources import Sources as CodeSources
from hearth.control.specifications import Specifications
from hearth.control.starting import DeploymentStarter
from hearth.control.uploads import Uploads
from hearth.control.usage import UsageControl
from hearth.control.variables import VariablesControl
from hearth.control.views import ControlLimits
from hearth.executor.limits import MIB, ExecutorLimits, PoolLimits, StemLimits
from hearth.executor.local import LocalExecutor
from hearth.executor.sandbox.egress_policy import parse_allow_list
from hearth.executor.sandbox.spec import Driver
from hearth.jobs.deliveries import Deliveries
from hearth.jobs.dispatcher import Dispatcher
from hearth.jobs.handlers import Handlers
from hearth.jobs.maintenance import Maintenance
from hearth.jobs.polling import Polling
from hearth.jobs.reaper import Reaper
from hearth.jobs.worker import Worker
from hearth.metrics import Metrics, Sources
from hearth.model import times
from hearth.model.resources import Deployment, Function, Variable
from hearth.model.vcs import Provider
from hearth.outbound.addresses import resolve
from hearth.outbound.caller import Caller
from hearth.outbound.poster import Poster
from hearth.ports import GitHost
from hearth.runtimes.catalogue import Catalogue
from hearth.runtimes.packs import Packs
from hearth.runtimes.registries import Registries
from hearth.settings import Settings
from hearth.store.files.local import LocalFiles
from hearth.store.sql.store import SqlStore, open_store
from hearth.triggers.alarm import Alarm
from hearth.triggers.events import EventTriggers
from hearth.triggers.scheduler import Scheduler
from hearth.vcs.forges import forges
from hearth.vcs.github_app import AppKeys
from hearth.vcs.plain import PlainGit

log = structlog.get_logger(__name__)

#: How much more memory instances may be promised than the machine has, where the operator names no budget. A
#: promise is a hard limit of one instance, not what it uses; idle ones use a few MB.
MEMORY_OVERCOMMIT = 8
#: What part of the machine's memory stem cells may take, where the operator names no amount.
STEMS_SHARE = 16
PURGE_CONCURRENCY = 1
WEBHOOK_CONCURRENCY = 16
EVENT_CONCURRENCY = 4
PUSH_CONCURRENCY = 4
REPORT_CONCURRENCY = 4


class SystemClock:
    """The real time (`hearth.ports.Clock`)."""

    now = staticmethod(times.now)
    monotonic = staticmethod(time.monotonic)


class Application:
    """Everything of one server that lives in the event loop. `start`, then `asgi` may be served, then `stop`."""

    def __init__(
        self,
        settings: Settings,
        *,
        driver: Driver,
        packs: Packs,
        registries: Registries,
        github_app: AppKeys | None,
        variables_key: bytes,
        tokens_key: bytes,
        metrics_token: str,
        egress_refused: Mapping[str, int],
        function_endpoint: str,
    ) -> None:
        self._settings = settings
        self._driver = driver
        self._packs = packs
        self._registries = registries
        self._github_app = github_app
        self._cipher = VariableCipher(variables_key)
        # Of its own, so that nothing said under the one key is ever said under the other.
        self._build_cache_key = hmac.new(variables_key, b"hearth build cache", "sha256").digest()
        self._tokens = Tokens(tokens_key)
        self._metrics_token = metrics_token
        self._egress_refused = egress_refused
        self._passwords = Passwords()
        self._function_endpoint = function_endpoint
        self._clock = SystemClock()

    async def start(self, public_endpoint: str) -> None:
        """Open the database, repair what a killed server left, and start all loops."""
        settings, clock = self._settings, self._clock
        self._store = store = await open_store(
            settings.database_url,
            data_dir=settings.data_dir,
            secret=self._cipher,
            clock=clock,
            synced=settings.commit_survives == "machine",
        )
        await bootstrap(store, clock, settings.data_dir, public_endpoint)
        self._compose(store, public_endpoint)
        await self._hosting.load()
        await self._event_triggers.load()
        self._deliveries.start()
        await self._repairs.at_start()
        await self._reaper.at_start()
        await self._builder.sweep()
        await self._executor.start()
        self._kept.start()
        self._elsewhere.start()
        self._reaper.start()
        self._worker.start()
        self._dispatcher.start()
        self._scheduler.start()
        self._maintenance.start()
        self._reports.start()
        self._polling.start()

    @property
    def grace_s(self) -> float:
        """Seconds running executions get at a stop."""
        return self._settings.grace

    def refuse_new_work(self) -> None:
        """From now on the API answers 503."""
        self.asgi.refuse_new_work()

    async def render_metrics(self) -> bytes:
        """The figures of this server, as Prometheus reads them."""
        return await self._metrics.render()

    async def stop(self) -> None:
        """Let what runs end within the grace period, end the rest, and close everything."""
        await self._polling.close()
        await self._reports.close()
        await self._maintenance.close()
        await self._scheduler.close()
        await self._elsewhere.close()
        await self._kept.close()
        await self._reaper.close()
        self._worker.pause()
        self._dispatcher.pause()
        await self._executor.close(self._settings.grace)
        await self._executions.drain()
        await self._idempotency.close()
        await self._dispatcher.close()
        await self._worker.close()
        await self._kept_bodies.close()
        await self._deliveries.close()
        await self._poster.close()
        await self._caller.close()
        await self._driver.close()
        self._passwords.close()
        await self._files.close()
        await self._store.close()

    def _compose(self, store: SqlStore, public_endpoint: str) -> None:
        settings, clock, tokens = self._settings, self._clock, self._tokens
        limits = control_limits(settings)
        events = EventBus()
        domains = api_domains(settings)
        rule_book = RuleBook(domains)
        people = People(store, tokens, clock)
        self._files = files = LocalFiles(settings.data_dir)
        runtimes = Catalogue(self._packs)
        specifications = Specifications(settings.compute_cpus, settings.compute_memory)
        environment = Environment(
            endpoint=self._function_endpoint, region=settings.region, runtimes=runtimes.all(), mint_key=tokens.mint
        )
        runnables = Runnables(store, specifications, environment)
        self._executor = executor = LocalExecutor(
            self._driver, self._packs, files, settings.data_dir, executor_limits(settings), clock
        )
        self._builder = builder = SandboxBuilder(
            self._driver,
            self._packs,
            files,
            settings.data_dir,
            self._registries,
            BuildSettings(disk_mb=settings.build_disk_mb),
            BuildCache(
                settings.data_dir.resolve() / "build-cache",
                self._build_cache_key,
                limit_bytes=settings.build_cache_mb * MIB,
                max_age_s=settings.build_cache_age,
            ),
        )
        templates = TemplatesHost.of(settings.templates_url)
        local = local_repositories(settings)
        fetcher = SandboxFetcher(self._driver, files, settings.data_dir, templates, local=local)
        self._caller = Caller(parse_allow_list(settings.egress_allow.split(",")))
        plain_git = PlainGit(SandboxGitReader(self._driver, settings.data_dir, local))
        hosts: dict[Provider, GitHost] = {Provider.GIT: plain_git, **forges(self._caller, self._github_app)}
        connections = Connections(store=store, clock=clock, hosts=hosts, endpoint=public_endpoint)
        starter = DeploymentStarter(clock=clock, limits=limits)
        uploads = Uploads(store=store, files=files, clock=clock, events=events, starter=starter, limits=limits)
        builds = Builds(
            store=store,
            clock=clock,
            events=events,
            sources=CodeSources(store=store, files=files, fetcher=fetcher, connections=connections, limits=limits),
            builder=builder,
            executor=executor,
            environment=environment,
            specifications=specifications,
            runnables=runnables,
            starter=starter,
            rule_book=rule_book,
            limits=limits,
        )
        git_deployments = GitDeployments(
            store=store, clock=clock, events=events, starter=starter, hosts=hosts, templates_url=templates.url
        )
        functions = FunctionsControl(
            connections=connections,
            git_deployments=git_deployments,
            store=store,
            clock=clock,
            events=events,
            executor=executor,
            runtimes=runtimes,
            specifications=specifications,
            runnables=runnables,
            rule_book=rule_book,
        )
        variables = VariablesControl(store=store, clock=clock, events=events, executor=executor, runnables=runnables)
        deployments = DeploymentsControl(
            store=store,
            files=files,
            clock=clock,
            events=events,
            executor=executor,
            runnables=runnables,
            starter=starter,
            uploads=uploads,
            builds=builds,
        )
        gates = Gates()
        self._kept_bodies = kept_bodies = KeptBodies(store)
        queued = QueuedExecutions(
            store=store,
            clock=clock,
            events=events,
            executor=executor,
            runnables=runnables,
            mint_key=tokens.mint,
            mint_user_jwt=tokens.mint_user_jwt,
            gates=gates,
            figures=RunFigures(settings.metrics_functions),
            bodies=kept_bodies,
        )
        self._executions = executions = ExecutionsControl(
            store=store,
            clock=clock,
            events=events,
            executor=executor,
            runnables=runnables,
            mint_key=tokens.mint,
            mint_user_jwt=tokens.mint_user_jwt,
            queued=queued,
            gates=gates,
            bodies=kept_bodies,
        )
        logs = LogsControl(store=store, executor=executor, executions=executions)
        events.watch(logs.heard, lambda project_id: False)
        identify = Identify(store, tokens, clock, people)
        self._hosting = hosting = compose_hosting(
            store=store,
            clock=clock,
            events=events,
            executor=executor,
            runnables=runnables,
            rule_book=rule_book,
            domains=domains,
            region=settings.region,
            mint_key=tokens.mint,
            forget_keys=identify.forget_keys,
            resolve=resolve,
        )
        self._poster = Poster(parse_allow_list(settings.egress_allow.split(",")))
        self._deliveries = deliveries = Deliveries(
            store=store,
            clock=clock,
            webhooks=hosting.webhooks,
            book=hosting.webhook_book,
            poster=self._poster,
            payload_of=owner_payload,
        )
        events.subscribe(deliveries.heard)
        self._repairs = Repairs(
            store=store, clock=clock, executions=executions, uploads=uploads, builds=builds, limits=limits
        )
        node = os.uname().nodename
        self._idempotency = Idempotency(store=store, clock=clock, owner=f"{node}/{uuid.uuid4().hex}")
        pull_requests = PullRequests(
            store=store, hosts=hosts, rule_book=rule_book, functions_domain=domains.functions, endpoint=public_endpoint
        )
        pushes = Pushes(
            pull_requests=pull_requests,
            store=store,
            clock=clock,
            events=events,
            hosts=hosts,
            git_deployments=git_deployments,
            deployments=deployments,
            starter=starter,
            rule_book=rule_book,
            functions_domain=domains.functions,
        )
        self._reports = reports = Reports(
            store=store, clock=clock, hosts=hosts, pull_requests=pull_requests, console_url=public_endpoint
        )
        events.subscribe(reports.heard, Deployment)
        self._polling = Polling(pushes=pushes, interval_s=settings.git_poll_interval)
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
            functions=functions,
            function_settings=FunctionSettingsControl(
                store=store,
                clock=clock,
                events=events,
                executor=executor,
                runnables=runnables,
                check_egress=parse_allow_list,
            ),
            variables=variables,
            deployments=deployments,
            git_deployments=git_deployments,
            installations=InstallationsControl(
                store=store,
                clock=clock,
                hosts=hosts,
                connections=connections,
                runtimes=runtimes,
                seal=self._cipher.seal_text,
                unseal=self._cipher.open_text,
            ),
            connections=connections,
            pushes=pushes,
            executions=executions,
            logs=logs,
            usage=(usage := UsageControl(store=store, clock=clock, specifications=specifications)),
            dead_letters=DeadLettersControl(store=store, runnables=runnables, queued=queued),
            bodies=(bodies := BodiesControl(store=store, runnables=runnables, bodies=kept_bodies)),
            replays=ReplaysControl(
                bodies=bodies,
                executions=executions,
                queued=queued,
                runnables=runnables,
                mint_user_jwt=tokens.mint_user_jwt,
            ),
            idempotency=self._idempotency,
            people=people_control(
                store=store,
                clock=clock,
                events=events,
                passwords=self._passwords,
                mint_user_jwt=tokens.mint_user_jwt,
                forget=people.forget,
            ),
            runtimes=runtimes,
            specifications=specifications,
            health=store,
        )
        retention = Retention(store=store, clock=clock, deployments=deployments, limits=limits, usage=usage)
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
        self._dispatcher = dispatcher = Dispatcher(
            store=store,
            clock=clock,
            owner=f"{node}/{uuid.uuid4().hex}",
            queued=queued,
            places=settings.async_concurrency,
        )
        self._event_triggers = event_triggers = EventTriggers(
            store=store, clock=clock, queued=queued, payload_of=owner_payload
        )
        events.record_with(event_triggers)
        events.subscribe(event_triggers.heard, Function)
        self._scheduler = scheduler = Scheduler(store=store, clock=clock, queued=queued, make_alarm=Alarm)
        events.subscribe(scheduler.heard, Function, Deployment)
        self._kept = KeptInstances(store=store, runnables=runnables, executor=executor)
        events.subscribe(self._kept.heard, Function, Deployment, Variable)
        self._elsewhere = elsewhere = ChangesElsewhere(
            store=store,
            clock=clock,
            runnables=runnables,
            forget_keys=identify.forget_keys,
            forget_people=people.forget_all,
            reload_hosting=hosting.load,
            follow=(event_triggers.heard, scheduler.heard, self._kept.heard),
            reload=(event_triggers.load, scheduler.reload, self._kept.reload),
        )
        store.on_changes(elsewhere.heard)
        self._worker = worker = Worker(
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
        self._reaper = Reaper(
            store=store,
            clock=clock,
            handlers=handlers,
            node=node,
            is_held=lambda job_id: dispatcher.holds(job_id) or worker.holds(job_id),
        )
        self._maintenance = Maintenance(repairs=self._repairs, retention=retention)
        scrapes = Scrapes(self.render_metrics, self._metrics_token)
        self.asgi = app = create_app(control, identify, settings=api_settings(settings), clock=clock, scrapes=scrapes)
        self._metrics = Metrics(
            Sources(
                runs=queued.figures,
                builds=builds.figures,
                executor=executor.figures,
                store=store,
                schedules=lambda: len(scheduler),
                lateness=scheduler.lateness,
                answered=app.answered,
                realtime=lambda: len(app.hub),
                egress_refused=self._egress_refused,
                data_dir=settings.data_dir,
            )
        )
        events.watch(app.hub.heard, app.hub.is_watched)


def local_repositories(settings: Settings) -> LocalRepositories:
    """The folders of repositories that installations may name."""
    return LocalRepositories(tuple(path.rstrip("/") for path in settings.git_local_paths.split(",") if path.strip()))


def control_limits(settings: Settings) -> ControlLimits:
    """The part of the settings that use cases decide by."""
    return ControlLimits(
        source_size_bytes=settings.source_size_limit,
        build_output_bytes=settings.build_size_limit,
        build_timeout_s=settings.build_timeout,
        execution_retention_s=settings.execution_retention,
    )


def api_domains(settings: Settings) -> Domains:
    """The names rules are made below, and those nobody may take."""
    return Domains(
        functions=settings.functions_domain.lower().strip("."),
        target=tuple(filter(None, map(str.strip, settings.domain_target.lower().split(",")))),
        reserved=frozenset(filter(None, map(str.strip, settings.api_domain.lower().split(",")))),
    )


def api_settings(settings: Settings) -> ApiSettings:
    """The part of the settings that the API decides by."""
    return ApiSettings(
        abuse=settings.abuse == "on",
        functions_domain=settings.functions_domain,
        function_creations_per_day=settings.function_creations_per_day,
        function_timeout_max_s=settings.functions_timeout,
        build_timeout_s=settings.build_timeout,
        region=settings.region,
        domain_target=api_domains(settings).target,
        source_max_bytes=settings.source_size_limit,
        body_memory_max_bytes=settings.body_memory_mb * MIB,
        uploads_at_once=settings.uploads_at_once,
        allowed_origins=settings.origins,
        trusted_proxies=settings.proxies,
    )


def executor_limits(settings: Settings) -> ExecutorLimits:
    """The part of the settings that the executor is bounded by."""
    machine_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MIB
    return ExecutorLimits(
        pool=PoolLimits(
            max_instances_per_key=settings.max_instances_per_function,
            max_instances=settings.max_instances,
            memory_mb=settings.instance_memory_mb or machine_mb * MEMORY_OVERCOMMIT,
            max_waiting=settings.max_waiting,
            idle_timeout_s=settings.instance_idle,
        ),
        stems=StemLimits(
            per_kind=settings.stems_per_runtime,
            max_stems=settings.stems_max,
            memory_mb=settings.stems_memory_mb or machine_mb // STEMS_SHARE,
        ),
        max_stream_bytes=settings.stream_size_limit,
        code_cache_bytes=settings.code_cache_mb * MIB,
    )
