"""Users of a project, for servers and admins (contract: side-services 5.1). Sessions stand in `users_sessions`."""

from typing import Any

from hearth.api import wire, wire_people
from hearth.api.call import Call
from hearth.api.people_grammar import EMAIL_OR_NONE, LABEL, PASSWORD, PHONE_OR_NONE
from hearth.api.resources.common import SEARCH, TOTAL, queries
from hearth.api.resources.people_common import NAME, PREFS, USER_ID, body, listing_of
from hearth.api.routes import Body, Route
from hearth.api.validators import Boolean, Id, Items, Text
from hearth.control.people import PeopleControl
from hearth.model import attributes
from hearth.model.people import PASSWORD_MAX_CHARS

LABELS_MAX = 1_000


def _people(call: Call) -> PeopleControl:
    return call.control.people


async def create(call: Call) -> Any:
    return wire_people.user(await _people(call).users.create(call.project_id, **call.arguments))


async def list_(call: Call) -> Any:
    page = await _people(call).users.list(call.project_id, listing_of(call))
    return wire.listing("users", page.total, [wire_people.user(item) for item in page.items])


async def get(call: Call) -> Any:
    return wire_people.user(await _people(call).users.get(call.project_id, **call.arguments))


async def get_prefs(call: Call) -> Any:
    return dict((await _people(call).users.get(call.project_id, **call.arguments)).prefs)


async def set_prefs(call: Call) -> Any:
    return dict((await _people(call).users.change(call.project_id, what="prefs", **call.arguments)).prefs)


async def set_name(call: Call) -> Any:
    return wire_people.user(await _people(call).users.change(call.project_id, what="name", **call.arguments))


async def set_labels(call: Call) -> Any:
    labels = tuple(dict.fromkeys(call.arguments.pop("labels")))
    users = _people(call).users
    return wire_people.user(await users.change(call.project_id, what="labels", labels=labels, **call.arguments))


async def set_status(call: Call) -> Any:
    return wire_people.user(await _people(call).users.change(call.project_id, what="status", **call.arguments))


async def set_verification(call: Call) -> Any:
    return wire_people.user(await _people(call).users.change(call.project_id, what="verification", **call.arguments))


async def set_impersonator(call: Call) -> Any:
    return wire_people.user(await _people(call).users.change(call.project_id, what="impersonator", **call.arguments))


async def set_email(call: Call) -> Any:
    return wire_people.user(await _people(call).users.set_email(call.project_id, **call.arguments))


async def set_phone(call: Call) -> Any:
    return wire_people.user(await _people(call).users.set_phone(call.project_id, **call.arguments))


async def set_password(call: Call) -> Any:
    return wire_people.user(await _people(call).users.set_password(call.project_id, **call.arguments))


async def delete(call: Call) -> None:
    await _people(call).users.delete(call.project_id, **call.arguments)


async def list_memberships(call: Call) -> Any:
    query = listing_of(call)
    page = await _people(call).memberships.list_of_user(call.project_id, query=query, **call.arguments)
    items = [wire_people.membership(item, call.actor) for item in page.items]
    return wire.listing("memberships", page.total, items)


class _NewPassword:
    """A password, or none at all."""

    text = f"{PASSWORD.text}, or be empty to take the password away"
    schema = {"type": "string", "maxLength": PASSWORD_MAX_CHARS}  # noqa: RUF012 - never changed

    def check(self, value: Any) -> str:
        return "" if value == "" else PASSWORD.check(value)


_READ = ("users.read",)
_WRITE = ("users.write",)
_FOUND = ("user_not_found",)
_PATH = "/v1/users"


def _update(name: str, path: str, handler: Any, summary: str, *params: Any, **more: Any) -> Route:
    """A route that changes one thing of a user."""
    return Route(
        name=f"users.{name}",
        method=more.pop("method", "PATCH"),
        path=f"{_PATH}/{{userId}}/{path}",
        handler=handler,
        summary=summary,
        scopes=_WRITE,
        refusals=(*_FOUND, *more.pop("refusals", ())),
        params=(USER_ID, *params),
        model=more.pop("model", "user"),
        event=f"users.[userId].update.{more.pop('event', path)}",
        body=Body.FIELDS,
        **more,
    )


ROUTES = (
    Route(
        name="users.create",
        method="POST",
        path=_PATH,
        handler=create,
        summary="Create a user.",
        scopes=_WRITE,
        refusals=("user_already_exists",),
        params=(
            body("userId", Id(custom=True), "User ID, or `unique()`.", "user_id", required=True),
            body("email", EMAIL_OR_NONE, "E-mail address.", "email", default=""),
            body("phone", PHONE_OR_NONE, "Phone number.", "phone", default=""),
            body("password", _NewPassword(), "Password.", "password", default=""),
            body("name", Text(0, 128), "Name, at most 128 characters.", "name", default=""),
        ),
        success=201,
        model="user",
        event="users.[userId].create",
        body=Body.FIELDS,
    ),
    Route(
        name="users.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List the users of the project.",
        scopes=_READ,
        params=(queries(attributes.USERS), SEARCH, TOTAL),
        model="userList",
    ),
    Route(
        name="users.get",
        method="GET",
        path=f"{_PATH}/{{userId}}",
        handler=get,
        summary="Get a user.",
        scopes=_READ,
        refusals=_FOUND,
        params=(USER_ID,),
        model="user",
    ),
    Route(
        name="users.delete",
        method="DELETE",
        path=f"{_PATH}/{{userId}}",
        handler=delete,
        summary="Delete a user, with his sessions and memberships.",
        scopes=_WRITE,
        refusals=(*_FOUND, "membership_deletion_prohibited"),
        params=(USER_ID,),
        success=204,
        event="users.[userId].delete",
    ),
    _update("set_name", "name", set_name, "Change a user's name.", NAME),
    _update(
        "set_email",
        "email",
        set_email,
        "Change a user's e-mail address; the new one counts as not verified.",
        body("email", EMAIL_OR_NONE, "E-mail address; empty takes it away.", "email", required=True),
        refusals=("user_email_already_exists",),
    ),
    _update(
        "set_phone",
        "phone",
        set_phone,
        "Change a user's phone number; the new one counts as not verified.",
        # The name of the parameter is upstream's.
        body("number", PHONE_OR_NONE, "Phone number; empty takes it away.", "phone", required=True),
        refusals=("user_phone_already_exists",),
    ),
    _update(
        "set_password",
        "password",
        set_password,
        "Change a user's password. His sessions end.",
        body("password", _NewPassword(), "The new password.", "password", required=True),
    ),
    _update(
        "set_labels",
        "labels",
        set_labels,
        "Replace a user's labels.",
        body("labels", Items(LABEL, LABELS_MAX, "labels"), f"Labels, at most {LABELS_MAX}.", "labels", required=True),
        method="PUT",
    ),
    _update(
        "set_status",
        "status",
        set_status,
        "Block a user, or open his account again.",
        body("status", Boolean(loose=True), "False blocks the user.", "status", required=True),
    ),
    _update(
        "set_email_verification",
        "verification",
        set_verification,
        "Say whether a user's e-mail address is verified.",
        body("emailVerification", Boolean(), "Whether it is verified.", "email_verified", required=True),
    ),
    _update(
        "set_phone_verification",
        "verification/phone",
        set_verification,
        "Say whether a user's phone number is verified.",
        body("phoneVerification", Boolean(), "Whether it is verified.", "phone_verified", required=True),
        event="verification",
    ),
    _update(
        "set_impersonator",
        "impersonator",
        set_impersonator,
        "Say whether a user may act as others.",
        body("impersonator", Boolean(), "Whether he may.", "impersonator", required=True),
    ),
    _update("set_prefs", "prefs", set_prefs, "Replace a user's preferences.", PREFS, model="preferences"),
    Route(
        name="users.get_prefs",
        method="GET",
        path=f"{_PATH}/{{userId}}/prefs",
        handler=get_prefs,
        summary="Get a user's preferences.",
        scopes=_READ,
        refusals=_FOUND,
        params=(USER_ID,),
        model="preferences",
    ),
    Route(
        name="users.list_memberships",
        method="GET",
        path=f"{_PATH}/{{userId}}/memberships",
        handler=list_memberships,
        summary="List the teams a user is in.",
        scopes=_READ,
        refusals=_FOUND,
        params=(USER_ID, queries(attributes.MEMBERSHIPS), SEARCH, TOTAL),
        model="membershipList",
    ),
)
