"""What the rows of a backup name outside the database: files of the file store, and runtimes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Belongings:
    """Filled row by row with `note`; then says of each file whether it belongs to these rows.

    `is_whole` = the rows are an installation's: files of kinds unknown here belong to it, whosever they are.
    """

    is_whole: bool
    projects: set[str] = field(default_factory=set)
    deployments: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    runtimes: set[str] = field(default_factory=set)

    def note(self, table: str, columns: Sequence[str], row: Sequence[Any]) -> None:
        """Take what a row names."""
        if table == "projects":
            self.projects.add(row[columns.index("id")])
        elif table == "functions":
            self.runtimes.add(row[columns.index("runtime")])
        elif table == "deployments":
            self.deployments.add(row[columns.index("id")])
            self.keys |= {row[columns.index("source_key")], row[columns.index("artifact_key")]}

    def include(self, key: str) -> bool:
        """Whether the file with this key belongs to the rows; an upload has the key of its deployment's source."""
        kind, _, rest = key.partition("/")
        if kind == "artifacts":
            return key in self.keys
        if kind == "sources":
            return key in self.keys or rest.rpartition("/")[2] in self.deployments
        return self.is_whole or rest.partition("/")[0] in self.projects
