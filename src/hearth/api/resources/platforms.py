"""Platforms: the apps that may call a project (contract: side-services 3)."""

from collections.abc import Awaitable, Callable
from typing import Any

from hearth.api import wire, wire_hosting
from hearth.api.call import Call
from hearth.api.hosting_grammar import Domain
from hearth.api.resources.common import TOTAL, listed, queries
from hearth.api.resources.scoped import body, target_id
from hearth.api.routes import Body, Param, Place, Route, Validator
from hearth.api.validators import Id, Items, OneOf, Text
from hearth.model import attributes
from hearth.model.ids import UNIQUE
from hearth.model.refusals import missing_param

#: What older clients call the platforms of one kind or another.
_OLD_TYPES = {
    **dict.fromkeys(("web", "flutter-web"), "web"),
    **dict.fromkeys(
        ("apple-ios", "apple-macos", "apple-watchos", "apple-tvos", "flutter-ios", "flutter-macos", "react-native-ios"),
        "apple",
    ),
    **dict.fromkeys(("android", "flutter-android", "react-native-android"), "android"),
    **dict.fromkeys(("flutter-linux", "linux"), "linux"),
    **dict.fromkeys(("flutter-windows", "windows"), "windows"),
    **dict.fromkeys(("apple", "unity"), "apple"),
}
_HOST = Domain(wildcard=True)


def _create(type: str) -> Callable[[Call], Awaitable[Any]]:
    async def create(call: Call) -> Any:
        project_id = await target_id(call, "platforms.write")
        return wire_hosting.platform(await call.control.platforms.create(project_id, type=type, **call.arguments))

    return create


def _update(type: str) -> Callable[[Call], Awaitable[Any]]:
    async def update(call: Call) -> Any:
        project_id = await target_id(call, "platforms.write")
        return wire_hosting.platform(await call.control.platforms.update(project_id, type=type, **call.arguments))

    return update


async def create_old(call: Call) -> Any:
    project_id = await target_id(call, "platforms.write")
    type = _OLD_TYPES[call.arguments.pop("type")]
    hostname, key = call.arguments.pop("hostname"), call.arguments.pop("key")
    identifier = hostname if type == "web" else key
    if not identifier:
        raise missing_param("hostname" if type == "web" else "key")
    platform = await call.control.platforms.create(
        project_id, platform_id=UNIQUE, type=type, identifier=identifier, **call.arguments
    )
    return wire_hosting.platform(platform)


async def update_old(call: Call) -> Any:
    project_id = await target_id(call, "platforms.write")
    hostname, key = call.arguments.pop("hostname"), call.arguments.pop("key")
    platform = await call.control.platforms.update(project_id, identifier=hostname or key or None, **call.arguments)
    return wire_hosting.platform(platform)


async def list_(call: Call) -> Any:
    page = await call.control.platforms.list(await target_id(call, "platforms.read"), listed(**call.arguments))
    return wire.listing("platforms", page.total, [wire_hosting.platform(item) for item in page.items])


async def get(call: Call) -> Any:
    project_id = await target_id(call, "platforms.read")
    return wire_hosting.platform(await call.control.platforms.get(project_id, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.platforms.delete(await target_id(call, "platforms.write"), **call.arguments)


_PATH, _OLD = "/v1/project/platforms", "/v1/projects/{projectId}/platforms"
_READ, _WRITE = ("platforms.read",), ("platforms.write",)
_PLATFORM_ID = Param("platformId", Place.PATH, Id(), "Platform ID.", "platform_id", required=True)
_PROJECT_ID = Param("projectId", Place.PATH, Id(), "Project ID.", "", required=True)
_NAME = body("name", Text(1, 128), "Platform name, at most 128 characters.", "name", required=True)
_APP = Text(1, 256)


def _routes(type: str, validator: Validator, description: str) -> tuple[Route, Route]:
    """Create and update of one type of platform."""
    identifier = body(wire_hosting.PLATFORM_FIELDS[type], validator, description, "identifier", required=True)
    prints = body("fingerprints", Items(Text(1, 256), 100, "fingerprints"), "Not used.", "", default=[])
    more = (prints,) if type == "android" else ()
    return (
        Route(
            name=f"platforms.create_{type}",
            method="POST",
            path=f"{_PATH}/{type}",
            handler=_create(type),
            summary=f"Register a platform of type {type}.",
            scopes=_WRITE,
            refusals=("project_not_found", "platform_already_exists"),
            params=(
                body("platformId", Id(custom=True), "Platform ID, or `unique()`.", "platform_id", default=UNIQUE),
                _NAME,
                identifier,
                *more,
            ),
            success=201,
            model="platform",
            body=Body.FIELDS,
        ),
        Route(
            name=f"platforms.update_{type}",
            method="PUT",
            path=f"{_PATH}/{type}/{{platformId}}",
            handler=_update(type),
            summary=f"Replace name and identifier of a platform of type {type}.",
            scopes=_WRITE,
            refusals=("project_not_found", "platform_not_found"),
            params=(_PLATFORM_ID, _NAME, identifier, *more),
            model="platform",
            body=Body.FIELDS,
        ),
    )


ROUTES = (
    *_routes("web", _HOST, "Host name that pages come from; `*.` in front means every name below."),
    *_routes("apple", _APP, "Bundle identifier of the app."),
    *_routes("android", _APP, "Application ID of the app."),
    *_routes("linux", _APP, "Package name of the app."),
    *_routes("windows", _APP, "Package identifier name of the app."),
    Route(
        name="platforms.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List the platforms of a project.",
        scopes=_READ,
        refusals=("project_not_found",),
        params=(queries(attributes.PLATFORMS), TOTAL),
        model="platformList",
        aliases=(("GET", _OLD),),
    ),
    Route(
        name="platforms.get",
        method="GET",
        path=_PATH + "/{platformId}",
        handler=get,
        summary="Get a platform.",
        scopes=_READ,
        refusals=("project_not_found", "platform_not_found"),
        params=(_PLATFORM_ID,),
        model="platform",
        aliases=(("GET", _OLD + "/{platformId}"),),
    ),
    Route(
        name="platforms.delete",
        method="DELETE",
        path=_PATH + "/{platformId}",
        handler=delete,
        summary="Delete a platform; its pages may not call any more.",
        scopes=_WRITE,
        refusals=("project_not_found", "platform_not_found"),
        params=(_PLATFORM_ID,),
        success=204,
        aliases=(("DELETE", _OLD + "/{platformId}"),),
    ),
    Route(
        name="platforms.create",
        method="POST",
        path=_OLD,
        handler=create_old,
        summary="Register a platform, as older clients do.",
        scopes=_WRITE,
        refusals=("project_not_found", "platform_already_exists"),
        params=(
            _PROJECT_ID,
            body("type", OneOf(tuple(_OLD_TYPES)), "Kind of platform.", "type", required=True),
            _NAME,
            body("key", Text(0, 256), "Identifier of an app.", "key", default=""),
            body("store", Text(0, 256), "Not used.", "", default=""),
            body("hostname", _HOST, "Host name of a web platform.", "hostname", nullable=True),
        ),
        success=201,
        model="platform",
        body=Body.FIELDS,
    ),
    Route(
        name="platforms.update",
        method="PUT",
        path=_OLD + "/{platformId}",
        handler=update_old,
        summary="Change a platform, as older clients do.",
        scopes=_WRITE,
        refusals=("project_not_found", "platform_not_found"),
        params=(
            _PROJECT_ID,
            _PLATFORM_ID,
            _NAME,
            body("key", Text(0, 256), "Identifier of an app.", "key", default=""),
            body("store", Text(0, 256), "Not used.", "", default=""),
            body("hostname", _HOST, "Host name of a web platform.", "hostname", nullable=True),
        ),
        model="platform",
        body=Body.FIELDS,
    ),
)
