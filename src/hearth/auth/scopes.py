"""What people may do: the scopes of guests and users, and those a role in an organization gives (contract: 1.1)."""

from collections.abc import Sequence
from functools import lru_cache

from hearth.data import load

_ROLES: dict[str, list[str]] = load("scopes.json")["roles"]

GUEST_SCOPES = frozenset(_ROLES["guests"])
USER_SCOPES = frozenset(_ROLES["users"])
KEY_SCOPES = frozenset(_ROLES["keys"])
#: Roles in an organization that give scopes in its projects.
ADMIN_ROLES = ("owner", "developer", "admin")
#: What a person of the console may always do: see where he belongs.
_ADMIN_BASE = frozenset({"teams.read", "projects.read"})
#: Scopes of the console's own routes, which name a project in their path or body. Whoever serves such a route asks
#: `team_scopes` about the organization of that project; these only open the door.
_CONSOLE_PREFIXES = ("projects.", "project.", "keys.", "devKeys.", "platforms.", "webhooks.")


@lru_cache(maxsize=4_096)
def admin_scopes(team_roles: tuple[str, ...], project_id: str) -> frozenset[str]:
    """The scopes that a member of a project's organization with these roles has in the project.

    A role is that of the whole organization, or of one project when spelled `project-<projectId>-<role>`
    (contract: side-services 3). Roles of other names give only the sight of teams and projects.
    """
    scopes = set(_ADMIN_BASE)
    for name in (role.removeprefix(f"project-{project_id}-") for role in team_roles):
        if name in ADMIN_ROLES:
            scopes.update(_ROLES[name])
    return frozenset(scopes)


def team_scopes(roles: Sequence[str], team_id: str, project_id: str) -> frozenset[str]:
    """The scopes a console user has in a project of organization `team_id`; empty for who is not a member.

    `roles` are those of an Actor (`team:<id>/<role>`), so it also holds for a caller in the project `console`.
    """
    if not team_id or f"team:{team_id}" not in roles:
        return frozenset()
    prefix = f"team:{team_id}/"
    return admin_scopes(tuple(role.removeprefix(prefix) for role in roles if role.startswith(prefix)), project_id)


@lru_cache(maxsize=1)
def console_scopes() -> frozenset[str]:
    """What a signed-in person may ask of the console itself, before anyone looks at a particular project."""
    return USER_SCOPES | {scope for scope in _ROLES["owner"] if scope.startswith(_CONSOLE_PREFIXES)}
