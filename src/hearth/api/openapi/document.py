"""The OpenAPI 3.1 document of a table of routes. Nothing about an endpoint is said here: it is all in the table."""

import re
from collections.abc import Iterable
from typing import Any

from hearth import CONTRACT_VERSION
from hearth.api.openapi.answers import responses_of
from hearth.api.openapi.models import MODELS
from hearth.api.openapi.parameters import parameter_of, property_of, takes_text, unnamed
from hearth.api.routes import Body, Param, Place, Route
from hearth.api.uploads import FILE_PART
from hearth.data import load
from hearth.model.scopes import project_scopes

Schema = dict[str, Any]

_FORM = "multipart/form-data"
_NAME = re.compile(r"\{(\w+)\}")
_PROJECT_GROUP = "functions"

_ABOUT = """The HTTP API of this server. It follows the Appwrite API, so that its official SDKs and CLI work unchanged.

Answers are described in their newest form. A client that names an older one in `x-appwrite-response-format` is
answered, and may ask, as that version did. Lists in a query string are sent as `name[]=` or `name[0]=`. An unknown
parameter is ignored; null for an optional one means its default. Every error answer has the same form, and its `type`
is one of those named with each endpoint. `HEAD` is answered as `GET` without content."""

_SECURITY: dict[str, Schema] = {
    "Project": {"type": "apiKey", "in": "header", "name": "X-Appwrite-Project", "description": "ID of the project."},
    "Key": {"type": "apiKey", "in": "header", "name": "X-Appwrite-Key", "description": "Secret of an API key."},
    "Session": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Appwrite-Session",
        "description": "Secret of a user's session; browsers send it as a cookie instead.",
    },
    "JWT": {"type": "apiKey", "in": "header", "name": "X-Appwrite-JWT", "description": "JSON web token of a user."},
    "Mode": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Appwrite-Mode",
        "description": "`admin`: the session is one of a console user, acting on the project.",
    },
}


def document(routes: Iterable[Route]) -> Schema:
    """The document, as JSON will have it. Raises KeyError for a refusal type that is not in the table of errors."""
    paths: dict[str, Schema] = {}
    tags: dict[str, None] = {}
    models = dict(MODELS)
    for route in routes:
        tags.setdefault(_tag(route))
        for name in (route.model, *(reply.model for reply in route.replies)):
            if name:
                models.setdefault(name, {"type": "object", "description": "Not described yet."})
        for number, (method, path) in enumerate(((route.method, route.path), *route.aliases)):
            paths.setdefault(path, {})[method.lower()] = _operation(route, path, number)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Hearth API", "version": CONTRACT_VERSION, "description": _ABOUT},
        "servers": [{"url": "/", "description": "This server."}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "components": {"schemas": models, "securitySchemes": _SECURITY},
    }


def _tag(route: Route) -> str:
    return route.name.partition(".")[0]


def _operation(route: Route, path: str, number: int) -> Schema:
    """One operation; `number` counts the aliases of its route, 0 is its own path."""
    in_path = _NAME.findall(path)
    known = {param.name: param for param in route.params}
    parameters = [parameter_of(known[name], Place.PATH) if name in known else unnamed(name) for name in in_path]
    parameters += [
        parameter_of(param, Place.QUERY)
        for param in route.params
        if param.place is Place.QUERY and param.name not in in_path
    ]
    fields = [param for param in route.params if param.place is Place.BODY and param.name not in in_path]
    operation: Schema = {
        "operationId": f"{route.name}.{number}" if number else route.name,
        "tags": [_tag(route)],
        "summary": route.summary,
        "description": _description(route, number),
        "parameters": parameters,
        "responses": responses_of(route),
        "security": _security(route),
        "x-appwrite": _extension(route),
    }
    if fields or route.body is Body.UPLOAD:
        operation["requestBody"] = _request_body(route, fields)
    if number:
        operation["deprecated"] = True
    return operation


def _description(route: Route, number: int) -> str:
    lines = [route.description or route.summary]
    if number:
        lines.append(f"Another path of `{route.method} {route.path}`, for older clients.")
    if "public" in route.scopes:
        lines.append("Needs no credentials." if len(route.scopes) == 1 else "Needs no scope.")
    else:
        lines.append("Scope: " + " or ".join(f"`{scope}`" for scope in route.scopes) + ".")
    if route.event:
        lines.append(f"Event: `{route.event}`.")
    if route.abuse is not None:
        lines.append(
            f"At most {route.abuse.limit} calls in {route.abuse.window_s} seconds; API keys and admins are exempt."
        )
    return "\n\n".join(lines)


def _request_body(route: Route, fields: list[Param]) -> Schema:
    required = [param.name for param in fields if param.required]
    content: Schema = {}
    if route.body is not Body.UPLOAD:
        content["application/json"] = {"schema": _object({it.name: property_of(it) for it in fields}, required)}
    if route.body is Body.UPLOAD or all(takes_text(param.validator) for param in fields):
        properties = {param.name: property_of(param, form=True) for param in fields}
        content[_FORM] = {"schema": _object(properties, required)}
    if route.body is Body.UPLOAD:
        properties[FILE_PART] = {
            "type": "string",
            "contentMediaType": "application/gzip",
            "description": "A `.tar.gz` of the code, or a chunk of one.",
        }
        content[_FORM] = {
            "schema": _object(properties, [*required, FILE_PART]),
            "encoding": {FILE_PART: {"contentType": "application/gzip, application/octet-stream"}},
        }
    return {"required": bool(required) or route.body is Body.UPLOAD, "content": content}


def _object(properties: Schema, required: list[str]) -> Schema:
    return {"type": "object", "properties": properties} | ({"required": required} if required else {})


def _callers(route: Route) -> dict[str, bool]:
    """Which kinds of callers can hold one of a route's scopes."""
    scopes = load("scopes.json")
    wanted, roles = set(route.scopes), scopes["roles"]
    of_keys = set(project_scopes()) | set(roles["keys"])
    everybody = "public" in wanted
    return {
        "key": everybody or not wanted.isdisjoint(of_keys),
        "user": everybody or not wanted.isdisjoint(roles["users"]),
        "admin": everybody or not wanted.isdisjoint(roles["owner"]),
        "guest": everybody or not wanted.isdisjoint(roles["guests"]),
    }


def _security(route: Route) -> list[Schema]:
    """The alternatives a caller has; an empty one means that nothing has to be sent."""
    callers = _callers(route)
    needs_project = _PROJECT_GROUP in route.groups
    alternatives: list[tuple[str, ...]] = []
    if callers["guest"]:
        alternatives.append(("Project",) if needs_project else ())
    if callers["key"]:
        alternatives.append(("Project", "Key"))
    if callers["user"]:
        alternatives += [("Project", "Session"), ("Project", "JWT")]
    if callers["admin"]:
        alternatives.append(("Project", "Session", "Mode"))
    return [{name: [] for name in names} for names in alternatives]


def _extension(route: Route) -> Schema:
    """What OpenAPI has no place for, under the name the SDK generators of the reference know."""
    callers = _callers(route)
    extension: Schema = {
        "method": route.name.rpartition(".")[2],
        "group": _tag(route),
        "scope": route.scopes[0] if len(route.scopes) == 1 else list(route.scopes),
        "auth": [name for name, allowed in callers.items() if allowed],
        "event": route.event,
        "type": "upload" if route.body is Body.UPLOAD else "",
    }
    if route.abuse is not None:
        extension |= {
            "rate-limit": route.abuse.limit,
            "rate-time": route.abuse.window_s,
            "rate-key": route.abuse.key,
        }
    return extension
