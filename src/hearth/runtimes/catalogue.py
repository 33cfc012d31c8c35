"""The catalogue: which runtimes exist, which of them run on this machine, and what the others need.

Where packs come from is a provider's business (`hearth.runtimes.host` is one); the catalogue only looks at them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hearth.data import load
from hearth.runtimes.families import has_shim
from hearth.runtimes.pack_table import PackTable, pack_table
from hearth.runtimes.packs import Level, Pack, Packs

#: Keys of the wire model Runtime (contract: functions-api 6.5), beside `$id`.
_WIRE_KEYS = ("key", "name", "version", "base", "image", "logo", "supports")


class InstalledPacks:
    """The packs that providers found, by runtime; of two for one runtime the first counts."""

    def __init__(self, packs: Iterable[Pack]) -> None:
        self._by_id: dict[str, Pack] = {}
        for pack in packs:
            self._by_id.setdefault(pack.id, pack)

    def get(self, id: str) -> Pack | None:
        """The pack that serves runtime `id` here, or None."""
        return self._by_id.get(id)

    def all(self) -> Sequence[Pack]:
        """Every pack, in the order found."""
        return tuple(self._by_id.values())


@dataclass(frozen=True, slots=True)
class RuntimeRow:
    """One line of `hearth runtimes list`. If not available, `level` is None, `provider` `""` and `reason` says why.

    `version` is the exact one found, or the runtime's own while there is none.
    """

    id: str
    name: str
    version: str
    available: bool
    level: Level | None
    provider: str
    reason: str = ""


class Catalogue:
    """Implements `hearth.ports.Runtimes` from the table of known runtimes and this machine's packs.

    `only` are ids the operator restricts the catalogue to; empty = all. `table` says what can be installed.
    """

    def __init__(self, packs: Packs, only: Collection[str] = (), table: PackTable | None = None) -> None:
        self._packs = packs
        self._table = table or pack_table()
        self._rows = [row for row in load("runtimes.json")["runtimes"] if not only or row["id"] in only]
        self._ids = frozenset(row["id"] for row in self._rows)
        self._wire = tuple({"$id": row["id"], **{key: row[key] for key in _WIRE_KEYS}} for row in self._rows)

    def all(self) -> Sequence[Mapping[str, Any]]:
        """Every known runtime, in the order and with the keys of the wire model."""
        return self._wire

    def exists(self, id: str) -> bool:
        """Whether the catalogue knows a runtime of that id."""
        return id in self._ids

    def available(self, id: str) -> bool:
        """Whether functions of this runtime can be built and run on this machine now."""
        return id in self._ids and self._packs.get(id) is not None

    def installed(self) -> Sequence[Mapping[str, Any]]:
        """Of `all()` the runtimes that are available now."""
        return tuple(row for row in self._wire if self._packs.get(row["$id"]) is not None)

    def how_to_get(self, id: str) -> str:
        """A sentence that says how to make a known runtime available here."""
        if self._installable(id):
            return f"`hearth runtimes install {id}` installs it."
        return "`hearth runtimes list` shows which can run here and how to get more."

    def _installable(self, id: str) -> bool:
        entry = self._table.get(id)
        return entry is not None and has_shim(entry.family)

    def rows(self) -> list[RuntimeRow]:
        """What `hearth runtimes list` shows: every runtime, at what level it runs here or why it does not."""
        return [self._row(row) for row in self._rows]

    def _row(self, row: Mapping[str, Any]) -> RuntimeRow:
        pack = self._packs.get(row["id"])
        if pack is not None:
            return RuntimeRow(row["id"], row["name"], pack.version, True, pack.level, pack.provider)
        return RuntimeRow(row["id"], row["name"], row["version"], False, None, "", self._reason(row))

    def _reason(self, row: Mapping[str, Any]) -> str:
        entry = self._table.get(row["id"])
        if entry is not None and has_shim(entry.family):
            return f"`hearth runtimes install {entry.id}` gets {entry.version} ({entry.size_bytes / 1e6:.0f} MB)"
        program = _PROGRAMS.get(row["key"])
        if program is None:
            return f"no provider offers {row['name']} yet"
        found = sorted(pack.version for pack in self._packs.all() if pack.family == row["key"])
        have = f"; found {', '.join(found)}" if found else ""
        series = program.format(major=row["version"].partition(".")[0], version=row["version"])
        return f"needs {row['name']} {series} in /usr/bin or on the server's PATH{have}"


#: What a missing runtime of the provider `host` is looked for as.
_PROGRAMS = {
    "node": "{major} (program node)",
    "python": "{version} (program python{version})",
    "bun": "{version} (program bun)",
    "deno": "{version} (program deno)",
    "go": "{version} (program go)",
    "java": "{major} (a development kit below /usr/lib/jvm, or the program java)",
    "cpp": "{version} (program g++ of a version that knows it, and libjsoncpp-dev)",
    "php": "{version} (program php)",
    "ruby": "{version} (program ruby)",
}
