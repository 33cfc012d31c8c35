"""The users behind sessions and JWTs, kept in memory: a warm request costs no SQL read.

Every committed write to a user, his sessions or his memberships drops what is remembered of him. A load that was
overtaken by such a write is used once but not kept.
"""

from dataclasses import dataclass
from datetime import timedelta

from hearth.auth.scopes import USER_SCOPES, console_scopes
from hearth.auth.sessions import hash_secret, unpack
from hearth.auth.tokens import Tokens
from hearth.model.actor import Actor, ActorKind
from hearth.model.people import CONSOLE, Membership, Session, User, roles_of
from hearth.model.refusals import Refusal
from hearth.ports import Clock, Store, Unit

_REMEMBERED_MAX = 10_000
#: `accessedAt` of a user is written at most this often.
_TOUCH_EVERY = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Person:
    """A user as identified: `session` is the one he came with, or the one his JWT stands for.

    `actor` is what he is in his own project; `memberships` are his confirmed ones.
    """

    user: User
    session: Session | None
    memberships: tuple[Membership, ...]
    actor: Actor


class People:
    """Finds people by what they bring."""

    def __init__(self, store: Store, tokens: Tokens, clock: Clock) -> None:
        self._store = store
        self._tokens = tokens
        self._clock = clock
        self._known: dict[tuple[str, ...], Person] = {}
        self._keys_of: dict[tuple[str, str], set[tuple[str, ...]]] = {}
        self._generation = 0

    async def by_session(self, project_id: str, text: str) -> Person | None:
        """Who has the session `text` (as clients hold it); None when it is unknown or over."""
        key = ("session", project_id, text)
        person = self._known.get(key)
        if person is None:
            claim = unpack(text)
            if claim is None:
                return None
            generation = self._generation
            async with self._store.view(project_id) as unit:
                session = await unit.sessions.by_hash(hash_secret(claim[1]))
                if session is None or session.user_id != claim[0]:
                    return None
                person = await _load(unit, session.user_id, session, by_jwt=False)
            if person is None:
                return None
            self._remember(key, person, generation)
        return await self._still_valid(person)

    async def by_jwt(self, project_id: str, text: str) -> Person | None:
        """Whom the user JWT `text` stands for; None when he, or the session it hangs on, is gone.

        Raises `user_jwt_invalid` for what is malformed, expired, or of another project.
        """
        claim = self._tokens.read_user_jwt(text)
        if claim is None or claim.project_id != project_id:
            raise Refusal("user_jwt_invalid")
        key = ("jwt", project_id, claim.user_id, claim.session_id)
        person = self._known.get(key)
        if person is None:
            generation = self._generation
            async with self._store.view(project_id) as unit:
                session = None
                if claim.session_id:
                    session = await unit.sessions.get(claim.user_id, claim.session_id)
                    if session is None:
                        return None
                person = await _load(unit, claim.user_id, session, by_jwt=True)
            if person is None:
                return None
            self._remember(key, person, generation)
        return await self._still_valid(person)

    async def target(self, project_id: str, *, id: str = "", email: str = "", phone: str = "") -> Person | None:
        """Whom somebody wants to impersonate: the first of these that is given decides."""
        async with self._store.view(project_id) as unit:
            if id:
                user = await unit.users.get(id)
            elif email:
                user = await unit.users.by_email(email.lower())
            else:
                user = await unit.users.by_phone(phone)
            return None if user is None else await _load(unit, user.id, None, by_jwt=False)

    def forget(self, project_id: str, user_id: str) -> None:
        """Drop what is remembered of a user: called after every committed write that concerns him."""
        self._generation += 1
        for key in self._keys_of.pop((project_id, user_id), ()):
            self._known.pop(key, None)

    def forget_all(self) -> None:
        """Drop everything that is remembered."""
        self._generation += 1
        self._known.clear()
        self._keys_of.clear()

    def _remember(self, key: tuple[str, ...], person: Person, generation: int) -> None:
        if generation != self._generation:
            return
        if len(self._known) >= _REMEMBERED_MAX:
            self._known.clear()
            self._keys_of.clear()
        self._known[key] = person
        self._keys_of.setdefault((person.user.project_id, person.user.id), set()).add(key)

    async def _still_valid(self, person: Person) -> Person | None:
        now = self._clock.now()
        if person.session is not None and person.session.expires_at <= now:
            return None
        accessed_at = person.user.accessed_at
        if accessed_at is None or now - accessed_at > _TOUCH_EVERY:
            user = person.user
            async with self._store.begin(user.project_id) as unit:
                await unit.users.touch(user.id, now)
            self.forget(user.project_id, user.id)
        return person


async def _load(unit: Unit, user_id: str, session: Session | None, *, by_jwt: bool) -> Person | None:
    user = await unit.users.get(user_id)
    if user is None:
        return None
    memberships = tuple(item for item in await unit.memberships.of_user(user_id) if item.confirmed)
    return Person(user, session, memberships, _actor(user, session, memberships, by_jwt=by_jwt))


def _actor(user: User, session: Session | None, memberships: tuple[Membership, ...], *, by_jwt: bool) -> Actor:
    refusal = "" if user.status else "user_blocked"
    if not refusal and user.reset_required:
        refusal = "user_password_reset_required"
    return Actor(
        ActorKind.USER,
        console_scopes() if user.project_id == CONSOLE else USER_SCOPES,
        roles=roles_of(user, memberships),
        user_id=user.id,
        session_id="" if session is None or by_jwt else session.id,
        label=user.email or "User",
        refusal=refusal,
    )
