"""What is handed to a builder or an executor, and what comes back. In memory only, never stored as such."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import msgspec

from hearth.model.function_settings import Egress
from hearth.model.resources import Header
from hearth.model.streaming import StreamReceiver


@dataclass(frozen=True, slots=True)
class Specification:
    """A named size: `cpus` in cores (may be fractional), `memory_mb` in MiB."""

    slug: str
    cpus: float
    memory_mb: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """The packed, runnable output of a build; never changes. `digest` is the SHA-256 (hex) of its bytes."""

    key: str
    digest: str
    size_bytes: int


class InstanceKey(NamedTuple):
    """What is fixed when an instance starts: two invocations with equal keys may share an instance.

    `variables_digest` stands for the environment and for where the code may connect to, so that a changed variable
    leads to new instances.
    """

    deployment_id: str
    variables_digest: str
    specification: str


@dataclass(frozen=True, slots=True)
class InstanceTemplate:
    """Everything an executor needs to start an instance for `key`."""

    key: InstanceKey
    project_id: str
    function_id: str
    runtime: str
    artifact: Artifact
    entrypoint: str
    environment: Mapping[str, str]
    cpus: float
    memory_mb: int
    egress: Egress = Egress.DEFAULT
    egress_allow: tuple[str, ...] = ()
    """With `egress` list, what may be reached: `host:port` and networks with an optional port."""


class Invocation(msgspec.Struct, frozen=True):
    """One request for a function: which instance may serve it, and what it is to be given.

    `timeout_s` counts from the moment an instance accepts; `wait_s` bounds the wait for an instance. `receiver` takes
    the response if the function streams it; without one a streamed response is collected like any other.
    """

    execution_id: str
    template: InstanceTemplate
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    timeout_s: float
    wait_s: float
    logging: bool = True
    receiver: StreamReceiver | None = None


class Outcome(StrEnum):
    """How a run ended. All but `COMPLETED` are the function's fault and carry a reason in `Result.errors`."""

    COMPLETED = "completed"
    """The handler answered; its status code may still be 5xx."""
    LOAD_FAILED = "load_failed"
    """The code could not be loaded: entrypoint missing, syntax error, missing module, no handler."""
    TIMED_OUT = "timed_out"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    """The process ended by itself or by a signal while it had the request."""
    CANCELED = "canceled"
    """Whoever read the streamed response left; the function was stopped."""


class Result(msgspec.Struct, frozen=True):
    """What came back from one run. `headers` are the function's own, names lower-case, in order.

    `duration_s` counts from the moment an instance accepted; `queued_s` is the wait before. `logs` and
    `errors` are whole texts with a newline after each line. The body is empty where a receiver took it.
    """

    outcome: Outcome
    status_code: int
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    logs: str = ""
    errors: str = ""
    duration_s: float = 0.0
    queued_s: float = 0.0
    cold: bool = False
    broken: bool = False
    """A response that the function streamed did not come to its end, for whatever reason."""
    cpu_s: float | None = None
    """CPU time it used, in seconds: its share where several run in one instance (docs/adr/0033). None = not counted."""
    peak_memory_bytes: int | None = None
    """The most memory its instance had used by then, since it was started. None = not counted."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build. `output_limit_bytes` bounds the artifact, `timeout_s` the whole build.

    `environment` is all that the commands get, `variables` the part of it that users set. Without `use_cache` nothing
    that an earlier build installed is restored. `secrets` are values that its log may not show.
    """

    deployment_id: str
    project_id: str
    function_id: str
    runtime: str
    source_key: str
    entrypoint: str
    commands: str
    environment: Mapping[str, str]
    cpus: float
    memory_mb: int
    timeout_s: float
    output_limit_bytes: int
    variables: Mapping[str, str] = field(default_factory=dict)
    use_cache: bool = True
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BuildResult:
    """How a build ended: an artifact, or a message that tells the user what to do."""

    artifact: Artifact | None
    message: str = ""
    warnings: tuple[str, ...] = field(default=())
