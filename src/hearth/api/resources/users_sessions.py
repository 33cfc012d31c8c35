"""Sessions, JWTs and tokens of users, made and ended by servers and admins (contract: side-services 5.1)."""

from typing import Any

from hearth.api import wire, wire_people
from hearth.api.call import Call
from hearth.api.people_grammar import IdOr
from hearth.api.resources.people_common import DURATION, USER_ID, body, client_of
from hearth.api.routes import Body, Param, Place, Route
from hearth.api.validators import Id, Integer
from hearth.control.sessions import RECENT
from hearth.model.refusals import Refusal

TOKEN_MIN_CHARS, TOKEN_MAX_CHARS = 4, 128
TOKEN_MIN_S, TOKEN_MAX_S = 60, 31_536_000


async def create(call: Call) -> Any:
    if not call.actor.is_privileged:
        # Guests hold `sessions.write` too, to sign in with; it must not open other people's accounts.
        raise Refusal("general_unauthorized_scope", "Only API keys and admins can open sessions of users.")
    opened = await call.control.people.sessions.create(call.project_id, **call.arguments, client=client_of(call))
    return wire_people.session(opened.session, current=False, secret=opened.text)


async def list_(call: Call) -> Any:
    found = await call.control.people.sessions.list(call.project_id, **call.arguments)
    return wire.listing("sessions", len(found), [wire_people.session(it, current=False) for it in found])


async def delete(call: Call) -> None:
    await call.control.people.sessions.delete(call.project_id, **call.arguments)


async def delete_all(call: Call) -> None:
    await call.control.people.sessions.delete_all(call.project_id, **call.arguments)


async def create_jwt(call: Call) -> Any:
    return wire_people.jwt(await call.control.people.sessions.create_jwt(call.project_id, **call.arguments))


async def create_token(call: Call) -> Any:
    return wire_people.token(*await call.control.people.sessions.create_token(call.project_id, **call.arguments))


_FOUND = ("user_not_found",)
_SESSION_ID = Param("sessionId", Place.PATH, Id(), "Session ID.", "session_id", required=True)
_PATH = "/v1/users/{userId}"
_DELETED = "users.[userId].sessions.[sessionId].delete"

ROUTES = (
    Route(
        name="users.create_session",
        method="POST",
        path=f"{_PATH}/sessions",
        handler=create,
        summary="Open a session for a user; its secret is in this answer only.",
        scopes=("users.write", "sessions.write"),
        refusals=_FOUND,
        params=(USER_ID,),
        success=201,
        model="session",
        event="users.[userId].sessions.[sessionId].create",
    ),
    Route(
        name="users.list_sessions",
        method="GET",
        path=f"{_PATH}/sessions",
        handler=list_,
        summary="List a user's sessions.",
        scopes=("users.read",),
        refusals=_FOUND,
        params=(USER_ID,),
        model="sessionList",
    ),
    Route(
        name="users.delete_sessions",
        method="DELETE",
        path=f"{_PATH}/sessions",
        handler=delete_all,
        summary="End every session of a user.",
        scopes=("users.write",),
        refusals=_FOUND,
        params=(USER_ID,),
        success=204,
        event=_DELETED,
    ),
    Route(
        name="users.delete_session",
        method="DELETE",
        path=f"{_PATH}/sessions/{{sessionId}}",
        handler=delete,
        summary="End a session of a user.",
        scopes=("users.write",),
        refusals=(*_FOUND, "user_session_not_found"),
        params=(USER_ID, _SESSION_ID),
        success=204,
        event=_DELETED,
    ),
    Route(
        name="users.create_jwt",
        method="POST",
        path=f"{_PATH}/jwts",
        handler=create_jwt,
        summary="Create a JWT of a user.",
        scopes=("users.write",),
        refusals=_FOUND,
        params=(
            USER_ID,
            body(
                "sessionId",
                IdOr(RECENT),
                "The session it ends with; `recent` is the newest one.",
                "session_id",
                default=RECENT[0],
            ),
            DURATION,
        ),
        success=201,
        model="jwt",
        body=Body.FIELDS,
    ),
    Route(
        name="users.create_token",
        method="POST",
        path=f"{_PATH}/tokens",
        handler=create_token,
        summary="Create a secret that a client can exchange for a session, once.",
        scopes=("users.write",),
        refusals=_FOUND,
        params=(
            USER_ID,
            body(
                "length",
                Integer(TOKEN_MIN_CHARS, TOKEN_MAX_CHARS, "characters"),
                "Length of the secret.",
                "length",
                default=6,
            ),
            body(
                "expire",
                Integer(TOKEN_MIN_S, TOKEN_MAX_S, "seconds"),
                "How long it can be exchanged.",
                "expire_s",
                default=900,
            ),
        ),
        success=201,
        model="token",
        event="users.[userId].tokens.[tokenId].create",
        body=Body.FIELDS,
    ),
)
