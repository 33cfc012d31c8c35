"""Users, sessions, teams and memberships as clients see them (contract: side-services 5, 6; clients 2.1)."""

from datetime import datetime
from typing import Any

from hearth.api.user_agents import describe
from hearth.api.wire import Wire
from hearth.control.memberships import MembershipView
from hearth.model.actor import Actor, ActorKind
from hearth.model.people import CONSOLE, Session, Team, Token, User
from hearth.model.times import to_wire

#: Country of an address nobody looked up.
_NO_COUNTRY = {"countryCode": "--", "countryName": "Unknown"}


def _date(moment: datetime | None) -> str:
    return "" if moment is None else to_wire(moment)


def account(it: User) -> Wire:
    """A user as he sees himself: without anything of his password's hash."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "name": it.name,
        "registration": to_wire(it.registered_at),
        "status": it.status,
        "labels": it.labels,
        "passwordUpdate": _date(it.password_updated_at),
        "email": it.email,
        "phone": it.phone,
        "emailVerification": it.email_verified,
        "phoneVerification": it.phone_verified,
        "mfa": False,
        "prefs": it.prefs,
        "targets": [],
        "accessedAt": _date(it.accessed_at),
        "impersonator": it.impersonator,
        "impersonatorUserId": "",
    }


def user(it: User) -> Wire:
    """A user as servers and admins see him: with the hash of his password."""
    hashing = _hashing(it.password_hash)
    return {**account(it), "password": it.password_hash, "hash": "argon2" if hashing else "", "hashOptions": hashing}


def _hashing(stored: str) -> Wire:
    """The parameters in an argon2 hash (`$argon2id$v=19$m=65536,t=3,p=4$...`), as the wire names them."""
    parts = stored.split("$")
    if len(parts) < 4:
        return {}
    numbers = dict(pair.partition("=")[::2] for pair in parts[3].split(","))
    return {
        "type": "argon2",
        "memoryCost": int(numbers.get("m", 0)),
        "timeCost": int(numbers.get("t", 0)),
        "threads": int(numbers.get("p", 0)),
    }


def session(it: Session, *, current: bool, secret: str = "") -> Wire:
    """A session; `secret` is what its client has to keep, shown once and to servers only."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "userId": it.user_id,
        "expire": to_wire(it.expires_at),
        "provider": it.provider,
        "providerUid": it.provider_uid,
        "providerAccessToken": "",
        "providerAccessTokenExpiry": "",
        "providerRefreshToken": "",
        "ip": it.ip,
        **describe(it.user_agent),
        **_NO_COUNTRY,
        "current": current,
        "factors": it.factors,
        "secret": secret,
        "mfaUpdatedAt": "",
    }


def token(it: Token, secret: str = "") -> Wire:
    """A token; `secret` only in the answer that made it."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "userId": it.user_id,
        "secret": secret,
        "expire": to_wire(it.expires_at),
        "phrase": "",
    }


def team(it: Team) -> Wire:
    """A team."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "name": it.name,
        "total": it.total,
        "prefs": it.prefs,
    }


def membership(it: MembershipView, actor: Actor) -> Wire:
    """A membership as `actor` may see it: who the others are, a project's users do not learn from it.

    Keys and admins see names, addresses and numbers of all members; users see their own, in the console all.
    """
    inside = it.membership
    own = actor.kind is ActorKind.USER and actor.user_id == inside.user_id
    person = it.user if actor.is_privileged or own or inside.project_id == CONSOLE else None
    return {
        "$id": inside.id,
        "$createdAt": to_wire(inside.created_at),
        "$updatedAt": to_wire(inside.updated_at),
        "userId": inside.user_id,
        "userName": "" if person is None else person.name,
        "userEmail": "" if person is None else person.email,
        "userPhone": "" if person is None else person.phone,
        "teamId": inside.team_id,
        "teamName": "" if it.team is None else it.team.name,
        "invited": to_wire(inside.invited_at),
        "joined": _date(inside.joined_at),
        "confirm": inside.confirmed,
        "mfa": False,
        "userAccessedAt": "" if person is None else _date(person.accessed_at),
        "roles": inside.roles,
    }


def jwt(text: str) -> dict[str, Any]:
    """A user JWT."""
    return {"jwt": text}
