"""Settings of functions that the Appwrite wire does not have; ours, see docs/function-settings.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.cron import TimeZone
from hearth.api.grammar import ExecutionHeaders, check_headers
from hearth.api.resources.common import FUNCTION_ID, PROJECT_GROUPS
from hearth.api.resources.executions import METHODS, PATH_LIMITS
from hearth.api.resources.scoped import body
from hearth.api.routes import Body, Param, Route, Validator
from hearth.api.validators import Boolean, Integer, Invalid, Items, OneOf, Text
from hearth.model.function_settings import Egress, MissedRuns, SchedulePayload

JITTER_MAX_S = 3_600
SCHEDULE_BODY_MAX_CHARS = 65_536
ATTEMPTS_MAX = 20
RETRY_AGE_MAX_S = 604_800
BACKOFF_MAX_S = 3_600
RATE_MAX = 1_000_000
CONCURRENCY_MAX = 10_000
MIN_INSTANCES_MAX = 100
BODIES_MAX_BYTES = 10_485_760
BODIES_RETENTION_MAX_DAYS = 365
RETENTION_MAX_DAYS = 36_500
RETENTION_MAX_COUNT = 10_000_000
EGRESS_ENTRIES_MAX = 100
EGRESS_ENTRY_MAX_CHARS = 260


@dataclass(frozen=True, slots=True)
class Payload:
    """The request of scheduled runs: an object; what is left out of it has its default."""

    text = (
        "Value must be an object with any of body (text of at most "
        f"{SCHEDULE_BODY_MAX_CHARS} characters), method, path and headers, as for an execution"
    )

    @property
    def parts(self) -> Mapping[str, Validator]:
        """The validators of its keys."""
        return _PAYLOAD

    def check(self, value: Any) -> SchedulePayload:
        if value == []:
            return SchedulePayload()  # an empty object, as PHP clients write it
        if not isinstance(value, Mapping):
            raise Invalid(self.text)
        if unknown := sorted(set(value) - set(_PAYLOAD)):
            raise Invalid(f"Key `{unknown[0][:64]}` is none of {', '.join(_PAYLOAD)}")
        given: dict[str, Any] = {}
        for name, item in value.items():
            try:
                given[name] = _PAYLOAD[name].check(item)
            except Invalid as error:
                raise Invalid(f"In `{name}`: {error}") from None
        if headers := given.get("headers"):
            check_headers(headers)
            given["headers"] = tuple(headers.items())
        else:
            given.pop("headers", None)
        return SchedulePayload(**given)


_PAYLOAD: dict[str, Validator] = {
    "body": Text(0, SCHEDULE_BODY_MAX_CHARS),
    "method": OneOf(METHODS),
    "path": Text(*PATH_LIMITS),
    "headers": ExecutionHeaders(),
}


async def get(call: Call) -> Any:
    return wire.function_settings(await call.control.function_settings.get(call.project_id, **call.arguments))


async def update(call: Call) -> Any:
    return wire.function_settings(await call.control.function_settings.update(call.project_id, **call.arguments))


def _setting(name: str, validator: Any, description: str, to: str) -> Param:
    return body(name, validator, description, to, nullable=True)


_SETTINGS = (
    _setting("scheduleTimeZone", TimeZone(), "Time zone in which `schedule` is read.", "schedule_time_zone"),
    _setting("schedulePaused", Boolean(), "Whether the schedule fires nothing.", "schedule_paused"),
    _setting(
        "scheduleMissedRuns",
        OneOf(tuple(MissedRuns)),
        "What becomes of planned times while no server ran: nothing, or one run for all.",
        "schedule_missed_runs",
    ),
    _setting(
        "scheduleJitterS",
        Integer(0, JITTER_MAX_S, "seconds"),
        "Seconds over which functions of one planned time are spread.",
        "schedule_jitter_s",
    ),
    _setting("schedulePayload", Payload(), "Request of scheduled runs.", "schedule_payload"),
    _setting(
        "retryMaxAttempts",
        Integer(1, ATTEMPTS_MAX, "attempts"),
        "Attempts of an asynchronous execution in all; 1 tries once.",
        "retry_max_attempts",
    ),
    _setting(
        "retryMaxAgeS",
        Integer(1, RETRY_AGE_MAX_S, "seconds"),
        "Age at which an execution is not tried again.",
        "retry_max_age_s",
    ),
    _setting(
        "retryBackoffS",
        Integer(1, BACKOFF_MAX_S, "seconds"),
        "Pause before the second attempt; doubled for each further one.",
        "retry_backoff_s",
    ),
    _setting(
        "rateLimitPerMinute",
        Integer(0, RATE_MAX, "runs"),
        "Runs that may begin within a minute; 0 sets no limit.",
        "rate_limit_per_minute",
    ),
    _setting(
        "maxConcurrency",
        Integer(0, CONCURRENCY_MAX, "runs"),
        "Runs at one time; 0 takes the server's default.",
        "max_concurrency",
    ),
    _setting("minInstances", Integer(0, MIN_INSTANCES_MAX, "instances"), "Instances kept ready.", "min_instances"),
    _setting("storeBodies", Boolean(), "Whether bodies of requests and responses are kept.", "store_bodies"),
    _setting(
        "bodiesMaxBytes",
        Integer(0, BODIES_MAX_BYTES, "bytes"),
        "Bytes of a body that are kept at most.",
        "bodies_max_bytes",
    ),
    _setting(
        "bodiesRetentionDays",
        Integer(1, BODIES_RETENTION_MAX_DAYS, "days"),
        "Days bodies are kept.",
        "bodies_retention_days",
    ),
    _setting(
        "executionsRetentionDays",
        Integer(0, RETENTION_MAX_DAYS, "days"),
        "Days executions are kept; 0 takes the server's default.",
        "executions_retention_days",
    ),
    _setting(
        "executionsRetentionCount",
        Integer(0, RETENTION_MAX_COUNT, "executions"),
        "Newest executions that are kept; 0 keeps any number.",
        "executions_retention_count",
    ),
    _setting("egress", OneOf(tuple(Egress)), "Where the function's code may connect to.", "egress"),
    _setting(
        "egressAllow",
        Items(Text(1, EGRESS_ENTRY_MAX_CHARS), EGRESS_ENTRIES_MAX, "entries"),
        "With `egress` list: `host:port`, and networks with an optional `:port`.",
        "egress_allow",
    ),
)

_PATH = "/v1/functions/{functionId}/settings"

ROUTES = (
    Route(
        name="function_settings.get",
        method="GET",
        path=_PATH,
        handler=get,
        summary="Get the settings of a function that only this server has, and the next runs of its schedule.",
        scopes=("functions.read",),
        refusals=("function_not_found",),
        params=(FUNCTION_ID,),
        model="functionSettings",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="function_settings.update",
        method="PATCH",
        path=_PATH,
        handler=update,
        summary="Change settings of a function that only this server has. What is left out stays as it is.",
        scopes=("functions.write",),
        refusals=("function_not_found",),
        params=(FUNCTION_ID, *_SETTINGS),
        model="functionSettings",
        event="functions.[functionId].update",
        groups=PROJECT_GROUPS,
        body=Body.FIELDS,
    ),
)
