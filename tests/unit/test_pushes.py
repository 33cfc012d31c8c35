"""What a push means for a function: branch and path patterns, marks to skip, domains of previews."""

import time
from typing import Any

import pytest

from hearth.model.pushes import PLATFORM_AUTHOR, matches, preview_domain, reason_to_skip
from tests.store.samples import function


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        ((), "anything", True),
        (("main",), "main", True),
        (("main",), "mainline", False),
        (("*",), "feature/x", True),
        (("feature/*",), "feature/a/b", True),
        (("feature/*",), "feature", False),
        (("release-?",), "release-1", True),
        (("!main",), "other", True),
        (("!main",), "main", False),
        (("feature/*", "!feature/wip-*"), "feature/wip-1", False),
        (("**/*.py",), "a/b/c.py", True),
        (("**/*.py",), "c.py", True),
        (("*.py",), "a/c.py", False),
        (("src/**",), "lib/a", False),
        (("src",), "src/a/b.js", True),
        (("src/**/t.py",), "src/t.py", True),
        (("src", "!src/docs"), "src/docs/x.md", False),
    ],
)
def test_patterns_include_by_any_and_exclude_by_one(patterns: tuple[str, ...], name: str, expected: bool) -> None:
    assert matches(patterns, name) is expected


def test_no_pattern_takes_time_that_grows_without_bound() -> None:
    started = time.process_time()
    assert not matches(("**/" * 40 + "x",), "a/" * 2_000 + "y")
    assert not matches(("*a" * 60 + "b",), "a" * 4_000)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("settings", "branch", "message", "changed", "words"),
    [
        ({}, "any", "a message", ("x",), ""),
        ({}, "main", "docs [SKIP CI]", ("x",), "[skip ci]"),
        ({"provider_branches": ("main",)}, "other", "m", ("x",), "providerBranches"),
        ({"provider_paths": ("a/**",)}, "main", "m", ("b/x",), "providerPaths"),
        ({"provider_paths": ("a/**",)}, "main", "m", ("b/x", "a/y"), ""),
        ({"provider_paths": ("a/**",)}, "main", "m", (), "providerPaths"),
        ({"provider_paths": ("a/**",)}, "main", "m", None, ""),
    ],
)
def test_a_push_is_skipped_for_one_of_three_reasons(
    settings: dict[str, Any], branch: str, message: str, changed: tuple[str, ...] | None, words: str
) -> None:
    reason = reason_to_skip(function(**settings), branch, message, "Ada", changed)
    assert (words in reason) if words else reason == ""


def test_a_commit_of_the_platform_itself_is_no_push() -> None:
    assert "this platform" in reason_to_skip(function(), "main", "Create 'f' function", PLATFORM_AUTHOR, ("x",))


def test_domains_of_branches_are_names_and_differ() -> None:
    f = function()
    names = {preview_domain(f, branch, "functions.test") for branch in ("Feature/A", "feature/a", "feature-a", "日本")}
    assert len(names) == 4
    assert all(name.startswith("branch-") and name.endswith(".functions.test") and name.isascii() for name in names)
    assert all(len(name.partition(".")[0]) <= 63 for name in names)
