"""What a route may answer: its good answers, and every documented error answer, its own and the implied ones."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hearth.api.routes import Body, Documented, Place, Route
from hearth.api.validators import Queries
from hearth.model.refusals import TYPES

Schema = dict[str, Any]

JSON = "application/json"
#: Group of the routes that need a project (contract: functions-api 1, check 18b).
_PROJECT_GROUP = "functions"

#: What can be wrong with origin, project or credentials of any request (contract: functions-api 1, checks 3-17).
CALLER_REFUSALS: tuple[Documented, ...] = (
    "general_unknown_origin",
    "project_not_found",
    "project_id_missing",
    "project_key_expired",
    "user_jwt_and_cookie_set",
    "user_jwt_invalid",
    "user_api_key_and_session_set",
    "user_unauthorized",
    "user_blocked",
    "user_password_reset_required",
    "user_more_factors_required",
    "general_service_disabled",
    "general_api_disabled",
)
#: What can be our fault: a bug, a machine that cannot run it, a server that is stopping.
OUR_FAULTS: tuple[Documented, ...] = ("general_server_error", ("general_server_error", 503))


def responses_of(route: Route) -> Schema:
    """The `responses` of an operation, by status."""
    responses: Schema = {}
    if route.success == 204:
        responses["204"] = {"description": "Done; there is no content."}
    elif route.model:
        responses[str(route.success)] = _good("Success.", {JSON: _reference(route.model)})
    for reply in route.replies:
        schema = _reference(reply.model) if reply.model else {}
        contents = dict.fromkeys(reply.content_types, schema)
        known = responses.get(str(reply.status))
        if known is None:
            responses[str(reply.status)] = _good(reply.description, contents)
        else:
            known["content"] |= _good("", contents)["content"]
            known["description"] = f"{known['description']} {reply.description}".removeprefix("Success. ")
    by_status: defaultdict[int, list[str]] = defaultdict(list)
    for type, status in refusals_of(route):
        if type not in by_status[status]:
            by_status[status].append(type)
    return responses | {str(status): _bad(types) for status, types in sorted(by_status.items())}


def refusals_of(route: Route) -> Iterator[tuple[str, int]]:
    """Type and status of every documented error answer of a route: the implied ones, then its own."""
    for entry in (*_implied(route), *route.refusals):
        yield (entry, TYPES[entry].code) if isinstance(entry, str) else entry


def _implied(route: Route) -> Iterator[Documented]:
    yield from CALLER_REFUSALS
    if "public" not in route.scopes:
        yield "general_unauthorized_scope"
    if _PROJECT_GROUP in route.groups:
        yield "general_access_forbidden"
    if route.abuse is not None:
        yield "general_rate_limit_exceeded"
    if route.params or route.body is not Body.IGNORED:
        yield "general_argument_invalid"
    if any(param.place is Place.QUERY for param in route.params) and any(
        isinstance(param.validator, Queries) for param in route.params
    ):
        yield "general_query_invalid"
        yield "general_cursor_not_found"
    if route.body is not Body.IGNORED:
        yield "general_bad_request"  # a body that stops arriving
        yield "general_rate_limit_exceeded"  # bodies fill the memory set aside for them
    yield from OUR_FAULTS


def _reference(model: str) -> Schema:
    return {"$ref": f"#/components/schemas/{model}"}


def _good(description: str, contents: dict[str, Schema]) -> Schema:
    return {
        "description": description,
        "content": {kind: {"schema": schema} if schema else {} for kind, schema in contents.items()},
    }


def _bad(types: list[str]) -> Schema:
    lines = "\n".join(f"- `{type}`: {TYPES[type].message}" for type in types)
    narrowed: Schema = {"type": "object", "properties": {"type": {"enum": types}}}
    return {
        "description": lines,
        "content": {JSON: {"schema": {"allOf": [_reference("error"), narrowed]}}},
    }
