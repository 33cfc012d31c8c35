"""The use cases of people together, as the API sees them."""

from dataclasses import dataclass

from hearth.auth.passwords import Passwords
from hearth.control.account import AccountControl
from hearth.control.memberships import MembershipsControl
from hearth.control.sessions import MintUserJwt, SessionsControl
from hearth.control.teams import TeamsControl
from hearth.control.users import ForgetUser, UsersControl
from hearth.ports import Clock, Events, Store


@dataclass(frozen=True, slots=True)
class PeopleControl:
    """One object per use-case module."""

    users: UsersControl
    account: AccountControl
    sessions: SessionsControl
    teams: TeamsControl
    memberships: MembershipsControl


def people_control(
    *,
    store: Store,
    clock: Clock,
    events: Events,
    passwords: Passwords,
    mint_user_jwt: MintUserJwt,
    forget: ForgetUser,
) -> PeopleControl:
    """Put them together. `forget` drops what is remembered of a user's sessions."""
    users = UsersControl(store=store, clock=clock, events=events, passwords=passwords, forget=forget)
    sessions = SessionsControl(
        store=store, clock=clock, events=events, passwords=passwords, mint_user_jwt=mint_user_jwt, forget=forget
    )
    return PeopleControl(
        users=users,
        account=AccountControl(users=users, passwords=passwords),
        sessions=sessions,
        teams=TeamsControl(store=store, clock=clock, events=events, forget=forget),
        memberships=MembershipsControl(store=store, clock=clock, events=events, sessions=sessions, forget=forget),
    )
