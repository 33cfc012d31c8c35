"""API keys of a project (contract: side-services 4). A secret is shown once, by the call that made it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hearth.auth.keys import hash_secret, new_secret
from hearth.control.environment import MintKey
from hearth.model.actor import Actor, ActorKind
from hearth.model.ids import custom_id, unique_id
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.model.resources import ApiKey
from hearth.ports import Clock, Conflict, Page, Store


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key and its secret, for the answer to whoever made it."""

    key: ApiKey
    secret: str


class KeysControl:
    """Use cases of API keys. `forget` drops what is remembered of keys; called after every committed write."""

    def __init__(self, *, store: Store, clock: Clock, mint_key: MintKey, forget: Callable[[], None]) -> None:
        self._store = store
        self._clock = clock
        self._mint_key = mint_key
        self._forget = forget

    async def create(
        self,
        project_id: str,
        actor: Actor,
        *,
        key_id: str,
        name: str,
        scopes: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        description: str = "",
    ) -> MadeKey:
        """Raises `key_creation_denied` for keys, `key_already_exists`."""
        _refuse_keys(actor)
        now = self._clock.now()
        secret = new_secret()
        key = ApiKey(
            id=custom_id(key_id),
            project_id=project_id,
            name=name,
            secret_hash=hash_secret(secret),
            scopes=tuple(scopes or ()),
            created_at=now,
            updated_at=now,
            expires_at=expires_at,
            description=description,
        )
        try:
            async with self._store.begin(project_id) as unit:
                key = await unit.keys.insert(key)
        except Conflict:
            raise Refusal("key_already_exists") from None
        self._forget()
        return MadeKey(key, secret)

    async def create_ephemeral(
        self, project_id: str, actor: Actor, *, scopes: Sequence[str], duration_s: int
    ) -> MadeKey:
        """A key that is nowhere stored and ends by itself. Raises `key_creation_denied` for keys."""
        _refuse_keys(actor)
        now = self._clock.now()
        secret = self._mint_key(project_id, scopes, duration_s)
        expires_at = now + timedelta(seconds=duration_s)
        key = ApiKey(unique_id(), project_id, "", hash_secret(secret), tuple(scopes), now, now, expires_at)
        return MadeKey(key, secret)

    async def list(self, project_id: str, query: ListQuery) -> Page[ApiKey]:
        """One page of keys."""
        async with self._store.view(project_id) as unit:
            return await unit.keys.list(query)

    async def get(self, project_id: str, key_id: str) -> ApiKey:
        """Raises `key_not_found`."""
        async with self._store.view(project_id) as unit:
            key = await unit.keys.get(key_id)
        if key is None:
            raise Refusal("key_not_found")
        return key

    async def update(
        self,
        project_id: str,
        actor: Actor,
        key_id: str,
        *,
        name: str,
        scopes: Sequence[str] | None = None,
        expires_at: datetime | None = None,
        description: str | None = None,
    ) -> ApiKey:
        """Replace name, scopes and end of a key. Raises `key_not_found`, `key_creation_denied`.

        The latter when a key would give a key (also itself) a scope that neither of them has: that would be making one.
        """
        wanted = tuple(scopes or ())
        async with self._store.begin(project_id) as unit:
            before = await unit.keys.get(key_id)
            if before is None:
                raise Refusal("key_not_found")
            if actor.kind is ActorKind.KEY and not set(wanted) <= actor.scopes | set(before.scopes):
                raise Refusal("key_creation_denied")
            text = before.description if description is None else description
            changes = {"name": name, "scopes": wanted, "expires_at": expires_at, "description": text}
            key = await unit.keys.update(key_id, **changes)
        self._forget()
        if key is None:
            raise Refusal("key_not_found")
        return key

    async def delete(self, project_id: str, key_id: str) -> None:
        """Raises `key_not_found`. Whoever uses the key is a guest from now on."""
        async with self._store.begin(project_id) as unit:
            deleted = await unit.keys.delete(key_id)
        self._forget()
        if not deleted:
            raise Refusal("key_not_found")


def _refuse_keys(actor: Actor) -> None:
    if actor.kind is ActorKind.KEY:
        raise Refusal("key_creation_denied")
