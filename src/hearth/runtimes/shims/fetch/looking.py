"""Questions about a repository that need no source: its branches, a commit, a folder, one file, what changed.

The answers are short (the server reads 1 MiB), and come from a stranger's repository: the server checks them.
"""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Callable
from typing import Any

from .facts import commit_facts
from .git import Git, GitFailed, OutputTooLong, host_keys
from .layout import FetchFailed, Request
from .tree import NOT_ADVERTISED, Tree

BRANCHES_MAX = 5_000
ENTRIES_MAX = 1_000
CHANGES_MAX = 5_000
FILE_BYTES = 256 * 1024
_ANSWER_BYTES = 768 * 1024
_COMMIT_BYTES = 1024 * 1024
_MESSAGE_CHARS = 16_000
_SSH_PORT = 22


def keys(parts: urllib.parse.SplitResult) -> dict[str, Any]:
    """The keys that the ssh host at an address shows now."""
    return {"keys": host_keys(parts.hostname or "", parts.port or _SSH_PORT)}


def answer(request: Request, tree: Tree, git: Git, resolve: Callable[[], str]) -> dict[str, Any]:
    """Answer `request.operation`; `resolve` gives the hash of its reference. Raises FetchFailed, GitFailed."""
    if request.operation == "branches":
        return _branches(git, request)
    if request.operation == "changes":
        return _changes(tree, git, request)
    commit = tree.receive(git, resolve())
    if request.operation == "commit":
        facts = commit_facts(git.run("cat-file", "commit", commit, output_bytes=_COMMIT_BYTES))
        return {"commit": commit, "author": facts.author[:255], "message": facts.message[:_MESSAGE_CHARS]}
    if request.operation == "contents":
        return _contents(git, commit, request)
    if request.operation == "file":
        return _file(tree, git, commit, request)
    raise FetchFailed(f"There is no operation {request.operation}.")


def _branches(git: Git, request: Request) -> dict[str, Any]:
    """Names and hashes of at most `BRANCHES_MAX` branches, and the name of the default one."""
    listed = git.run("ls-remote", "--symref", "--quiet", "--", "origin", "HEAD", "refs/heads/*")
    branches: list[tuple[str, str]] = []
    default, size = "", 0
    for line in listed.decode("utf-8", "replace").splitlines():
        left, _, name = line.partition("\t")
        if left.startswith("ref: refs/heads/") and name == "HEAD":
            default = left[len("ref: refs/heads/") :]
        elif name.startswith("refs/heads/"):
            size += len(line)
            if len(branches) < BRANCHES_MAX and size < _ANSWER_BYTES:
                branches.append((name[len("refs/heads/") :], left))
    return {"branches": branches, "default": default}


def _changes(tree: Tree, git: Git, request: Request) -> dict[str, Any]:
    """Paths that differ between two commits; null where a commit is not there any more, or they are too many."""
    try:
        before, after = tree.receive(git, request.before), tree.receive(git, request.reference)
    except GitFailed as failed:
        if any(text in failed.said for text in NOT_ADVERTISED):
            return {"changes": None}
        raise
    try:
        listed = git.run(
            "diff-tree", "-r", "-z", "--no-renames", "--name-only", before, after, output_bytes=_ANSWER_BYTES // 2
        )
    except OutputTooLong:
        return {"changes": None}
    names = [name.decode("utf-8", "replace") for name in listed.split(b"\0") if name]
    return {"changes": names if len(names) <= CHANGES_MAX else None}


def _contents(git: Git, commit: str, request: Request) -> dict[str, Any]:
    """The entries of a folder as (name, whether it is a folder)."""
    tree = f"{commit}:{request.path}" if request.path else f"{commit}^{{tree}}"
    try:
        listed = git.run("ls-tree", "-z", "--full-tree", tree)
    except GitFailed:
        raise FetchFailed(f'The repository {request.place} has no folder "{request.path}".') from None
    entries: list[tuple[str, bool]] = []
    size = 0
    for line in listed.split(b"\0"):
        facts, _, name = line.partition(b"\t")
        size += len(name)
        if name and len(entries) < ENTRIES_MAX and size < _ANSWER_BYTES:
            entries.append((name.decode("utf-8", "replace"), facts.startswith(b"040000")))
    return {"entries": entries}


def _file(tree: Tree, git: Git, commit: str, request: Request) -> dict[str, Any]:
    """The content of one file, as base64."""
    listed = git.run("ls-tree", "-z", "--full-tree", commit, "--", request.path)
    facts = listed.split(b"\t")[0].split(b" ")
    if len(facts) != 3 or facts[1] != b"blob" or facts[0] == b"120000":
        raise FetchFailed(f'The repository {request.place} has no file "{request.path}".')
    blob = facts[2].decode()
    tree.receive_blobs(git, [blob], commit)
    try:
        content = git.run("cat-file", "blob", blob, output_bytes=FILE_BYTES)
    except OutputTooLong:
        raise FetchFailed(f'The file "{request.path}" is larger than {FILE_BYTES // 1024} KiB.') from None
    return {"content": base64.b64encode(content).decode()}
