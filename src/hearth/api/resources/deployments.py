"""Deployments (contract: functions-api 5.7, 5.8, 5.11-5.14)."""

from typing import Any

from hearth.api import params, wire
from hearth.api.call import Call
from hearth.api.downloads import download_answer
from hearth.api.messages import Answer
from hearth.api.resources.common import DEPLOYMENT_ID, FUNCTION_ID, PROJECT_GROUPS, SEARCH, TOTAL, listed, queries
from hearth.api.routes import Body, Param, Place, Reply, Route
from hearth.api.uploads import receive_form, refuse_too_big
from hearth.api.validators import Boolean, Id, OneOf, Text
from hearth.control.views import UploadedPart
from hearth.model.queries import Kind
from hearth.model.refusals import Refusal

#: `off`: build without what earlier builds installed. Beyond the Appwrite wire.
CACHE_HEADER = b"x-hearth-build-cache"

ATTRIBUTES = {
    "buildSize": Kind.INTEGER,
    "sourceSize": Kind.INTEGER,
    "totalSize": Kind.INTEGER,
    "buildDuration": Kind.INTEGER,
    "status": Kind.STRING,
    "activate": Kind.BOOLEAN,
    "type": Kind.STRING,
}


async def upload(call: Call) -> Any:
    """Take one request of an upload. The function is looked up before the body is read, all else after it."""
    request, settings = call.request, call.services.settings
    function_id = params.check((FUNCTION_ID,), call.path, {})["function_id"]
    await call.control.deployments.check_upload(call.project_id, function_id, None)
    refuse_too_big(request, settings.source_max_bytes)
    call.services.uploads.take(1)
    try:
        async with call.control.deployments.scratch() as path:
            fields, part = await receive_form(request, path, settings.source_max_bytes)
            return await _store(call, fields, part)
    finally:
        call.services.uploads.give_back(1)


async def _store(call: Call, fields: dict[str, Any], part: UploadedPart | None) -> Any:
    arguments = params.check(call.route.params, call.path, fields)
    request = call.request
    content_range = request.headers.get(b"content-range")
    deployment = await call.control.deployments.upload(
        call.project_id,
        part=part,
        content_range=None if content_range is None else content_range.decode("latin-1"),
        upload_id=request.header(b"x-appwrite-id"),
        type="cli" if request.header(b"x-sdk-language").lower() == "cli" else "manual",
        use_cache=_uses_cache(call),
        **arguments,
    )
    return wire.deployment(deployment)


async def duplicate(call: Call) -> Any:
    deployments = call.control.deployments
    return wire.deployment(await deployments.duplicate(call.project_id, use_cache=_uses_cache(call), **call.arguments))


def _uses_cache(call: Call) -> bool:
    """Whether this build may restore what an earlier one installed; raises `general_argument_invalid`."""
    said = call.request.header(CACHE_HEADER).strip().lower()
    if said not in ("", "on", "off"):
        raise Refusal("general_argument_invalid", f"The header {CACHE_HEADER.decode()} is `on` (default) or `off`.")
    return said != "off"


async def list_(call: Call) -> Any:
    arguments = call.arguments
    function_id = arguments.pop("function_id")
    if arguments["search"]:
        raise Refusal("general_query_invalid", "Deployments cannot be searched. Use `queries` to filter them.")
    query = listed(**arguments)
    page = await call.control.deployments.list(call.project_id, function_id, query)
    return wire.listing("deployments", page.total, wire.select(map(wire.deployment, page.items), query.select))


async def get(call: Call) -> Any:
    return wire.deployment(await call.control.deployments.get(call.project_id, **call.arguments))


async def download(call: Call) -> Answer:
    if not call.actor.is_privileged:
        raise Refusal(
            "user_unauthorized", "Downloading a deployment needs an API key, a console user or a valid token."
        )
    found = await call.control.deployments.download(call.project_id, **call.arguments)
    return download_answer(found, call.request.header(b"range"))


async def cancel(call: Call) -> Any:
    return wire.deployment(await call.control.deployments.cancel(call.project_id, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.deployments.delete(call.project_id, **call.arguments)


_PATH = "/v1/functions/{functionId}/deployments"
_ONE = _PATH + "/{deploymentId}"

ROUTES = (
    Route(
        name="deployments.create",
        method="POST",
        path=_PATH,
        handler=upload,
        summary="Upload code, whole or in chunks, and build it.",
        scopes=("functions.write",),
        refusals=(
            "function_not_found",
            "function_entrypoint_missing",
            "storage_file_empty",
            "storage_file_type_unsupported",
            "storage_invalid_content_range",
            "storage_invalid_appwrite_id",
            "deployment_invalid_file_size",
            "deployment_not_found",
            "general_rate_limit_exceeded",
        ),
        params=(
            FUNCTION_ID,
            Param("entrypoint", Place.BODY, Text(1, 1028), "File that exports the handler.", "entrypoint"),
            Param("commands", Place.BODY, Text(0, 8192), "Commands that build the code.", "commands"),
            Param(
                "activate",
                Place.BODY,
                Boolean(loose=True),
                "Whether the deployment becomes the active one when its build is ready.",
                "activate",
                required=True,
            ),
        ),
        success=202,
        model="deployment",
        event="functions.[functionId].deployments.[deploymentId].create",
        groups=PROJECT_GROUPS,
        body=Body.UPLOAD,
    ),
    Route(
        name="deployments.duplicate",
        method="POST",
        path=_PATH + "/duplicate",
        handler=duplicate,
        summary="Build the code of a deployment again, as a new deployment.",
        scopes=("functions.write",),
        refusals=("function_not_found", "deployment_not_found", "installation_not_found"),
        params=(
            FUNCTION_ID,
            Param("deploymentId", Place.BODY, Id(), "Deployment ID.", "deployment_id", required=True),
        ),
        success=202,
        model="deployment",
        event="functions.[functionId].deployments.[deploymentId].update",
        groups=PROJECT_GROUPS,
        aliases=(("POST", _ONE + "/build"), ("POST", _ONE + "/builds/{buildId}")),
        body=Body.FIELDS,
    ),
    Route(
        name="deployments.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List a function's deployments.",
        scopes=("functions.read",),
        refusals=("function_not_found",),
        params=(FUNCTION_ID, queries(ATTRIBUTES, selectable=True), SEARCH, TOTAL),
        model="deploymentList",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="deployments.get",
        method="GET",
        path=_ONE,
        handler=get,
        summary="Get a deployment.",
        scopes=("functions.read",),
        refusals=("function_not_found", "deployment_not_found"),
        params=(FUNCTION_ID, DEPLOYMENT_ID),
        model="deployment",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="deployments.download",
        method="GET",
        path=_ONE + "/download",
        handler=download,
        summary="Download a deployment's source or build output, whole or in ranges.",
        scopes=("public", "functions.read"),
        refusals=("user_unauthorized", "function_not_found", "deployment_not_found", "storage_invalid_range"),
        params=(
            FUNCTION_ID,
            DEPLOYMENT_ID,
            Param("type", Place.QUERY, OneOf(("source", "output")), "What to download.", "kind", default="source"),
            Param("token", Place.QUERY, Text(1, 2048), "Presigned token, instead of a key.", ""),
        ),
        replies=(
            Reply(200, ("application/gzip", "application/octet-stream"), "The file: a source, or a build output."),
            Reply(206, ("application/gzip", "application/octet-stream"), "The bytes that `Range` asked for."),
        ),
        groups=PROJECT_GROUPS,
        aliases=(("GET", _ONE + "/build/download"),),
    ),
    Route(
        name="deployments.cancel",
        method="PATCH",
        path=_ONE + "/status",
        handler=cancel,
        summary="Cancel the build of a deployment.",
        scopes=("functions.write",),
        refusals=("function_not_found", "deployment_not_found", "build_already_completed"),
        params=(FUNCTION_ID, DEPLOYMENT_ID),
        model="deployment",
        groups=PROJECT_GROUPS,
        aliases=(("PATCH", _ONE + "/build"),),
    ),
    Route(
        name="deployments.delete",
        method="DELETE",
        path=_ONE,
        handler=delete,
        summary="Delete a deployment, its code and its build.",
        scopes=("functions.write",),
        refusals=("function_not_found", "deployment_not_found"),
        params=(FUNCTION_ID, DEPLOYMENT_ID),
        success=204,
        event="functions.[functionId].deployments.[deploymentId].delete",
        groups=PROJECT_GROUPS,
    ),
)
