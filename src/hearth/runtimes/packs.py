"""What the executor and the builder need to know of one installed runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Level(StrEnum):
    """How close a pack is to the runtime it stands for."""

    EXACT = "exact"
    STAND_IN = "stand-in"
    EXPERIMENTAL = "experimental"


@dataclass(frozen=True, slots=True)
class Pack:
    """An interpreter that can run here, as it appears inside a sandbox.

    `mounts` are read-only (host path, path inside) pairs beyond the base root; `interpreter` and the folders of
    `path` are absolute inside. `shim` is the command that starts the family's shim, `version` the exact one found.
    """

    id: str
    family: str
    version: str
    level: Level
    provider: str
    interpreter: str
    shim: Sequence[str]
    path: Sequence[str]
    mounts: Sequence[tuple[str, str]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    root: str = ""
    """The host folder whose /usr and /etc its sandboxes see instead of this machine's; `""` = this machine's."""
    image: str = ""
    """The Docker image its sandboxes are made of; `""` = none."""
    python: Sequence[str] = ()
    """How a Python that `mounts` lend to its sandboxes is started; empty = they have one of their own."""


class Packs(Protocol):
    """The packs of this machine."""

    def get(self, id: str) -> Pack | None:
        """The pack that serves runtime `id` here, or None."""

    def all(self) -> Sequence[Pack]: ...
