"""Whoever is calling: who they are (roles) and what they may do (scopes). Contract: functions-api 1.1 and 1.2."""

from dataclasses import dataclass
from enum import StrEnum


class ActorKind(StrEnum):
    """How the caller proved who they are."""

    GUEST = "guest"
    USER = "user"
    KEY = "key"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Actor:
    """The caller of one request.

    `roles` are matched against a function's `execute`; `label` is the caller as refusals name it (an e-mail
    or `User`). `session_id` is set when a session, not a JWT, identified the user. `impersonator_id` is the user who
    acts as `user_id`. `refusal` is the type of the refusal that stands against this user whatever he may do
    otherwise (`user_blocked` and the like); it is answered after the scopes have been checked.
    """

    kind: ActorKind
    scopes: frozenset[str]
    roles: tuple[str, ...] = ("any", "guests")
    user_id: str = ""
    session_id: str = ""
    label: str = "User"
    key_id: str = ""
    impersonator_id: str = ""
    refusal: str = ""

    @property
    def real_user_id(self) -> str:
        """The user who sits at the keyboard: himself, or who impersonates him."""
        return self.impersonator_id or self.user_id

    @property
    def is_privileged(self) -> bool:
        """Whether document permissions (and `execute`) do not bind this caller: keys and console admins."""
        return self.kind is ActorKind.KEY or self.kind is ActorKind.ADMIN

    def has_scope(self, wanted: tuple[str, ...]) -> bool:
        """Whether one of `wanted` is held; `public` is everybody's."""
        return not wanted or "public" in wanted or not self.scopes.isdisjoint(wanted)
