"""What a push means for a function: pure decisions (contract: side-services 12)."""

import fnmatch
import hashlib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from hearth.model.resources import Function

#: In a commit's message: do not build it.
SKIP_MARK = "[skip ci]"
#: Whose name commits of the platform have (templates that are put into a repository): they are not built as pushes.
PLATFORM_AUTHOR = "Hearth"
_SLUG_CHARS = 16
_DIGEST_CHARS = 7


def reason_to_skip(function: Function, branch: str, message: str, author: str, changed: Sequence[str] | None) -> str:
    """Why a push to `branch` is not built for a function, `""` if it is.

    `message` and `author` are those of the newest commit; `changed` are the paths that changed since what was built
    last, None where nobody can tell (then no path is a reason to skip).
    """
    if author == PLATFORM_AUTHOR:
        return "the commit was made by this platform"
    if SKIP_MARK in message.lower():
        return f"the commit message holds {SKIP_MARK}"
    if not matches(function.provider_branches, branch):
        return "the branch is none of providerBranches"
    if changed is not None and function.provider_paths and not any_matches(function.provider_paths, changed):
        return "nothing of providerPaths changed"
    return ""


def is_production(function: Function, branch: str) -> bool:
    """Whether a push to `branch` becomes the active deployment."""
    return branch == function.provider_branch


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a name is wanted: by any pattern (none = everything), and excluded by no pattern with `!` before it.

    Globs: `*` and `?` stop at `/`, `**` stands for any number of folders; what fits a folder fits all that is below.
    """
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    refused = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    if any(_fits(pattern, name) for pattern in refused):
        return False
    return not wanted or any(_fits(pattern, name) for pattern in wanted)


def any_matches(patterns: Sequence[str], names: Iterable[str]) -> bool:
    """Whether at least one of the names is wanted."""
    return any(matches(patterns, name) for name in names)


def preview_domain(function: Function, branch: str, functions_domain: str) -> str:
    """The domain of a branch of a function: readable, and its own also where names are cut or alike."""
    slug = re.sub(r"[^a-z0-9]+", "-", branch.lower()).strip("-")[:_SLUG_CHARS].strip("-")
    digest = hashlib.sha256(f"{function.project_id}/{function.id}/{branch}".encode()).hexdigest()[:_DIGEST_CHARS]
    return f"branch-{slug}-{digest}.{functions_domain}" if slug else f"branch-{digest}.{functions_domain}"


def _fits(pattern: str, name: str) -> bool:
    """Segment by segment; time grows with the product of both lengths, whatever the pattern is."""
    wanted, given = _segments(pattern), name.split("/")
    # reached[i]: the first i segments of the pattern stand for what was read of the name so far.
    reached = _spread([True] + [False] * len(wanted), wanted)
    for segment in given:
        if reached[len(wanted)]:
            return True  # a folder stands for everything below it
        step = [False] * (len(wanted) + 1)
        for index, is_reached in enumerate(reached[:-1]):
            if is_reached and wanted[index] is None:
                step[index] = True
            elif is_reached and (expression := wanted[index]) is not None and expression.match(segment):
                step[index + 1] = True
        reached = _spread(step, wanted)
    return reached[len(wanted)]


def _spread(reached: list[bool], wanted: Sequence[re.Pattern[str] | None]) -> list[bool]:
    """`**` also stands for no segment at all."""
    for index, segment in enumerate(wanted):
        if reached[index] and segment is None:
            reached[index + 1] = True
    return reached


@lru_cache(maxsize=1024)
def _segments(pattern: str) -> tuple[re.Pattern[str] | None, ...]:
    """The segments of a pattern; None is `**`."""
    names = pattern.strip("/").split("/")
    return tuple(None if name == "**" else re.compile(fnmatch.translate(name)) for name in names)
