"""Where things are inside a fetch sandbox, what a fetch is asked for, and the way it says that it failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The operator's folder of repositories, read-only (HEARTH_TEMPLATES_URL=file:///...).
MIRROR = "/mnt/mirror"
#: Objects that git receives; on disk, gone with the fetch.
OBJECTS = "/usr/local/objects"
#: Git's configuration, with credentials if there are any: in memory only.
PRIVATE = "/tmp"
#: Where a sandbox finds the host's own 127.0.0.1 (`hearth.executor.sandbox.config`).
HOST_LOOPBACK = "169.254.100.127"
CHANNEL = 3
ARCHIVE = 4


class FetchFailed(Exception):
    """The source cannot be had: `message` says why and what the user can do about it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Layout:
    """The folders of one fetch; another one in tests, which run without a sandbox."""

    mirror: str = MIRROR
    objects: str = OBJECTS
    private: str = PRIVATE
    host_loopback: str = HOST_LOOPBACK


@dataclass(frozen=True)
class Request:
    """What to fetch. `mirror_path` is the repository below the mirror's folder, `""` for one at `url`.

    `username` and `password` go to the host of `url` only; so do `private_key` and, a line `type key` each,
    `known_hosts`, for an ssh address. With `shares_access` they also open submodules at that host, without it nothing
    but the repository. `is_connected` says that credentials are an installation's, for messages.
    `operation` is `fetch`, `publish` (see `publishing`; `author` is `name <address>`), or a question of `looking` about
    `path` or the commit `before`. `content_bytes` and
    `entries` bound what is packed, `archive_bytes` the packed archive (0 = no limit), `disk_bytes` everything on
    disk meanwhile.
    """

    url: str
    mirror_path: str
    kind: str
    reference: str
    root_directory: str
    username: str
    password: str
    content_bytes: int
    entries: int
    archive_bytes: int
    disk_bytes: int
    operation: str = "fetch"
    path: str = ""
    before: str = ""
    private_key: str = ""
    known_hosts: str = ""
    is_connected: bool = False
    shares_access: bool = False
    message: str = ""
    author: str = ""

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Request:
        """From the channel's JSON object."""
        return cls(**fields)

    @property
    def place(self) -> str:
        """The repository as messages name it."""
        if self.mirror_path and not self.is_connected:
            return f'"{self.mirror_path}" in this server\'s mirror'
        return f'"{self.mirror_path or self.url}"'
