"""Credentials of a request -> Actor (contract: functions-api 1, checks 6-11, and 1.1).

Project keys are kept in memory by the hash of their secret and dropped by every write to keys, so a warm request
costs one hash and one lookup. People are remembered by `hearth.auth.people`.
"""

from dataclasses import dataclass, replace
from datetime import timedelta

from hearth.auth.keys import hash_secret
from hearth.auth.people import People, Person
from hearth.auth.scopes import GUEST_SCOPES, KEY_SCOPES, admin_scopes
from hearth.auth.sessions import fallback_session, session_cookie, unpack
from hearth.auth.tokens import PREFIXES, Tokens
from hearth.model.actor import Actor, ActorKind
from hearth.model.people import CONSOLE
from hearth.model.refusals import Refusal
from hearth.model.resources import ApiKey
from hearth.ports import Clock, Store

GUEST = Actor(ActorKind.GUEST, GUEST_SCOPES)
ADMIN_MODE = "admin"
#: `accessedAt` of a key is written at most this often (contract: side-services 4).
_TOUCH_EVERY = timedelta(hours=24)
_CACHED_KEYS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought to prove who it is: raw header texts, `""` where absent.

    `project_id` is the resolved project, `team_id` the organization it belongs to; `header_project_id` what the
    `x-appwrite-project` header itself said, because a key must be accompanied by that header and no other place.
    """

    project_id: str
    header_project_id: str = ""
    key: str = ""
    session: str = ""
    jwt: str = ""
    cookie: str = ""
    fallback_cookies: str = ""
    mode: str = ""
    sdk_name: str = ""
    team_id: str = ""
    key_user: str = ""
    """The `x-appwrite-user` header, which goes with an account key."""
    impersonate_id: str = ""
    impersonate_email: str = ""
    impersonate_phone: str = ""


class Identify:
    """Turns credentials into an Actor."""

    def __init__(self, store: Store, tokens: Tokens, clock: Clock, people: People) -> None:
        self._store = store
        self._tokens = tokens
        self._clock = clock
        self._people = people
        self._keys: dict[str, tuple[ApiKey, Actor]] = {}

    async def identify(self, credentials: Credentials) -> Actor:
        """Who is calling. An unknown key or session makes a guest, not an error (contract: functions-api 1).

        Raises, in this order: `project_id_missing` (project key without its project header),
        `user_jwt_and_cookie_set`, `user_jwt_invalid`, `user_api_key_and_session_set`, `project_key_expired`, and
        `user_unauthorized` (admin mode by somebody who is not in the project's organization). A user who may do
        nothing at the moment comes back with `Actor.refusal`.
        """
        text = credentials.key
        entry = None
        if text and not text.startswith(PREFIXES):
            entry = await self._project_key(text, credentials)
        is_admin = credentials.mode == ADMIN_MODE and credentials.project_id != CONSOLE
        home = CONSOLE if is_admin else credentials.project_id
        person = await self._person(home, credentials)
        if person is not None and text and credentials.key_user:
            raise Refusal("user_api_key_and_session_set")
        if text:
            if entry is not None:
                return await self._use(text, *entry, credentials.sdk_name)
            return self._ephemeral(text, credentials) if text.startswith(PREFIXES) else GUEST
        if person is None:
            return GUEST
        actor = person.actor
        if person.user.impersonator:
            person, actor = await self._impersonated(home, person, credentials)
        return _admin(person, actor, credentials) if is_admin else actor

    def recall(self, text: str, header_project_id: str) -> Actor | None:
        """The bearer of a project key that is in memory, valid, and needs no note of its use; None if unsure.

        Never waits. `header_project_id` is what the `x-appwrite-project` header said.
        """
        entry = self._keys.get(text)
        if entry is None:
            return None
        key, actor = entry
        now = self._clock.now()
        if key.project_id != header_project_id or (key.expires_at is not None and key.expires_at <= now):
            return None
        if key.accessed_at is None or now - key.accessed_at > _TOUCH_EVERY:
            return None
        return actor

    def forget_keys(self) -> None:
        """Drop what is remembered of keys: called after every committed write to them."""
        self._keys.clear()

    async def _person(self, home: str, credentials: Credentials) -> Person | None:
        """The user of project `home` whom the session or the JWT of a request names."""
        person = None
        text = _session_text(home, credentials)
        if text:
            person = await self._people.by_session(home, text)
        if credentials.jwt:
            if person is not None:
                raise Refusal("user_jwt_and_cookie_set")
            person = await self._people.by_jwt(home, credentials.jwt)
        return person

    async def _impersonated(self, home: str, person: Person, credentials: Credentials) -> tuple[Person, Actor]:
        """The user whom an impersonator wants to be (contract: side-services 15); himself if there is no such user."""
        id, email, phone = credentials.impersonate_id, credentials.impersonate_email, credentials.impersonate_phone
        target = None
        if id or email or phone:
            target = await self._people.target(home, id=id, email=email, phone=phone)
        if target is None:
            return person, person.actor
        actor = replace(
            target.actor,
            scopes=target.actor.scopes | {"users.read"},
            impersonator_id=person.user.id,
            refusal=person.actor.refusal or target.actor.refusal,
        )
        return target, actor

    def _ephemeral(self, text: str, credentials: Credentials) -> Actor:
        key = self._tokens.read(text)
        if key is None or key.project_id != credentials.header_project_id:
            return GUEST
        return Actor(ActorKind.KEY, key.scopes | KEY_SCOPES, roles=("keys",))

    async def _project_key(self, text: str, credentials: Credentials) -> tuple[ApiKey, Actor] | None:
        """The key `text` and what it makes of its bearer; None when there is no such key."""
        entry = self._keys.get(text)
        if entry is None:
            key = await self._store.projects.key_by_hash(hash_secret(text))
            if key is None:
                return None
            entry = key, Actor(ActorKind.KEY, frozenset(key.scopes) | KEY_SCOPES, roles=("keys",), key_id=key.id)
            if len(self._keys) >= _CACHED_KEYS_MAX:
                self._keys.clear()
            self._keys[text] = entry
        if entry[0].project_id != credentials.header_project_id:
            raise Refusal("project_id_missing")
        return entry

    async def _use(self, text: str, key: ApiKey, actor: Actor, sdk: str) -> Actor:
        """The bearer of a key that is valid now; its use is noted once a day. Raises `project_key_expired`."""
        now = self._clock.now()
        if key.expires_at is not None and key.expires_at <= now:
            raise Refusal("project_key_expired")
        if key.accessed_at is None or now - key.accessed_at > _TOUCH_EVERY:
            await self._store.projects.touch_key(key, now, sdk)
            fresh = await self._store.projects.key_by_hash(key.secret_hash)
            if fresh is not None:
                self._keys[text] = fresh, actor
        return actor


def _session_text(home: str, credentials: Credentials) -> str:
    """The session a request brought: cookie, then its own header, then the fallback header (contract: 1.1)."""
    cookie = credentials.cookie
    if cookie:
        text = session_cookie(cookie, home)
        if text and unpack(text) is not None:
            return text
    if credentials.session and unpack(credentials.session) is not None:
        return credentials.session
    return fallback_session(credentials.fallback_cookies, home)


def _admin(person: Person, actor: Actor, credentials: Credentials) -> Actor:
    """A console user at work in a project (contract: functions-api 1, check 11). Raises `user_unauthorized`."""
    for membership in person.memberships:
        if credentials.team_id and membership.team_id == credentials.team_id and membership.roles:
            scopes = admin_scopes(membership.roles, credentials.project_id)
            # Roles of the console mean nothing inside a project.
            return replace(actor, kind=ActorKind.ADMIN, scopes=scopes, roles=("any",))
    raise Refusal("user_unauthorized", "You are not a member of the organization this project belongs to.")
