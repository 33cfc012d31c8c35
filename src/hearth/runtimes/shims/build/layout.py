"""Where things are inside a build sandbox, and the way a build says that it failed."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: The build area: the unpacked source, in which the commands run (contract: runtime-contract 7).
BUILD = "/usr/local/build"
#: The unpacked source where an image brings the build: it copies that into the build area itself.
SOURCE = "/mnt/code"
#: HOME, caches and temporary files of a build: on disk like the build area, but never part of the artifact.
HOME = "/usr/local/home"
#: pip.conf, npmrc and the CA bundle of the machine's registries, read-only.
REGISTRIES = "/usr/local/server/registries"
#: The build program finds the artifact's descriptor and the channel here.
CHANNEL = 3
ARTIFACT = 4
#: What an earlier build installed, to read, and a file to write what this one did; either may be missing.
RESTORED = 5
KEPT = 6


@dataclass(frozen=True)
class Layout:
    """The folders of one build; another one in tests, which run without a sandbox."""

    build: str = BUILD
    home: str = HOME
    registries: str = REGISTRIES
    source: str = SOURCE

    @property
    def temporary(self) -> str:
        """TMPDIR of the commands."""
        return os.path.join(self.home, "tmp")


def own_file(folder: str, name: str, text: str) -> str:
    """Write a file of ours that a build needs; returns its path."""
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class BuildFailed(Exception):
    """The user's code or commands failed the build: `message` says how and what to do about it.

    `reason` is a word for the server (`exit`, `disk`, ...), `exit_code` that of the commands if they ran.
    """

    def __init__(self, reason: str, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.exit_code = exit_code
