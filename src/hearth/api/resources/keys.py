"""API keys of a project (contract: side-services 4)."""

from typing import Any

from hearth.api import wire, wire_hosting
from hearth.api.call import Call
from hearth.api.hosting_grammar import Date
from hearth.api.resources.common import TOTAL, listed, queries
from hearth.api.resources.scoped import body, target_id
from hearth.api.routes import Body, Param, Place, Route
from hearth.api.validators import Id, Integer, Items, OneOf, Text
from hearth.model import attributes
from hearth.model.ids import UNIQUE
from hearth.model.scopes import project_scopes

SCOPES_MAX = 200
EPHEMERAL_MAX_S = 3_600


async def create(call: Call) -> Any:
    project_id = await target_id(call, "keys.write")
    made = await call.control.keys.create(project_id, call.actor, **call.arguments)
    return wire_hosting.key(made.key, made.secret)


async def create_ephemeral(call: Call) -> Any:
    project_id = await target_id(call, "keys.write")
    made = await call.control.keys.create_ephemeral(project_id, call.actor, **call.arguments)
    return {**wire_hosting.key(made.key, made.secret), "projectId": project_id}


async def list_(call: Call) -> Any:
    page = await call.control.keys.list(await target_id(call, "keys.read"), listed(**call.arguments))
    return wire.listing("keys", page.total, [wire_hosting.key(item) for item in page.items])


async def get(call: Call) -> Any:
    return wire_hosting.key(await call.control.keys.get(await target_id(call, "keys.read"), **call.arguments))


async def update(call: Call) -> Any:
    project_id = await target_id(call, "keys.write")
    return wire_hosting.key(await call.control.keys.update(project_id, call.actor, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.keys.delete(await target_id(call, "keys.write"), **call.arguments)


_SCOPES = Items(
    OneOf(project_scopes(), "Each must be a scope; see `GET /v1/console/scopes/project`"), SCOPES_MAX, "scopes"
)
_KEY_ID = Param("keyId", Place.PATH, Id(), "Key ID.", "key_id", required=True)
_NAME = body("name", Text(1, 128), "Key name, at most 128 characters.", "name", required=True)
_MAY = body("scopes", _SCOPES, "What the key may do, at most 200 scopes.", "scopes", nullable=True)
_EXPIRE = body("expire", Date(), "When the key ends, ISO 8601; null = never.", "expires_at", nullable=True)
_PATH, _OLD = "/v1/project/keys", "/v1/projects/{projectId}/keys"
_ORGANIZATION = "/v1/organization/projects/{projectId}/keys"
_READ, _WRITE = ("keys.read",), ("keys.write",)

ROUTES = (
    Route(
        name="keys.create",
        method="POST",
        path=_PATH,
        handler=create,
        summary="Create an API key. Its secret is in this answer only.",
        scopes=_WRITE,
        refusals=("project_not_found", "key_already_exists", "key_creation_denied"),
        params=(
            body("keyId", Id(custom=True), "Key ID, or `unique()`.", "key_id", default=UNIQUE),
            _NAME,
            _MAY,
            _EXPIRE,
            body("description", Text(0, 1024), "What the key is for.", "description", default=""),
        ),
        success=201,
        model="key",
        body=Body.FIELDS,
        aliases=(("POST", _OLD), ("POST", _ORGANIZATION)),
    ),
    Route(
        name="keys.create_ephemeral",
        method="POST",
        path=_PATH + "/ephemeral",
        handler=create_ephemeral,
        summary="Create a key that is not stored and soon ends by itself.",
        scopes=_WRITE,
        refusals=("project_not_found", "key_creation_denied"),
        params=(
            body("scopes", _SCOPES, "What the key may do, at most 200 scopes.", "scopes", required=True),
            body(
                "duration",
                Integer(1, EPHEMERAL_MAX_S, "seconds"),
                "Seconds the key is good for.",
                "duration_s",
                required=True,
            ),
        ),
        success=201,
        model="ephemeralKey",
        body=Body.FIELDS,
        aliases=(("POST", "/v1/projects/{projectId}/jwts"), ("POST", _ORGANIZATION + "/ephemeral")),
    ),
    Route(
        name="keys.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List the API keys of a project, without their secrets.",
        scopes=_READ,
        refusals=("project_not_found",),
        params=(queries(attributes.KEYS), TOTAL),
        model="keyList",
        aliases=(("GET", _OLD), ("GET", _ORGANIZATION)),
    ),
    Route(
        name="keys.get",
        method="GET",
        path=_PATH + "/{keyId}",
        handler=get,
        summary="Get an API key, without its secret.",
        scopes=_READ,
        refusals=("project_not_found", "key_not_found"),
        params=(_KEY_ID,),
        model="key",
        aliases=(("GET", _OLD + "/{keyId}"), ("GET", _ORGANIZATION + "/{keyId}")),
    ),
    Route(
        name="keys.update",
        method="PUT",
        path=_PATH + "/{keyId}",
        handler=update,
        summary="Replace name, scopes and end of an API key.",
        scopes=_WRITE,
        refusals=("project_not_found", "key_not_found", "key_creation_denied"),
        params=(
            _KEY_ID,
            _NAME,
            _MAY,
            _EXPIRE,
            body("description", Text(0, 1024), "What the key is for.", "description", nullable=True),
        ),
        model="key",
        body=Body.FIELDS,
        aliases=(("PUT", _OLD + "/{keyId}"), ("PUT", _ORGANIZATION + "/{keyId}")),
    ),
    Route(
        name="keys.delete",
        method="DELETE",
        path=_PATH + "/{keyId}",
        handler=delete,
        summary="Delete an API key; whoever uses it is a guest from then on.",
        scopes=_WRITE,
        refusals=("project_not_found", "key_not_found"),
        params=(_KEY_ID,),
        success=204,
        aliases=(("DELETE", _OLD + "/{keyId}"), ("DELETE", _ORGANIZATION + "/{keyId}")),
    ),
)
