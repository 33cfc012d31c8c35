"""Users of a project: make, find, change, delete (contract: side-services 5.1). Sessions stand in `sessions`."""

from collections.abc import Callable, Mapping
from typing import Any

from hearth.auth.passwords import Passwords
from hearth.model.ids import custom_id
from hearth.model.people import CONSOLE, OWNER, User
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.ports import Clock, Conflict, Events, Page, Store, Unit

#: Drops what is remembered of a user (project and user id): called after every committed write that concerns him.
ForgetUser = Callable[[str, str], None]

_TAKEN = {"email": "user_email_already_exists", "phone": "user_phone_already_exists"}


class UsersControl:
    """Use cases of users. Whether the caller may is decided by scopes; `by` is the acting user, for events."""

    def __init__(self, *, store: Store, clock: Clock, events: Events, passwords: Passwords, forget: ForgetUser) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._passwords = passwords
        self._forget = forget

    async def create(
        self,
        project_id: str,
        *,
        user_id: str,
        email: str = "",
        phone: str = "",
        password: str = "",
        name: str = "",
    ) -> User:
        """Raises `user_already_exists` when the id, the address or the number is taken, and Busy."""
        password_hash = await self._passwords.hash(password) if password else ""
        now = self._clock.now()
        user = User(
            id=custom_id(user_id),
            project_id=project_id,
            created_at=now,
            updated_at=now,
            registered_at=now,
            email=email.lower(),
            phone=phone,
            name=name,
            password_hash=password_hash,
            password_updated_at=now if password else None,
        )
        try:
            async with self._store.begin(project_id) as unit:
                user = await unit.users.insert(user)
                await self._events.record(unit, f"users.{user.id}.create", user)
        except Conflict as conflict:
            raise _already_exists(conflict) from None
        self._events.emit(project_id, f"users.{user.id}.create", user)
        return user

    async def list(self, project_id: str, query: ListQuery) -> Page[User]:
        async with self._store.view(project_id) as unit:
            return await unit.users.list(query)

    async def get(self, project_id: str, user_id: str) -> User:
        """Raises `user_not_found`."""
        async with self._store.view(project_id) as unit:
            return await require_user(unit, user_id)

    async def change(self, project_id: str, user_id: str, what: str, *, by: str = "", **changes: Any) -> User:
        """Set fields of a user; `what` ends the name of the event (`name`, `status`, ...).

        Raises `user_not_found`, `user_email_already_exists`, `user_phone_already_exists`.
        """
        try:
            async with self._store.begin(project_id) as unit:
                user = await unit.users.update(user_id, **changes)
                if user is None:
                    raise Refusal("user_not_found")
                await self._events.record(unit, f"users.{user_id}.update.{what}", user, user_id=by)
        except Conflict as conflict:
            raise Refusal(_TAKEN[conflict.field]) from None
        self._changed(user, what, by)
        return user

    async def set_email(self, project_id: str, user_id: str, email: str, *, by: str = "") -> User:
        """A new address is not verified. `""` takes it away. Raises as `change`."""
        changes = {"email": email.lower(), "email_verified": False}
        return await self.change(project_id, user_id, "email", by=by, **changes)

    async def set_phone(self, project_id: str, user_id: str, phone: str, *, by: str = "") -> User:
        """A new number is not verified. `""` takes it away. Raises as `change`."""
        return await self.change(project_id, user_id, "phone", by=by, phone=phone, phone_verified=False)

    async def set_password(
        self, project_id: str, user_id: str, password: str, *, by: str = "", keep_session: str = ""
    ) -> User:
        """Every session but `keep_session` ends, since whoever knew the old password may hold one.

        `""` takes the password away. Raises `user_not_found` and Busy.
        """
        password_hash = await self._passwords.hash(password) if password else ""
        changes = {
            "password_hash": password_hash,
            "password_updated_at": self._clock.now() if password else None,
            "reset_required": False,
        }
        async with self._store.begin(project_id) as unit:
            user = await unit.users.update(user_id, **changes)
            if user is None:
                raise Refusal("user_not_found")
            await unit.sessions.delete_of(user_id, keep_session)
            await unit.tokens.delete_of(user_id)
            await self._events.record(unit, f"users.{user_id}.update.password", user, user_id=by)
        self._changed(user, "password", by)
        return user

    async def set_prefs(
        self, project_id: str, user_id: str, prefs: Mapping[str, Any], *, by: str = ""
    ) -> Mapping[str, Any]:
        """Replace a user's preferences. Raises `user_not_found`."""
        return (await self.change(project_id, user_id, "prefs", by=by, prefs=prefs)).prefs

    async def delete(self, project_id: str, user_id: str) -> None:
        """Delete a user with his sessions, tokens and memberships; his executions stay.

        Raises `user_not_found`, and refuses to leave an organization of the console without an owner.
        """
        async with self._store.begin(project_id) as unit:
            user = await require_user(unit, user_id)
            memberships = await unit.memberships.of_user(user_id)
            for membership in memberships:
                if project_id == CONSOLE and membership.confirmed and OWNER in membership.roles:
                    await require_other_owner(unit, membership.team_id)
            await unit.users.delete(user_id)
            await unit.sessions.delete_of(user_id)
            await unit.tokens.delete_of(user_id)
            await unit.memberships.delete_of(user_id=user_id)
            for membership in memberships:
                await unit.teams.count_members(membership.team_id)
            await self._events.record(unit, f"users.{user_id}.delete", user)
        self._forget(project_id, user_id)
        self._events.emit(project_id, f"users.{user_id}.delete", user)

    def _changed(self, user: User, what: str, by: str) -> None:
        self._forget(user.project_id, user.id)
        self._events.emit(user.project_id, f"users.{user.id}.update.{what}", user, user_id=by)


async def require_user(unit: Unit, user_id: str) -> User:
    """The user. Raises `user_not_found`."""
    user = await unit.users.get(user_id)
    if user is None:
        raise Refusal("user_not_found")
    return user


async def require_other_owner(unit: Unit, team_id: str) -> None:
    """Refuse to take the only owner from a team of the console: nobody could ever operate its projects again."""
    if await unit.memberships.owners(team_id) < 2:
        raise Refusal("membership_deletion_prohibited")


def _already_exists(conflict: Conflict) -> Refusal:
    names = {"id": "id", "email": "e-mail address", "phone": "phone number"}
    return Refusal("user_already_exists", f"A user with this {names[conflict.field]} exists already in this project.")
