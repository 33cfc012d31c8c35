"""One function running under `hearth dev`: instances as in a server, and a new one for each change of the code.

The pool, the conversation with the shim, the timeouts and the logs are the executor's own; only the driver is another.
"""

import asyncio
import contextlib
import hashlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from hearth.cli.dev.building import packages_of
from hearth.cli.dev.compiling import is_compiled
from hearth.cli.dev.processes import PlainDriver
from hearth.cli.dev.program import Program
from hearth.data import load
from hearth.executor.calls import Ended, Ticket
from hearth.executor.instance import Instance, Surroundings
from hearth.executor.instances import Instances
from hearth.executor.limits import ExecutorLimits, PoolLimits, StemLimits
from hearth.executor.stem_keeper import StemKeeper
from hearth.model.refusals import Unavailable
from hearth.model.running import Artifact, InstanceKey, InstanceTemplate, Invocation, Result
from hearth.model.streaming import HearLog, StreamReceiver
from hearth.runtimes.families import SYSTEM_PYTHON, family_of
from hearth.runtimes.packs import Pack

CPUS, MEMORY_MB = 1.0, 512
#: Seconds a request may wait for an instance, beyond the function's own time.
START_GRACE_S = 30.0
#: Seconds running requests get when the command ends.
CLOSE_GRACE_S = 2.0

_LIMITS = ExecutorLimits(pool=PoolLimits(pause_after_s=None, idle_timeout_s=24 * 3_600.0), stems=StemLimits(per_kind=0))


class Session:
    """Runs requests with the newest code. Made, used and closed in one event loop.

    `on_loaded` hears how each new version of the code was loaded: None, or why it was not.
    """

    def __init__(self, program: Program, cache: Path, on_loaded: Callable[[str | None], None]) -> None:
        self.program = program
        self._cache = cache
        self._version = 0
        self._template: InstanceTemplate | None = None
        self._driver = PlainDriver(
            cache / "server", _replaced(program, cache), _interpreter_environment(program, cache)
        )
        packs = _OnePack(program.pack)
        stems = StemKeeper(self._driver, packs, _LIMITS, time.monotonic, cache)
        around = Surroundings(
            self._driver,
            packs,
            _Folders(),
            stems,
            _LIMITS,
            time.monotonic,
            code_folder="",
        )
        self._instances = _Watched(around, on_loaded)

    def reload(self, variables: Mapping[str, str], folder: Path | None = None) -> None:
        """From now on requests get the code as it is now; those that run finish with what they began with.

        `folder` is where it is (default: the function's own).
        """
        self._version += 1
        old, program = self._template, self.program
        environment = {**variables, **fixed_variables(program)}
        digest = hashlib.sha256(repr(sorted(environment.items())).encode()).hexdigest()
        self._template = template = InstanceTemplate(
            key=InstanceKey(f"dev-{self._version}", digest, "dev"),
            project_id=program.project_id,
            function_id=program.id,
            runtime=program.pack.id,
            artifact=Artifact(str(folder or program.folder), "", 0),
            entrypoint=program.entrypoint,
            environment=environment,
            cpus=CPUS,
            memory_mb=MEMORY_MB,
        )
        if old is not None:
            self._instances.retire(old.key.deployment_id)
        # Loaded at once, so that a mistake is told without a request: an instance is started for a deployment, and
        # the caller who wanted it may leave.
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        ticket = self._ticket(self._invocation(template, "", "GET", "/", {}, b"", None), future)
        self._instances.submit(ticket)
        self._instances.withdraw(ticket)

    @property
    def has_code(self) -> bool:
        """Whether there has been a version that could be started."""
        return self._template is not None

    def follow_logs(self, hear: HearLog) -> None:
        """Tell every line of every request."""
        self._instances.follow_logs(self.program.id, hear)

    def submit(
        self, id: str, method: str, path: str, headers: Mapping[str, str], body: bytes, receiver: StreamReceiver
    ) -> "asyncio.Future[Result]":
        """Begin to run one request; the future gets its result, Busy or Unavailable. Cancelled, it is ended.

        Before the first `reload` it is Unavailable.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        if self._template is None:
            future.set_exception(Unavailable("The code has never been compiled; see what `hearth dev` says."))
            return future
        ticket = self._ticket(self._invocation(self._template, id, method, path, headers, body, receiver), future)
        self._instances.submit(ticket)
        future.add_done_callback(lambda ended: self._instances.withdraw(ticket) if ended.cancelled() else None)
        return future

    async def close(self) -> None:
        """End everything."""
        await self._instances.close(CLOSE_GRACE_S)
        await self._driver.close()

    def _ticket(self, invocation: Invocation, future: "asyncio.Future[Result]") -> Ticket:
        now = time.monotonic()
        slots = _LIMITS.concurrency if family_of(self.program.pack.family).is_concurrent else 1
        template, deadline = invocation.template, now + invocation.wait_s
        return Ticket(template, deadline, slots, invocation=invocation, future=future, submitted=now)

    def _invocation(
        self,
        template: InstanceTemplate,
        id: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        receiver: StreamReceiver | None,
    ) -> Invocation:
        timeout_s = float(self.program.timeout_s)
        return Invocation(
            id, template, method, path, headers, body, timeout_s, timeout_s + START_GRACE_S, receiver=receiver
        )


def fixed_variables(program: Program) -> dict[str, str]:
    """What a server would set (contract: functions-api 12.1), as far as there is something to say without one."""
    row: Mapping[str, Any] = next(
        (row for row in load("runtimes.json")["runtimes"] if row["id"] == program.pack.id), {}
    )
    return {
        "APPWRITE_FUNCTION_ID": program.id,
        "APPWRITE_FUNCTION_NAME": program.name,
        "APPWRITE_FUNCTION_DEPLOYMENT": "dev",
        "APPWRITE_FUNCTION_PROJECT_ID": program.project_id,
        "APPWRITE_FUNCTION_RUNTIME_NAME": str(row.get("name", program.pack.family)),
        "APPWRITE_FUNCTION_RUNTIME_VERSION": str(row.get("version", program.pack.version)),
        "APPWRITE_FUNCTION_CPUS": f"{CPUS:g}",
        "APPWRITE_FUNCTION_MEMORY": str(MEMORY_MB),
        "OPEN_RUNTIMES_ENV": "development",
        "OPEN_RUNTIMES_ENTRYPOINT": program.entrypoint,
        "OPEN_RUNTIMES_CPUS": f"{CPUS:g}",
        "OPEN_RUNTIMES_MEMORY": str(MEMORY_MB),
    }


class _Watched(Instances):
    """Says how each start went. With `None` only of the first instance of a version."""

    def __init__(self, surroundings: Surroundings, on_loaded: Callable[[str | None], None]) -> None:
        super().__init__(surroundings)
        self._on_loaded = on_loaded
        self._told = ""

    def on_started(self, instance: Instance, slots: int) -> None:
        self._tell(instance, None)
        super().on_started(instance, slots)

    def on_ended(self, instance: Instance, failure: object, crashed: bool) -> None:
        if failure is not None:
            self._tell(instance, failure.reason if isinstance(failure, Ended) else str(failure))
        super().on_ended(instance, failure, crashed)

    def _tell(self, instance: Instance, problem: str | None) -> None:
        version = instance.member.template.key.deployment_id
        if version != self._told:
            self._told = version
            self._on_loaded(problem)


class _Folders:
    """Implements `Codes`: the code is where it is, which its artifact says."""

    @contextlib.asynccontextmanager
    async def use(self, artifact: Artifact) -> AsyncIterator[Path]:
        yield Path(artifact.key)


class _OnePack:
    """Implements `Packs` with the one that was chosen."""

    def __init__(self, pack: Pack) -> None:
        self._pack = pack

    def get(self, id: str) -> Pack | None:
        return self._pack if id == self._pack.id else None

    def all(self) -> tuple[Pack, ...]:
        return (self._pack,)


def _replaced(program: Program, cache: Path) -> dict[str, list[str]]:
    """Python with what was installed for the function, and without byte code in the developer's folder.

    What starts a compiled program needs no Python in particular.
    """
    if is_compiled(program):
        return {SYSTEM_PYTHON: [sys.executable]}
    if program.pack.family != "python":
        return {}
    replaced = {"-I": ["-I", "-B"]}
    packages = packages_of(program, cache)
    if packages is not None:
        replaced |= {"-S": [], program.pack.interpreter: [str(packages.parents[2] / "bin" / "python")]}
    return replaced


def _interpreter_environment(program: Program, cache: Path) -> dict[str, str]:
    return {"DENO_DIR": str(cache / "deno")} if program.pack.family == "deno" else {}
