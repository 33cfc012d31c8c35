"""As whom the server runs, and what it still reaches then: for the server and for commands on what it keeps."""

import os
import pwd
import sys
from collections.abc import Sequence
from pathlib import Path

import hearth
from hearth.executor.sandbox.privileges import drop_privileges
from hearth.settings import Settings

#: The uid and gid of the server when it is started by root and its user does not exist (outside sandboxes' range).
FALLBACK_UID = 61_100


class NotAllowed(Exception):
    """The machine or the configuration does not allow a start: one line per reason, each with its fix."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = list(lines)
        super().__init__("; ".join(lines))


def server_identity(settings: Settings) -> tuple[int, int]:
    """The uid and gid the server runs as: its user's, a number of its own without one, or the caller's if not root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    try:
        entry = pwd.getpwnam(settings.user)
    except KeyError:
        return FALLBACK_UID, FALLBACK_UID
    if entry.pw_uid == 0:
        raise NotAllowed(["user: the server does not run as root. Name an ordinary user (--user), existing or not."])
    return entry.pw_uid, entry.pw_gid


def home_of(uid: int, settings: Settings) -> str:
    """Where libraries look for files of the user (PostgreSQL's client its certificates): never in root's home.

    A user without an account, or whose home is not there, gets the data folder.
    """
    try:
        home = pwd.getpwuid(uid).pw_dir
    except KeyError:
        return str(settings.data_dir)
    return home if os.access(home, os.X_OK) else str(settings.data_dir)


def become_server(settings: Settings) -> None:
    """Work on as the server's own user from here, if this is root: for commands that touch what the server keeps.

    Raises NotAllowed where there is no such user.
    """
    uid, gid = server_identity(settings)
    if os.geteuid() == 0:
        drop_privileges(uid, gid, kept_paths(settings))
        os.environ["HOME"] = home_of(uid, settings)  # root's is closed now, and drivers look into it


def kept_paths(settings: Settings) -> tuple[str, ...]:
    """What an unprivileged process of ours must still reach, wherever the checkout or the interpreter lives."""
    package = Path(hearth.__file__).resolve().parent
    found = {Path(sys.prefix), Path(sys.base_prefix), package.parent, settings.data_dir, settings.packs_folder}
    return tuple(sorted(str(path) for path in found if path.exists()))
