"""The composition root: the only place that names implementations. What a start does in which order is in `server`."""

import hmac
import os
import uuid
from collections.abc import Mapping

import structlog

from hearth.api.app import create_app
from hearth.api.metrics import Scrapes
from hearth.auth.identify import Identify
from hearth.auth.passwords import Passwords
from hearth.auth.people import People
from hearth.auth.secrets import VariableCipher
from hearth.auth.tokens import Tokens
from hearth.build.builder import BuildSettings, SandboxBuilder
from hearth.build.cache import BuildCache
from hearth.build.fetcher import SandboxFetcher, TemplatesHost
from hearth.build.reader import SandboxGitReader
from hearth.clock import SystemClock
from hearth.control.bodies import BodiesControl
from hearth.control.bootstrap import bootstrap
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
from hearth.control.repairs import Repairs
from hearth.control.replays import ReplaysControl
from hearth.control.reports import Reports
from hearth.control.retention import Retention
from hearth.control.rules import RuleBook
from hearth.control.run_figures import RunFigures
from hearth.control.runnables import Runnables
from hearth.control.sources import Sources as CodeSources
from hearth.control.specifications import Specifications
from hearth.control.starting import DeploymentStarter
from hearth.control.uploads import Uploads
from hearth.control.usage import UsageControl
from hearth.control.variables import VariablesControl
from hearth.executor.limits import MIB
from hearth.executor.local import LocalExecutor
from hearth.executor.sandbox.egress_policy import parse_allow_list
from hearth.executor.sandbox.spec import Driver
from hearth.loops import compose_loops
from hearth.metrics import Metrics, Sources
from hearth.model.resources import Deployment
from hearth.model.vcs import Provider
from hearth.outbound.addresses import resolve
from hearth.outbound.caller import Caller
from hearth.outbound.poster import Poster
from hearth.ports import GitHost
from hearth.runtimes.catalogue import Catalogue
from hearth.runtimes.packs import Packs
from hearth.runtimes.registries import Registries
from hearth.settings import Settings
from hearth.settings_parts import api_domains, api_settings, control_limits, executor_limits, local_repositories
from hearth.store.files.local import LocalFiles
from hearth.store.sql.store import SqlStore, open_store
from hearth.vcs.forges import forges
from hearth.vcs.github_app import AppKeys
from hearth.vcs.plain import PlainGit

log = structlog.get_logger(__name__)


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
        await self._loops.load()
        await self._repairs.at_start()
        await self._loops.take_back()
        await self._builder.sweep()
        await self._executor.start()
        self._loops.start()

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
        await self._loops.quiet()
        await self._executor.close(self._settings.grace)
        await self._executions.drain()
        await self._idempotency.close()
        await self._loops.close()
        await self._kept_bodies.close()
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
        events.watch(logs.heard, lambda project_id: False, logs.is_followed)
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
        reports = Reports(
            store=store, clock=clock, hosts=hosts, pull_requests=pull_requests, console_url=public_endpoint
        )
        events.subscribe(reports.heard, Deployment)
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
        self._loops = loops = compose_loops(
            settings,
            store=store,
            clock=clock,
            node=node,
            files=files,
            events=events,
            executor=executor,
            runnables=runnables,
            builds=builds,
            queued=queued,
            hosting=hosting,
            poster=self._poster,
            repairs=self._repairs,
            retention=Retention(store=store, clock=clock, deployments=deployments, limits=limits, usage=usage),
            pushes=pushes,
            reports=reports,
            forget_keys=identify.forget_keys,
            forget_people=people.forget_all,
        )
        scrapes = Scrapes(self.render_metrics, self._metrics_token)
        self.asgi = app = create_app(control, identify, settings=api_settings(settings), clock=clock, scrapes=scrapes)
        self._metrics = Metrics(
            Sources(
                runs=queued.figures,
                builds=builds.figures,
                executor=executor.figures,
                store=store,
                schedules=lambda: len(loops.scheduler),
                lateness=loops.scheduler.lateness,
                answered=app.answered,
                realtime=lambda: len(app.hub),
                egress_refused=self._egress_refused,
                data_dir=settings.data_dir,
            )
        )
        events.watch(app.hub.heard, app.hub.is_watched, app.hub.has_watchers)
