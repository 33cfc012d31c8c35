"""Who is in which team, and as what (contract: side-services 6).

Keys and admins add members at once. A member who is added by a user would have to be invited by mail, which this
server does not send; so that is refused as the reference refuses it where no mail is set up.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hearth.auth.sessions import hash_secret
from hearth.control.sessions import Client, NewSession, SessionsControl
from hearth.control.teams import acting_user, require_owner, require_team
from hearth.control.users import ForgetUser, require_other_owner, require_user
from hearth.model.actor import Actor, ActorKind
from hearth.model.ids import unique_id
from hearth.model.people import CONSOLE, OWNER, Membership, Team, User
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.ports import Clock, Events, Page, Store, Unit


@dataclass(frozen=True, slots=True)
class MembershipView:
    """A membership with the names of both sides; None for one that has just gone."""

    membership: Membership
    user: User | None
    team: Team | None


class MembershipsControl:
    """Use cases of memberships."""

    def __init__(
        self, *, store: Store, clock: Clock, events: Events, sessions: SessionsControl, forget: ForgetUser
    ) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._sessions = sessions
        self._forget = forget

    async def create(
        self,
        project_id: str,
        actor: Actor,
        *,
        team_id: str,
        roles: Sequence[str],
        email: str = "",
        user_id: str | None = None,
        phone: str = "",
        name: str = "",
    ) -> MembershipView:
        """Add a user to a team, making him if the address or number is nobody's yet.

        Raises `general_argument_invalid` (nobody named), `team_not_found`, `user_unauthorized`,
        `general_smtp_disabled` (the caller is a user), `user_not_found`, `user_already_exists` (what was given
        belongs to two people) and `membership_already_confirmed`.
        """
        if not (user_id or email or phone):
            raise Refusal("general_argument_invalid", "One of `userId`, `email` and `phone` is needed.")
        now = self._clock.now()
        made = None
        async with self._store.begin(project_id) as unit:
            team = await require_team(unit, actor, team_id)
            require_owner(actor, team_id)
            if not actor.is_privileged:
                raise Refusal("general_smtp_disabled")
            user = await _invitee(unit, user_id, email.lower(), phone)
            if user is None:
                fresh = User(
                    unique_id(), project_id, now, now, now, email=email.lower(), phone=phone, name=name or email
                )
                user = made = await unit.users.insert(fresh)
            membership = await unit.memberships.of_pair(team_id, user.id)
            if membership is not None and membership.confirmed:
                raise Refusal("membership_already_confirmed")
            if membership is not None:
                await unit.memberships.delete(membership.id)
            membership = await unit.memberships.insert(
                Membership(
                    id=unique_id() if membership is None else membership.id,
                    project_id=project_id,
                    team_id=team_id,
                    user_id=user.id,
                    created_at=now,
                    updated_at=now,
                    invited_at=now,
                    joined_at=now,
                    confirmed=True,
                    roles=tuple(dict.fromkeys(roles)),
                )
            )
            await unit.teams.count_members(team_id)
            if made is not None:
                await self._events.record(unit, f"users.{made.id}.create", made)
            view = MembershipView(membership, user, team)
            await self._record(unit, view, "create", acting_user(actor))
        if made is not None:
            self._events.emit(project_id, f"users.{made.id}.create", made)
        return self._written(view, "create", acting_user(actor))

    async def list(self, project_id: str, actor: Actor, *, team_id: str, query: ListQuery) -> Page[MembershipView]:
        """The members of a team. Raises `team_not_found`."""
        async with self._store.view(project_id) as unit:
            team = await require_team(unit, actor, team_id)
            page = await unit.memberships.list(query, team_id=team_id)
            users = await unit.users.several(item.user_id for item in page.items)
        return Page(page.total, _views(page.items, users=users, teams={team.id: team}))

    async def list_of_user(self, project_id: str, *, user_id: str, query: ListQuery) -> Page[MembershipView]:
        """The teams a user is in, for who may read users. Raises `user_not_found`."""
        async with self._store.view(project_id) as unit:
            user = await require_user(unit, user_id)
            page = await unit.memberships.list(query, user_id=user_id)
            teams = await unit.teams.several(item.team_id for item in page.items)
        return Page(page.total, _views(page.items, users={user.id: user}, teams=teams))

    async def get(self, project_id: str, actor: Actor, *, team_id: str, membership_id: str) -> MembershipView:
        """Raises `team_not_found`, `membership_not_found`."""
        async with self._store.view(project_id) as unit:
            team = await require_team(unit, actor, team_id)
            membership = await _require(unit, team_id, membership_id)
            return MembershipView(membership, await unit.users.get(membership.user_id), team)

    async def set_roles(
        self, project_id: str, actor: Actor, *, team_id: str, membership_id: str, roles: Sequence[str]
    ) -> MembershipView:
        """Replace the roles of a member.

        Raises `team_not_found`, `membership_not_found`, `user_unauthorized`, and
        `membership_downgrade_prohibited` where an organization would be left without an owner.
        """
        async with self._store.begin(project_id) as unit:
            team = await require_team(unit, actor, team_id)
            membership = await _require(unit, team_id, membership_id)
            require_owner(actor, team_id)
            is_owner = membership.confirmed and OWNER in membership.roles
            if project_id == CONSOLE and is_owner and OWNER not in roles and await unit.memberships.owners(team_id) < 2:
                raise Refusal("membership_downgrade_prohibited")
            changed = await unit.memberships.update(membership_id, roles=tuple(dict.fromkeys(roles)))
            view = MembershipView(changed or membership, await unit.users.get(membership.user_id), team)
            await self._record(unit, view, "update", acting_user(actor))
        return self._written(view, "update", acting_user(actor))

    async def delete(self, project_id: str, actor: Actor, *, team_id: str, membership_id: str) -> None:
        """Take a member out; everybody may leave.

        Raises `team_not_found`, `membership_not_found`, `user_unauthorized`, and
        `membership_deletion_prohibited` where an organization would be left without an owner.
        """
        async with self._store.begin(project_id) as unit:
            membership = await unit.memberships.get(membership_id)
            is_own = membership is not None and actor.kind is ActorKind.USER and membership.user_id == actor.user_id
            # Who declines an invitation is not in the team yet, but may know of it.
            team = await unit.teams.get(team_id) if is_own else await require_team(unit, actor, team_id)
            if team is None:
                raise Refusal("team_not_found")
            membership = await _require(unit, team_id, membership_id)
            if not is_own:
                require_owner(actor, team_id)
            if project_id == CONSOLE and membership.confirmed and OWNER in membership.roles:
                await require_other_owner(unit, team_id)
            await unit.memberships.delete(membership_id)
            await unit.teams.count_members(team_id)
            view = MembershipView(membership, await unit.users.get(membership.user_id), team)
            await self._record(unit, view, "delete", acting_user(actor))
        self._written(view, "delete", acting_user(actor))

    async def accept(
        self,
        project_id: str,
        actor: Actor,
        *,
        team_id: str,
        membership_id: str,
        user_id: str,
        secret: str,
        client: Client,
    ) -> tuple[MembershipView, NewSession | None]:
        """Accept an invitation with the secret it carried; somebody who is not signed in is signed in by it.

        Raises `membership_not_found`, `team_not_found`, `team_membership_mismatch`, `team_invalid_secret`,
        `team_invite_mismatch`, `membership_already_confirmed`, `user_blocked`.
        """
        now = self._clock.now()
        signed_in = actor.kind is ActorKind.USER
        opened = None
        async with self._store.begin(project_id) as unit:
            membership = await unit.memberships.get(membership_id)
            if membership is None:
                raise Refusal("membership_not_found")
            team = await unit.teams.get(team_id)
            if team is None:
                raise Refusal("team_not_found")
            if membership.team_id != team_id:
                raise Refusal("team_membership_mismatch")
            if not membership.secret_hash or not secrets.compare_digest(membership.secret_hash, hash_secret(secret)):
                raise Refusal("team_invalid_secret")
            user = await unit.users.get(user_id)
            if membership.user_id != user_id or user is None or (signed_in and actor.user_id != user_id):
                raise Refusal("team_invite_mismatch")
            if membership.confirmed:
                raise Refusal("membership_already_confirmed")
            if not user.status:
                raise Refusal("user_blocked")
            changes: dict[str, Any] = {"confirmed": True, "joined_at": now, "secret_hash": ""}
            membership = await unit.memberships.update(membership_id, **changes) or replace(membership, **changes)
            # The secret came by mail, so whoever has it reads that mailbox.
            user = await unit.users.update(user_id, email_verified=bool(user.email)) or user
            await unit.teams.count_members(team_id)
            if not signed_in:
                opened = await self._sessions.open_in(unit, user, client)
            view = MembershipView(membership, user, team)
            await self._record(unit, view, "update.status", user_id)
        return self._written(view, "update.status", user_id), opened

    async def _record(self, unit: Unit, view: MembershipView, action: str, by: str) -> None:
        await self._events.record(unit, _event(view.membership, action), view, user_id=by)

    def _written(self, view: MembershipView, action: str, by: str) -> MembershipView:
        membership = view.membership
        self._forget(membership.project_id, membership.user_id)
        self._events.emit(membership.project_id, _event(membership, action), view, user_id=by)
        return view


def _event(membership: Membership, action: str) -> str:
    return f"teams.{membership.team_id}.memberships.{membership.id}.{action}"


async def _require(unit: Unit, team_id: str, membership_id: str) -> Membership:
    membership = await unit.memberships.get(membership_id)
    if membership is None:
        raise Refusal("membership_not_found")
    if membership.team_id != team_id:
        raise Refusal("team_membership_mismatch")
    return membership


async def _invitee(unit: Unit, user_id: str | None, email: str, phone: str) -> User | None:
    """Who is meant; None for somebody who has no account yet."""
    if user_id:
        user = await unit.users.get(user_id)
        if user is None:
            raise Refusal("user_not_found")
        if (email and user.email != email) or (phone and user.phone != phone):
            raise Refusal("user_already_exists", "The user of this id has another e-mail address or phone number.")
        return user
    if email:
        user = await unit.users.by_email(email)
        if user is not None and phone and user.phone != phone:
            raise Refusal("user_already_exists", "The user of this e-mail address has another phone number.")
        if user is None and phone and await unit.users.by_phone(phone) is not None:
            raise Refusal("user_already_exists", "The user of this phone number has another e-mail address.")
        return user
    return await unit.users.by_phone(phone)


def _views(items: Iterable[Membership], *, users: Any, teams: Any) -> tuple[MembershipView, ...]:
    return tuple(MembershipView(item, users.get(item.user_id), teams.get(item.team_id)) for item in items)
