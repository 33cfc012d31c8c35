"""Named sizes: which ones this server offers and which is the default (contract: functions-api 5.6)."""

from collections.abc import Mapping
from typing import Any

from hearth.data import load
from hearth.model.running import Specification


class Specifications:
    """The sizes at or below the operator's limits.

    `cpus_max` (cores) and `memory_max_mb`: entries above are left out; 0 = no limit. The smallest entry is
    always offered, so that every machine can run something.
    """

    def __init__(self, cpus_max: float, memory_max_mb: int) -> None:
        rows = [
            Specification(row["slug"], row["cpus"], row["memory"])
            for row in load("specifications.json")["specifications"]
        ]
        fitting = [
            row
            for row in rows
            if (not cpus_max or row.cpus <= cpus_max) and (not memory_max_mb or row.memory_mb <= memory_max_mb)
        ]
        self._rows = {row.slug: row for row in fitting or rows[:1]}
        #: The highest allowed one (contract: functions-api 5.1, self-hosted without a plan).
        self.default = list(self._rows)[-1]

    def slugs(self) -> tuple[str, ...]:
        """Every slug a function may ask for, smallest first."""
        return tuple(self._rows)

    def get(self, slug: str) -> Specification:
        """The size of `slug`; for one no longer offered (limits were lowered) the default's."""
        return self._rows.get(slug) or self._rows[self.default]

    def all(self, kind: str = "runtimes") -> list[Mapping[str, Any]]:
        """The wire model of each; `kind` (`runtimes` or `builds`) makes no difference without a plan."""
        return [
            {"memory": row.memory_mb, "cpus": row.cpus, "enabled": True, "slug": row.slug}
            for row in self._rows.values()
        ]
