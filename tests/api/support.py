"""A control that records what it is asked and answers from memory, and a client over the application.

`Scripted` stands for one attribute of control: each use case returns what the test put in, or raises it.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx

from hearth.api.app import Api, create_app
from hearth.api.metrics import Scrapes
from hearth.api.settings import ApiSettings
from hearth.auth.identify import GUEST, Credentials
from hearth.control.control import Control
from hearth.control.log_watch import Ended, Line, LogWatch
from hearth.control.platforms import OriginBook
from hearth.control.rules import Domains, RuleBook
from hearth.control.specifications import Specifications
from hearth.control.views import ExecutionView, FunctionView
from hearth.data import load
from hearth.model.actor import Actor, ActorKind
from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment, Execution, Function, Project, Variable
from hearth.model.scopes import project_scopes
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, Trigger
from hearth.model.streaming import LogStream

NOW = datetime(2026, 11, 24, 10, 20, 30, 123_000, tzinfo=UTC)
PROJECT = Project("p1", "Project", NOW, NOW)
KEY = "standard_all"
READ_ONLY_KEY = "standard_read"
EXPIRED_KEY = "standard_expired"
ALL_SCOPES = frozenset(project_scopes())
_KEYS = {KEY: ALL_SCOPES, READ_ONLY_KEY: frozenset({"functions.read"}), EXPIRED_KEY: frozenset[str]()}


class Scripted:
    """Use cases that answer `results[name]` (raised if it is an exception) and note their arguments in `calls`."""

    def __init__(self, **results: Any) -> None:
        self.results = results
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def use_case(*args: Any, **arguments: Any) -> Any:
            self.calls.append((name, args, arguments))
            result = self.results[name]
            if callable(result):
                result = await result(*args, **arguments)
            if isinstance(result, BaseException):
                raise result
            return result

        return use_case


class ScriptedLogs(Scripted):
    """Every log has one line and has ended."""

    def __init__(self) -> None:
        super().__init__(of_execution=self._watch, of_function=self._watch)

    def stop(self) -> None:
        """Nobody reads when the server stops."""

    @staticmethod
    async def _watch(*_: Any, **__: Any) -> LogWatch:
        watch = LogWatch([Line("1-0", EXECUTION.id, LogStream.LOGS, 1, "a line"), Ended("1-0", EXECUTION)])
        watch.finish()
        return watch


class ScriptedDeployments(Scripted):
    """Deployments whose upload keeps the bytes of the part, since its scratch file is gone afterwards."""

    def __init__(self, **results: Any) -> None:
        super().__init__(check_upload=None, **results)
        self.received: list[bytes] = []

    @contextlib.asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "part"

    async def upload(self, *args: Any, **arguments: Any) -> Any:
        part = arguments["part"]
        self.received.append(b"" if part is None else part.path.read_bytes())
        self.calls.append(("upload", args, arguments))
        result = self.results.get("upload", DEPLOYMENT)
        if isinstance(result, BaseException):
            raise result
        return result


class FixedClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def move(self, **span: float) -> None:
        self.moment += timedelta(**span)


class FakeIdentify:
    """Knows the keys above; a session named like a user makes that user. Keeps the credentials it was shown."""

    def __init__(self) -> None:
        self.seen: list[Credentials] = []

    async def identify(self, credentials: Credentials) -> Actor:
        self.seen.append(credentials)
        if credentials.key in _KEYS:
            if credentials.header_project_id != PROJECT.id:
                raise Refusal("project_id_missing")
            if credentials.key == EXPIRED_KEY:
                raise Refusal("project_key_expired")
            return Actor(ActorKind.KEY, _KEYS[credentials.key], roles=("keys",))
        if credentials.session:
            return Actor(
                ActorKind.USER,
                frozenset({"public", "global", "executions.write", "executions.read"}),
                roles=("any", "users", f"user:{credentials.session}"),
                user_id=credentials.session,
                session_id="s1",
                label=f"{credentials.session}@example.com",
            )
        return GUEST


async def _project(project_id: str) -> Project | None:
    return PROJECT if project_id == PROJECT.id else None


class World:
    """One application over scripted control."""

    def __init__(self, *, scrapes: Scrapes | None = None, **settings: Any) -> None:
        self.clock = FixedClock()
        self.identify = FakeIdentify()
        self.functions = Scripted(create=FUNCTION_VIEW, get=FUNCTION_VIEW, update=FUNCTION_VIEW, delete=None)
        self.variables = Scripted(create=VARIABLE, get=VARIABLE, update=VARIABLE, delete=None)
        self.deployments = ScriptedDeployments(get=DEPLOYMENT, cancel=DEPLOYMENT, duplicate=DEPLOYMENT, delete=None)
        self.executions = Scripted(create=EXECUTION_VIEW, get=EXECUTION, delete=None)
        self.bodies = Scripted(response_of=None)
        self.logs = ScriptedLogs()
        self.health = Scripted(ping=None)
        control = SimpleNamespace(
            projects=SimpleNamespace(get=_project, team_of=lambda project_id: ""),
            rule_book=RuleBook(Domains("functions.localhost")),
            origin_book=OriginBook(),
            functions=self.functions,
            variables=self.variables,
            deployments=self.deployments,
            executions=self.executions,
            bodies=self.bodies,
            logs=self.logs,
            runtimes=SimpleNamespace(all=lambda: RUNTIMES, installed=lambda: RUNTIMES),
            specifications=Specifications(0, 0),
            health=self.health,
        )
        self.app: Api = create_app(
            cast(Control, control),
            self.identify,
            settings=ApiSettings(**settings),
            clock=self.clock,
            scrapes=scrapes,
        )

    def client(self, headers: Mapping[str, str] | None = None, **options: Any) -> httpx.AsyncClient:
        """A client with the headers of a key that may do everything, unless `headers` are given."""
        chosen = {"x-appwrite-project": PROJECT.id, "x-appwrite-key": KEY} if headers is None else headers
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True, **options)
        return httpx.AsyncClient(transport=transport, base_url="http://api.test", headers=dict(chosen))


RUNTIMES = tuple(
    {"$id": row["id"], **{key: row[key] for key in ("key", "name", "version", "base", "image", "logo", "supports")}}
    for row in load("runtimes.json")["runtimes"]
)
FUNCTION = Function(
    "f1",
    PROJECT.id,
    NOW,
    NOW,
    "Greeter",
    "python-3.12",
    execute=("any",),
    scopes=("users.read",),
    deployment_id="d1",
    deployment_created_at=NOW,
    latest_deployment_id="d1",
    latest_deployment_created_at=NOW,
    latest_deployment_status="ready",
    build_specification="s-1vcpu-512mb",
    runtime_specification="s-2vcpu-2gb",
)
VARIABLE = Variable("v1", PROJECT.id, "function", "f1", NOW, NOW, "GREETING", "hello", False)
SECRET = Variable("v2", PROJECT.id, "function", "f1", NOW, NOW, "TOKEN", "s3cret", True)
FUNCTION_VIEW = FunctionView(FUNCTION, (VARIABLE, SECRET))
DEPLOYMENT = Deployment(
    "d1",
    PROJECT.id,
    "f1",
    NOW,
    NOW,
    "manual",
    DeploymentStatus.WAITING,
    "main.py",
    "",
    True,
    source_size_bytes=100,
    build_size_bytes=50,
    source_chunks_total=3,
    source_chunks_uploaded=2,
)
EXECUTION = Execution(
    "e1",
    PROJECT.id,
    "f1",
    "d1",
    NOW,
    NOW,
    Trigger.HTTP,
    ExecutionStatus.COMPLETED,
    "POST",
    "/",
    request_headers=(("content-type", "application/json"),),
    response_status_code=200,
    response_headers=(("content-type", "text/plain"),),
    logs="a log\n",
    errors="an error\n",
    duration_s=0.25,
)
EXECUTION_VIEW = ExecutionView(EXECUTION, b"hi", (("content-type", "text/plain"), ("x-own", "1")))
