"""The first start: a project, a key for it, somebody to log in as, and the file that says so (operator interface)."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hearth.auth.keys import hash_secret, new_secret
from hearth.auth.passwords import hash_password, new_password
from hearth.data import load
from hearth.model.ids import unique_id
from hearth.model.resources import ApiKey, ConsoleUser, Project
from hearth.ports import Clock, Store

log = structlog.get_logger(__name__)

PROJECT_ID = "default"
CONSOLE_EMAIL = "admin@hearth.localhost"
CREDENTIALS_FILE = "credentials.json"
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
    """Make sure the default project exists and `credentials.json` opens it.

    Later starts only put the current `endpoint` into the file. A file that was deleted is made anew with a fresh
    key and password; older keys stay valid. One that cannot be read as ours is kept and reported.
    """
    path = data_dir / CREDENTIALS_FILE
    known = _read(path)
    if known is not None:
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
    user = await store.projects.console_user_by_email(CONSOLE_EMAIL)
    if user is None:
        user = ConsoleUser(unique_id(), CONSOLE_EMAIL, "Admin", hash_password(password), now, now)
        await store.projects.insert_console_user(user)
    else:
        await store.projects.set_console_password(user.id, hash_password(password))
    _write(path, Credentials(endpoint, PROJECT_ID, secret, CONSOLE_EMAIL, password).to_json())
    log.info("credentials written", file=str(path))


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
