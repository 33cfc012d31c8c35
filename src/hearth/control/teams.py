"""Teams: make, find, change, delete (contract: side-services 6). Who is in one stands in `memberships`.

Keys and admins may do everything. A user sees the teams he is a confirmed member of, and changes those he owns.
In the project `console` a team is an organization, to which projects belong.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hearth.control.users import ForgetUser
from hearth.model.actor import Actor, ActorKind
from hearth.model.ids import custom_id, unique_id
from hearth.model.people import CONSOLE, OWNER, Membership, Team
from hearth.model.queries import ListQuery
from hearth.model.refusals import Refusal
from hearth.ports import Clock, Conflict, Events, Page, Store, Unit


class TeamsControl:
    """Use cases of teams."""

    def __init__(self, *, store: Store, clock: Clock, events: Events, forget: ForgetUser) -> None:
        self._store = store
        self._clock = clock
        self._events = events
        self._forget = forget

    async def create(
        self, project_id: str, actor: Actor, *, team_id: str, name: str, roles: Sequence[str] = (OWNER,)
    ) -> Team:
        """Make a team; a user becomes its first member, with `roles`. Raises `team_already_exists`."""
        now = self._clock.now()
        team = Team(custom_id(team_id), project_id, now, now, name)
        is_user = actor.kind is ActorKind.USER
        try:
            async with self._store.begin(project_id) as unit:
                team = await unit.teams.insert(team)
                if is_user:
                    membership = Membership(
                        id=unique_id(),
                        project_id=project_id,
                        team_id=team.id,
                        user_id=actor.user_id,
                        created_at=now,
                        updated_at=now,
                        invited_at=now,
                        joined_at=now,
                        confirmed=True,
                        roles=tuple(dict.fromkeys(roles)),
                    )
                    await unit.memberships.insert(membership)
                    await unit.teams.count_members(team.id)
                    team = await unit.teams.get(team.id) or team
                await self._events.record(unit, f"teams.{team.id}.create", team, user_id=acting_user(actor))
        except Conflict:
            raise Refusal("team_already_exists") from None
        if is_user:
            self._forget(project_id, actor.user_id)
        self._events.emit(project_id, f"teams.{team.id}.create", team, user_id=acting_user(actor))
        return team

    async def list(self, project_id: str, actor: Actor, query: ListQuery) -> Page[Team]:
        """All teams for keys and admins, a user's own otherwise."""
        async with self._store.view(project_id) as unit:
            return await unit.teams.list(query, None if actor.is_privileged else actor.user_id)

    async def get(self, project_id: str, actor: Actor, *, team_id: str) -> Team:
        """Raises `team_not_found` (also for a team the caller is not in)."""
        async with self._store.view(project_id) as unit:
            return await require_team(unit, actor, team_id)

    async def rename(self, project_id: str, actor: Actor, *, team_id: str, name: str) -> Team:
        """Raises `team_not_found`, `user_unauthorized`."""
        team = await self._change(project_id, actor, team_id, "update", name=name)
        self._events.emit(project_id, f"teams.{team_id}.update", team, user_id=acting_user(actor))
        return team

    async def set_prefs(
        self, project_id: str, actor: Actor, *, team_id: str, prefs: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Replace a team's preferences. Raises `team_not_found`, `user_unauthorized`."""
        team = await self._change(project_id, actor, team_id, "update.prefs", prefs=prefs)
        self._events.emit(project_id, f"teams.{team_id}.update.prefs", team, user_id=acting_user(actor))
        return team.prefs

    async def delete(self, project_id: str, actor: Actor, *, team_id: str) -> None:
        """Delete a team with its memberships. Raises `team_not_found`, `user_unauthorized`.

        An organization that still has projects is refused: they would belong to nobody.
        """
        if project_id == CONSOLE and any(item.team_id == team_id for item in await self._store.projects.all()):
            raise Refusal("general_bad_request", "This organization still has projects. Delete or move them first.")
        async with self._store.begin(project_id) as unit:
            team = await require_team(unit, actor, team_id)
            require_owner(actor, team_id)
            members = await unit.memberships.users_of(team_id)
            await unit.memberships.delete_of(team_id=team_id)
            await unit.teams.delete(team_id)
            await self._events.record(unit, f"teams.{team_id}.delete", team, user_id=acting_user(actor))
        for user_id in members:
            self._forget(project_id, user_id)
        self._events.emit(project_id, f"teams.{team_id}.delete", team, user_id=acting_user(actor))

    async def _change(self, project_id: str, actor: Actor, team_id: str, what: str, **changes: Any) -> Team:
        async with self._store.begin(project_id) as unit:
            await require_team(unit, actor, team_id)
            require_owner(actor, team_id)
            team = await unit.teams.update(team_id, **changes)
            if team is None:
                raise Refusal("team_not_found")
            await self._events.record(unit, f"teams.{team_id}.{what}", team, user_id=acting_user(actor))
            return team


async def require_team(unit: Unit, actor: Actor, team_id: str) -> Team:
    """The team, if the caller may know of it. Raises `team_not_found`."""
    team = await unit.teams.get(team_id)
    if team is None or not (actor.is_privileged or f"team:{team_id}" in actor.roles):
        raise Refusal("team_not_found")
    return team


def require_owner(actor: Actor, team_id: str) -> None:
    """Raises `user_unauthorized` unless the caller owns the team, or is a key or an admin."""
    if not (actor.is_privileged or f"team:{team_id}/{OWNER}" in actor.roles):
        raise Refusal("user_unauthorized", f"Only members with the role `{OWNER}` may change a team.")


def acting_user(actor: Actor) -> str:
    """The user of the project behind a call, `""` where a key or an admin called."""
    return actor.user_id if actor.kind is ActorKind.USER else ""
