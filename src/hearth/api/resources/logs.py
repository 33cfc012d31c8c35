"""Live logs as server-sent events: of one execution, or of all of a function."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from hearth.api.call import Call
from hearth.api.messages import EVENTS_TYPE, Answer
from hearth.api.resources.common import EXECUTION_ID, FUNCTION_ID, PROJECT_GROUPS
from hearth.api.resources.executions import READ_SCOPES
from hearth.api.routes import Param, Place, Reply, Route
from hearth.api.server_sent import HEADERS, comment, event
from hearth.api.validators import Boolean
from hearth.control.log_watch import Dropped, Ended, Line, LogEvent, LogWatch

#: Seconds after which a quiet stream gets a comment, so that nobody in between takes it for dead.
KEEP_ALIVE_S = 15.0

_FOLLOW = Param(
    "follow",
    Place.QUERY,
    Boolean(loose=True),
    "Whether to go on with the lines to come; without it the answer ends after those there are.",
    "follow",
    default=False,
)
_EVENTS = Reply(
    200,
    ("text/event-stream",),
    "Events: `log` (a line: executionId, stream `logs` or `errors`, number, line), `end` (an execution has ended: "
    "executionId, status, responseStatusCode, duration), `gap` (lines may be missing here), and as the last one "
    "`dropped` when the reader was too slow. After a reconnect with `last-event-id` it goes on where it was.",
)


async def of_execution(call: Call) -> Answer:
    logs, arguments = call.control.logs, call.arguments
    watch = await logs.of_execution(call.project_id, call.actor, **arguments, position=_last_event(call))

    async def look_again() -> None:
        await logs.look_again(watch, call.project_id, arguments["function_id"], arguments["execution_id"])

    return _answer(watch, look_again)


async def of_function(call: Call) -> Answer:
    logs = call.control.logs
    return _answer(
        await logs.of_function(call.project_id, call.actor, **call.arguments, position=_last_event(call)), _nothing
    )


async def _nothing() -> None:
    """A function's logs have no end to look for."""


def _last_event(call: Call) -> str:
    return call.request.header(b"last-event-id")


def _answer(watch: LogWatch, when_quiet: Callable[[], Awaitable[None]]) -> Answer:
    return Answer(200, b"", EVENTS_TYPE, list(HEADERS), stream=LogEvents(watch, when_quiet), length=None)


class LogEvents:
    """The events of one watch, written; `when_quiet` is called before each keep-alive comment."""

    def __init__(self, watch: LogWatch, when_quiet: Callable[[], Awaitable[None]]) -> None:
        self._watch = watch
        self._when_quiet = when_quiet
        self._is_open = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._is_open:
            self._is_open = True
            return comment("open")
        events = await self._watch.take(KEEP_ALIVE_S)
        if events is None:
            raise StopAsyncIteration
        if not events:
            await self._when_quiet()
            return comment("nothing new")
        return b"".join(map(_written, events))

    async def aclose(self) -> None:
        """The reader has left."""
        self._watch.close()


def _written(each: LogEvent) -> bytes:
    if isinstance(each, Line):
        return event("log", _line(each), each.id)
    if isinstance(each, Ended):
        execution = each.execution
        data = {
            "executionId": execution.id,
            "status": execution.status,
            "responseStatusCode": execution.response_status_code,
            "duration": execution.duration_s,
        }
        return event("end", data, each.id)
    if isinstance(each, Dropped):
        text = "You read more slowly than lines come. Connect again with last-event-id to go on."
        return event("dropped", {"limit": each.limit, "message": text})
    return event("gap", {"message": "Lines may be missing here: it is too long ago to go on where you left."})


def _line(line: Line) -> dict[str, Any]:
    return {"executionId": line.execution_id, "stream": line.stream, "number": line.number, "line": line.text}


_FUNCTION = "/v1/functions/{functionId}"
ROUTES = (
    Route(
        name="logs.execution",
        method="GET",
        path=_FUNCTION + "/executions/{executionId}/logs",
        handler=of_execution,
        summary="Read or follow the log of an execution.",
        scopes=READ_SCOPES,
        params=(FUNCTION_ID, EXECUTION_ID, _FOLLOW),
        replies=(_EVENTS,),
        refusals=("user_unauthorized", "function_not_found", "execution_not_found", "general_rate_limit_exceeded"),
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="logs.function",
        method="GET",
        path=_FUNCTION + "/logs",
        handler=of_function,
        summary="Read or follow the logs of all executions of a function.",
        description="Begins with the lines so far of the executions that run now.",
        scopes=READ_SCOPES,
        params=(FUNCTION_ID, _FOLLOW),
        replies=(_EVENTS,),
        refusals=("user_unauthorized", "function_not_found", "general_rate_limit_exceeded"),
        groups=PROJECT_GROUPS,
    ),
)
