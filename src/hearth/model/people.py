"""Users and what belongs to them: sessions, tokens, teams, memberships; and the roles all that gives somebody.

People belong to a project like every other resource. Those of the console, who operate the server, belong to
the reserved project `CONSOLE`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

#: The reserved project of the console: its users log in to operate other projects.
CONSOLE = "console"
#: The team role that may change its team and everybody's membership.
OWNER = "owner"
#: Sessions one user may have; the oldest make room (contract: side-services 5.2).
SESSIONS_MAX = 10
#: Characters of a password, at least and at most (contract: side-services 5.1). Longer ones only cost hashing time.
PASSWORD_MIN_CHARS = 8
PASSWORD_MAX_CHARS = 256


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who has an account in a project.

    `email` is lower-case; it and `phone` are `""` or unique in the project. `password_hash` is `""` for users
    without a password; `password_updated_at` is None while the user never chose one. `status` false = blocked.
    """

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    registered_at: datetime
    email: str = ""
    phone: str = ""
    name: str = ""
    password_hash: str = ""
    password_updated_at: datetime | None = None
    status: bool = True
    labels: tuple[str, ...] = ()
    email_verified: bool = False
    phone_verified: bool = False
    impersonator: bool = False
    reset_required: bool = False
    accessed_at: datetime | None = None
    prefs: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in client of a user. Only the SHA-256 of its secret is stored.

    `provider` says how it began: `email`, `anonymous`, `token`, `server`.
    """

    id: str
    project_id: str
    user_id: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    secret_hash: str
    provider: str
    provider_uid: str = ""
    factors: tuple[str, ...] = ()
    ip: str = ""
    user_agent: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Token:
    """A secret that can be exchanged for a session, once and until it expires. Stored as its SHA-256."""

    id: str
    project_id: str
    user_id: str
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    secret_hash: str
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Team:
    """A group of users. `total` counts its confirmed memberships. In project `console` it is an organization."""

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    name: str
    total: int = 0
    prefs: Mapping[str, Any] = field(default_factory=dict)
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Membership:
    """A user in a team, with roles in it. It gives nothing until `confirmed`.

    `secret_hash` is the SHA-256 of the invitation's secret, `""` where nobody was invited.
    """

    id: str
    project_id: str
    team_id: str
    user_id: str
    created_at: datetime
    updated_at: datetime
    invited_at: datetime
    roles: tuple[str, ...] = ()
    joined_at: datetime | None = None
    confirmed: bool = False
    secret_hash: str = ""
    sequence: int = 0


def roles_of(user: User, memberships: Iterable[Membership]) -> tuple[str, ...]:
    """Everything `user` is, as matched against the `execute` of a function (contract: functions-api 1.2).

    `memberships` are the user's own; those not confirmed give nothing.
    """
    verified = "verified" if user.email_verified or user.phone_verified else "unverified"
    roles = ["any", f"user:{user.id}", "users", f"user:{user.id}/{verified}", f"users/{verified}"]
    for membership in memberships:
        if membership.confirmed:
            roles += [f"team:{membership.team_id}", f"member:{membership.id}"]
            roles += [f"team:{membership.team_id}/{role}" for role in membership.roles]
    roles += [f"label:{label}" for label in user.labels]
    return tuple(dict.fromkeys(roles))
