"""Stored requests and responses of executions, and replays: ours, not of the contract (docs/bodies-and-replay.md)."""

import base64
from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.formats import shape
from hearth.api.messages import Answer
from hearth.api.multipart_answer import multipart_answer, wants_multipart
from hearth.api.resources.common import EXECUTION_ID, FUNCTION_ID, PROJECT_GROUPS
from hearth.api.resources.scoped import body
from hearth.api.routes import Body as RequestBody
from hearth.api.routes import Reply, Route
from hearth.api.validators import Boolean, Id
from hearth.control.comparing import BodyDiff, Comparison, TextDiff
from hearth.control.replays import Replay
from hearth.model.bodies import Body, KeptRequest, KeptResponse
from hearth.model.resources import Execution, Header

BYTES_TYPE = b"application/octet-stream"
#: On the answer of get execution, where a response is stored that `responseBody` does not show: why it does not.
HIDDEN_BODY_HEADER = "x-hearth-response-body"
_READ_SCOPES = ("executions.read", "execution.read")
_WRITE_SCOPES = ("executions.write", "execution.write")


async def request(call: Call) -> Any:
    kept = await call.control.bodies.request(call.project_id, call.actor, **call.arguments)
    if _wants_bytes(call):
        return _bytes_answer(kept.body)
    return _request(kept, call.arguments["execution_id"])


async def response(call: Call) -> Any:
    kept = await call.control.bodies.response(call.project_id, call.actor, **call.arguments)
    if _wants_bytes(call):
        return _bytes_answer(kept.body)
    return _response(kept, call.arguments["execution_id"])


async def replay(call: Call) -> Any:
    done = await call.control.replays.replay(call.project_id, call.actor, **call.arguments)
    return call.reply(_replay(done), 202 if done.comparison is None else 201)


def execution_with_body(call: Call, execution: Execution, kept: KeptResponse) -> Answer:
    """The answer of get execution where its response is stored: `responseBody` shows it, if JSON can and it is whole.

    Bodies that are not text are shown to those who accept multipart, as in create execution.
    """
    if kept.body.is_truncated:
        return call.reply(wire.execution(execution, call.actor), 200, {HIDDEN_BODY_HEADER: "truncated"})
    if wants_multipart(call.request.header(b"accept")):
        payload = wire.execution(execution, call.actor, response_body=kept.body.content)
        return multipart_answer(200, shape(call.version, "execution", payload))
    text = _text(kept.body)
    if text is None:
        return call.reply(wire.execution(execution, call.actor), 200, {HIDDEN_BODY_HEADER: "binary"})
    return call.reply(wire.execution(execution, call.actor, response_body=text), 200)


def _wants_bytes(call: Call) -> bool:
    return call.request.header(b"accept").startswith(BYTES_TYPE.decode())


def _bytes_answer(kept: Body) -> Answer:
    """The bytes as a file to be saved: they are a function's or a stranger's, and no browser is to act on them."""
    headers = [
        (b"content-disposition", b'attachment; filename="body"'),
        (b"cache-control", b"private, no-store"),
        (b"x-hearth-body-size", str(kept.size).encode()),
        (b"x-hearth-body-truncated", b"true" if kept.is_truncated else b"false"),
    ]
    return Answer(200, kept.content, BYTES_TYPE, headers)


def _text(kept: Body) -> str | None:
    try:
        return kept.content.decode()
    except UnicodeDecodeError:
        return None


def _headers(headers: Any) -> list[dict[str, str]]:
    pairs: list[Header] = list(headers)
    return [{"name": name, "value": value} for name, value in pairs]


def _body(kept: Body) -> wire.Wire:
    text = _text(kept)
    return {
        "body": base64.b64encode(kept.content).decode() if text is None else text,
        "bodyEncoding": "base64" if text is None else "utf-8",
        "bodySize": kept.size,
        "bodyTruncated": kept.is_truncated,
        "bodyDigest": kept.sha256(),
    }


def _request(it: KeptRequest, execution_id: str) -> wire.Wire:
    return {
        "executionId": execution_id,
        "trigger": it.trigger,
        "event": it.event or "",
        "userId": it.real_user_id,
        "method": it.method,
        "path": it.path,
        "headers": _headers(it.headers.items()),
        **_body(it.body),
    }


def _response(it: KeptResponse, execution_id: str) -> wire.Wire:
    return {
        "executionId": execution_id,
        "statusCode": it.status_code,
        "headers": _headers(it.headers),
        **_body(it.body),
    }


def _replay(it: Replay) -> wire.Wire:
    return {
        "executionId": it.execution.id,
        "replayOf": it.original.id,
        "deploymentId": it.execution.deployment_id,
        "originalDeploymentId": it.original.deployment_id,
        "status": it.execution.status,
        "comparison": None if it.comparison is None else _comparison(it.comparison),
    }


def _comparison(it: Comparison) -> wire.Wire:
    return {
        "equal": it.is_equal,
        "statusCode": {"before": it.status_codes[0], "after": it.status_codes[1]},
        "headers": [{"name": each.name, "before": each.before, "after": each.after} for each in it.headers],
        "body": _body_diff(it.body),
        "logs": _text_diff(it.logs),
        "errors": _text_diff(it.errors),
        "duration": {"before": it.durations_s[0], "after": it.durations_s[1]},
    }


def _body_diff(it: BodyDiff) -> wire.Wire:
    return {
        "equal": it.is_equal,
        "kind": "text" if it.is_text else "binary",
        "before": _side(it.before),
        "after": _side(it.after),
        "diff": it.diff,
    }


def _side(it: Body | None) -> wire.Wire:
    if it is None:
        return {"size": 0, "digest": "", "truncated": False}
    return {"size": it.size, "digest": it.sha256(), "truncated": it.is_truncated}


def _text_diff(it: TextDiff) -> wire.Wire:
    return {"equal": it.is_equal, "diff": it.diff}


_PATH = "/v1/functions/{functionId}/executions/{executionId}"
_BYTES = Reply(
    200, (BYTES_TYPE.decode(),), "For `accept: application/octet-stream`: the stored bytes of the body alone."
)
_ABSENT = ("general_unauthorized_scope", "function_not_found", "execution_not_found", "execution_body_not_found")

ROUTES = (
    Route(
        name="executions.request",
        method="GET",
        path=_PATH + "/request",
        handler=request,
        summary="Get the stored request of an execution, for functions with `storeBodies`.",
        scopes=_READ_SCOPES,
        params=(FUNCTION_ID, EXECUTION_ID),
        model="executionRequest",
        replies=(_BYTES,),
        refusals=_ABSENT,
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="executions.response",
        method="GET",
        path=_PATH + "/response",
        handler=response,
        summary="Get the stored response of an execution, for functions with `storeBodies`.",
        scopes=_READ_SCOPES,
        params=(FUNCTION_ID, EXECUTION_ID),
        model="executionResponse",
        replies=(_BYTES,),
        refusals=_ABSENT,
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="executions.replay",
        method="POST",
        path=_PATH + "/replay",
        handler=replay,
        summary="Run the stored request of an execution again, and compare the two.",
        description="A replay is a new execution with `x-hearth-replay-of` among its request headers. Any ready "
        "deployment of the function may run it. With `async` there is no comparison.",
        scopes=_WRITE_SCOPES,
        params=(
            FUNCTION_ID,
            EXECUTION_ID,
            body(
                "deploymentId", Id(), "Deployment to run; the active one if left out.", "deployment_id", nullable=True
            ),
            body("async", Boolean(loose=True), "Whether to run in the background.", "is_async", default=False),
        ),
        success=201,
        model="executionReplay",
        replies=(Reply(202, ("application/json",), "It runs in the background.", "executionReplay"),),
        refusals=(
            *_ABSENT,
            "execution_body_truncated",
            "function_runtime_unsupported",
            "deployment_not_found",
            "build_not_ready",
            "function_synchronous_timeout",
            "general_rate_limit_exceeded",
        ),
        event="functions.[functionId].executions.[executionId].create",
        groups=PROJECT_GROUPS,
        body=RequestBody.FIELDS,
    ),
)
