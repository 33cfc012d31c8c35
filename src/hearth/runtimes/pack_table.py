"""The table of packs that can be installed (`data/packs.json`): what each consists of and how it is verified.

Only what was installed and run is in it. Archives are pinned by the digest their registry states. A root of a Debian
suite is pinned by the suite: its packages are verified by the archive's signature, and their versions move with it.
"""

import base64
import binascii
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.data import load
from hearth.runtimes.packs import Level

#: What Debian calls the machines it has roots for; `{arch}` in a program's path.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class PackUnknown(Exception):
    """There is no such pack, or none for this machine's architecture; the text says what there is."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What an archive has to hash to: `algorithm` is `sha256` or `sha512`, `value` lower-case hexadecimal."""

    algorithm: str
    value: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.value}"


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of a registry. `provider` is `npm` or `pypi`, `file` its name there and in a mirror folder.

    Of its content what lies below `take` counts, and goes to the folder `into` of the pack; both without slashes at
    their ends, `""` = everything, to the top.
    """

    provider: str
    package: str
    version: str
    file: str
    digest: Digest
    size_bytes: int
    take: str = ""
    into: str = ""


@dataclass(frozen=True, slots=True)
class DebianRoot:
    """A root folder made of packages of one Debian suite. The pack's exact version is that of `version_of`, or of the
    first archive that goes into it."""

    suite: str
    packages: tuple[str, ...]
    version_of: str
    program: str
    """The interpreter inside."""
    size_bytes: int
    """Unpacked, about."""


@dataclass(frozen=True, slots=True)
class PackEntry:
    """A pack for this architecture, made of `archives`, or of the root `debian`, or of a root with archives in it."""

    id: str
    family: str
    provider: str
    version: str
    level: Level
    licence: str
    archives: tuple[Archive, ...] = ()
    debian: DebianRoot | None = None

    @property
    def size_bytes(self) -> int:
        """What has to be fetched, about."""
        return (self.debian.size_bytes if self.debian else 0) + sum(archive.size_bytes for archive in self.archives)

    @property
    def is_suite_version(self) -> bool:
        """Whether its exact version is what the suite has on the day of its installation."""
        return self.debian is not None and not self.archives


class PackTable:
    """Every pack there is for one architecture (`platform.machine()`), by runtime."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], machine: str) -> None:
        self.machine = machine
        rows = list(rows)
        self._known = frozenset(str(row["id"]) for row in rows)
        self._entries = {entry.id: entry for row in rows if (entry := _entry(row, machine)) is not None}

    def get(self, id: str) -> PackEntry | None:
        """The pack for runtime `id`, or None."""
        return self._entries.get(id)

    def all(self) -> Sequence[PackEntry]:
        """Every pack, in the table's order."""
        return tuple(self._entries.values())

    def require(self, ids: Iterable[str]) -> list[PackEntry]:
        """The packs of these runtimes, each once. Raises PackUnknown naming every id without one."""
        problems, found = [], []
        for id in dict.fromkeys(ids):
            entry = self._entries.get(id)
            if entry is not None:
                found.append(entry)
            elif id in self._known:
                problems.append(f"The pack {id} does not exist for this machine's architecture ({self.machine}).")
            else:
                names = ", ".join(self._entries)
                problems.append(f"There is no pack {id}. There are: {names}.")
        if problems:
            raise PackUnknown("\n".join(problems))
        return found


def pack_table(machine: str = "") -> PackTable:
    """The table shipped with the package, for `machine` (default: this one)."""
    return PackTable(load("packs.json")["packs"], machine or platform.machine())


def parse_digest(text: str) -> Digest:
    """A digest as registries write it: `sha512-<base64>` (npm) or `sha256:<hexadecimal>` (PyPI). Raises ValueError."""
    if text.startswith("sha512-"):
        try:
            return Digest("sha512", base64.b64decode(text[len("sha512-") :], validate=True).hex())
        except binascii.Error as error:
            raise ValueError(f"not a digest: {text}") from error
    algorithm, _, value = text.partition(":")
    if algorithm not in ("sha256", "sha512") or len(value) != {"sha256": 64, "sha512": 128}[algorithm]:
        raise ValueError(f"not a digest: {text}")
    return Digest(algorithm, value.lower())


def as_markdown(tables: Sequence[PackTable]) -> str:
    """The table of `docs/runtimes.md`: one row for each pack, with the architectures that have it."""
    lines = ["| runtime | version | made of | level | licence | MB | for |", "|---|---|---|---|---|---|---|"]
    for id in dict.fromkeys(entry.id for table in tables for entry in table.all()):
        found = [(table.machine, entry) for table in tables if (entry := table.get(id)) is not None]
        entry = found[0][1]
        machines = [machine if one.version == entry.version else f"{machine} ({one.version})" for machine, one in found]
        providers = dict.fromkeys(archive.provider for archive in entry.archives)
        made_of = ", ".join([*([f"Debian {entry.debian.suite}"] if entry.debian else []), *providers])
        version = f"{entry.version}.x" if entry.is_suite_version else entry.version
        size = f"{entry.size_bytes / 1e6:.0f}"
        columns = (f"`{id}`", version, made_of, str(entry.level), entry.licence, size, ", ".join(machines))
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines) + "\n"


def _entry(row: Mapping[str, Any], machine: str) -> PackEntry | None:
    provider = str(row["provider"])
    archives: tuple[Archive, ...] = ()
    debian = None
    if "debian" in row:
        facts = row["debian"]
        debian = DebianRoot(
            suite=facts["suite"],
            packages=tuple(facts["packages"]),
            version_of=facts["version_of"],
            program=facts["program"].replace("{arch}", ARCHITECTURES.get(machine, machine)),
            size_bytes=facts["size_bytes"],
        )
        if machine not in facts.get("machines", ARCHITECTURES):
            return None
    if "archives" in row:
        if machine not in row["archives"]:
            return None
        archives = tuple(
            Archive(
                provider=part.get("provider", provider),
                package=part["package"],
                version=part["version"],
                file=part["file"],
                digest=parse_digest(part["digest"]),
                size_bytes=part["size_bytes"],
                take=part["take"],
                into=part["into"],
            )
            for part in row["archives"][machine]
        )
    # Of an architecture that lags behind, the first archive (the interpreter) tells the version. What goes into a root
    # has a version of its own.
    version = archives[0].version if archives and debian is None else str(row["version"])
    return PackEntry(
        str(row["id"]), row["family"], provider, version, Level(row["level"]), row["licence"], archives, debian
    )
