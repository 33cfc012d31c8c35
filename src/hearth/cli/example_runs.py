"""Deploying the examples and running each twice, through the public API with the official Python SDK.

Only this module and nothing above it in the package knows the SDK, which is an optional dependency
(`pip install hearth[quickstart]`).
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from appwrite.client import Client
from appwrite.enums.deployment_download_type import DeploymentDownloadType
from appwrite.enums.execution_method import ExecutionMethod
from appwrite.exception import AppwriteException
from appwrite.input_file import InputFile
from appwrite.services.functions import Functions
from requests import RequestException

from hearth import CONTRACT_VERSION
from hearth.cli.examples import Example

POLL_S = 0.2
ACTIVATION_WAIT_S = 10.0
FAILURE_LINES = 15  # of a build log or an error text: enough to hold a compiler's complaint
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to reach a server as the owner of a project: what `credentials.json` holds."""

    endpoint: str
    project_id: str
    api_key: str = field(repr=False)

    @classmethod
    def from_wire(cls, document: Mapping[str, str]) -> Self:
        """From the parsed `credentials.json`."""
        return cls(document["endpoint"], document["projectId"], document["apiKey"])


@dataclass(slots=True)
class ExampleRun:
    """What became of one example, filled in as it goes.

    Times are seconds on our clock: `build_s` from the upload's start until the deployment was ready, `first_s` and
    `second_s` for the whole call. `built` is False when the function was there already with the same code; `build_s`
    is then what the server recorded, whole seconds.
    `failure` is the reason for the reader, or None.
    """

    example: Example
    runtime: str = ""
    deployment_id: str = ""
    built: bool = False
    stage: str = "waiting"
    log_line: str = ""
    build_s: float | None = None
    first_s: float | None = None
    second_s: float | None = None
    status: str = ""
    status_code: int = 0
    body: str = ""
    failure: str | None = None
    started: float = 0.0


class ExampleDeployer:
    """Brings examples onto a server and runs them; repeating it changes only what differs.

    Every method blocks and takes at most the SDK's requests plus the waits named in its text. Nothing is raised for
    a failed example: `ExampleRun.failure` says why.
    """

    def __init__(self, credentials: Credentials, runtimes: Sequence[str]) -> None:
        """`runtimes` are the ids of the runtimes that can run on that server."""
        client = Client()
        client.set_endpoint(credentials.endpoint).set_project(credentials.project_id).set_key(credentials.api_key)
        # The SDK asks for a newer version than the server's, and would print the server's note on it at every call.
        client.add_header("x-appwrite-response-format", CONTRACT_VERSION)
        self._functions = Functions(client)
        self._runtimes = runtimes

    def deploy(self, run: ExampleRun) -> None:
        """Create or correct the function and its variables; upload the code unless the same code is active."""
        with _Failing(run):
            runtime = choose_runtime(run.example.runtime, self._runtimes)
            if runtime is None:
                run.failure = (
                    f"no {family_of(run.example.runtime)} runtime can run on this machine; "
                    "`hearth runtimes list` says which can and how to get more"
                )
                return
            run.runtime = runtime
            run.stage = "creating"
            function, is_new = self._ensure_function(run.example, runtime)
            changed = self._ensure_variables(run.example) or is_new
            archive = run.example.archive()
            active = function.get("deploymentId", "")
            if active and not changed and archive == self._source(run.example.id, active):
                run.deployment_id = active
                run.build_s = float(self._functions.get_deployment(run.example.id, active).to_dict()["buildDuration"])
                run.stage = "ready"
                return
            run.stage = "uploading"
            run.started = time.monotonic()
            run.built = True
            deployment = self._functions.create_deployment(
                run.example.id, InputFile.from_bytes(archive, "code.tar.gz", "application/gzip"), activate=True
            ).to_dict()
            run.deployment_id = deployment["$id"]

    def follow(self, runs: Iterable[ExampleRun], timeout_s: float, on_change: Callable[[ExampleRun], None]) -> None:
        """Wait until every uploaded deployment is built, or `timeout_s` is over; the builds run side by side."""
        deadline = time.monotonic() + timeout_s
        pending = [run for run in runs if run.built and run.failure is None]
        while pending:
            for run in pending:
                before = (run.stage, run.log_line)
                with _Failing(run):
                    self._look(run)
                    if time.monotonic() > deadline and run.stage != "ready":
                        run.failure = f"the build was still {run.stage} after {timeout_s:.0f} s"
                if (run.stage, run.log_line) != before or run.failure is not None:
                    on_change(run)
            pending = [run for run in pending if run.failure is None and run.stage != "ready"]
            if pending:
                time.sleep(POLL_S)

    def execute(self, run: ExampleRun) -> None:
        """Run the example's request twice, timing both, and compare the answers with what it promises."""
        with _Failing(run):
            self._await_activation(run)
            for attribute in ("first_s", "second_s"):
                request = run.example.request
                started = time.perf_counter()
                execution = self._functions.create_execution(
                    run.example.id,
                    body=request.body,
                    path=request.path,
                    method=ExecutionMethod(request.method),
                    headers=dict(request.headers),
                ).to_dict()
                setattr(run, attribute, time.perf_counter() - started)
                run.status = execution["status"]
                run.status_code = int(execution["responseStatusCode"])
                run.body = execution["responseBody"]
                run.failure = _complaint(run, execution)
                if run.failure is not None:
                    return

    def _ensure_function(self, example: Example, runtime: str) -> tuple[dict[str, Any], bool]:
        """The function as it is now, and whether its active build (if any) no longer fits it."""
        settings = {_snake(name): value for name, value in example.settings.items()}
        try:
            function = self._functions.get(example.id).to_dict()
        except AppwriteException as error:
            if error.code != 404:
                raise
            return self._functions.create(function_id=example.id, runtime=runtime, **settings).to_dict(), True
        wanted = {**example.settings, "runtime": runtime}
        differing = {name for name, value in wanted.items() if function.get(name) != value}
        if not differing:
            return function, False
        # Every setting is sent: a PUT puts what is left out back to its default.
        function = self._functions.update(function_id=example.id, runtime=runtime, **settings).to_dict()
        return function, bool(differing & {"runtime", "entrypoint", "commands"})

    def _ensure_variables(self, example: Example) -> bool:
        """Make the function's variables those of the example; True if any had to be written."""
        existing = {v["key"]: v for v in self._functions.list_variables(example.id).to_dict()["variables"]}
        changed = False
        for key, value in example.variables.items():
            variable = existing.get(key)
            if variable is None:
                self._functions.create_variable(example.id, "unique()", key, value, secret=False)
            elif variable["value"] != value:
                self._functions.update_variable(example.id, variable["$id"], key=key, value=value)
            else:
                continue
            changed = True
        return changed

    def _source(self, function_id: str, deployment_id: str) -> bytes | None:
        """The code the server holds: the only honest word on what is deployed."""
        try:
            data = self._functions.get_deployment_download(function_id, deployment_id, DeploymentDownloadType.SOURCE)
        except AppwriteException as error:
            if error.code == 404:
                return None
            raise
        return data if isinstance(data, bytes) else None

    def _look(self, run: ExampleRun) -> None:
        deployment = self._functions.get_deployment(run.example.id, run.deployment_id).to_dict()
        log = _plain(deployment["buildLogs"]).rstrip()
        run.stage = deployment["status"]
        run.log_line = log.rsplit("\n", 1)[-1]
        if run.stage == "ready":
            run.build_s = time.monotonic() - run.started
        elif run.stage in ("failed", "canceled"):
            run.failure = f"the build {run.stage}; its log ends with:\n{tail(log)}"

    def _await_activation(self, run: ExampleRun) -> None:
        deadline = time.monotonic() + ACTIVATION_WAIT_S
        while self._functions.get(run.example.id).to_dict().get("deploymentId") != run.deployment_id:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the built deployment was not activated within {ACTIVATION_WAIT_S:.0f} s")
            time.sleep(POLL_S)


class _Failing:
    """Turns what a step may raise into the run's `failure`, so that one example does not end the others."""

    def __init__(self, run: ExampleRun) -> None:
        self._run = run

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, AppwriteException):
            self._run.failure = f"the server refused: {error.message} ({error.type or error.code})"
        elif isinstance(error, RequestException):
            self._run.failure = f"no connection to the server: {error}"
        elif isinstance(error, TimeoutError):
            self._run.failure = str(error)
        else:
            return False
        return True


def family_of(runtime: str) -> str:
    """The language part of a runtime id: `python-ml-3.12` is of `python-ml`."""
    return runtime.rpartition("-")[0]


def choose_runtime(wanted: str, available: Sequence[str]) -> str | None:
    """`wanted` if it can run, else the newest available one of its family, else None."""
    if wanted in available:
        return wanted
    same_family = [id for id in available if family_of(id) == family_of(wanted)]
    return max(same_family, key=_version_of, default=None)


def _version_of(runtime: str) -> tuple[int, ...]:
    return tuple(int(part) for part in runtime.rpartition("-")[2].split(".") if part.isdigit())


def _complaint(run: ExampleRun, execution: Mapping[str, Any]) -> str | None:
    """Why an execution is not what the example promises, or None."""
    request = run.example.request
    if run.status != "completed" or run.status_code != request.status:
        errors = tail(_plain(execution["errors"])) or "(no error text)"
        return f"the execution {run.status} with status {run.status_code}, expected {request.status}:\n{errors}"
    if request.body_part not in run.body:
        return f"the answer does not contain {request.body_part!r}: {run.body[:200]!r}"
    return None


def tail(text: str) -> str:
    """The last lines of a log, for a failure's reason."""
    return "\n".join(text.strip().splitlines()[-FAILURE_LINES:])


def _plain(text: str) -> str:
    return _ANSI.sub("", text)


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)
