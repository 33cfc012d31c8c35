"""The steps of one fetch: which commit, what is in it, packed; and what the server is told at the end.

The server hands the request over the channel and reads one answer from it; the log goes to standard output.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import traceback
import urllib.parse
from collections.abc import Callable
from typing import Any

from ..build import lines
from ..build.disk import TooMuch, Watcher, measure
from . import looking, publishing
from .archive import Packed, pack
from .channel import answer, receive
from .facts import commit_facts
from .git import Git, GitFailed, OutputTooLong, explain, require_git, require_ssh, write_config, write_keys
from .layout import ARCHIVE, CHANNEL, FetchFailed, Layout, Request
from .references import best_tag, is_range, near
from .tree import Tree

#: Exit codes of the fetch program; anything else means that it did not come to its end.
DONE, FAILED, BROKEN = 0, 1, 70
_POINTERS_SHOWN = 5
_LOOPBACK_PORTS = {"http": 80, "ssh": 22}
_MESSAGE_MAX_BYTES = 64 * 1024
_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\Z")


def main() -> int:
    """Take the request from the channel, fetch, answer; returns the exit code."""
    channel = socket.socket(fileno=CHANNEL)
    os.set_inheritable(CHANNEL, False)
    told: dict[str, Any]
    try:
        request = Request.read(receive(channel))
        if request.operation in ("fetch", "publish"):
            os.set_inheritable(ARCHIVE, False)
            work = fetch if request.operation == "fetch" else publish
            told, code = {"ok": True, **work(request, Layout(), ARCHIVE)}, DONE
        else:
            told, code = {"ok": True, **look(request, Layout())}, DONE
    except FetchFailed as failed:
        told, code = {"ok": False, "reason": "refused", "message": failed.message}, FAILED
    except BaseException:
        told, code = {"ok": False, "reason": "broken", "message": traceback.format_exc()[-4000:]}, BROKEN
    sys.stdout.flush()
    answer(channel, told)
    return code


def fetch(request: Request, layout: Layout, descriptor: int) -> dict[str, Any]:
    """Write the source archive to `descriptor` and return `reference`, `commit`, `author` and `message`.

    Raises FetchFailed with what the user can do.
    """
    return _bounded(request, layout, lambda address: _fetch(request, layout, descriptor, address))


def publish(request: Request, layout: Layout, descriptor: int) -> dict[str, Any]:
    """Push the archive in `descriptor` to a branch (see `publishing`); returns `commit`. Raises FetchFailed."""

    def published(address: str) -> dict[str, Any]:
        _say(f"Putting the template on the branch {_one_line(request.reference)} of the repository {request.place}.")
        tree = Tree(request, layout, write_config(layout, request, address))
        told = publishing.publish(request, layout, tree, tree.open(address), descriptor)
        _say(f"Pushed as commit {told['commit'][:12]}." if told["is_new"] else "The branch holds it already.")
        return told

    return _bounded(request, layout, published)


def look(request: Request, layout: Layout) -> dict[str, Any]:
    """Answer a question about a repository (see `looking`). Raises FetchFailed."""
    if request.operation == "keys":
        require_ssh()
        return looking.keys(urllib.parse.urlsplit(_address(request, layout)))

    def answered(address: str) -> dict[str, Any]:
        tree = Tree(request, layout, write_config(layout, request, address))
        return looking.answer(request, tree, tree.open(address), lambda: _resolve(tree.open(address), request)[1])

    return _bounded(request, layout, answered)


def _bounded(request: Request, layout: Layout, work: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """Do the work with the repository's address, bounded in disk; what git says against it is explained."""
    require_git()
    excess: list[str] = []

    def end_git(limit: str) -> None:
        excess.append(limit)
        if os.getpid() == 1:
            os.kill(-1, signal.SIGKILL)  # everything in the sandbox but us; outside of one that would be too much

    watcher = Watcher([layout.objects], request.disk_bytes, end_git)
    watcher.start()
    address = _address(request, layout)
    if address.startswith("ssh:"):
        require_ssh()
        write_keys(layout, request)
    try:
        return work(address)
    except GitFailed as failed:
        _check_disk(request, layout, excess)
        raise explain(failed.said, request) from failed
    except OutputTooLong as long:
        raise FetchFailed(f"The repository {request.place} has more references than can be read.") from long
    finally:
        watcher.stop()


def _fetch(request: Request, layout: Layout, descriptor: int, address: str) -> dict[str, Any]:
    wanted = f"{request.kind} {request.reference}"
    _say(f"Fetching {wanted} of the repository {request.place}.")
    tree = Tree(request, layout, write_config(layout, request, address))
    git = tree.open(address)
    reference, name = _resolve(git, request)
    if reference != request.reference:
        _say(f"{request.reference} is {reference}, the highest version that fits.")
    try:
        commit = tree.receive(git, name)
    except GitFailed as failed:
        raise _not_received(failed, request) from failed
    facts = commit_facts(git.run("cat-file", "commit", commit, output_bytes=_MESSAGE_MAX_BYTES * 16))
    _say(f"Commit {commit[:12]} by {_one_line(facts.author)}: {_one_line(facts.message)}")
    tree.add(git, commit, request.root_directory)
    if not tree.entries:
        raise FetchFailed(f"The repository {request.place} holds no files at {wanted}. Push code to it first.")
    packed = pack(tree.entries, request, facts.time_s, descriptor)
    _tell_packed(packed, tree)
    message = facts.message.encode("utf-8", "replace")[:_MESSAGE_MAX_BYTES].decode("utf-8", "ignore")
    return {"reference": reference, "commit": commit, "author": facts.author[:255], "message": message}


def _address(request: Request, layout: Layout) -> str:
    """Where git finds the repository: at its host, or in the mirror's folder, with or without `.git`.

    A host on the machine's own loopback is found elsewhere from here: a sandbox has a loopback of its own.
    """
    if not request.mirror_path:
        parts = urllib.parse.urlsplit(request.url)
        if parts.scheme in _LOOPBACK_PORTS and (parts.hostname or "") in ("localhost", "127.0.0.1"):
            user = f"{parts.username}@" if parts.username else ""
            port = parts.port or _LOOPBACK_PORTS[parts.scheme]
            return urllib.parse.urlunsplit(parts._replace(netloc=f"{user}{layout.host_loopback}:{port}"))
        return request.url
    for path in (request.mirror_path, f"{request.mirror_path}.git"):
        folder = os.path.join(layout.mirror, path)
        if os.path.isdir(folder):
            if not os.access(folder, os.R_OK | os.X_OK):
                raise FetchFailed(
                    f"The repository {request.place} cannot be read by sandboxes. Its operator has to make it readable "
                    "for everybody (chmod -R a+rX)."
                )
            return f"file://{folder}"
    if request.is_connected:
        raise FetchFailed(f"The repository {request.place} does not exist in the installation's folder.")
    raise FetchFailed(
        f"The repository {request.place} does not exist. Check owner and repository; the operator of this server adds "
        f"repositories to the folder of HEARTH_TEMPLATES_URL as <owner>/<repository>."
    )


def _resolve(git: Git, request: Request) -> tuple[str, str]:
    """The reference meant, and the hash to ask the server for. Raises FetchFailed naming near ones.

    `""` is the default branch.
    """
    if request.kind == "commit":
        return request.reference, request.reference
    if not request.reference:
        hash = git.run("ls-remote", "--quiet", "--", "origin", "HEAD").split(b"\t")[0].decode("ascii", "replace")
        if not _HASH.match(hash):
            raise FetchFailed(f"The repository {request.place} has no default branch. Push code to it first.")
        return "", hash
    prefix = "refs/tags/" if request.kind == "tag" else "refs/heads/"
    listed = git.run("ls-remote", "--refs", "--quiet", "--tags" if request.kind == "tag" else "--heads", "--", "origin")
    hashes: dict[str, str] = {}
    for line in listed.decode("utf-8", "replace").splitlines():
        hash, _, name = line.partition("\t")
        if name.startswith(prefix) and _HASH.match(hash):
            hashes[name[len(prefix) :]] = hash
    found = best_tag(hashes, request.reference) if request.kind == "tag" else request.reference
    if found is None or found not in hashes:
        raise _no_reference(request, hashes)
    return found, hashes[found]


def _no_reference(request: Request, hashes: dict[str, str]) -> FetchFailed:
    kind = request.kind
    plural = "branches" if kind == "branch" else "tags"
    what = f"no tag that fits {request.reference}" if is_range(request.reference) else f"no {kind} {request.reference}"
    names = [_one_line(name) for name in near(hashes, request.reference)]
    there = f"Some of its {plural}: {', '.join(names)}." if names else f"It has no {plural} at all."
    return FetchFailed(f"The repository {request.place} has {what}. {there}")


def _not_received(failed: GitFailed, request: Request) -> Exception:
    """A commit that the server does not have is the user's; everything else is explained as usual."""
    if request.kind == "commit" and any(
        text in failed.said
        for text in ("not our ref", "unadvertised object", "couldn't find remote ref", "upload-pack")
    ):
        return FetchFailed(
            f"The repository {request.place} has no commit {request.reference}. Check the hash; a commit that is on no "
            "branch any more may be gone."
        )
    return failed


def _check_disk(request: Request, layout: Layout, excess: list[str]) -> None:
    """Raise FetchFailed if git failed because it was sent too much."""
    if not excess:
        try:
            # What was killed at the limit on the size of a file has left a file of that size.
            measure([layout.objects], request.disk_bytes - 1)
        except TooMuch as too_much:
            excess.append(str(too_much))
    if excess:
        raise FetchFailed(
            f"The repository {request.place} sends more than {request.disk_bytes // (1024 * 1024)} MB for the folder "
            "asked for. Remove large files from it, or name a smaller root directory."
        )


def _tell_packed(packed: Packed, tree: Tree) -> None:
    if packed.pointers:
        shown = ", ".join(map(_one_line, packed.pointers[:_POINTERS_SHOWN]))
        more = " and more" if len(packed.pointers) > _POINTERS_SHOWN else ""
        _say(
            f"Warning: {len(packed.pointers)} Git LFS pointers instead of files: {shown}{more}. Their contents are not "
            "fetched. Store them in the repository itself, or download them in the build commands.",
            lines.WARNING,
        )
    if tree.submodules:
        _say(f"Submodules fetched: {', '.join(map(_one_line, tree.submodules))}.")
    size = f"{packed.content_bytes / 1000:,.1f} kB, packed {packed.archive_bytes / 1000:,.1f} kB"
    _say(f"Source fetched: {packed.files:,} files, {size}.")


def _one_line(text: str) -> str:
    """The first line, without control characters: it comes from anybody and goes to somebody's terminal."""
    first = text.strip().split("\n")[0]
    plain = "".join(char if char.isprintable() else " " for char in first)
    return plain if len(plain) <= 120 else plain[:120] + "..."


def _say(text: str, colour: int = lines.INFO) -> None:
    sys.stdout.write(lines.line(text, colour))
    sys.stdout.flush()
