"""The files of a commit: received with the folder asked for only, listed, with submodules, and judged."""

from __future__ import annotations

import ipaddress
import os
import posixpath
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from .git import Git, GitFailed, OutputTooLong, explain
from .layout import FetchFailed, Layout, Request

_FOLDER, _LINK, _SUBMODULE = b"040000", b"120000", b"160000"
_EXECUTABLE = b"100755"
#: How servers say that they do not give out an object that no branch or tag names.
NOT_ADVERTISED = ("unadvertised object", "not our ref", "from promisor remote")
SUBMODULES_MAX = 20
SUBMODULE_LEVELS_MAX = 3
#: Bytes that one line of a list of files may take on average before it is not a list of names any more.
_LINE_BYTES = 1_024
_SHOWN_CHARS = 120
#: `git@host:path`, the short form of an ssh address.
_SHORT_SSH = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)@([A-Za-z0-9][A-Za-z0-9.-]*):(?!/)([^\s]+)\Z")


@dataclass(frozen=True)
class Entry:
    """One file or link to pack: its `name` below the root directory, and the blob that holds it."""

    name: str
    blob: str
    is_link: bool
    is_executable: bool
    git: Git


@dataclass(frozen=True)
class _Submodule:
    name: str
    path: str
    commit: str


class Tree:
    """Collects the entries of a commit's folder and of the submodules in it; one per fetch."""

    def __init__(self, request: Request, layout: Layout, config: str) -> None:
        self._request = request
        self._layout = layout
        self._config = config
        self._repositories = 0
        self._address = ""
        self.entries: list[Entry] = []
        self.submodules: list[str] = []

    def open(self, address: str) -> Git:
        """A new empty repository with `address` as its origin."""
        self._repositories += 1
        self._address = self._address or address  # the first one is the source itself
        folder = os.path.join(self._layout.objects, f"{self._repositories}.git")
        return Git(self._layout, folder, address, self._config)

    def receive(self, git: Git, name: str) -> str:
        """Receive the commit `name` (a hash, also of a tag) without history and files; returns its own hash."""
        try:
            git.run("fetch", "--quiet", "--no-tags", "--depth=1", "--filter=blob:none", "--", "origin", name)
        except GitFailed as failed:
            if not any(text in failed.said for text in NOT_ADVERTISED):
                raise
            # An older or stricter server gives out only what its branches lead to: then with their whole history.
            git.run("fetch", "--quiet", "--no-tags", "--no-filter", "--", "origin", "+refs/heads/*:refs/heads/*")
            try:
                return git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").decode().strip()
            except GitFailed:
                raise failed from None
        return git.run("rev-parse", "--verify", "FETCH_HEAD^{commit}").decode().strip()

    def receive_blobs(self, git: Git, blobs: Sequence[str], commit: str) -> None:
        """Receive some files of a commit in one go; a server that sent them before has nothing to send any more."""
        if not blobs:
            return
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none")
        try:
            git.run(
                "-c",
                "fetch.negotiationAlgorithm=noop",
                "fetch",
                *options,
                "--stdin",
                "--",
                "origin",
                send="\n".join(blobs).encode() + b"\n",
            )
        except GitFailed as failed:
            if not any(text in failed.said for text in NOT_ADVERTISED):
                raise
            # A server that leaves files out on request, and then does not give them out one by one.
            git.run("fetch", "--quiet", "--no-tags", "--refetch", "--no-filter", "--depth=1", "--", "origin", commit)

    def add(self, git: Git, commit: str, folder: str, prefix: str = "", level: int = 0) -> None:
        """Add what lies below `folder` of a received commit, as `prefix` and its name there.

        Raises FetchFailed if the folder is missing or something in it is refused, GitFailed if git fails.
        """
        tree = self._folder(git, commit, folder)
        submodules: list[_Submodule] = []
        for line in self._list(git, tree).split(b"\0"):
            if not line:
                continue
            facts, _, raw = line.partition(b"\t")
            mode, _, blob = facts.split(b" ")
            name = raw.decode("utf-8", "surrogateescape")
            _check_name(name)
            if mode == _SUBMODULE:
                path = posixpath.join(folder, name)
                submodules.append(_Submodule(prefix + name, path, blob.decode()))
                continue
            self.entries.append(Entry(prefix + name, blob.decode(), mode == _LINK, mode == _EXECUTABLE, git))
            if len(self.entries) > self._request.entries:
                raise self._too_many()
        blobs = dict.fromkeys(entry.blob for entry in self.entries if entry.git is git)
        self.receive_blobs(git, tuple(blobs), commit)
        for submodule, url in zip(submodules, self._urls(git, commit, submodules), strict=True):
            self._add_submodule(submodule, url, level)

    def _folder(self, git: Git, commit: str, folder: str) -> str:
        """The hash of a folder's tree."""
        if not folder:
            return f"{commit}^{{tree}}"
        listed = git.run("ls-tree", "-z", "--full-tree", commit, "--", folder)
        facts = listed.split(b"\t")[0].split(b" ")
        if len(facts) == 3 and facts[0] == _FOLDER:
            return facts[2].decode()
        there = [
            line.split(b"\t", 1)[1].decode("utf-8", "replace")
            for line in git.run("ls-tree", "-z", "--full-tree", commit).split(b"\0")
            if line.startswith(_FOLDER)
        ]
        known = f" Its folders are: {', '.join(map(_shown, there[:10]))}." if there else " It has no folders."
        raise FetchFailed(f'The repository {self._request.place} has no folder "{_shown(folder)}".{known}')

    def _list(self, git: Git, tree: str) -> bytes:
        try:
            return git.run("ls-tree", "-r", "-z", "--full-tree", tree, output_bytes=self._request.entries * _LINE_BYTES)
        except OutputTooLong:
            raise self._too_many() from None

    def _too_many(self) -> FetchFailed:
        return FetchFailed(
            f"The repository {self._request.place} has more than {self._request.entries:,} files in the folder asked "
            "for. Name a smaller root directory."
        )

    # -------------------------------------------------------------------------------------------- submodules

    def _urls(self, git: Git, commit: str, submodules: Sequence[_Submodule]) -> list[str]:
        """The address of each submodule, from the commit's .gitmodules."""
        if not submodules:
            return []
        try:
            text = git.run("config", "--null", "--blob", f"{commit}:.gitmodules", "--list")
        except GitFailed:
            text = b""
        fields: dict[str, dict[str, str]] = {}
        for item in text.decode("utf-8", "replace").split("\0"):
            key, _, value = item.partition("\n")
            section, _, rest = key.partition(".")
            name, _, variable = rest.rpartition(".")
            if section == "submodule":
                fields.setdefault(name, {})[variable] = value
        urls = {module.get("path", ""): module.get("url", "") for module in fields.values()}
        return [_resolved(urls.get(submodule.path, ""), git.address) for submodule in submodules]

    def _add_submodule(self, submodule: _Submodule, url: str, level: int) -> None:
        own = own_address(url, self._request, self._address)
        problem = "" if own else submodule_problem(url)
        if problem:
            where = " or at the repository's own host" if self._request.shares_access else ""
            raise FetchFailed(
                f'The submodule "{_shown(submodule.path)}" ("{_shown(url)}") is refused: {problem}. Only submodules at '
                f"public https addresses{where} are fetched; put the code into the repository itself."
            )
        if level >= SUBMODULE_LEVELS_MAX or len(self.submodules) >= SUBMODULES_MAX:
            raise FetchFailed(
                f"The repository has more submodules than are fetched: {SUBMODULES_MAX}, in {SUBMODULE_LEVELS_MAX} "
                "levels. Put their code into the repository itself."
            )
        self.submodules.append(submodule.path)
        try:
            git = self.open(own or url)
            self.add(git, self.receive(git, submodule.commit), "", submodule.name + "/", level + 1)
        except GitFailed as failed:
            theirs = replace(self._request, url=_shown(url), mirror_path="", is_connected=bool(own))
            reason = explain(failed.said, theirs).message
            raise FetchFailed(f'The submodule "{_shown(submodule.path)}" could not be fetched. {reason}') from failed


def own_address(url: str, request: Request, address: str) -> str:
    """Where a submodule at the source's own host is found, `""` if it is elsewhere or the credentials are not for it.

    `address` is where the source is found, `request.url` where it is. An ssh address at the host of an https source
    (`git@host:path`, as many write it down) means the same repository by https.
    """
    if not request.shares_access or not url.isprintable() or " " in url:
        return ""
    short = _SHORT_SSH.match(url)
    try:
        theirs = urllib.parse.urlsplit(f"ssh://{short[1]}@{short[2]}/{short[3]}" if short else url)
        ours, there = urllib.parse.urlsplit(request.url), urllib.parse.urlsplit(address)
        is_same = theirs.scheme == there.scheme and theirs.netloc in (ours.netloc, there.netloc)
        is_by_ssh = (
            there.scheme in ("http", "https")
            and (theirs.scheme, theirs.username, theirs.password) == ("ssh", "git", None)
            and theirs.hostname == ours.hostname
        )
    except ValueError:
        return ""
    is_plain = not theirs.query and not theirs.fragment and ".." not in theirs.path.split("/")
    if there.scheme not in ("http", "https", "ssh") or not theirs.path.strip("/") or not is_plain:
        return ""
    return urllib.parse.urlunsplit((there.scheme, there.netloc, theirs.path, "", "")) if is_same or is_by_ssh else ""


def submodule_problem(url: str) -> str:
    """Why a submodule's address is not gone to, `""` if it is: it comes from the repository, so from anybody."""
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "it is not an address"
    if not url:
        return "the repository's .gitmodules names no address for it"
    if parts.scheme != "https":
        return "its address is not https"
    if parts.username is not None or parts.password is not None:
        return "its address holds a user name"
    if port not in (None, 443):
        return "its address names a port"
    if any(char.isspace() or ord(char) < 33 for char in url):
        return "it is not an address"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return (
            ""
            if "." in host.strip(".") and not host.endswith((".internal", ".local", ".localhost"))
            else ("its host is not a public one")
        )
    return "its host is a bare address"


def _resolved(url: str, parent: str) -> str:
    """A submodule's address; `./` and `../` are relative to the repository it is in, as git has it."""
    if not url.startswith(("./", "../")):
        return url
    parts = urllib.parse.urlsplit(parent)
    path = posixpath.normpath(posixpath.join(parts.path.rstrip("/"), url))
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _check_name(name: str) -> None:
    """Refuse names that no git makes and that no archive of ours may hold."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise FetchFailed(f'The repository holds a file with a name that is not allowed: "{_shown(name)}".')
    if any(ord(char) < 32 or char == "\x7f" for char in name):
        raise FetchFailed(f'The repository holds a file with control characters in its name: "{_shown(name)}".')


def _shown(text: str) -> str:
    plain = "".join(char if char.isprintable() else "?" for char in text)
    return plain if len(plain) <= _SHOWN_CHARS else plain[:_SHOWN_CHARS] + "..."
