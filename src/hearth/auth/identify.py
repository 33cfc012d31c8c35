"""Credentials of a request -> Actor (contract: functions-api 1, checks 6-10, and 1.1).

Project keys are kept in memory by the hash of their secret and dropped by every write to keys, so a warm request
costs one hash and one lookup.
"""

from dataclasses import dataclass
from datetime import timedelta

from hearth.auth.keys import hash_secret
from hearth.auth.tokens import PREFIXES, Tokens
from hearth.data import load
from hearth.model.actor import Actor, ActorKind
from hearth.model.refusals import Refusal
from hearth.model.resources import ApiKey
from hearth.ports import Clock, Store

_ROLES = load("scopes.json")["roles"]
GUEST = Actor(ActorKind.GUEST, frozenset(_ROLES["guests"]))
_KEY_SCOPES = frozenset(_ROLES["keys"])
#: `accessedAt` of a key is written at most this often (contract: side-services 4).
_TOUCH_EVERY = timedelta(hours=24)
_CACHED_KEYS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request brought to prove who it is: raw header texts, `""` where absent.

    `project_id` is the resolved project; `header_project_id` what the `x-appwrite-project` header itself said,
    because a key must be accompanied by that header and no other place.
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


class Identify:
    """Turns credentials into an Actor."""

    def __init__(self, store: Store, tokens: Tokens, clock: Clock) -> None:
        self._store = store
        self._tokens = tokens
        self._clock = clock
        self._keys: dict[str, tuple[ApiKey, Actor]] = {}

    async def identify(self, credentials: Credentials) -> Actor:
        """Who is calling. An unknown key makes a guest, not an error (contract: functions-api 1).

        Raises `project_id_missing` (project key without its project header) and `project_key_expired`.
        """
        text = credentials.key
        if not text:
            return GUEST
        if text.startswith(PREFIXES):
            return self._ephemeral(text, credentials)
        return await self._project_key(text, credentials)

    def forget_keys(self) -> None:
        """Drop what is remembered of keys: called after every committed write to them."""
        self._keys.clear()

    def _ephemeral(self, text: str, credentials: Credentials) -> Actor:
        key = self._tokens.read(text)
        if key is None or key.project_id != credentials.header_project_id:
            return GUEST
        return Actor(ActorKind.KEY, key.scopes | _KEY_SCOPES, roles=("keys",))

    async def _project_key(self, text: str, credentials: Credentials) -> Actor:
        entry = self._keys.get(text)
        if entry is None:
            key = await self._store.projects.key_by_hash(hash_secret(text))
            if key is None:
                return GUEST
            entry = key, Actor(ActorKind.KEY, frozenset(key.scopes) | _KEY_SCOPES, roles=("keys",), key_id=key.id)
            if len(self._keys) >= _CACHED_KEYS_MAX:
                self._keys.clear()
            self._keys[text] = entry
        key, actor = entry
        if key.project_id != credentials.header_project_id:
            raise Refusal("project_id_missing")
        now = self._clock.now()
        if key.expires_at is not None and key.expires_at <= now:
            raise Refusal("project_key_expired")
        if key.accessed_at is None or now - key.accessed_at > _TOUCH_EVERY:
            await self._touch(text, key, actor, credentials.sdk_name)
        return actor

    async def _touch(self, text: str, key: ApiKey, actor: Actor, sdk: str) -> None:
        """Note the use of a key, once a day."""
        now = self._clock.now()
        await self._store.projects.touch_key(key, now, sdk)
        fresh = await self._store.projects.key_by_hash(key.secret_hash)
        if fresh is not None:
            self._keys[text] = fresh, actor
