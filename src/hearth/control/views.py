"""What control hands to its callers besides plain resources, and the limits it decides by."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hearth.control.streams import ResponseStream
from hearth.model.resources import Execution, Function, Header, Variable

#: Bytes of one upload chunk (contract: functions-api 4, `APP_LIMIT_UPLOAD_CHUNK_SIZE`).
UPLOAD_CHUNK_BYTES = 5_242_880
#: Characters of logs, errors and build logs that are kept, the tail (contract: functions-api 4).
LOG_LIMIT_CHARS = 1_000_000
#: Variables one function (or project) may have (contract: functions-api 4, `APP_LIMIT_SUBQUERY`).
VARIABLES_MAX = 1_000
#: Seconds a synchronous execution may take, whatever the function's own timeout (contract: functions-api 4).
SYNC_WAIT_S = 30.0
#: Seconds beyond the function's timeout for an asynchronous execution (contract: functions-api 4).
ASYNC_GRACE_S = 15.0
#: Seconds an execution's own key lives beyond the function's timeout (contract: functions-api 12.3).
KEY_GRACE_S = 60
#: Memory of a build is at least this, whatever its specification says (contract: functions-api 9.1).
BUILD_MEMORY_MIN_MB = 1_024


@dataclass(frozen=True, slots=True)
class ControlLimits:
    """Limits the operator may set; names and defaults as in `hearth.settings`."""

    source_size_bytes: int = 30_000_000
    """Largest source archive, 0 = none."""
    build_output_bytes: int = 2_000_000_000
    build_timeout_s: int = 900
    upload_lock_s: float = 120.0
    execution_retention_s: float = 1_209_600.0
    """Age at which executions are removed, 0 = never."""
    upload_idle_s: float = 86_400.0
    """An upload that got no chunk for this long is ended as failed."""


@dataclass(frozen=True, slots=True)
class FunctionView:
    """A function as it is shown: with its variables."""

    function: Function
    variables: tuple[Variable, ...]


class ExecutionView(msgspec.Struct, frozen=True):
    """An execution as the call that created it sees it: with the whole response.

    Both are empty for asynchronous executions and on later reads, because responses are not stored. `stream` is there
    where the caller asked for it and the function streams: then the execution still runs.
    """

    execution: Execution
    response_body: bytes = b""
    response_headers: Sequence[Header] = ()
    stream: ResponseStream | None = None


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """The file part of an upload request, spooled to `path`; the caller removes it."""

    filename: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Download:
    """A file of a deployment, to be read in ranges: `read(start, length)`."""

    size_bytes: int
    filename: str
    content_type: str
    read: Callable[[int, int], AsyncIterator[bytes]]
