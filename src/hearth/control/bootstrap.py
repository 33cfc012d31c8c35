"""The first start: a project, a key for it, somebody to log in as, his organization, and the file that says so.

See the operator interface for what the file holds.
"""

import asyncio
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from hearth.auth.keys import hash_secret, new_secret
from hearth.auth.passwords import hash_password, new_password
from hearth.data import load
from hearth.model.ids import unique_id
from hearth.model.people import CONSOLE, OWNER, Membership, Team, User
from hearth.model.resources import ApiKey, Project
from hearth.ports import Clock, Store

log = structlog.get_logger(__name__)

PROJECT_ID = "default"
CONSOLE_EMAIL = "admin@hearth.localhost"
CREDENTIALS_FILE = "credentials.json"
ORGANIZATION_NAME = "Personal"
#: Scopes of our own that the contract's table does not have.
OWN_SCOPES = ("events.write",)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `credentials.json` holds, in the wire's names."""

    endpoint: str
    project_id: str
    api_key: str
    console_email: str
    console_password: str

    def to_json(self) -> dict[str, str]:
        return {
            "endpoint": self.endpoint,
            "projectId": self.project_id,
            "apiKey": self.api_key,
            "consoleEmail": self.console_email,
            "consolePassword": self.console_password,
        }


async def bootstrap(store: Store, clock: Clock, data_dir: Path, endpoint: str) -> None:
    """Make sure the default project exists, has an organization, and `credentials.json` opens it.

    Later starts only put the current `endpoint` into the file. A file that was deleted is made anew with a fresh
    key and password; older keys stay valid. One that cannot be read as ours is kept and reported.
    """
    path = data_dir / CREDENTIALS_FILE
    known = _read(path)
    if known is not None:
        # A database of before there were organizations gets one for the user it has.
        await _give_organization(store, clock, known.get("consoleEmail"))
        if known.get("endpoint") != endpoint:
            _write(path, {**known, "endpoint": endpoint})
        return
    now = clock.now()
    if await store.projects.get(PROJECT_ID) is None:
        await store.projects.insert(Project(PROJECT_ID, "Default", now, now))
    secret = new_secret()
    scopes = tuple(row["scope"] for row in load("scopes.json")["project"]) + OWN_SCOPES
    async with store.begin(PROJECT_ID) as unit:
        await unit.keys.insert(ApiKey(unique_id(), PROJECT_ID, "Default", hash_secret(secret), scopes, now, now))
    password = new_password()
    password_hash = await asyncio.to_thread(hash_password, password)
    async with store.begin(CONSOLE) as unit:
        user = await unit.users.by_email(CONSOLE_EMAIL)
        if user is None:
            user = User(unique_id(), CONSOLE, now, now, now, email=CONSOLE_EMAIL, name="Admin")
            user = await unit.users.insert(replace(user, password_hash=password_hash, password_updated_at=now))
        else:
            await unit.users.update(user.id, password_hash=password_hash, password_updated_at=now, status=True)
            await unit.sessions.delete_of(user.id)
    await _give_organization(store, clock, CONSOLE_EMAIL)
    _write(path, Credentials(endpoint, PROJECT_ID, secret, CONSOLE_EMAIL, password).to_json())
    log.info("credentials written", file=str(path))


async def _give_organization(store: Store, clock: Clock, email: object) -> None:
    """Put the default project into an organization (a team of the project `console`) the user owns, if it is in none.

    A user who was deleted on purpose is not made again, and a project somebody moved elsewhere stays there.
    """
    project = await store.projects.get(PROJECT_ID)
    if project is None or not isinstance(email, str):
        return
    now = clock.now()
    async with store.begin(CONSOLE) as unit:
        user = await unit.users.by_email(email.lower())
        if user is None or (project.team_id and await unit.teams.get(project.team_id) is not None):
            return
        team = await unit.teams.insert(Team(unique_id(), CONSOLE, now, now, ORGANIZATION_NAME))
        membership = Membership(unique_id(), CONSOLE, team.id, user.id, now, now, now, (OWNER,), now, confirmed=True)
        await unit.memberships.insert(membership)
        await unit.teams.count_members(team.id)
    await store.projects.update(PROJECT_ID, team_id=team.id)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        known = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        known = None
    if not isinstance(known, dict):
        spoilt = path.with_suffix(".unreadable")
        path.replace(spoilt)
        log.warning("credentials file was not readable; kept aside and made anew", kept=str(spoilt))
        return None
    return known


def _write(path: Path, values: dict[str, Any]) -> None:
    """Replace the file in one step, mode 0600 from its first moment."""
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
