"""Rows of one project: users, sessions, teams, memberships."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from hearth.model.people import Membership, Session, Team, Token, User
from hearth.model.queries import ListQuery
from hearth.ports.rows import Page


class Users(Protocol):
    """Users of one project."""

    async def insert(self, user: User) -> User:
        """Raises Conflict(`id`), Conflict(`email`) or Conflict(`phone`)."""

    async def get(self, id: str) -> User | None: ...
    async def by_email(self, email: str) -> User | None:
        """`email` in lower case."""

    async def by_phone(self, phone: str) -> User | None: ...
    async def several(self, ids: Iterable[str]) -> Mapping[str, User]:
        """The users of these ids that exist, by id."""

    async def list(self, query: ListQuery) -> Page[User]: ...
    async def update(self, id: str, /, **changes: Any) -> User | None:
        """As for functions. Raises Conflict(`email`) or Conflict(`phone`)."""

    async def touch(self, id: str, accessed_at: datetime) -> None:
        """Note that a user was here; `updated_at` stays."""

    async def delete(self, id: str) -> bool: ...


class Sessions(Protocol):
    """Sessions of the users of one project."""

    async def insert(self, session: Session) -> Session: ...
    async def get(self, user_id: str, id: str) -> Session | None: ...
    async def by_hash(self, secret_hash: str) -> Session | None: ...
    async def of(self, user_id: str) -> tuple[Session, ...]:
        """The sessions of a user, oldest first, expired ones included."""

    async def update(self, id: str, /, **changes: Any) -> Session | None: ...
    async def delete(self, id: str) -> bool: ...
    async def delete_of(self, user_id: str, except_id: str = "") -> int: ...


class Tokens(Protocol):
    """Tokens of the users of one project."""

    async def insert(self, token: Token) -> Token: ...
    async def of(self, user_id: str) -> tuple[Token, ...]:
        """The tokens of a user, oldest first, expired ones included."""

    async def delete(self, id: str) -> bool: ...
    async def delete_of(self, user_id: str) -> int: ...


class Teams(Protocol):
    """Teams of one project."""

    async def insert(self, team: Team) -> Team: ...
    async def get(self, id: str) -> Team | None: ...
    async def several(self, ids: Iterable[str]) -> Mapping[str, Team]:
        """The teams of these ids that exist, by id."""

    async def list(self, query: ListQuery, member: str | None = None) -> Page[Team]:
        """`member` is the id of a user: only teams with a confirmed membership of his; None = all."""

    async def update(self, id: str, /, **changes: Any) -> Team | None: ...
    async def count_members(self, id: str) -> None:
        """Bring `total` up to date: called in every transaction that changes who is a confirmed member."""

    async def delete(self, id: str) -> bool: ...


class Memberships(Protocol):
    """Memberships of one project."""

    async def insert(self, membership: Membership) -> Membership:
        """Raises Conflict(`id`) or Conflict(`user`) (he is in that team already)."""

    async def get(self, id: str) -> Membership | None: ...
    async def of_pair(self, team_id: str, user_id: str) -> Membership | None: ...
    async def of_user(self, user_id: str) -> tuple[Membership, ...]:
        """Every membership of a user, oldest first, also unconfirmed ones."""

    async def list(self, query: ListQuery, *, team_id: str = "", user_id: str = "") -> Page[Membership]:
        """Those of one team or of one user."""

    async def owners(self, team_id: str) -> int:
        """How many confirmed members of a team have the role `owner`."""

    async def users_of(self, team_id: str) -> tuple[str, ...]:
        """The ids of all users of a team."""

    async def update(self, id: str, /, **changes: Any) -> Membership | None: ...
    async def delete(self, id: str) -> bool: ...
    async def delete_of(self, *, team_id: str = "", user_id: str = "") -> int: ...
