"""The project file: `appwrite.config.json`, or `appwrite.json` as it was called before (contract: clients 5).

Read and written in the reference's form, so that both command lines work with one file; what is not known here is kept.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hearth.cli.client.problems import NotSetUp, WrongUse
from hearth.model.ids import is_id

NAMES = ("appwrite.config.json", "appwrite.json")


@dataclass(frozen=True, slots=True)
class Entry:
    """One function of the file. `raw` is its object as written, `folder` where its code is."""

    id: str
    folder: Path
    raw: Mapping[str, Any]

    @property
    def ignore(self) -> Sequence[str] | None:
        """Patterns of what is not part of the code; None = those of the folder's `.gitignore`."""
        listed = self.raw.get("ignore")
        if isinstance(listed, str):
            return [listed]
        return None if listed is None else [str(pattern) for pattern in listed]


@dataclass(slots=True)
class Project:
    """A project file and its folder."""

    path: Path
    document: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def project_id(self) -> str:
        return str(self.document.get("projectId") or "")

    @property
    def endpoint(self) -> str:
        return str(self.document.get("endpoint") or "")

    def entries(self) -> list[Entry]:
        """All functions. Raises NotSetUp for an entry that cannot be used."""
        listed = self.document.get("functions", [])
        if not isinstance(listed, list):
            raise NotSetUp(f"{self.path}: `functions` has to be a list.")
        return [self._entry(number, raw) for number, raw in enumerate(listed)]

    def chosen(self, ids: Sequence[str]) -> list[Entry]:
        """The functions named, or all. Raises WrongUse for one that is not in the file, NotSetUp if it has none."""
        entries = {entry.id: entry for entry in self.entries()}
        unknown = [id for id in ids if id not in entries]
        if unknown:
            known = ", ".join(sorted(entries)) or "none"
            raise WrongUse(f"{self.path} has no function {', '.join(unknown)}. It has: {known}.")
        if not entries:
            raise NotSetUp(f"{self.path} has no functions. `hearth init` begins one.")
        return [entries[id] for id in dict.fromkeys(ids)] if ids else list(entries.values())

    def put(self, raw: Mapping[str, Any]) -> None:
        """Add a function, or write its settings over those that are there. `save` writes the file."""
        functions = self.document.setdefault("functions", [])
        for known in functions:
            if known["$id"] == raw["$id"]:
                known.update(raw)
                return
        functions.append(dict(raw))

    def save(self) -> None:
        """Write the file anew, whole or not at all."""
        new = self.path.with_name(f".{self.path.name}.new")
        new.write_text(json.dumps(self.document, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
        new.replace(self.path)

    def _entry(self, number: int, raw: Any) -> Entry:
        where = f"{self.path}: functions[{number}]"
        if not isinstance(raw, dict):
            raise NotSetUp(f"{where} has to be an object.")
        id = raw.get("$id")
        if not isinstance(id, str) or not is_id(id):
            raise NotSetUp(f"{where}: `$id` has to be the function's id, not {id!r}.")
        for name, kind, text in (("path", str, "a text"), ("ignore", (list, str), "a list"), ("vars", list, "a list")):
            if raw.get(name) is not None and not isinstance(raw[name], kind):
                raise NotSetUp(f"{where} ({id}): `{name}` has to be {text}.")
        path = raw.get("path")
        return Entry(id, (self.folder / (path if path is not None else f"functions/{id}")).absolute(), raw)


def find_project(start: Path) -> Project | None:
    """The project file of a folder or of one above it; `start` may be the file. Raises NotSetUp if it is unreadable."""
    if start.is_file():
        return read_project(start)
    for folder in (start.absolute(), *start.absolute().parents):
        for name in NAMES:
            if (folder / name).is_file():
                return read_project(folder / name)
    return None


def require_project(start: Path) -> Project:
    """The same where one has to be there."""
    project = find_project(start)
    if project is None:
        raise NotSetUp(f"There is no {NAMES[0]} in {start.absolute()} or above it. `hearth init` makes one.")
    return project


def read_project(path: Path) -> Project:
    """Read one file. Raises NotSetUp."""
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise NotSetUp(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise NotSetUp(f"{path} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise NotSetUp(f"{path} has to hold an object.")
    return Project(path, document)
