"""What the routes of people share."""

from typing import Any

from hearth.api import session_cookies, wire_people
from hearth.api.call import Call
from hearth.api.messages import Answer, RawHeader, empty_answer
from hearth.api.people_grammar import JsonObject
from hearth.api.resources.common import listed
from hearth.api.routes import Param, Place, Validator
from hearth.api.validators import Id, Integer, Text
from hearth.control.sessions import Client, NewSession
from hearth.model.actor import ActorKind
from hearth.model.people import CONSOLE
from hearth.model.queries import ListQuery


def body(name: str, validator: Validator, description: str, to: str, **more: Any) -> Param:
    """A parameter of the body."""
    return Param(name, Place.BODY, validator, description, to, **more)


PREFS_MAX_BYTES = 65_536
JWT_DURATION_MAX_S = 3_600
USER_AGENT_MAX_CHARS = 1_024

USER_ID = Param("userId", Place.PATH, Id(), "User ID.", "user_id", required=True)
NAME = body("name", Text(0, 128), "Name, at most 128 characters.", "name", required=True)
PREFS = body("prefs", JsonObject(PREFS_MAX_BYTES), "Preferences: any JSON object.", "prefs", required=True)
DURATION = body(
    "duration",
    Integer(0, JWT_DURATION_MAX_S, "seconds"),
    f"How long the JWT lasts, at most {JWT_DURATION_MAX_S} seconds.",
    "duration_s",
    default=900,
)


def home(call: Call) -> str:
    """The project the caller's own account is in: that of the console for an admin at work in another."""
    return CONSOLE if call.actor.kind is ActorKind.ADMIN else call.project_id


def client_of(call: Call) -> Client:
    """Where a session is opened from; a server may say on whose behalf it calls."""
    header = call.request.header
    agent = header(b"x-forwarded-user-agent") if call.actor.kind is ActorKind.KEY else ""
    return Client(call.client_ip, (agent or header(b"user-agent"))[:USER_AGENT_MAX_CHARS])


def session_answer(call: Call, opened: NewSession) -> Answer:
    """The answer that hands over a new session: cookies, and the secret itself to servers and admins only."""
    secret = opened.text if call.actor.is_privileged else ""
    answer = call.reply(wire_people.session(opened.session, current=True, secret=secret))
    answer.headers += session_cookies.opening(call.request, call.project_id, opened.text, opened.session.expires_at)
    return answer


def no_content(headers: list[RawHeader]) -> Answer:
    """204 with headers."""
    answer = empty_answer()
    answer.headers += headers
    return answer


def listing_of(call: Call) -> ListQuery:
    """The list query of a call, with the two parameters that stand beside it taken out of its arguments."""
    arguments = call.arguments
    return listed(arguments.pop("query"), search=arguments.pop("search", ""), count=arguments.pop("count", True))
