"""Members of teams (contract: side-services 6)."""

from typing import Any

from hearth.api import session_cookies, wire, wire_people
from hearth.api.call import Call
from hearth.api.people_grammar import EMAIL_OR_NONE, PHONE_OR_NONE
from hearth.api.resources.common import SEARCH, TOTAL, queries
from hearth.api.resources.people_common import body, client_of, listing_of
from hearth.api.resources.teams import ROLES, TEAM_ID
from hearth.api.routes import AbuseRule, Body, Param, Place, Route
from hearth.api.validators import Id, Text
from hearth.model import attributes
from hearth.model.refusals import Refusal

URL_MAX_CHARS = 2_048


async def create(call: Call) -> Any:
    if not call.arguments.pop("url") and not call.actor.is_privileged:
        raise Refusal("general_argument_invalid", "`url` is needed: the page the invitation leads to.")
    return _shown(call, await call.control.people.memberships.create(call.project_id, call.actor, **call.arguments))


async def list_(call: Call) -> Any:
    query = listing_of(call)
    page = await call.control.people.memberships.list(call.project_id, call.actor, query=query, **call.arguments)
    return wire.listing("memberships", page.total, [_shown(call, item) for item in page.items])


async def get(call: Call) -> Any:
    return _shown(call, await call.control.people.memberships.get(call.project_id, call.actor, **call.arguments))


async def set_roles(call: Call) -> Any:
    return _shown(call, await call.control.people.memberships.set_roles(call.project_id, call.actor, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.people.memberships.delete(call.project_id, call.actor, **call.arguments)


async def accept(call: Call) -> Any:
    view, opened = await call.control.people.memberships.accept(
        call.project_id, call.actor, **call.arguments, client=client_of(call)
    )
    answer = call.reply(_shown(call, view))
    if opened is not None:
        expires_at = opened.session.expires_at
        answer.headers += session_cookies.opening(call.request, call.project_id, opened.text, expires_at)
    return answer


def _shown(call: Call, view: Any) -> dict[str, Any]:
    return wire_people.membership(view, call.actor)


_READ = ("teams.read",)
_WRITE = ("teams.write",)
_FOUND = ("team_not_found", "membership_not_found", "team_membership_mismatch")
_MEMBERSHIP_ID = Param("membershipId", Place.PATH, Id(), "Membership ID.", "membership_id", required=True)
_ROLES = body("roles", ROLES, "Roles of the member in the team.", "roles", required=True)
_PATH = "/v1/teams/{teamId}/memberships"

ROUTES = (
    Route(
        name="memberships.create",
        method="POST",
        path=_PATH,
        handler=create,
        summary="Add a member to a team: at once by a key or an admin; users could only invite, by mail.",
        scopes=_WRITE,
        refusals=(
            *("team_not_found", "user_unauthorized", "general_smtp_disabled", "user_not_found"),
            *("user_already_exists", "membership_already_confirmed"),
        ),
        params=(
            TEAM_ID,
            body("email", EMAIL_OR_NONE, "E-mail address of the member.", "email", default=""),
            body("userId", Id(), "User ID of the member.", "user_id", nullable=True),
            body("phone", PHONE_OR_NONE, "Phone number of the member.", "phone", default=""),
            _ROLES,
            body("url", Text(0, URL_MAX_CHARS), "The page an invitation leads to.", "url", default=""),
            body("name", Text(0, 128), "Name of a member who has no account yet.", "name", default=""),
        ),
        success=201,
        model="membership",
        event="teams.[teamId].memberships.[membershipId].create",
        abuse=AbuseRule(10, 3_600),
        body=Body.FIELDS,
    ),
    Route(
        name="memberships.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List the members of a team.",
        scopes=_READ,
        refusals=("team_not_found",),
        params=(TEAM_ID, queries(attributes.MEMBERSHIPS), SEARCH, TOTAL),
        model="membershipList",
    ),
    Route(
        name="memberships.get",
        method="GET",
        path=f"{_PATH}/{{membershipId}}",
        handler=get,
        summary="Get a membership.",
        scopes=_READ,
        refusals=_FOUND,
        params=(TEAM_ID, _MEMBERSHIP_ID),
        model="membership",
    ),
    Route(
        name="memberships.set_roles",
        method="PATCH",
        path=f"{_PATH}/{{membershipId}}",
        handler=set_roles,
        summary="Replace the roles of a member.",
        scopes=_WRITE,
        refusals=(*_FOUND, "user_unauthorized", "membership_downgrade_prohibited"),
        params=(TEAM_ID, _MEMBERSHIP_ID, _ROLES),
        model="membership",
        event="teams.[teamId].memberships.[membershipId].update",
        body=Body.FIELDS,
    ),
    Route(
        name="memberships.delete",
        method="DELETE",
        path=f"{_PATH}/{{membershipId}}",
        handler=delete,
        summary="Take a member out of a team; everybody may leave.",
        scopes=_WRITE,
        refusals=(*_FOUND, "user_unauthorized", "membership_deletion_prohibited"),
        params=(TEAM_ID, _MEMBERSHIP_ID),
        success=204,
        event="teams.[teamId].memberships.[membershipId].delete",
    ),
    Route(
        name="memberships.accept",
        method="PATCH",
        path=f"{_PATH}/{{membershipId}}/status",
        handler=accept,
        summary="Accept an invitation with its secret, and be signed in by it.",
        scopes=("public",),
        refusals=(
            *("membership_not_found", "team_not_found", "team_membership_mismatch", "team_invalid_secret"),
            *("team_invite_mismatch", "membership_already_confirmed", "user_blocked"),
        ),
        params=(
            TEAM_ID,
            _MEMBERSHIP_ID,
            body("userId", Id(), "The invited user.", "user_id", required=True),
            body("secret", Text(1, 256), "The secret of the invitation.", "secret", required=True),
        ),
        model="membership",
        event="teams.[teamId].memberships.[membershipId].update.status",
        body=Body.FIELDS,
    ),
)
