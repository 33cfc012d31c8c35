"""Schemas of stored requests and responses, and of replays."""

from hearth.api.openapi.schemas import Schema, flag, many, number, record, reference, text

_SECONDS: Schema = {"type": "number", "format": "double", "description": "Seconds."}
_BODY: dict[str, Schema] = {
    "body": text("What is stored of the body."),
    "bodyEncoding": text("How `body` is written.", enum=["utf-8", "base64"]),
    "bodySize": number("Bytes of the whole body."),
    "bodyTruncated": flag("Whether only its beginning is stored (`bodiesMaxBytes`)."),
    "bodyDigest": text("SHA-256 of the whole body, in hexadecimal."),
}
_REQUEST = record(
    "The stored request of an execution.",
    {
        "executionId": text("Execution ID."),
        "trigger": text("What started the execution."),
        "event": text("Name of the event; empty: none."),
        "userId": text("The user who called; empty: none."),
        "method": text("HTTP method."),
        "path": text("Path with query."),
        "headers": many(reference("header"), "Headers as the caller gave them."),
        **_BODY,
    },
)
_RESPONSE = record(
    "The stored response of an execution.",
    {
        "executionId": text("Execution ID."),
        "statusCode": number("HTTP status."),
        "headers": many(reference("header"), "All headers of the function."),
        **_BODY,
    },
)


def _pair(side: Schema, description: str) -> Schema:
    return record(description, {"before": side, "after": side})


_SIDE = record(
    "A body.",
    {
        "size": number("Bytes of the whole body."),
        "digest": text("SHA-256 of the whole body, in hexadecimal; empty: there was no response."),
        "truncated": flag("Whether only its beginning was stored."),
    },
)
_TEXT_DIFF = {"equal": flag("Whether both are the same."), "diff": text("Unified diff; empty also for long texts.")}
_VALUES: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "Values in order; none: no such header.",
}
_COMPARISON = record(
    "What differs between an execution and its replay.",
    {
        "equal": flag("Whether status, headers and body are the same."),
        "statusCode": _pair(number("HTTP status."), "Statuses."),
        "headers": many(
            record("A header that differs.", {"name": text("Its name."), "before": _VALUES, "after": _VALUES}),
            "Headers that differ.",
        ),
        "body": record(
            "The bodies.",
            {
                "equal": flag("Whether both are the same."),
                "kind": text("What they are.", enum=["text", "binary"]),
                "before": _SIDE,
                "after": _SIDE,
                "diff": text("Unified diff of texts, of JSON with a line for each value; empty also for long ones."),
            },
        ),
        "logs": record("The logs.", _TEXT_DIFF),
        "errors": record("The errors.", _TEXT_DIFF),
        "duration": _pair(_SECONDS, "Durations."),
    },
)
_REPLAY = record(
    "A replay of an execution.",
    {
        "executionId": text("The new execution."),
        "replayOf": text("The execution whose request was run again."),
        "deploymentId": text("Deployment that ran."),
        "originalDeploymentId": text("Deployment that ran first."),
        "status": text("Status of the new execution."),
        "comparison": {"anyOf": [reference("executionComparison"), {"type": "null"}]},
    },
)

BODIES_MODELS: dict[str, Schema] = {
    "executionRequest": _REQUEST,
    "executionResponse": _RESPONSE,
    "executionReplay": _REPLAY,
    "executionComparison": _COMPARISON,
}
