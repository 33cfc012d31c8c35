"""Dead letters of a function, and the attempts at an execution: ours, not of the contract (docs/retries.md)."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.resources.common import EXECUTION_ID, FUNCTION_ID, PROJECT_GROUPS, TOTAL, listed, queries
from hearth.api.resources.executions import READ_SCOPES, WRITE_SCOPES
from hearth.api.routes import Param, Place, Route
from hearth.api.validators import Id
from hearth.control.invocations import stored_request_headers
from hearth.model.durability import Attempt, DeadLetter
from hearth.model.queries import Kind
from hearth.model.times import to_wire

ATTRIBUTES = {
    "reason": Kind.STRING,
    "attempts": Kind.INTEGER,
    "trigger": Kind.STRING,
    "requestMethod": Kind.STRING,
    "requestPath": Kind.STRING,
}


def letter(it: DeadLetter) -> wire.Wire:
    """A dead letter as clients see it: without the body, and with the headers that executions show."""
    headers = {name.lower(): value for name, value in it.payload.get("headers", {}).items()}
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "functionId": it.function_id,
        "executionId": it.id,
        "reason": it.reason,
        "error": it.error,
        "attempts": it.attempts,
        "trigger": it.trigger,
        "requestMethod": it.request_method,
        "requestPath": it.request_path,
        "requestHeaders": [{"name": name, "value": value} for name, value in stored_request_headers(headers)],
        "requestBodySize": _size(it.payload.get("body", "")),
    }


def attempt(it: Attempt) -> wire.Wire:
    """A failed attempt as clients see it."""
    return {
        "executionId": it.execution_id,
        "attempt": it.number,
        "deploymentId": it.deployment_id,
        "endedAt": to_wire(it.ended_at),
        "responseStatusCode": it.response_status_code,
        "duration": it.duration_s,
        "logs": it.logs,
        "errors": it.errors,
    }


def _size(base64_text: str) -> int:
    return len(base64_text) * 3 // 4 - base64_text[-2:].count("=")


async def list_(call: Call) -> Any:
    function_id = call.arguments.pop("function_id")
    page = await call.control.dead_letters.list(call.project_id, call.actor, function_id, listed(**call.arguments))
    return wire.listing("deadLetters", page.total, map(letter, page.items))


async def get(call: Call) -> Any:
    return letter(await call.control.dead_letters.get(call.project_id, call.actor, **call.arguments))


async def redrive(call: Call) -> Any:
    made = await call.control.dead_letters.redrive(call.project_id, call.actor, **call.arguments)
    return wire.execution(made, call.actor)


async def redrive_all(call: Call) -> Any:
    return {"total": await call.control.dead_letters.redrive_all(call.project_id, call.actor, **call.arguments)}


async def purge(call: Call) -> None:
    await call.control.dead_letters.purge(call.project_id, call.actor, **call.arguments)


async def purge_all(call: Call) -> None:
    await call.control.dead_letters.purge_all(call.project_id, call.actor, **call.arguments)


async def attempts(call: Call) -> Any:
    found = await call.control.dead_letters.attempts(call.project_id, call.actor, **call.arguments)
    return wire.listing("attempts", len(found), map(attempt, found))


_PATH = "/v1/functions/{functionId}/deadletters"
_ID = Param("deadLetterId", Place.PATH, Id(), "Dead letter ID: that of its execution.", "dead_letter_id", required=True)
_NOT_NOW = ("function_runtime_unsupported", "deployment_not_found", "build_not_ready")
_CREATED = "functions.[functionId].executions.[executionId].create"

ROUTES = (
    Route(
        name="dead_letters.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List asynchronous executions that are not tried any more.",
        scopes=READ_SCOPES,
        refusals=("function_not_found",),
        params=(FUNCTION_ID, queries(ATTRIBUTES), TOTAL),
        model="deadLetterList",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="dead_letters.redrive_all",
        method="POST",
        path=_PATH + "/redrive",
        handler=redrive_all,
        summary="Run the requests of a function's dead letters again, the 1,000 oldest at most.",
        scopes=WRITE_SCOPES,
        refusals=("function_not_found", *_NOT_NOW),
        params=(FUNCTION_ID,),
        success=202,
        model="redriven",
        event=_CREATED,
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="dead_letters.purge_all",
        method="DELETE",
        path=_PATH,
        handler=purge_all,
        summary="Delete all dead letters of a function.",
        scopes=WRITE_SCOPES,
        refusals=("function_not_found",),
        params=(FUNCTION_ID,),
        success=204,
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="dead_letters.get",
        method="GET",
        path=_PATH + "/{deadLetterId}",
        handler=get,
        summary="Get a dead letter.",
        scopes=READ_SCOPES,
        refusals=("function_not_found", "dead_letter_not_found"),
        params=(FUNCTION_ID, _ID),
        model="deadLetter",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="dead_letters.redrive",
        method="POST",
        path=_PATH + "/{deadLetterId}/redrive",
        handler=redrive,
        summary="Run the request of a dead letter again, as a new execution.",
        scopes=WRITE_SCOPES,
        refusals=("function_not_found", "dead_letter_not_found", *_NOT_NOW),
        params=(FUNCTION_ID, _ID),
        success=202,
        model="execution",
        event=_CREATED,
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="dead_letters.purge",
        method="DELETE",
        path=_PATH + "/{deadLetterId}",
        handler=purge,
        summary="Delete a dead letter.",
        scopes=WRITE_SCOPES,
        refusals=("function_not_found", "dead_letter_not_found"),
        params=(FUNCTION_ID, _ID),
        success=204,
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="executions.attempts",
        method="GET",
        path="/v1/functions/{functionId}/executions/{executionId}/attempts",
        handler=attempts,
        summary="List the failed attempts at an execution of a function with retries.",
        scopes=READ_SCOPES,
        refusals=("function_not_found", "execution_not_found"),
        params=(FUNCTION_ID, EXECUTION_ID),
        model="executionAttemptList",
        groups=PROJECT_GROUPS,
    ),
)
