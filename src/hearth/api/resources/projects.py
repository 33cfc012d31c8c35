"""Projects and their switches (contract: side-services 3), under the paths of all generations of clients."""

from typing import Any

from hearth.api import wire, wire_hosting
from hearth.api.call import Call
from hearth.api.resources.common import SEARCH, TOTAL, listed, queries
from hearth.api.resources.scoped import body, target, target_id
from hearth.api.routes import Body, Param, Place, Route
from hearth.api.validators import Boolean, Id, Items, OneOf, Text
from hearth.control.projects import PROTOCOLS, SERVICES
from hearth.model import attributes
from hearth.model.refusals import Refusal

LABELS_MAX = 1_000
#: What older clients call the protocols.
_OLD_PROTOCOLS = {"realtime": "websocket"}

_ID = Param("projectId", Place.PATH, Id(), "Project ID.", "", required=True)
_NAME = body("name", Text(1, 128), "Project name, at most 128 characters.", "name", required=True)


async def create(call: Call) -> Any:
    return wire_hosting.project(await call.control.projects.create(call.actor, **call.arguments))


async def create_in_organization(call: Call) -> Any:
    team_id = call.request.header(b"x-appwrite-organization")
    if not team_id:
        raise Refusal("organization_id_missing", "Name the organization in the `x-appwrite-organization` header.")
    return wire_hosting.project(await call.control.projects.create(call.actor, team_id=team_id, **call.arguments))


async def list_(call: Call) -> Any:
    page = await call.control.projects.list(call.actor, call.project_id, listed(**call.arguments))
    return wire.listing("projects", page.total, [wire_hosting.project(item) for item in page.items])


async def get(call: Call) -> Any:
    return wire_hosting.project(await target(call, "project.read"))


async def update(call: Call) -> Any:
    project_id = await target_id(call, "project.write")
    return wire_hosting.project(await call.control.projects.rename(project_id, **call.arguments))


async def move(call: Call) -> Any:
    project_id = await target_id(call, "projects.write")
    return wire_hosting.project(await call.control.projects.move(call.actor, project_id, **call.arguments))


async def label(call: Call) -> Any:
    project_id = await target_id(call, "project.write")
    return wire_hosting.project(await call.control.projects.label(project_id, **call.arguments))


async def switch_service(call: Call) -> Any:
    project_id = await target_id(call, "project.write")
    names = (call.arguments["service"],)
    return wire_hosting.project(
        await call.control.projects.switch_services(project_id, names, call.arguments["enabled"])
    )


async def switch_all_services(call: Call) -> Any:
    project_id = await target_id(call, "project.write")
    return wire_hosting.project(
        await call.control.projects.switch_services(project_id, SERVICES, call.arguments["enabled"])
    )


async def switch_protocol(call: Call) -> Any:
    project_id = await target_id(call, "project.write")
    name = call.arguments["protocol"]
    return wire_hosting.project(
        await call.control.projects.switch_protocols(
            project_id, (_OLD_PROTOCOLS.get(name, name),), call.arguments["enabled"]
        )
    )


async def switch_all_protocols(call: Call) -> Any:
    project_id = await target_id(call, "project.write")
    return wire_hosting.project(
        await call.control.projects.switch_protocols(project_id, PROTOCOLS, call.arguments["enabled"])
    )


_SERVICE = OneOf(SERVICES)
_PROTOCOL = OneOf((*PROTOCOLS, *_OLD_PROTOCOLS))
_ENABLED = body("enabled", Boolean(), "Whether it is on for users.", "enabled", required=True)
_STATUS = body("status", Boolean(), "Whether it is on for users.", "enabled", required=True)
_READ = ("projects.read", "project.read")
_WRITE = ("projects.write", "project.write")
_FOUND = ("project_not_found",)
_CREATE = ("team_not_found", "project_already_exists", "project_reserved_project", "project_region_unsupported")

ROUTES = (
    Route(
        name="projects.create",
        method="POST",
        path="/v1/projects",
        handler=create,
        summary="Create a project in an organization of the caller.",
        scopes=("projects.write",),
        refusals=(*_CREATE, "project_not_found"),
        params=(
            body("projectId", Id(custom=True), "Project ID, or `unique()`.", "project_id", required=True),
            _NAME,
            body("teamId", Id(), "The organization it is to belong to.", "team_id", required=True),
            body("region", Text(0, 64), "Where it is to be; this server has one region.", "region", nullable=True),
        ),
        success=201,
        model="project",
        body=Body.FIELDS,
    ),
    Route(
        name="projects.list",
        method="GET",
        path="/v1/projects",
        handler=list_,
        summary="List the projects of the caller's organizations.",
        scopes=("projects.read",),
        params=(queries(attributes.PROJECTS), SEARCH, TOTAL),
        model="projectList",
        aliases=(("GET", "/v1/organization/projects"),),
    ),
    Route(
        name="project.get",
        method="GET",
        path="/v1/project",
        handler=get,
        summary="Get the project of the call, or one named in the path.",
        scopes=_READ,
        refusals=_FOUND,
        model="project",
        aliases=(("GET", "/v1/projects/{projectId}"), ("GET", "/v1/organization/projects/{projectId}")),
    ),
    Route(
        name="projects.update",
        method="PATCH",
        path="/v1/projects/{projectId}",
        handler=update,
        summary="Rename a project.",
        scopes=_WRITE,
        refusals=_FOUND,
        params=(_ID, _NAME),
        model="project",
        body=Body.FIELDS,
        aliases=(("PATCH", "/v1/organization/projects/{projectId}"),),
    ),
    Route(
        name="projects.update_team",
        method="PATCH",
        path="/v1/projects/{projectId}/team",
        handler=move,
        summary="Give a project to another organization of the caller.",
        scopes=_WRITE,
        refusals=("project_not_found", "team_not_found"),
        params=(_ID, body("teamId", Id(), "The organization it is to belong to.", "team_id", required=True)),
        model="project",
        body=Body.FIELDS,
    ),
    Route(
        name="project.update_labels",
        method="PUT",
        path="/v1/project/labels",
        handler=label,
        summary="Replace the labels of a project.",
        scopes=_WRITE,
        refusals=_FOUND,
        params=(
            body(
                "labels",
                Items(Text(1, 36), LABELS_MAX, "labels"),
                "All labels, each 1 to 36 characters.",
                "labels",
                required=True,
            ),
        ),
        model="project",
        body=Body.FIELDS,
        aliases=(("PUT", "/v1/projects/{projectId}/labels"),),
    ),
    Route(
        name="project.update_service",
        method="PATCH",
        path="/v1/project/services/{serviceId}",
        handler=switch_service,
        summary="Switch a service on or off for everybody but keys and admins.",
        scopes=_WRITE,
        refusals=_FOUND,
        params=(
            Param("serviceId", Place.PATH, _SERVICE, "The service.", "service", required=True),
            _ENABLED,
        ),
        model="project",
        body=Body.FIELDS,
    ),
    Route(
        name="project.update_protocol",
        method="PATCH",
        path="/v1/project/protocols/{protocolId}",
        handler=switch_protocol,
        summary="Switch a protocol on or off for everybody but keys and admins.",
        scopes=_WRITE,
        refusals=_FOUND,
        params=(
            Param("protocolId", Place.PATH, _PROTOCOL, "The protocol.", "protocol", required=True),
            _ENABLED,
        ),
        model="project",
        body=Body.FIELDS,
    ),
    Route(
        name="projects.update_service_status",
        method="PATCH",
        path="/v1/projects/{projectId}/service",
        handler=switch_service,
        summary="Switch a service on or off, as older clients do.",
        scopes=_WRITE,
        refusals=_FOUND,
        params=(_ID, body("service", _SERVICE, "The service.", "service", required=True), _STATUS),
        model="project",
        body=Body.FIELDS,
    ),
    Route(
        name="projects.update_all_services",
        method="PATCH",
        path="/v1/projects/{projectId}/service/all",
        handler=switch_all_services,
        summary="Switch all services on or off.",
        scopes=_WRITE,
        refusals=_FOUND,
        params=(_ID, _STATUS),
        model="project",
        body=Body.FIELDS,
    ),
    Route(
        name="projects.update_api_status",
        method="PATCH",
        path="/v1/projects/{projectId}/api",
        handler=switch_protocol,
        summary="Switch a protocol on or off, as older clients do.",
        scopes=_WRITE,
        refusals=_FOUND,
        params=(_ID, body("api", _PROTOCOL, "The protocol.", "protocol", required=True), _STATUS),
        model="project",
        body=Body.FIELDS,
    ),
    Route(
        name="projects.update_all_apis",
        method="PATCH",
        path="/v1/projects/{projectId}/api/all",
        handler=switch_all_protocols,
        summary="Switch all protocols on or off.",
        scopes=_WRITE,
        refusals=_FOUND,
        params=(_ID, _STATUS),
        model="project",
        body=Body.FIELDS,
    ),
    Route(
        name="organization.create_project",
        method="POST",
        path="/v1/organization/projects",
        handler=create_in_organization,
        summary="Create a project in the organization that the `x-appwrite-organization` header names.",
        scopes=("projects.write",),
        refusals=(*_CREATE, "project_not_found", "organization_id_missing"),
        params=(
            body("projectId", Id(custom=True), "Project ID, or `unique()`.", "project_id", required=True),
            _NAME,
            body("region", Text(0, 64), "Where it is to be; this server has one region.", "region", nullable=True),
        ),
        success=201,
        model="project",
        body=Body.FIELDS,
    ),
)
