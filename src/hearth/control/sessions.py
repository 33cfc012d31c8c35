"""Sessions of users, and the tokens and JWTs that stand for one (contract: side-services 5.1, 5.2)."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from hearth.auth.passwords import Passwords
from hearth.auth.sessions import hash_secret, new_secret, pack
from hearth.control.users import ForgetUser, require_user
from hearth.model.actor import Actor, ActorKind
from hearth.model.ids import unique_id
from hearth.model.people import CONSOLE, SESSIONS_MAX, Session, Token, User
from hearth.model.refusals import Refusal
from hearth.ports import Clock, Events, Store, Unit

#: How long a session lasts (contract: side-services 5.2).
SESSION_LIFE = timedelta(days=365)
#: Tokens one user may have at a time; the oldest make room.
TOKENS_MAX = 10
#: The session a JWT is made for where the caller names none; the longer spelling is the older one.
RECENT = ("recent", "recent()")
CURRENT = "current"


class MintUserJwt(Protocol):
    """Makes a user JWT: `hearth.auth.tokens.Tokens.mint_user_jwt`."""

    def __call__(self, project_id: str, user_id: str, session_id: str, lifetime_s: int, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Client:
    """Where a session is opened from."""

    ip: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session and, this once, what its client has to keep."""

    session: Session
    text: str


class SessionsControl:
    """Use cases of sessions."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        events: Events,
        passwords: Passwords,
        mint_user_jwt: MintUserJwt,
        forget: ForgetUser,
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._passwords = passwords
        self._mint_user_jwt = mint_user_jwt
        self._forget = forget

    async def sign_in(self, project_id: str, actor: Actor, *, email: str, password: str, client: Client) -> NewSession:
        """Open a session by e-mail and password.

        An unknown address and a wrong password are answered alike, after the same time. Raises
        `user_session_already_exists`, `user_invalid_credentials`, `user_blocked` and Busy.
        """
        _require_signed_out(actor)
        async with self._store.view(project_id) as unit:
            found = await unit.users.by_email(email.lower())
        stored = "" if found is None else found.password_hash
        if not await self._passwords.verify(stored, password) or found is None:
            raise Refusal("user_invalid_credentials")
        async with self._store.begin(project_id) as unit:
            user = await unit.users.get(found.id)
            if user is None or user.password_hash != stored:
                raise Refusal("user_invalid_credentials")  # changed while we were computing
            _require_unblocked(user)
            opened = await self._open(unit, user, "email", user.email, ("password",), client)
        return self._opened(opened)

    async def sign_in_anonymous(self, project_id: str, actor: Actor, *, client: Client) -> NewSession:
        """Make a user without a name and open a session for him.

        Raises `user_anonymous_console_prohibited`, `user_session_already_exists`.
        """
        if project_id == CONSOLE:
            raise Refusal("user_anonymous_console_prohibited")
        _require_signed_out(actor)
        now = self._clock.now()
        async with self._store.begin(project_id) as unit:
            user = await unit.users.insert(User(unique_id(), project_id, now, now, now))
            await self._events.record(unit, f"users.{user.id}.create", user)
            opened = await self._open(unit, user, "anonymous", "", ("anonymous",), client)
        self._events.emit(project_id, f"users.{user.id}.create", user)
        return self._opened(opened)

    async def sign_in_by_token(
        self, project_id: str, actor: Actor, *, user_id: str, secret: str, client: Client
    ) -> NewSession:
        """Exchange a token, which is used up, for a session.

        Raises `user_session_already_exists`, `user_invalid_token`, `user_blocked`.
        """
        _require_signed_out(actor)
        hashed, now = hash_secret(secret), self._clock.now()
        async with self._store.begin(project_id) as unit:
            user = await unit.users.get(user_id)
            found = [
                token for token in await unit.tokens.of(user_id) if secrets.compare_digest(token.secret_hash, hashed)
            ]
            if user is None or not found or found[0].expires_at <= now:
                raise Refusal("user_invalid_token")
            _require_unblocked(user)
            await unit.tokens.delete(found[0].id)
            opened = await self._open(unit, user, "token", "", ("token",), client)
        return self._opened(opened)

    async def create(self, project_id: str, *, user_id: str, client: Client) -> NewSession:
        """Open a session for a user on a server's word. Raises `user_not_found`."""
        async with self._store.begin(project_id) as unit:
            user = await require_user(unit, user_id)
            opened = await self._open(unit, user, "server", "", ("server",), client)
        return self._opened(opened)

    async def list(self, project_id: str, user_id: str) -> tuple[Session, ...]:
        """The sessions of a user that are not over, oldest first. Raises `user_not_found`."""
        now = self._clock.now()
        async with self._store.view(project_id) as unit:
            await require_user(unit, user_id)
            return tuple(session for session in await unit.sessions.of(user_id) if session.expires_at > now)

    async def get(self, project_id: str, user_id: str, session_id: str) -> Session:
        """Raises `user_session_not_found`."""
        async with self._store.view(project_id) as unit:
            return await self._require(unit, user_id, session_id)

    async def extend(self, project_id: str, user_id: str, session_id: str) -> Session:
        """Let a session last its full time from now on. Raises `user_session_not_found`."""
        async with self._store.begin(project_id) as unit:
            session = await self._require(unit, user_id, session_id)
            changed = await unit.sessions.update(session.id, expires_at=self._clock.now() + SESSION_LIFE)
        self._forget(project_id, user_id)
        return changed or session

    async def delete(self, project_id: str, user_id: str, session_id: str, *, by: str = "") -> Session:
        """End a session. Raises `user_not_found`, `user_session_not_found`."""
        async with self._store.begin(project_id) as unit:
            await require_user(unit, user_id)
            session = await self._require(unit, user_id, session_id)
            await unit.sessions.delete(session.id)
            await self._events.record(unit, _event(session, "delete"), session, user_id=by)
        self._ended(session, by)
        return session

    async def delete_all(self, project_id: str, user_id: str, *, by: str = "") -> None:
        """End every session of a user. Raises `user_not_found`."""
        async with self._store.begin(project_id) as unit:
            await require_user(unit, user_id)
            sessions = await unit.sessions.of(user_id)
            await unit.sessions.delete_of(user_id)
            for session in sessions:
                await self._events.record(unit, _event(session, "delete"), session, user_id=by)
        for session in sessions:
            self._ended(session, by)

    async def create_token(self, project_id: str, *, user_id: str, length: int, expire_s: int) -> tuple[Token, str]:
        """A token of `length` characters that lasts `expire_s` seconds, and its secret. Raises `user_not_found`."""
        secret = secrets.token_hex((length + 1) // 2)[:length]
        now = self._clock.now()
        token = Token(
            id=unique_id(),
            project_id=project_id,
            user_id=user_id,
            created_at=now,
            updated_at=now,
            expires_at=now + timedelta(seconds=expire_s),
            secret_hash=hash_secret(secret),
        )
        async with self._store.begin(project_id) as unit:
            await require_user(unit, user_id)
            kept = await unit.tokens.of(user_id)
            for old in kept[: max(0, len(kept) - TOKENS_MAX + 1)]:
                await unit.tokens.delete(old.id)
            token = await unit.tokens.insert(token)
            await self._events.record(unit, f"users.{user_id}.tokens.{token.id}.create", token)
        self._events.emit(project_id, f"users.{user_id}.tokens.{token.id}.create", token)
        return token, secret

    async def create_jwt(self, project_id: str, *, user_id: str, session_id: str, duration_s: int) -> str:
        """A JWT of a user, for his newest session where `session_id` is `recent`; for none if he has none of that id.

        Raises `user_not_found`.
        """
        sessions = await self.list(project_id, user_id)
        if session_id in RECENT:
            found = sessions[-1:]
        else:
            found = tuple(session for session in sessions if session.id == session_id)
        return self._mint_user_jwt(project_id, user_id, found[0].id if found else "", duration_s)

    async def create_own_jwt(self, project_id: str, actor: Actor, *, duration_s: int) -> str:
        """A JWT of the caller for the session he came with. Raises `user_jwt_creation_denied` if he came with none."""
        if not actor.session_id:
            raise Refusal("user_jwt_creation_denied")
        return self._mint_user_jwt(project_id, actor.user_id, actor.session_id, duration_s)

    async def open_in(self, unit: Unit, user: User, client: Client) -> NewSession:
        """Open a session for somebody who has just proved that he reads a mailbox, in the caller's transaction."""
        return await self._open(unit, user, "email", user.email, ("email",), client)

    async def _open(
        self, unit: Unit, user: User, provider: str, uid: str, factors: tuple[str, ...], client: Client
    ) -> NewSession:
        """Store a session and drop the oldest of more than a user may have."""
        secret, now = new_secret(), self._clock.now()
        session = await unit.sessions.insert(
            Session(
                id=unique_id(),
                project_id=user.project_id,
                user_id=user.id,
                created_at=now,
                updated_at=now,
                expires_at=now + SESSION_LIFE,
                secret_hash=hash_secret(secret),
                provider=provider,
                provider_uid=uid,
                factors=factors,
                ip=client.ip,
                user_agent=client.user_agent,
            )
        )
        kept = await unit.sessions.of(user.id)
        for old in kept[: max(0, len(kept) - SESSIONS_MAX)]:
            await unit.sessions.delete(old.id)
        await self._events.record(unit, _event(session, "create"), session, user_id=user.id)
        return NewSession(session, pack(user.id, secret))

    def _opened(self, opened: NewSession) -> NewSession:
        session = opened.session
        self._forget(session.project_id, session.user_id)
        self._events.emit(session.project_id, _event(session, "create"), session, user_id=session.user_id)
        return opened

    def _ended(self, session: Session, by: str) -> None:
        self._forget(session.project_id, session.user_id)
        self._events.emit(session.project_id, _event(session, "delete"), session, user_id=by)

    async def _require(self, unit: Unit, user_id: str, session_id: str) -> Session:
        session = await unit.sessions.get(user_id, session_id)
        if session is None or session.expires_at <= self._clock.now():
            raise Refusal("user_session_not_found")
        return session


def _event(session: Session, action: str) -> str:
    return f"users.{session.user_id}.sessions.{session.id}.{action}"


def _require_signed_out(actor: Actor) -> None:
    if actor.kind is ActorKind.USER:
        raise Refusal("user_session_already_exists")


def _require_unblocked(user: User) -> None:
    if not user.status:
        raise Refusal("user_blocked")
