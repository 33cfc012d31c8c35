"""Reads answers and webhooks of git hosts, which nobody here wrote: whatever is missing or of another kind is said.

Every reader raises Malformed, never anything else, so a webhook of any content ends in a refusal.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

#: Characters of one text that are taken; titles and messages beyond are cut.
TEXT_CHARS = 10_000


class Malformed(ValueError):
    """Something a git host sent is not as documented; the text names the field."""


def read_json(body: bytes) -> Any:
    """`body` as JSON. Raises Malformed."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {str(error)[:100]}") from None


def find(value: Any, *path: str) -> Any:
    """What is at a path of names, None if a step is not there."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def items(value: Any, *path: str) -> Sequence[Any]:
    """A list at a path; an absent or null one is empty."""
    found = find(value, *path)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise Malformed(f"{'.'.join(path) or 'the answer'} is not a list")
    return found


def text(value: Any, *path: str) -> str:
    """A text at a path, `""` for an absent or null one."""
    found = find(value, *path)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise Malformed(f"{'.'.join(path)} is not a text")
    return found[:TEXT_CHARS]


def needed(value: Any, *path: str) -> str:
    """A text at a path that must be there."""
    found = text(value, *path)
    if not found:
        raise Malformed(f"{'.'.join(path)} is missing")
    return found


def number(value: Any, *path: str) -> int:
    """A whole number at a path that must be there and not negative (ids, sizes)."""
    found = find(value, *path)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**63:
        raise Malformed(f"{'.'.join(path)} is not a number")
    return found


def size(value: Any, *path: str) -> int:
    """A number of bytes at a path, 0 for an absent one."""
    return 0 if find(value, *path) is None else number(value, *path)


def flag(value: Any, *path: str) -> bool:
    """Whether there is `true` at a path."""
    return find(value, *path) is True


def commit_hash(value: Any, *path: str) -> str:
    """A full commit hash at a path; `""` for git's "none" and an absent one."""
    found = text(value, *path).lower()
    if not found.strip("0"):
        return ""
    if len(found) not in (40, 64) or any(char not in "0123456789abcdef" for char in found):
        raise Malformed(f"{'.'.join(path)} is not a commit")
    return found


def needed_hash(value: Any, *path: str) -> str:
    """A full commit hash at a path that must be there."""
    found = commit_hash(value, *path)
    if not found:
        raise Malformed(f"{'.'.join(path)} is missing")
    return found


def branch_of(reference: str) -> str:
    """The branch of `refs/heads/...`, `""` for tags and other references."""
    return reference.removeprefix("refs/heads/") if reference.startswith("refs/heads/") else ""


def moment(value: Any, *path: str) -> datetime | None:
    """A moment in ISO 8601 at a path; None for an absent one, or one nobody can read: it is shown, no more."""
    try:
        found = datetime.fromisoformat(text(value, *path))
    except ValueError:
        return None
    found = found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    return found.astimezone(UTC)
