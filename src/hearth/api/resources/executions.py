"""Executions (contract: functions-api 5.15-5.17, 10). Creating one is the hot path of the server: keep it short."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.execution_events import ExecutionEvents
from hearth.api.formats import shape
from hearth.api.grammar import ExecutionHeaders, check_headers, read_date
from hearth.api.idempotency import HEADER as KEY_HEADER
from hearth.api.idempotency import once
from hearth.api.messages import EVENTS_TYPE, Answer
from hearth.api.multipart_answer import multipart_answer, wants_multipart
from hearth.api.resources.bodies import execution_with_body
from hearth.api.resources.common import EXECUTION_ID, FUNCTION_ID, PROJECT_GROUPS, TOTAL, listed, queries
from hearth.api.routes import Body, Facts, Param, Place, Reply, Route
from hearth.api.server_sent import HEADERS as EVENT_HEADERS
from hearth.api.server_sent import wants_events
from hearth.api.validators import Boolean, Content, Invalid, OneOf, Text
from hearth.control.views import ExecutionView
from hearth.model.queries import Kind
from hearth.model.refusals import Refusal, invalid_param
from hearth.model.resources import Execution

ATTRIBUTES = {
    "trigger": Kind.STRING,
    "status": Kind.STRING,
    "responseStatusCode": Kind.INTEGER,
    "duration": Kind.FLOAT,
    "requestMethod": Kind.STRING,
    "requestPath": Kind.STRING,
    "deploymentId": Kind.STRING,
}
BODY_MAX_CHARS = 10_485_760
#: A delayed execution must be due later than this from now (contract: functions-api 5.15).
DELAY_MIN = timedelta(seconds=60)
#: Characters a path may have.
PATH_LIMITS = (1, 2048)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")


async def create(call: Call) -> Answer:
    request = call.request
    # An answer that is kept is a whole one: with a key nothing is streamed.
    wants_whole = call.arguments["is_async"] or request.header(KEY_HEADER)
    with_events = not wants_whole and wants_events(request.header(b"accept"))

    async def run(id: str) -> Answer:
        arguments = dict(call.arguments)
        scheduled, headers = arguments["scheduled_at"], arguments["headers"]
        if scheduled is not None:
            arguments["scheduled_at"] = _due(scheduled, arguments["is_async"], call.services.clock.now())
        if headers:
            try:
                check_headers(headers)
            except Invalid as error:
                raise invalid_param("headers", str(error)) from None
        view = await call.control.executions.create(
            call.project_id,
            call.actor,
            **arguments,
            client_ip=call.client_ip,
            host=request.header(b"host"),
            streams=with_events,
            id=id,
        )
        return _events_answer(call, view) if with_events else _created(call, view)

    async def recall(id: str) -> Answer | None:
        execution = await call.control.executions.find(call.project_id, call.arguments["function_id"], id)
        if execution is None:
            return None
        kept = await call.control.bodies.response_of(execution)
        return _created(call, ExecutionView(execution, b"" if kept is None else kept.whole()))

    return await once(call, run, recall)


def _created(call: Call, view: ExecutionView) -> Answer:
    status = 202 if call.arguments["is_async"] else 201
    if wants_multipart(call.request.header(b"accept")):
        payload = wire.created_execution(view, call.actor, view.response_body)
        answer = multipart_answer(status, shape(call.version, "execution", payload))
        answer.headers += [(name.encode(), value.encode()) for name, value in wire.figures(view, call.actor).items()]
        return answer
    try:
        body = view.response_body.decode()
    except UnicodeDecodeError:
        # The function has run and its execution is stored; only this answer cannot carry the body.
        raise not_text(view.execution.id) from None
    return call.reply(wire.created_execution(view, call.actor, body), status, wire.figures(view, call.actor))


def _events_answer(call: Call, view: ExecutionView) -> Answer:
    def shown(execution: Execution) -> dict[str, Any]:
        return shape(call.version, "execution", wire.execution(execution, call.actor))

    events = ExecutionEvents(view, shown)
    return Answer(201, b"", EVENTS_TYPE, list(EVENT_HEADERS), stream=events, length=None)


def not_text(execution_id: str) -> Refusal:
    """The answer where JSON would have to carry a body that is not text (contract: functions-api 10.4)."""
    refusal = Refusal(
        "general_unknown",
        f"Failed to parse response: the body of execution {execution_id} is not UTF-8 text, so JSON cannot carry it. "
        "Send `accept: multipart/form-data` to get it as it is.",
    )
    refusal.code = 400
    return refusal


def _due(text: str, is_async: bool, now: datetime) -> datetime:
    """The moment of a delayed execution. Raises `general_bad_request` (contract: functions-api 5.15, 1 and 2)."""
    if not is_async:
        raise Refusal("general_bad_request", "`scheduledAt` needs `async` to be true.")
    moment = read_date(text)
    if moment is None or moment.second or moment.microsecond or moment - now <= DELAY_MIN:
        raise Refusal(
            "general_bad_request",
            "`scheduledAt` must be an ISO 8601 date at a whole minute (no seconds or milliseconds), "
            f"more than {DELAY_MIN.seconds} seconds ahead.",
        )
    return moment.astimezone(UTC)


async def list_(call: Call) -> Any:
    function_id = call.arguments.pop("function_id")
    page = await call.control.executions.list(call.project_id, call.actor, function_id, listed(**call.arguments))
    return wire.listing("executions", page.total, [wire.execution(item, call.actor) for item in page.items])


async def get(call: Call) -> Any:
    execution = await call.control.executions.get(call.project_id, call.actor, **call.arguments)
    kept = await call.control.bodies.response_of(execution)
    return wire.execution(execution, call.actor) if kept is None else execution_with_body(call, execution, kept)


async def delete(call: Call) -> None:
    await call.control.executions.delete(call.project_id, call.actor, **call.arguments)


def _body(name: str, validator: Any, description: str, to: str, **more: Any) -> Param:
    return Param(name, Place.BODY, validator, description, to, **more)


_PATH = "/v1/functions/{functionId}/executions"
READ_SCOPES = ("executions.read", "execution.read")
WRITE_SCOPES = ("executions.write", "execution.write")


def routes(facts: Facts) -> tuple[Route, ...]:
    """The routes of this resource."""
    return (
        Route(
            name="executions.create",
            method="POST",
            path=_PATH,
            handler=create,
            summary="Execute a function: now, in the background, or at a later time.",
            description="With a header `Idempotency-Key` the request may be sent again without being done again: for "
            "24 hours the same key with the same request gets the same execution.",
            scopes=WRITE_SCOPES,
            params=(
                FUNCTION_ID,
                _body("body", Content(BODY_MAX_CHARS), "Body the function is given.", "body", default=b""),
                _body("async", Boolean(loose=True), "Whether to run in the background.", "is_async", default=False),
                _body("path", Text(*PATH_LIMITS), "Path the function is given, with its query.", "path", default="/"),
                _body("method", OneOf(METHODS), "HTTP method the function is given.", "method", default="POST"),
                _body("headers", ExecutionHeaders(), "Headers the function is given.", "headers", default={}),
                _body(
                    "scheduledAt",
                    Text(0, 100),
                    "ISO 8601 date, a whole minute more than 60 seconds ahead; needs `async`.",
                    "scheduled_at",
                    nullable=True,
                ),
            ),
            success=201,
            model="execution",
            replies=(
                Reply(202, ("application/json",), "It runs in the background, or at `scheduledAt`.", "execution"),
                Reply(201, ("multipart/form-data",), "For `accept: multipart/form-data`: a body of any bytes."),
                Reply(202, ("multipart/form-data",), "The same, for `accept: multipart/form-data`."),
                Reply(
                    201,
                    ("text/event-stream",),
                    "For `accept: text/event-stream`: `response` (head), `body` (each piece as it comes) and `end` "
                    "(the record). Leaving early stops the function.",
                ),
            ),
            refusals=(
                "general_bad_request",
                "function_not_found",
                "function_runtime_unsupported",
                "deployment_not_found",
                "build_not_ready",
                "user_unauthorized",
                "function_synchronous_timeout",
                "general_rate_limit_exceeded",
                "idempotency_key_reused",
                "idempotency_request_in_progress",
                "idempotency_answer_gone",
                ("general_unknown", 400),
            ),
            event="functions.[functionId].executions.[executionId].create",
            groups=PROJECT_GROUPS,
            body=Body.FIELDS,
            body_limit=facts.execution_request_max_bytes,
        ),
        Route(
            name="executions.list",
            method="GET",
            path=_PATH,
            handler=list_,
            summary="List a function's executions; a user sees his own.",
            scopes=READ_SCOPES,
            refusals=("function_not_found",),
            params=(FUNCTION_ID, queries(ATTRIBUTES), TOTAL),
            model="executionList",
            groups=PROJECT_GROUPS,
        ),
        Route(
            name="executions.get",
            method="GET",
            path=_PATH + "/{executionId}",
            handler=get,
            summary="Get an execution.",
            description="For functions with `storeBodies`, `responseBody` is the stored response's body if it is text "
            "and whole; else the header `x-hearth-response-body` says `truncated` or `binary`.",
            scopes=READ_SCOPES,
            refusals=("function_not_found", "execution_not_found"),
            params=(FUNCTION_ID, EXECUTION_ID),
            model="execution",
            groups=PROJECT_GROUPS,
        ),
        Route(
            name="executions.delete",
            method="DELETE",
            path=_PATH + "/{executionId}",
            handler=delete,
            summary="Delete an execution that has ended, or one that is only scheduled.",
            scopes=WRITE_SCOPES,
            refusals=("function_not_found", "execution_not_found", "execution_in_progress"),
            params=(FUNCTION_ID, EXECUTION_ID),
            success=204,
            event="functions.[functionId].executions.[executionId].delete",
            groups=PROJECT_GROUPS,
        ),
    )
