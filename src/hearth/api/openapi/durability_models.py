"""Schemas of dead letters and attempts."""

from hearth.api.openapi.schemas import Schema, date, listing, many, number, record, reference, resource, text

_LETTER = record(
    "An asynchronous execution that is not tried any more.",
    {
        **resource("Dead letter"),
        "functionId": text("Function ID."),
        "executionId": text("The execution that failed."),
        "reason": text("`attemptsUsed`, `tooOld`, `notRunnable`, `notStarted` or `lost`."),
        "error": text("The last error, its end."),
        "attempts": number("How often it was tried."),
        "trigger": text("Why it was to run."),
        "requestMethod": text("Method of the request."),
        "requestPath": text("Path of the request."),
        "requestHeaders": many(reference("header"), "Headers of the request, as executions show them."),
        "requestBodySize": number("Bytes of the request's body."),
    },
)
_ATTEMPT = record(
    "A failed attempt at an execution.",
    {
        "executionId": text("Execution ID."),
        "attempt": number("Its number, from 1."),
        "deploymentId": text("Deployment that ran."),
        "endedAt": date("When it ended."),
        "responseStatusCode": number("Status of its answer."),
        "duration": {"type": "number", "format": "double", "description": "Seconds it took."},
        "logs": text("What it logged, its end."),
        "errors": text("Its errors, their end."),
    },
)

DURABILITY_MODELS: dict[str, Schema] = {
    "deadLetter": _LETTER,
    "deadLetterList": listing("deadLetters", "deadLetter", "A page of dead letters."),
    "redriven": record("What was done.", {"total": number("How many run again.")}),
    "executionAttempt": _ATTEMPT,
    "executionAttemptList": listing("attempts", "executionAttempt", "The failed attempts at an execution."),
}
