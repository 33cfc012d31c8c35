"""`hearth admin create-user`: somebody more who may log in to the console.

The console takes no sign-ups, so an operator adds people from outside the server, in its database.
"""

from dataclasses import replace

from hearth.api.people_grammar import EMAIL, PASSWORD
from hearth.api.validators import Invalid
from hearth.auth.passwords import hash_password, new_password
from hearth.auth.scopes import ADMIN_ROLES
from hearth.cli.admin import EXIT_FAILED, run_on_store, say
from hearth.control.bootstrap import PROJECT_ID
from hearth.model import times
from hearth.model.ids import unique_id
from hearth.model.people import CONSOLE, Membership, User
from hearth.ports import Store
from hearth.settings import Settings

EXIT_USAGE = 2


def create_user(settings: Settings, email: str, name: str, role: str, organization: str, password: str | None) -> int:
    """Add a console user as a confirmed member of an organization (a team id; `""` = the default project's).

    Without `password` one is made and printed. Nothing is written when anything is wrong.
    """
    if role not in ADMIN_ROLES:
        return say(f"--role must be one of {', '.join(ADMIN_ROLES)}, not {role}.", EXIT_USAGE)
    for flag, validator, value in (("--email", EMAIL, email), ("the password", PASSWORD, password or new_password())):
        try:
            validator.check(value)
        except Invalid as error:
            return say(f"{flag}: {error}", EXIT_USAGE)
    chosen = password or new_password()
    password_hash = hash_password(chosen)

    async def create(store: Store) -> int:
        team_id = organization
        if not team_id:
            project = await store.projects.get(PROJECT_ID)
            team_id = project.team_id if project is not None else ""
        now = times.now()
        async with store.begin(CONSOLE) as unit:
            if await unit.teams.get(team_id) is None:
                return say(f"There is no organization {team_id or 'of the project ' + PROJECT_ID}.", EXIT_FAILED)
            if await unit.users.by_email(email.lower()) is not None:
                return say(f"Somebody logs in as {email.lower()} already.", EXIT_FAILED)
            user = User(unique_id(), CONSOLE, now, now, now, email=email.lower(), name=name)
            user = await unit.users.insert(replace(user, password_hash=password_hash, password_updated_at=now))
            await unit.memberships.insert(
                Membership(unique_id(), CONSOLE, team_id, user.id, now, now, now, (role,), now, confirmed=True)
            )
            await unit.teams.count_members(team_id)
        print(f"user {user.id} {user.email}, {role} of organization {team_id}")
        if password is None:
            print(f"password: {chosen}")
        return 0

    return run_on_store(settings, create)
