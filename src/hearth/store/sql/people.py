"""Users, and their sessions and tokens. Teams stand in `teams`."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, select, update

from hearth.model.people import Session as UserSession
from hearth.model.people import Token, User
from hearth.model.queries import ListQuery
from hearth.ports import Conflict, Page
from hearth.store.sql import collections
from hearth.store.sql.pages import page_of
from hearth.store.sql.people_schema import sessions, tokens, users
from hearth.store.sql.rows import checked, reader, values_of
from hearth.store.sql.search import searchable
from hearth.store.sql.session import Session

_user = reader(User)
_session = reader(UserSession)
_token = reader(Token)

#: Besides the id, what no two users of a project may share.
_UNIQUE = ("email", "phone")


class SqlUsers:
    """See `hearth.ports.Users`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._here = users.c.project_id == session.project_id

    def _is(self, id: str) -> ColumnElement[bool]:
        return and_(self._here, users.c.id == id)

    async def insert(self, user: User) -> User:
        """See the port."""
        self._session.own(user.project_id)
        sequence = await self._session.insert(users, {**values_of(user), "search_words": _words(user)})
        if sequence is None:
            if await self.get(user.id) is not None:
                raise Conflict("id")
            await self._refuse_rival(user.id, {name: getattr(user, name) for name in _UNIQUE})
            raise Conflict("id")  # it was here and went between the two statements
        return replace(user, sequence=sequence)

    async def get(self, id: str) -> User | None:
        """One user."""
        return await self._one(users.c.id == id)

    async def by_email(self, email: str) -> User | None:
        """See the port; nobody has the address `""`."""
        return await self._one(users.c.email == email) if email else None

    async def by_phone(self, phone: str) -> User | None:
        """See the port; nobody has the number `""`."""
        return await self._one(users.c.phone == phone) if phone else None

    async def several(self, ids: Iterable[str]) -> Mapping[str, User]:
        """See the port."""
        rows = await self._session.all(select(users).where(self._here, users.c.id.in_(sorted(set(ids)))))
        return {row.id: _user(row) for row in rows}

    async def list(self, query: ListQuery) -> Page[User]:
        """Raises CursorNotFound."""
        return await page_of(self._session, collections.USERS, self._here, query, _user)

    async def update(self, id: str, /, **changes: Any) -> User | None:
        """See the port. Raises TypeError for a field that does not exist."""
        values = {"updated_at": self._session.clock.now(), **checked(User, changes)}
        await self._refuse_rival(id, {name: changes[name] for name in _UNIQUE if name in changes})
        row = await self._session.one(update(users).where(self._is(id)).values(values).returning(users))
        if row is None:
            return None
        user = _user(row)
        if {"name", *_UNIQUE} & set(changes):
            await self._session.execute(update(users).where(self._is(id)).values(search_words=_words(user)))
        return user

    async def touch(self, id: str, accessed_at: datetime) -> None:
        """See the port."""
        await self._session.execute(update(users).where(self._is(id)).values(accessed_at=accessed_at))

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(users).where(self._is(id))) > 0

    async def _one(self, condition: ColumnElement[bool]) -> User | None:
        row = await self._session.one(select(users).where(self._here, condition))
        return None if row is None else _user(row)

    async def _refuse_rival(self, id: str, wanted: Mapping[str, str]) -> None:
        """Raise Conflict if another user has one of these; writers of a project take turns, so it stays true."""
        for name, value in wanted.items():
            rival = select(users.c.sequence).where(self._here, users.c[name] == value, users.c.id != id)
            if value and await self._session.one(rival) is not None:
                raise Conflict(name)


class SqlSessions:
    """See `hearth.ports.Sessions`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._here = sessions.c.project_id == session.project_id

    async def insert(self, session: UserSession) -> UserSession:
        """Raises Conflict(`id`)."""
        self._session.own(session.project_id)
        sequence = await self._session.insert(sessions, values_of(session))
        if sequence is None:
            raise Conflict("id")
        return replace(session, sequence=sequence)

    async def get(self, user_id: str, id: str) -> UserSession | None:
        """One session of a user."""
        return await self._one(and_(sessions.c.user_id == user_id, sessions.c.id == id))

    async def by_hash(self, secret_hash: str) -> UserSession | None:
        """See the port."""
        return await self._one(sessions.c.secret_hash == secret_hash)

    async def of(self, user_id: str) -> tuple[UserSession, ...]:
        """See the port."""
        mine = select(sessions).where(self._here, sessions.c.user_id == user_id).order_by(sessions.c.sequence)
        return tuple(map(_session, await self._session.all(mine)))

    async def update(self, id: str, /, **changes: Any) -> UserSession | None:
        """See the port."""
        values = {"updated_at": self._session.clock.now(), **checked(UserSession, changes)}
        which = and_(self._here, sessions.c.id == id)
        row = await self._session.one(update(sessions).where(which).values(values).returning(sessions))
        return None if row is None else _session(row)

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(sessions).where(self._here, sessions.c.id == id)) > 0

    async def delete_of(self, user_id: str, except_id: str = "") -> int:
        """How many went."""
        which = and_(self._here, sessions.c.user_id == user_id, sessions.c.id != except_id)
        return await self._session.count(delete(sessions).where(which))

    async def _one(self, condition: ColumnElement[bool]) -> UserSession | None:
        row = await self._session.one(select(sessions).where(self._here, condition))
        return None if row is None else _session(row)


class SqlTokens:
    """See `hearth.ports.Tokens`."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._here = tokens.c.project_id == session.project_id

    async def insert(self, token: Token) -> Token:
        """Raises Conflict(`id`)."""
        self._session.own(token.project_id)
        sequence = await self._session.insert(tokens, values_of(token))
        if sequence is None:
            raise Conflict("id")
        return replace(token, sequence=sequence)

    async def of(self, user_id: str) -> tuple[Token, ...]:
        """See the port."""
        mine = select(tokens).where(self._here, tokens.c.user_id == user_id).order_by(tokens.c.sequence)
        return tuple(map(_token, await self._session.all(mine)))

    async def delete(self, id: str) -> bool:
        """Whether there was one."""
        return await self._session.count(delete(tokens).where(self._here, tokens.c.id == id)) > 0

    async def delete_of(self, user_id: str) -> int:
        """How many went."""
        return await self._session.count(delete(tokens).where(self._here, tokens.c.user_id == user_id))


def _words(user: User) -> str:
    return searchable(user.id, user.email, user.phone, user.name)
