"""Teams (contract: side-services 6). Who is in one stands in `memberships`."""

from typing import Any

from hearth.api import wire, wire_people
from hearth.api.call import Call
from hearth.api.people_grammar import TEAM_ROLE
from hearth.api.resources.common import SEARCH, TOTAL, queries
from hearth.api.resources.people_common import PREFS, body, listing_of
from hearth.api.routes import Body, Param, Place, Route
from hearth.api.validators import Id, Items, Text
from hearth.model import attributes
from hearth.model.people import OWNER

TEAM_ROLES_MAX = 100
TEAM_ID = Param("teamId", Place.PATH, Id(), "Team ID.", "team_id", required=True)
ROLES = Items(TEAM_ROLE, TEAM_ROLES_MAX, "roles")


async def create(call: Call) -> Any:
    return wire_people.team(await call.control.people.teams.create(call.project_id, call.actor, **call.arguments))


async def list_(call: Call) -> Any:
    page = await call.control.people.teams.list(call.project_id, call.actor, listing_of(call))
    return wire.listing("teams", page.total, [wire_people.team(item) for item in page.items])


async def get(call: Call) -> Any:
    return wire_people.team(await call.control.people.teams.get(call.project_id, call.actor, **call.arguments))


async def rename(call: Call) -> Any:
    return wire_people.team(await call.control.people.teams.rename(call.project_id, call.actor, **call.arguments))


async def get_prefs(call: Call) -> Any:
    return dict((await call.control.people.teams.get(call.project_id, call.actor, **call.arguments)).prefs)


async def set_prefs(call: Call) -> Any:
    return dict(await call.control.people.teams.set_prefs(call.project_id, call.actor, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.people.teams.delete(call.project_id, call.actor, **call.arguments)


_READ = ("teams.read",)
_WRITE = ("teams.write",)
_FOUND = ("team_not_found",)
_OWNED = ("team_not_found", "user_unauthorized")
_NAME = body("name", Text(1, 128), "Team name, at most 128 characters.", "name", required=True)
_PATH = "/v1/teams"

ROUTES = (
    Route(
        name="teams.create",
        method="POST",
        path=_PATH,
        handler=create,
        summary="Create a team; a user who does becomes its first member.",
        scopes=_WRITE,
        refusals=("team_already_exists",),
        params=(
            body("teamId", Id(custom=True), "Team ID, or `unique()`.", "team_id", required=True),
            _NAME,
            body("roles", ROLES, "Roles of the user who creates it.", "roles", default=(OWNER,)),
        ),
        success=201,
        model="team",
        event="teams.[teamId].create",
        body=Body.FIELDS,
    ),
    Route(
        name="teams.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List teams; a user sees those he is in.",
        scopes=_READ,
        params=(queries(attributes.TEAMS), SEARCH, TOTAL),
        model="teamList",
        aliases=(("GET", "/v1/organizations"),),
    ),
    Route(
        name="teams.get",
        method="GET",
        path=f"{_PATH}/{{teamId}}",
        handler=get,
        summary="Get a team.",
        scopes=_READ,
        refusals=_FOUND,
        params=(TEAM_ID,),
        model="team",
        aliases=(("GET", "/v1/organizations/{teamId}"),),
    ),
    Route(
        name="teams.rename",
        method="PUT",
        path=f"{_PATH}/{{teamId}}",
        handler=rename,
        summary="Rename a team.",
        scopes=_WRITE,
        refusals=_OWNED,
        params=(TEAM_ID, _NAME),
        model="team",
        event="teams.[teamId].update",
        body=Body.FIELDS,
    ),
    Route(
        name="teams.delete",
        method="DELETE",
        path=f"{_PATH}/{{teamId}}",
        handler=delete,
        summary="Delete a team, with its memberships.",
        scopes=_WRITE,
        refusals=(*_OWNED, "general_bad_request"),
        params=(TEAM_ID,),
        success=204,
        event="teams.[teamId].delete",
    ),
    Route(
        name="teams.get_prefs",
        method="GET",
        path=f"{_PATH}/{{teamId}}/prefs",
        handler=get_prefs,
        summary="Get the preferences of a team.",
        scopes=_READ,
        refusals=_FOUND,
        params=(TEAM_ID,),
        model="preferences",
    ),
    Route(
        name="teams.set_prefs",
        method="PUT",
        path=f"{_PATH}/{{teamId}}/prefs",
        handler=set_prefs,
        summary="Replace the preferences of a team.",
        scopes=_WRITE,
        refusals=_OWNED,
        params=(TEAM_ID, PREFS),
        model="preferences",
        event="teams.[teamId].update.prefs",
        body=Body.FIELDS,
    ),
)
