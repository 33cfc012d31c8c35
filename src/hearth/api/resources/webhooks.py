"""Webhooks (contract: side-services 14), under the paths and names of all generations of clients."""

from typing import Any

from hearth.api import wire, wire_hosting
from hearth.api.call import Call
from hearth.api.grammar import Event
from hearth.api.hosting_grammar import Url
from hearth.api.resources.common import TOTAL, listed, queries
from hearth.api.resources.scoped import body, target_id
from hearth.api.routes import Body, Param, Place, Route
from hearth.api.validators import Boolean, Id, Items, Text
from hearth.model import attributes
from hearth.model.ids import UNIQUE

EVENTS_MAX = 100
SECRET_MIN_CHARS, SECRET_MAX_CHARS = 8, 256


async def create(call: Call) -> Any:
    project_id = await target_id(call, "webhooks.write")
    webhook = await call.control.webhooks.create(project_id, **call.arguments)
    return wire_hosting.webhook(webhook, with_secret=True)


async def list_(call: Call) -> Any:
    page = await call.control.webhooks.list(await target_id(call, "webhooks.read"), listed(**call.arguments))
    return wire.listing("webhooks", page.total, [wire_hosting.webhook(item) for item in page.items])


async def get(call: Call) -> Any:
    project_id = await target_id(call, "webhooks.read")
    return wire_hosting.webhook(await call.control.webhooks.get(project_id, **call.arguments))


async def update(call: Call) -> Any:
    project_id = await target_id(call, "webhooks.write")
    return wire_hosting.webhook(await call.control.webhooks.update(project_id, **call.arguments))


async def renew_secret(call: Call) -> Any:
    project_id = await target_id(call, "webhooks.write")
    webhook = await call.control.webhooks.renew_secret(project_id, **call.arguments)
    return wire_hosting.webhook(webhook, with_secret=True)


async def delete(call: Call) -> None:
    await call.control.webhooks.delete(await target_id(call, "webhooks.write"), **call.arguments)


_PATH, _OLD = "/v1/webhooks", "/v1/projects/{projectId}/webhooks"
_READ, _WRITE = ("webhooks.read",), ("webhooks.write",)
_WEBHOOK_ID = Param("webhookId", Place.PATH, Id(), "Webhook ID.", "webhook_id", required=True)
_SECRET = body(
    "secret",
    Text(SECRET_MIN_CHARS, SECRET_MAX_CHARS),
    "Key that signs what is sent, 8 to 256 characters; the server makes one if none is given.",
    "secret",
    nullable=True,
)
_SETTINGS = (
    body("name", Text(1, 128), "Webhook name, at most 128 characters.", "name", required=True),
    body("url", Url(), "Where events are sent.", "url", required=True),
    body(
        "events",
        Items(Event(functions=True), EVENTS_MAX, "events"),
        "Events it wants, at most 100.",
        "events",
        required=True,
    ),
    body("enabled", Boolean(), "Whether it is told of events.", "enabled", default=True),
    body("tls", Boolean(), "Whether the certificate of the address is checked.", "tls", default=True),
    body("authUsername", Text(0, 256), "Name for HTTP basic authentication.", "auth_username", default=""),
)

ROUTES = (
    Route(
        name="webhooks.create",
        method="POST",
        path=_PATH,
        handler=create,
        summary="Create a webhook. Its signature key is in this answer only.",
        scopes=_WRITE,
        refusals=("project_not_found", "webhook_already_exists"),
        params=(
            body("webhookId", Id(custom=True), "Webhook ID, or `unique()`.", "webhook_id", default=UNIQUE),
            *_SETTINGS,
            body("authPassword", Text(0, 256), "Password for the same.", "auth_password", default=""),
            _SECRET,
            body("description", Text(0, 1024), "What it is for.", "description", default=""),
        ),
        success=201,
        model="webhook",
        body=Body.FIELDS,
        aliases=(("POST", _OLD),),
    ),
    Route(
        name="webhooks.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List the webhooks of a project.",
        scopes=_READ,
        refusals=("project_not_found",),
        params=(queries(attributes.WEBHOOKS), TOTAL),
        model="webhookList",
        aliases=(("GET", _OLD),),
    ),
    Route(
        name="webhooks.get",
        method="GET",
        path=_PATH + "/{webhookId}",
        handler=get,
        summary="Get a webhook.",
        scopes=_READ,
        refusals=("project_not_found", "webhook_not_found"),
        params=(_WEBHOOK_ID,),
        model="webhook",
        aliases=(("GET", _OLD + "/{webhookId}"),),
    ),
    Route(
        name="webhooks.update",
        method="PUT",
        path=_PATH + "/{webhookId}",
        handler=update,
        summary="Replace the settings of a webhook.",
        scopes=_WRITE,
        refusals=("project_not_found", "webhook_not_found"),
        params=(
            _WEBHOOK_ID,
            *_SETTINGS,
            body("authPassword", Text(0, 256), "Password; left as it is if not given.", "auth_password", nullable=True),
            body("description", Text(0, 1024), "What it is for.", "description", default=""),
        ),
        model="webhook",
        body=Body.FIELDS,
        aliases=(("PUT", _OLD + "/{webhookId}"),),
    ),
    Route(
        name="webhooks.update_secret",
        method="PATCH",
        path=_PATH + "/{webhookId}/secret",
        handler=renew_secret,
        summary="Give a webhook another signature key. It is in this answer only.",
        scopes=_WRITE,
        refusals=("project_not_found", "webhook_not_found"),
        params=(_WEBHOOK_ID, _SECRET),
        model="webhook",
        body=Body.FIELDS,
        aliases=(("PATCH", _OLD + "/{webhookId}/signature"), ("PATCH", _PATH + "/{webhookId}/signature")),
    ),
    Route(
        name="webhooks.delete",
        method="DELETE",
        path=_PATH + "/{webhookId}",
        handler=delete,
        summary="Delete a webhook.",
        scopes=_WRITE,
        refusals=("project_not_found", "webhook_not_found"),
        params=(_WEBHOOK_ID,),
        success=204,
        aliases=(("DELETE", _OLD + "/{webhookId}"),),
    ),
)
