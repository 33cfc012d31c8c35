"""Puts a template into a connected repository: its files over those of a branch, as one commit that is pushed.

The template comes as an archive that a fetch made. Nothing is checked out: git reads the files from one stream.
"""

from __future__ import annotations

import os
import tarfile
import time
from typing import Any, BinaryIO

from .git import Git, GitFailed, explain
from .layout import FetchFailed, Layout, Request
from .tree import Tree

#: The branch in the repository of the sandbox that the commit is made on; the pushed one has the name asked for.
_MADE = "refs/heads/made"
_PIECE_BYTES = 1 << 20
_MOVED = ("non-fast-forward", "fetch first", "failed to update ref", "cannot lock ref", "stale info")
_NOT_ALLOWED = (
    "error: 401",
    "error: 403",
    "denied",
    "not granted",
    "read-only",
    "read only",
    "protected",
    "hook declined",
    "refusing to",
    "service not enabled",
    "not authorized",
    "not allowed",
)


def publish(request: Request, layout: Layout, tree: Tree, git: Git, descriptor: int) -> dict[str, Any]:
    """Push the archive in `descriptor` to a branch, below the root directory, and return `commit`.

    Files of the same name are replaced, all others stay. A branch that holds exactly this already is left as it is.
    An empty repository gets the branch as its first. Raises FetchFailed, GitFailed.
    """
    parent = _parent(request, tree, git)
    with open(os.path.join(layout.objects, "stream"), "w+b") as stream:
        with os.fdopen(os.dup(descriptor), "rb") as archive:
            _write_stream(stream, archive, request, parent)
        stream.seek(0)
        git.run("fast-import", "--quiet", "--force", "--done", stdin=stream.fileno())
    made = git.run("rev-parse", "--verify", _MADE).decode().strip()
    if parent and _tree_of(git, made) == _tree_of(git, parent):
        return {"commit": parent, "is_new": False}
    try:
        # Not thin: a base to save bytes with would be a file that was never received.
        git.run("push", "--quiet", "--no-verify", "--no-thin", "--", "origin", f"{made}:refs/heads/{request.reference}")
    except GitFailed as failed:
        raise _not_pushed(failed, request) from failed
    return {"commit": made, "is_new": True}


def _parent(request: Request, tree: Tree, git: Git) -> str:
    """The newest commit of the branch, received without its files; `""` for a repository that is empty."""
    name = f"refs/heads/{request.reference}"
    listed = git.run("ls-remote", "--refs", "--quiet", "--heads", "--", "origin").decode("utf-8", "replace")
    heads = {ref: hash for hash, _, ref in (line.partition("\t") for line in listed.splitlines())}
    if not heads:
        return ""
    if name not in heads:
        raise FetchFailed(
            f"The repository {request.place} has no branch {request.reference} to put the template on. Make it there "
            "first, or connect the function to a branch that exists."
        )
    return tree.receive(git, heads[name])


def _write_stream(stream: BinaryIO, archive: BinaryIO, request: Request, parent: str) -> None:
    """The commit as `git fast-import` reads it (git-fast-import(1), INPUT FORMAT)."""
    message = request.message.encode()
    who = f"{request.author} {int(time.time())} +0000".encode()
    stream.write(b"commit %s\ncommitter %s\ndata %d\n%s\n" % (_MADE.encode(), who, len(message), message))
    if parent:
        stream.write(b"from %s\n" % parent.encode())
    with tarfile.open(fileobj=archive, mode="r|gz") as tar:
        for count, member in enumerate(tar):
            if count >= request.entries:
                raise FetchFailed(f"The template has more than {request.entries:,} files.")
            path = _quoted(f"{request.root_directory}/{member.name}" if request.root_directory else member.name)
            if member.issym():
                target = os.fsencode(member.linkname)
                stream.write(b"M 120000 inline %s\ndata %d\n%s\n" % (path, len(target), target))
                continue
            content = tar.extractfile(member) if member.isreg() else None
            if content is None:
                raise FetchFailed("The template holds something that is neither a file nor a link.")
            mode = b"100755" if member.mode & 0o100 else b"100644"
            stream.write(b"M %s inline %s\ndata %d\n" % (mode, path, member.size))
            while piece := content.read(_PIECE_BYTES):
                stream.write(piece)
            stream.write(b"\n")
    stream.write(b"done\n")


def _quoted(path: str) -> bytes:
    return b'"' + os.fsencode(path).replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


def _tree_of(git: Git, commit: str) -> bytes:
    return git.run("rev-parse", "--verify", f"{commit}^{{tree}}").strip()


def _not_pushed(failed: GitFailed, request: Request) -> FetchFailed:
    lower = failed.said.lower()
    if any(text in lower for text in _MOVED):
        return FetchFailed(
            f"The branch {request.reference} of the repository {request.place} moved while the template was put on it. "
            "Deploy the template again."
        )
    if any(text in lower for text in _NOT_ALLOWED):
        why = "".join(char if char.isprintable() else " " for char in failed.said.strip())[-300:]
        if request.password:
            why = why.replace(request.password, "***")
        return FetchFailed(
            f"The host does not let the installation write to the branch {request.reference} of the repository "
            f"{request.place}: its credentials may only read, or the branch is protected. Give them write access, or "
            f"put the template's code there yourself. Git said: {why}"
        )
    return explain(failed.said, request)
