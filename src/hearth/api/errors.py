"""Every exception a request can end with, as an answer. The one place where an error becomes JSON.

Contract: functions-api 2 (body, statuses passed through, cache headers).
"""

import structlog

from hearth import CONTRACT_VERSION, log_context
from hearth.api.messages import Answer, json_answer
from hearth.model.refusals import PASSED_STATUSES, Busy, Refusal, StorageAway, Unavailable
from hearth.ports import CursorNotFound

log = structlog.get_logger(__name__)

_NO_CACHE = {
    "cache-control": "no-cache, no-store, must-revalidate",
    "expires": "0",
    "pragma": "no-cache",
}
REQUEST_ID_HEADER = "x-hearth-request-id"
_SERVER_ERROR = "Server Error"


def error_answer(status: int, type: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    """The error body of the contract. A status that may not be passed through becomes 500 `Server Error`."""
    if status not in PASSED_STATUSES:
        status, message = 500, _SERVER_ERROR
    body = {"message": message, "code": status, "type": type, "version": CONTRACT_VERSION}
    return json_answer(status, body, _NO_CACHE | (headers or {}))


def answer_for(error: Exception, *, method: str, route: str, project_id: str) -> Answer:
    """The answer to `error` as JSON."""
    return error_answer(*described(error, method=method, route=route, project_id=project_id))


def described(error: Exception, *, method: str, route: str, project_id: str) -> tuple[int, str, str, dict[str, str]]:
    """Status, type, message and headers of the answer to `error`.

    What is the platform's fault is logged, once, under the id the answer carries.
    """
    if isinstance(error, Refusal):
        return error.code, error.type, error.message, error.headers
    if isinstance(error, CursorNotFound):
        refusal = Refusal("general_cursor_not_found")
        return refusal.code, refusal.type, refusal.message, {}
    request_id = log_context.request_id()
    headers = {REQUEST_ID_HEADER: request_id}
    about = {"request_id": request_id, "method": method, "route": route, "project_id": project_id}
    if isinstance(error, Busy):
        log.warning("request refused: busy", limit=error.limit, reason=str(error), **about)
        message = f"The server is busy: {error} Try again in {error.retry_after_s} s."
        return 429, "general_rate_limit_exceeded", message, headers | {"retry-after": str(error.retry_after_s)}
    if isinstance(error, Unavailable):
        log.error("request failed: unavailable", reason=str(error), exc_info=error, **about)
        message = (
            f"The server cannot run this at the moment. Try again in {error.retry_after_s} s; "
            f"its log has the reason under request id {request_id}."
        )
        return 503, "general_server_error", message, headers | {"retry-after": str(error.retry_after_s)}
    if isinstance(error, StorageAway):
        log.error("request failed: storage", reason=str(error), **about)
        message = (
            f"The server cannot do this at the moment: {error.reason}. Nothing was lost; try again in "
            f"{error.retry_after_s} s. Its log has more under request id {request_id}."
        )
        return 503, "general_server_error", message, headers | {"retry-after": str(error.retry_after_s)}
    log.error("request failed", exc_info=error, **about)
    return 500, "general_server_error", _SERVER_ERROR, headers


def stopping_answer() -> Answer:
    """The answer to everything after the server was told to stop."""
    answer = error_answer(
        503, "general_server_error", "The server is stopping. Send the request again in a moment.", {"retry-after": "5"}
    )
    answer.close = True
    return answer
