"""What a git host holds, whatever its interface: repositories with commits, branches, pull requests and the rest."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Commit:
    """One commit with all its files."""

    hash: str
    message: str
    author: str
    files: dict[str, bytes]
    parent: str = ""


@dataclass
class Comment:
    id: int
    author: str
    text: str


@dataclass
class Pull:
    """A pull request from `branch` of `head` (a repository; None = its fork is gone)."""

    number: int
    title: str
    branch: str
    commit: str
    head: "Repository | None"
    base_branch: str = "main"


@dataclass
class Repository:
    id: int
    owner: str
    name: str
    private: bool = False
    default_branch: str = "main"
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    pulls: dict[int, Pull] = field(default_factory=dict)
    comments: dict[int, list[Comment]] = field(default_factory=dict)
    statuses: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    hooks: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def uuid(self) -> str:
        return "{" + str(uuid.UUID(int=self.id)) + "}"

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    def commit(self, files: Mapping[str, str | bytes], message: str = "a message", branch: str = "main") -> str:
        """A commit with exactly these files on a branch; its hash."""
        parent = self.branches.get(branch, "")
        content = {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
        hash = hashlib.sha1(repr((parent, message, sorted(content.items()), self.id)).encode()).hexdigest()
        self.commits[hash] = Commit(hash, message, "Ada", content, parent)
        self.branches[branch] = hash
        return hash

    def resolve(self, ref: str) -> Commit | None:
        """The commit of a branch, a hash or (`""`, `HEAD`) the default branch."""
        name = self.default_branch if ref in ("", "HEAD") else ref
        return self.commits.get(self.branches.get(name, name))

    def ancestors(self, hash: str) -> list[str]:
        """A commit and those before it, newest first."""
        found = []
        while hash:
            found.append(hash)
            hash = self.commits[hash].parent
        return found

    def differing(self, one: str, other: str) -> list[str]:
        """The files that differ between two commits."""
        before, after = self.commits[one].files, self.commits[other].files
        return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))

    def entries(self, commit: Commit, folder: str) -> list[tuple[str, bool, int]] | None:
        """(name, is a folder, size) of what is in a folder; None if there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        found: dict[str, tuple[bool, int]] = {}
        for path, content in commit.files.items():
            if path.startswith(prefix):
                name, _, rest = path.removeprefix(prefix).partition("/")
                found[name] = (bool(rest), 0 if rest else len(content))
        if not found and folder:
            return None
        return [(name, is_folder, size) for name, (is_folder, size) in sorted(found.items())]

    def add_comment(self, number: int, author: str, text: str) -> Comment:
        comments = self.comments.setdefault(number, [])
        made = Comment(1_000 * number + len(comments) + 1, author, text)
        comments.append(made)
        return made

    def find_comment(self, id: int) -> Comment | None:
        return next((found for every in self.comments.values() for found in every if found.id == id), None)


@dataclass
class World:
    """`login` is the user (or bot) whose token or app speaks to the host."""

    login: str = "hearth-bot"
    repositories: dict[int, Repository] = field(default_factory=dict)

    def add(self, owner: str, name: str, *, private: bool = False) -> Repository:
        id = 100 + len(self.repositories)
        made = Repository(id, owner, name, private)
        self.repositories[id] = made
        return made

    def named(self, full_name: str) -> Repository | None:
        return next((found for found in self.repositories.values() if found.full_name == full_name), None)

    def with_uuid(self, uuid: str) -> Repository | None:
        return next((found for found in self.repositories.values() if found.uuid == uuid), None)
