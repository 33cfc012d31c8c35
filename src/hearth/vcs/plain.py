"""A plain git server: https with a token, ssh with a deploy key, or a folder the operator allows. No API at all.

Whatever is asked is read from the repository itself, in a sandbox. Repositories are named by their path below the
installation's address; in ids `:` stands for `/`, so that an id is one segment of a path.
"""

import hashlib
import hmac
import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace

from hearth.model.sources import CloneAccess, CloneSource, normal_folder
from hearth.model.vcs import (
    Branch,
    CommitStatus,
    Content,
    HostedCommit,
    HostEvent,
    Ignored,
    Installation,
    Provider,
    ProviderRepository,
    PullRequest,
    PushEvent,
    RepositoryPage,
    is_zero,
)
from hearth.ports import BadSignature, GitHostFailed, GitReader, NoSuchRepository

#: What a hook is signed with: `sha256=` and the HMAC-SHA256 of the body in hex, as GitHub has it.
SIGNATURE_HEADER = "x-hub-signature-256"
_HASH = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
#: `git@host:path`, the short form of an ssh address.
_SHORT_SSH = re.compile(r"([A-Za-z0-9_.-]+@)([A-Za-z0-9.-]+):(?!/)([^\s]+)\Z")
_KEY_TYPE = re.compile(r"[a-z0-9@.-]+\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_ID_CHARS_MAX = 128
_BRANCH_PREFIX = "refs/heads/"


class PlainGit:
    """See `hearth.ports.GitHost`."""

    provider = Provider.GIT
    webhook_secret = ""

    def __init__(self, reader: GitReader) -> None:
        self._reader = reader

    async def complete(self, installation: Installation) -> Installation:
        """Normalize the address, learn the ssh host's keys if none were given (trust on first use), try repositories.

        An address that ends in `.git` is one repository: its folder becomes the address, its name the repository.
        """
        base, alone = _address(installation.base_url)
        credentials = dict(installation.credentials)
        names = (*([alone] if alone else []), *installation.repositories)
        repositories = tuple(dict.fromkeys(repository_id(name) for name in names))
        _check_credentials(base, credentials)
        if base.startswith("ssh://"):
            known = known_hosts(credentials.get("knownHosts", ""))
            credentials["knownHosts"] = known or await self._reader.host_keys(base)
        done = replace(installation, base_url=base, credentials=credentials, repositories=repositories)
        for id in repositories:
            await self._reader.branches(self._source(done, id))
        return done

    def authorize_url(self, state: str) -> str:
        """None: its credentials are given with the installation."""
        return ""

    async def authorized(self, query: Mapping[str, str]) -> tuple[str, str]:
        """Never called."""
        raise GitHostFailed("A plain git server has no page to install anything.")

    async def repositories(self, installation: Installation, search: str, offset: int, limit: int) -> RepositoryPage:
        """Those the installation names: nothing lists what else a plain server has. Branches are not looked at."""
        found = [id for id in installation.repositories if search.lower() in id.lower()]
        items = tuple(_repository(installation, id, "") for id in found[offset : offset + limit])
        return RepositoryPage(len(found), items)

    async def repository(self, installation: Installation, id: str) -> ProviderRepository:
        """Any repository below the address that the credentials open."""
        try:
            id = repository_id(id)
        except ValueError as problem:
            raise NoSuchRepository(str(problem)) from problem
        _, default = await self._reader.branches(self._source(installation, id))
        return _repository(installation, id, default)

    async def create_repository(self, installation: Installation, name: str, private: bool) -> ProviderRepository:
        """Not possible here."""
        raise GitHostFailed("A plain git server cannot be asked to make a repository. Make it there, then connect it.")

    async def branches(self, installation: Installation, repository: str) -> tuple[Branch, ...]:
        """See the port."""
        return (await self._reader.branches(self._source(installation, repository)))[0]

    async def contents(self, installation: Installation, repository: str, path: str, ref: str) -> tuple[Content, ...]:
        """See the port."""
        return await self._reader.contents(self._source(installation, repository), _inside(path), ref)

    async def file(self, installation: Installation, repository: str, path: str, ref: str) -> bytes:
        """See the port."""
        return await self._reader.file(self._source(installation, repository), _inside(path), ref)

    async def latest_commit(self, installation: Installation, repository: str, ref: str) -> HostedCommit:
        """See the port."""
        source = self._source(installation, repository)
        if not _HASH.match(ref):
            # Told apart from a server that does not answer: a branch that is gone is news.
            branches, _ = await self._reader.branches(source)
            ref = next((branch.commit for branch in branches if branch.name == ref), "")
            if not ref:
                raise NoSuchRepository("The repository has no such branch.")
        return await self._reader.commit(source, ref)

    async def changed_files(
        self, installation: Installation, repository: str, before: str, after: str
    ) -> tuple[str, ...] | None:
        """See the port."""
        return await self._reader.changed_files(self._source(installation, repository), before, after)

    async def pull_request(self, installation: Installation, repository: str, id: str) -> PullRequest:
        """There are none."""
        raise NoSuchRepository("A plain git server has no pull requests.")

    async def clone_source(self, installation: Installation, repository: str) -> CloneSource:
        """See the port."""
        return self._source(installation, repository)

    async def set_status(self, installation: Installation, repository: str, commit: str, status: CommitStatus) -> None:
        """There is nowhere to show it."""

    async def comment(
        self, installation: Installation, repository: str, pull_request: str, marker: str, text: str
    ) -> None:
        """There is nowhere to write it."""

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
        """A JSON object `repository`, `ref`, `before`, `after` and `delivery` (any text that is new each time)."""
        expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        if not secret or not hmac.compare_digest(headers.get(SIGNATURE_HEADER, "").encode(), expected.encode()):
            raise BadSignature(f"The header {SIGNATURE_HEADER} is not the HMAC-SHA256 of the body with the secret.")
        told = json.loads(body)
        if not isinstance(told, dict):
            raise ValueError("The body must be a JSON object.")
        fields = {name: told.get(name, "") for name in ("repository", "ref", "before", "after")}
        if not all(isinstance(value, str) for value in fields.values()):
            raise ValueError("`repository`, `ref`, `before` and `after` must be texts.")
        hashes = [("" if is_zero(fields[name]) else fields[name]) for name in ("before", "after")]
        if any(hash and not _HASH.match(hash) for hash in hashes):
            raise ValueError("`before` and `after` must be full commit hashes.")
        if not fields["ref"].startswith(_BRANCH_PREFIX):
            return Ignored("only branches are built")
        branch = fields["ref"].removeprefix(_BRANCH_PREFIX)
        return PushEvent(repository_id(fields["repository"]), branch, hashes[0], hashes[1])

    async def register_webhook(self, installation: Installation, repository: str, url: str, secret: str) -> str:
        """Its administrator adds a hook by hand, or the repository is polled."""
        return ""

    async def unregister_webhook(self, installation: Installation, repository: str, webhook_id: str) -> None:
        """None was registered."""

    def _source(self, installation: Installation, id: str) -> CloneSource:
        path = id.replace(":", "/")
        credentials = installation.credentials
        has_token = bool(credentials.get("token"))
        return CloneSource(
            f"{installation.base_url}/{path}",
            CloneAccess(
                username=credentials.get("username", "") or ("git" if has_token else ""),
                password=credentials.get("token", ""),
                private_key=credentials.get("privateKey", ""),
                known_hosts=credentials.get("knownHosts", ""),
            ),
        )


def repository_id(name: str) -> str:
    """The id of a repository from its path or id. Raises ValueError."""
    path = name.strip().replace(":", "/")
    if normal_folder(path) != path or not path or path.startswith("-") or len(path) > _ID_CHARS_MAX:
        raise ValueError(
            f"A repository is named by its path below the installation's address, at most {_ID_CHARS_MAX} characters, "
            "such as team/site.git"
        )
    if any(char in path for char in "%?#\\") or any(char.isspace() for char in path):
        raise ValueError("A repository's path holds no spaces, and none of % ? # \\")
    return path.replace("/", ":")


def known_hosts(text: str) -> str:
    """Lines of `known_hosts` or of `ssh-keyscan` as `type key`; whose keys they are is the installation. ValueError."""
    lines = []
    for line in text.splitlines():
        parts = line.split()
        if not parts or parts[0].startswith("#"):
            continue
        if parts[0].startswith("@"):
            raise ValueError("`knownHosts` holds a certificate authority or a revoked key; give plain host keys.")
        type, key = (parts[0], parts[1]) if len(parts) == 2 else (parts[1:3] if len(parts) > 2 else ("", ""))
        if not _KEY_TYPE.match(type) or not re.match(r"[A-Za-z0-9+/=]+\Z", key):
            raise ValueError("`knownHosts` must hold lines of known_hosts, as `ssh-keyscan HOST` prints them.")
        lines.append(f"{type} {key}")
    return "\n".join(lines)


def _address(url: str) -> tuple[str, str]:
    """The address in its one form, and the name of the repository if it is one. Raises ValueError."""
    text = url.strip().rstrip("/")
    if short := _SHORT_SSH.match(text):
        text = f"ssh://{short[1]}{short[2]}/{short[3]}"
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("`baseUrl` is not an address.") from None
    is_plain = not parts.query and not parts.fragment and text.isprintable() and " " not in text and "%" not in text
    has_host = bool(parts.hostname) and not (parts.hostname or "-").startswith("-") and port != 0
    if parts.scheme in ("https", "http"):
        good = has_host and "@" not in parts.netloc
    elif parts.scheme == "ssh":
        good = has_host and parts.password is None and (parts.username is None or bool(_USER.match(parts.username)))
    else:
        good = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/")
    folder = normal_folder(parts.path)
    if not good or not is_plain or folder is None:
        raise ValueError(
            "`baseUrl` must be https://host/path, ssh://user@host/path, git@host:path or file:///folder, without "
            "password, query or `..`; tokens and keys have fields of their own."
        )
    above, _, name = folder.rpartition("/")
    is_repository = name.endswith(".git")
    kept = above if is_repository else folder
    netloc = parts.netloc if parts.username or parts.scheme != "ssh" else f"git@{parts.netloc}"
    base = urllib.parse.urlunsplit((parts.scheme, netloc, f"/{kept}" if kept else "", "", ""))
    return base if parts.scheme != "file" else f"file:///{kept}", name if is_repository else ""


def _check_credentials(base: str, credentials: Mapping[str, str]) -> None:
    """Raise ValueError where the credentials are not of the kind that the address asks for."""
    key = credentials.get("privateKey", "")
    if base.startswith("ssh://"):
        if "PRIVATE KEY" not in key:
            raise ValueError(
                "An ssh address needs `privateKey`: the text of an OpenSSH private key without passphrase, whose "
                "public half is a deploy key of the repository."
            )
        if credentials.get("token"):
            raise ValueError("A token is for an https address; an ssh address takes `privateKey`.")
    elif key:
        raise ValueError("`privateKey` is for an ssh address; an https address takes `token`.")
    if base.startswith(("http://", "file://")) and credentials.get("token") and not _is_loopback(base):
        raise ValueError("A token is sent to https addresses only.")


def _is_loopback(base: str) -> bool:
    return urllib.parse.urlsplit(base).hostname in ("127.0.0.1", "localhost")


def _repository(installation: Installation, id: str, default_branch: str) -> ProviderRepository:
    path = id.replace(":", "/")
    url = f"{installation.base_url}/{path}"
    return ProviderRepository(
        id=id,
        name=path.rpartition("/")[2].removesuffix(".git"),
        organization=installation.organization,
        default_branch=default_branch,
        private=True,
        url=url if url.startswith("http") else "",
    )


def _inside(path: str) -> str:
    folder = normal_folder(path)
    if folder is None:
        raise NoSuchRepository("A path in a repository is relative to its root, without `..`.")
    return folder
