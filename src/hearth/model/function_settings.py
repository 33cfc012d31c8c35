"""Settings of a function that the Appwrite wire does not have: triggers, retries, limits, retention, egress.

A function without a row has the defaults, so clients that know nothing of them see no difference. The API's names and
bounds are in `hearth.api.resources.function_settings`; whoever gives a field its effect reads it from here, for a run
through `hearth.control.runnables.Runnable.settings`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class MissedRuns(StrEnum):
    """What becomes of planned times that passed while no server could fire them."""

    SKIP = "skip"
    ONCE = "once"
    """One run for all of them, for the last planned time."""


class Egress(StrEnum):
    """Where a function's code may connect to."""

    DEFAULT = "default"
    """What the operator's rules allow."""
    NONE = "none"
    """Nowhere, not even to the platform's own API."""
    LIST = "list"
    """Only what `egress_allow` names, within the operator's rules."""


@dataclass(frozen=True, slots=True)
class SchedulePayload:
    """The request of a scheduled run."""

    body: str = ""
    method: str = "POST"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """Everything that is set for one function. `updated_at` is None as long as nothing was."""

    schedule_time_zone: str = "UTC"
    """Name of a zone of the IANA database, in which `Function.schedule` is read."""
    schedule_paused: bool = False
    schedule_missed_runs: MissedRuns = MissedRuns.SKIP
    schedule_jitter_s: int = 0
    """Seconds over which runs of one planned time are spread; fixed per function."""
    schedule_payload: SchedulePayload = SchedulePayload()
    retry_max_attempts: int = 1
    """Runs of one asynchronous execution in all; 1 = it is not tried again."""
    retry_max_age_s: int = 3_600
    """Seconds after its creation at which an execution is not tried again."""
    retry_backoff_s: int = 1
    """Seconds before the second attempt; doubled before each further one."""
    rate_limit_per_minute: int = 0
    """Runs begun per minute; 0 = no limit."""
    max_concurrency: int = 0
    """Runs at one time; 0 = the server's default."""
    min_instances: int = 0
    """Instances kept ready."""
    store_bodies: bool = False
    bodies_max_bytes: int = 65_536
    """Bytes of a request or response body that are kept at most, if any are."""
    bodies_retention_days: int = 7
    executions_retention_days: int = 0
    """Days after which executions are removed; 0 = the server's default."""
    executions_retention_count: int = 0
    """Newest executions that are kept; 0 = any number."""
    egress: Egress = Egress.DEFAULT
    egress_allow: tuple[str, ...] = ()
    """`host:port` and networks with an optional port."""
    updated_at: datetime | None = None


#: What a function without a row has.
DEFAULT_SETTINGS = FunctionSettings()
