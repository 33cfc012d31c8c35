"""Sources that come from git: where one is kept, what is asked for, and what a fetch brought back.

Pure words and checks; the fetch itself lives in `hearth.build` and `hearth.runtimes.shims.fetch`.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum

#: Scheme of sources that are bundled with the platform: `starters:` and nothing after it.
STARTERS_URL = "starters:"
#: Characters of a commit message that are kept, the mark of the cut included (contract: functions-api 6.2).
COMMIT_MESSAGE_CHARS = 255
_CUT = "..."

_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*\Z")
_HASH = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
#: What git forbids in the name of a reference, `*` aside, which asks for a range of tags.
_NOT_IN_REFERENCES = re.compile(r"[\x00-\x20\x7f~^:?\[\\]|\.\.|@\{|//")


class ReferenceKind(StrEnum):
    """What the reference of a git source names."""

    COMMIT = "commit"
    BRANCH = "branch"
    TAG = "tag"


@dataclass(frozen=True, slots=True)
class GitSource:
    """One folder of a git repository at a reference.

    `url` is `https://...` (or `http://...`), `file:///...` for a repository below the operator's mirror, or
    `STARTERS_URL`; it never holds a password. `reference` is a full commit hash, a branch, a tag or, for tags, a
    range such as `0.3.*`. `root_directory` is relative with `/` between names, `""` for the whole repository.
    `installation_id` and `repository_id` say by whose credentials a connected function's repository is fetched;
    its `url` may be `ssh://` too. A `template` is put into that repository, on the branch `reference` below
    `root_directory`, before anything is fetched from it; then the source becomes the commit that was made.
    """

    url: str
    kind: ReferenceKind
    reference: str
    root_directory: str = ""
    installation_id: str = ""
    repository_id: str = ""
    template: "GitSource | None" = None


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit a fetch ended at: `hash` in hex, the author's name, the whole message."""

    hash: str
    author: str
    message: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A source that is now in the file store. `reference` is the resolved one (`0.3.7` for `0.3.*`).

    `commit` is None for what has none: starters.
    """

    size_bytes: int
    reference: str
    commit: Commit | None = None


@dataclass(frozen=True, slots=True)
class CloneAccess:
    """What a fetch needs to be let in, beside its `GitSource`. Goes to the sandbox over its channel and nowhere else.

    Either `username` and `password` (https), or `private_key` and `known_hosts` (ssh; texts of OpenSSH). `password`
    may be a token that expires soon: ask for it right before the fetch, and keep it nowhere.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    known_hosts: str = ""


@dataclass(frozen=True, slots=True)
class CloneSource:
    """A repository to fetch from: `url` without credentials (https, ssh or file), and the access to it."""

    url: str
    access: CloneAccess = field(default_factory=CloneAccess)


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """One fetch: `source` is packed as a `.tar.gz` and stored as `key`, within `timeout_s` and `limit_bytes`.

    `limit_bytes` bounds the packed archive, 0 = no limit beside those of a build. `access` is None for a source that
    belongs to no installation; else it replaces whatever credentials the server has of its own. With `shares_access`
    it also opens submodules at the same host: not for code of somebody who may not push there.
    """

    deployment_id: str
    source: GitSource
    key: str
    timeout_s: float
    limit_bytes: int
    access: CloneAccess | None = None
    shares_access: bool = True


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """A template's archive, stored as `archive_key`, is to become a commit on `branch` of a connected repository.

    `message` is that of the commit; its files go below `root_directory`. Within `timeout_s`.
    """

    deployment_id: str
    clone: CloneSource
    branch: str
    root_directory: str
    archive_key: str
    message: str
    timeout_s: float


def name_problem(name: str) -> str:
    """Why `name` cannot be that of an owner or a repository, `""` if it can."""
    if _NAME.match(name) and name not in (".", "..") and not name.endswith(".lock"):
        return ""
    return "Value must be a name at the git host: letters, digits, period, underscore and hyphen, no hyphen first"


def reference_problem(kind: ReferenceKind, reference: str) -> str:
    """Why `reference` cannot be one of `kind`, `""` if it can. Nothing that looks like an option ever can."""
    if kind is ReferenceKind.COMMIT:
        fits = _HASH.match(reference) is not None
        return "" if fits else "Value must be a full commit hash: 40 hexadecimal digits in lower case"
    bad = (
        not reference
        or not reference.isprintable()
        or _NOT_IN_REFERENCES.search(reference)
        or reference.startswith(("-", "/", "."))
        or reference.endswith(("/", ".", ".lock"))
        or (kind is ReferenceKind.BRANCH and "*" in reference)
    )
    if not bad:
        return ""
    example = "`main`" if kind is ReferenceKind.BRANCH else "`1.0.2`, or a range of them such as `1.0.*`"
    return f"Value must be the name of a {kind} as git allows it, for example {example}"


def normal_folder(path: str) -> str | None:
    """`root_directory` in its one form: `./a//b/` is `a/b`, `.` and `/` are `""`; None if it leads outside."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if any(part in ("..", ".git") or not part.isprintable() for part in parts):
        return None
    return "/".join(parts)


def shortened(message: str) -> str:
    """A commit message as it is stored: trimmed, and cut to the width of its column."""
    text = message.strip()
    return text if len(text) <= COMMIT_MESSAGE_CHARS else text[: COMMIT_MESSAGE_CHARS - len(_CUT)] + _CUT
