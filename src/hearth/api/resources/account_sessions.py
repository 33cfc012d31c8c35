"""The caller's own sessions: signing in and out, and JWTs (contract: side-services 5.2)."""

from typing import Any

from hearth.api import session_cookies, wire, wire_people
from hearth.api.call import Call
from hearth.api.people_grammar import EMAIL, IdOr
from hearth.api.resources.people_common import DURATION, body, client_of, home, no_content, session_answer
from hearth.api.routes import AbuseRule, Body, Param, Place, Route
from hearth.api.validators import Id, Text
from hearth.control.sessions import CURRENT
from hearth.model.people import PASSWORD_MAX_CHARS
from hearth.model.refusals import Refusal


async def sign_in(call: Call) -> Any:
    sessions = call.control.people.sessions
    opened = await sessions.sign_in(call.project_id, call.actor, **call.arguments, client=client_of(call))
    return session_answer(call, opened)


async def sign_in_anonymous(call: Call) -> Any:
    sessions = call.control.people.sessions
    return session_answer(call, await sessions.sign_in_anonymous(call.project_id, call.actor, client=client_of(call)))


async def sign_in_by_token(call: Call) -> Any:
    sessions = call.control.people.sessions
    opened = await sessions.sign_in_by_token(call.project_id, call.actor, **call.arguments, client=client_of(call))
    return session_answer(call, opened)


async def list_(call: Call) -> Any:
    found = await call.control.people.sessions.list(home(call), call.actor.user_id)
    own = call.actor.session_id
    return wire.listing("sessions", len(found), [wire_people.session(it, current=it.id == own) for it in found])


async def get(call: Call) -> Any:
    session = await call.control.people.sessions.get(home(call), call.actor.user_id, _named(call))
    return wire_people.session(session, current=session.id == call.actor.session_id)


async def extend(call: Call) -> Any:
    session = await call.control.people.sessions.extend(home(call), call.actor.user_id, _named(call))
    return wire_people.session(session, current=session.id == call.actor.session_id)


async def delete(call: Call) -> Any:
    user_id = call.actor.user_id
    session = await call.control.people.sessions.delete(home(call), user_id, _named(call), by=user_id)
    is_own = session.id == call.actor.session_id
    return no_content(session_cookies.closing(call.request, home(call)) if is_own else [])


async def delete_all(call: Call) -> Any:
    user_id = call.actor.user_id
    await call.control.people.sessions.delete_all(home(call), user_id, by=user_id)
    return no_content(session_cookies.closing(call.request, home(call)))


async def create_jwt(call: Call) -> Any:
    return wire_people.jwt(await call.control.people.sessions.create_own_jwt(home(call), call.actor, **call.arguments))


def _named(call: Call) -> str:
    """The session a call is about; `current` is the one it came with. Raises `user_session_not_found`."""
    session_id: str = call.arguments["session_id"]
    if session_id == CURRENT:
        session_id = call.actor.session_id
    if not session_id:
        raise Refusal("user_session_not_found")
    return session_id


_ACCOUNT = ("account",)
_SIGN_IN = ("sessions.write",)
_SESSION_ID = Param("sessionId", Place.PATH, IdOr((CURRENT,)), "Session ID, or `current`.", "session_id", required=True)
_PATH = "/v1/account/sessions"
_CREATED = "users.[userId].sessions.[sessionId].create"
_DELETED = "users.[userId].sessions.[sessionId].delete"

ROUTES = (
    Route(
        name="account.create_email_session",
        method="POST",
        path=f"{_PATH}/email",
        handler=sign_in,
        summary="Sign in with e-mail and password.",
        scopes=_SIGN_IN,
        refusals=("user_session_already_exists", "user_invalid_credentials", "user_blocked"),
        params=(
            body("email", EMAIL, "E-mail address.", "email", required=True),
            body("password", Text(1, PASSWORD_MAX_CHARS), "Password.", "password", required=True),
        ),
        success=201,
        model="session",
        event=_CREATED,
        aliases=(("POST", _PATH),),
        abuse=AbuseRule(10, 3_600, "url:{url}", fields=("email",), resets=True),
        body=Body.FIELDS,
    ),
    Route(
        name="account.create_anonymous_session",
        method="POST",
        path=f"{_PATH}/anonymous",
        handler=sign_in_anonymous,
        summary="Begin an account without e-mail and password, and sign in to it.",
        scopes=_SIGN_IN,
        refusals=("user_session_already_exists", "user_anonymous_console_prohibited"),
        success=201,
        model="session",
        event=_CREATED,
        abuse=AbuseRule(50, 3_600),
    ),
    Route(
        name="account.create_token_session",
        method="POST",
        path=f"{_PATH}/token",
        handler=sign_in_by_token,
        summary="Sign in with a token that a server made.",
        scopes=_SIGN_IN,
        refusals=("user_session_already_exists", "user_invalid_token", "user_blocked"),
        params=(
            body("userId", Id(), "User ID.", "user_id", required=True),
            body("secret", Text(1, 256), "The token's secret.", "secret", required=True),
        ),
        success=201,
        model="session",
        event=_CREATED,
        # By user alone: tokens may be short, and an attacker has as many addresses as he likes.
        abuse=AbuseRule(10, 3_600, "url:{url}", fields=("userId",), resets=True),
        body=Body.FIELDS,
    ),
    Route(
        name="account.list_sessions",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List the caller's sessions.",
        scopes=_ACCOUNT,
        refusals=("user_not_found",),
        model="sessionList",
    ),
    Route(
        name="account.delete_sessions",
        method="DELETE",
        path=_PATH,
        handler=delete_all,
        summary="Sign out everywhere.",
        scopes=_ACCOUNT,
        refusals=("user_not_found",),
        success=204,
        event=_DELETED,
        abuse=AbuseRule(100, 3_600),
    ),
    Route(
        name="account.get_session",
        method="GET",
        path=f"{_PATH}/{{sessionId}}",
        handler=get,
        summary="Get one of the caller's sessions.",
        scopes=_ACCOUNT,
        refusals=("user_session_not_found",),
        params=(_SESSION_ID,),
        model="session",
    ),
    Route(
        name="account.extend_session",
        method="PATCH",
        path=f"{_PATH}/{{sessionId}}",
        handler=extend,
        summary="Let one of the caller's sessions last its full time from now on.",
        scopes=_ACCOUNT,
        refusals=("user_session_not_found",),
        params=(_SESSION_ID,),
        model="session",
        abuse=AbuseRule(10, 3_600, "url:{url},user:{user}"),
    ),
    Route(
        name="account.delete_session",
        method="DELETE",
        path=f"{_PATH}/{{sessionId}}",
        handler=delete,
        summary="Sign out: end one of the caller's sessions.",
        scopes=_ACCOUNT,
        refusals=("user_not_found", "user_session_not_found"),
        params=(_SESSION_ID,),
        success=204,
        event=_DELETED,
        abuse=AbuseRule(100, 3_600),
    ),
    Route(
        name="account.create_jwt",
        method="POST",
        path="/v1/account/jwts",
        handler=create_jwt,
        summary="Create a JWT of the caller; it ends with the session it is made in.",
        scopes=_ACCOUNT,
        refusals=("user_jwt_creation_denied",),
        params=(DURATION,),
        success=201,
        model="jwt",
        aliases=(("POST", "/v1/account/jwt"),),
        abuse=AbuseRule(120, 60, "url:{url},user:{user}"),
        body=Body.FIELDS,
    ),
)
