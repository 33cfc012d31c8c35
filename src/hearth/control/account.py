"""What somebody does with his own account (contract: side-services 5.2). His sessions stand in `sessions`."""

from hearth.auth.passwords import Passwords
from hearth.control.users import UsersControl
from hearth.model.actor import Actor
from hearth.model.people import CONSOLE, User
from hearth.model.refusals import Refusal


class AccountControl:
    """Use cases of the caller himself; everything else about users goes through `UsersControl`."""

    def __init__(self, *, users: UsersControl, passwords: Passwords) -> None:
        self._users = users
        self._passwords = passwords

    async def create(self, project_id: str, *, user_id: str, email: str, password: str, name: str = "") -> User:
        """Sign up. Raises `user_already_exists`, and `user_count_exceeded` in the console, which takes no sign-ups."""
        if project_id == CONSOLE:
            raise Refusal(
                "user_count_exceeded", "The console takes no sign-ups: somebody who operates this server can add you."
            )
        return await self._users.create(project_id, user_id=user_id, email=email, password=password, name=name)

    async def set_email(self, project_id: str, actor: Actor, *, email: str, password: str) -> User:
        """Change the address, with the password; somebody who has none yet (an anonymous user) sets his with it.

        Raises `user_invalid_credentials`, `user_email_already_exists`.
        """
        user = await self._with_password(project_id, actor, password)
        changed = await self._users.set_email(project_id, user.id, email, by=user.id)
        if not user.password_hash:
            keep = actor.session_id
            changed = await self._users.set_password(project_id, user.id, password, by=user.id, keep_session=keep)
        return changed

    async def set_phone(self, project_id: str, actor: Actor, *, phone: str, password: str) -> User:
        """Change the number, with the password. Raises `user_invalid_credentials`, `user_phone_already_exists`."""
        user = await self._with_password(project_id, actor, password)
        return await self._users.set_phone(project_id, user.id, phone, by=user.id)

    async def set_password(self, project_id: str, actor: Actor, *, password: str, old_password: str) -> User:
        """Change the password; all other sessions end.

        The old one is needed by who has one. Raises `user_invalid_credentials` and Busy.
        """
        user = await self._users.get(project_id, actor.user_id)
        if user.password_hash and not await self._passwords.verify(user.password_hash, old_password):
            raise Refusal("user_invalid_credentials")
        keep = actor.session_id
        return await self._users.set_password(project_id, user.id, password, by=user.id, keep_session=keep)

    async def block(self, project_id: str, actor: Actor) -> User:
        """Block oneself: the account stays and can be opened again by the project's owner."""
        return await self._users.change(project_id, actor.user_id, "status", by=actor.user_id, status=False)

    async def _with_password(self, project_id: str, actor: Actor, password: str) -> User:
        user = await self._users.get(project_id, actor.user_id)
        if user.password_hash and not await self._passwords.verify(user.password_hash, password):
            raise Refusal("user_invalid_credentials")
        return user
