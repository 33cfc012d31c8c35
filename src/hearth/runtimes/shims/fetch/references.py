"""Which reference is meant: ranges of tags, and near ones to name when there is none. Pure.

The highest version counts, as `sort --version-sort` would have it, except that a release counts more than its own
pre-releases, and pre-releases are taken only where a range holds nothing else.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable

_NEAR = 5
_DIGITS = re.compile(r"(\d+)")
_VERSION = re.compile(r"[vV]?(\d+(?:\.\d+)*)(?:[-_.]?([A-Za-z].*|-.*))?(?:\+.*)?\Z")


def is_range(reference: str) -> bool:
    """Whether a tag's name asks for the highest of several."""
    return "*" in reference


def best_tag(tags: Iterable[str], reference: str) -> str | None:
    """The tag that `reference` names: itself, or the highest version of a range; None if there is none.

    A range fits tags with and without a `v` before the number.
    """
    names = [tag for tag in tags if not tag.startswith("-")]
    if not is_range(reference):
        return reference if reference in names else None
    pattern = re.compile(fnmatch.translate(reference.replace("[", "[[]")))
    fitting = [name for name in names if pattern.match(name) or pattern.match(re.sub(r"^[vV](?=\d)", "", name))]
    return max(fitting, key=_order) if fitting else None


def near(names: Iterable[str], reference: str) -> list[str]:
    """Up to five names that may have been meant, likeliest first."""
    known = [name for name in names if not name.startswith("-")]
    wanted = reference.replace("*", "")
    alike = difflib.get_close_matches(wanted, known[:5000], _NEAR, 0.5)
    highest = sorted(known, key=_order, reverse=True)
    return list(dict.fromkeys([*alike, *highest]))[:_NEAR]


def _order(name: str) -> tuple[bool, tuple[int, ...], bool, list[tuple[int, int, str]]]:
    """Releases over pre-releases over other names; then by number, then by text with its numbers as numbers."""
    match = _VERSION.match(name)
    if match is None:
        return (False, (), False, _natural(name))
    numbers = [int(number) for number in match.group(1).split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    is_release = not match.group(2)
    return (is_release, tuple(numbers), is_release, _natural(match.group(2) or name))


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in _DIGITS.split(text) if part]
