"""Bitbucket Cloud (API 2.0): an access token of a repository, project or workspace, or a user's API token with his
e-mail address as `username`; webhooks registered by us. Bitbucket Data Center has another interface: see `git`.
"""

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hearth.model.vcs import (
    Branch,
    CloneAccess,
    CloneSource,
    CommitState,
    CommitStatus,
    Content,
    HostedCommit,
    HostEvent,
    Ignored,
    Installation,
    Provider,
    ProviderRepository,
    PullRequest,
    PullRequestEvent,
    RepositoryPage,
)
from hearth.ports import GitHostFailed, NoSuchRepository
from hearth.vcs.answers import CONTENTS_MAX, ByToken
from hearth.vcs.api import (
    PAGES_MAX,
    Access,
    Api,
    Query,
    checked_base,
    clone_url,
    is_hash,
    named,
    needed_token,
    numeric,
    quoted,
    quoted_path,
    replace_or_add,
    window,
)
from hearth.vcs.bitbucket_answers import (
    next_query,
    read_branches,
    read_changed,
    read_commit,
    read_contents,
    read_hooks,
    read_kind,
    read_marked,
    read_pull_request,
    read_push,
    read_repositories,
    read_repository,
    read_uuid,
)
from hearth.vcs.reading import Malformed, find, needed, read_json, text
from hearth.vcs.signatures import check_digest

T = TypeVar("T")

DEFAULT_URL = "https://bitbucket.org"
API_URL = "https://api.bitbucket.org/2.0"
PAGE_MAX = 100
#: Characters of a status' key.
KEY_CHARS = 40
STATES = {CommitState.PENDING: "INPROGRESS", CommitState.SUCCESS: "SUCCESSFUL", CommitState.FAILURE: "FAILED"}
HOOK_EVENTS = [
    "repo:push",
    "pullrequest:created",
    "pullrequest:updated",
    "pullrequest:fulfilled",
    "pullrequest:rejected",
]
_CHANGED = frozenset({"pullrequest:created", "pullrequest:updated"})
_CLOSED = frozenset({"pullrequest:fulfilled", "pullrequest:rejected"})
_HTML_COMMENT = re.compile(r"<!--\s*(.*?)\s*-->", re.DOTALL)
_UUID = re.compile(r"\{[0-9a-fA-F-]{32,40}\}\Z")


class Bitbucket(ByToken):
    """See `hearth.ports.GitHost`. The installation's organization is the workspace; ids are UUIDs in braces."""

    provider = Provider.BITBUCKET

    def __init__(self, api: Api) -> None:
        self._api = api

    async def complete(self, installation: Installation) -> Installation:
        """See the port. A token does not say of which workspace it is, so `organization` must."""
        needed_token(installation.credentials)
        if not installation.organization:
            raise ValueError("organization is missing: it is the id of the workspace, as in bitbucket.org/<workspace>")
        found = dataclasses.replace(installation, base_url=checked_base(installation.base_url, DEFAULT_URL))
        path = f"/repositories/{self._workspace(found)}"
        asked = self._api.get(self._access(found), path, read_repositories, {"pagelen": 1})
        await named(asked, found.organization)
        return found

    async def repositories(self, installation: Installation, search: str, offset: int, limit: int) -> RepositoryPage:
        """See the port."""
        access = self._access(installation)
        query: dict[str, str | int] = {"sort": "-updated_on"}
        if search:
            escaped = search.replace("\\", "\\\\").replace('"', '\\"')
            query["q"] = f'name ~ "{escaped}"'
        path = f"/repositories/{self._workspace(installation)}"

        async def page(number: int, size: int) -> tuple[list[ProviderRepository], int]:
            return await self._api.get(access, path, read_repositories, {**query, "page": number, "pagelen": size})

        found, total = await window(page, offset, limit, PAGE_MAX)
        return RepositoryPage(total, tuple(found))

    async def repository(self, installation: Installation, id: str) -> ProviderRepository:
        """See the port."""
        return await self._api.get(self._access(installation), self._path(installation, id), read_repository)

    async def create_repository(self, installation: Installation, name: str, private: bool) -> ProviderRepository:
        """See the port. Where the workspace has several projects, Bitbucket takes the oldest."""
        slug = re.sub(r"[^a-z0-9_.-]+", "-", name.lower()).strip("-.") or "repository"
        path = f"/repositories/{self._workspace(installation)}/{quoted(slug)}"
        content = {"scm": "git", "name": name, "is_private": private}
        return await self._api.send(self._access(installation), "POST", path, content, read_repository)

    async def branches(self, installation: Installation, repository: str) -> tuple[Branch, ...]:
        """See the port."""
        return tuple(
            await self._all(installation, f"{self._path(installation, repository)}/refs/branches", read_branches)
        )

    async def contents(self, installation: Installation, repository: str, path: str, ref: str) -> tuple[Content, ...]:
        """See the port."""
        base = await self._source(installation, repository, ref)
        if path and await self._api.get(
            self._access(installation), f"{base}/{quoted_path(path)}", read_kind, _META
        ) != ("commit_directory"):
            raise NoSuchRepository("that is a file, not a folder")
        folder = f"{base}/{quoted_path(path)}/" if path else f"{base}/"
        return tuple((await self._all(installation, folder, read_contents))[:CONTENTS_MAX])

    async def file(self, installation: Installation, repository: str, path: str, ref: str) -> bytes:
        """See the port."""
        url = f"{await self._source(installation, repository, ref)}/{quoted_path(path)}"
        access = self._access(installation)
        # Without this a folder would be read as the list that stands for it.
        if await self._api.get(access, url, read_kind, _META) != "commit_file":
            raise NoSuchRepository("that is a folder, not a file")
        return await self._api.raw(access, url)

    async def latest_commit(self, installation: Installation, repository: str, ref: str) -> HostedCommit:
        """See the port."""
        access, base = self._access(installation), self._path(installation, repository)
        if is_hash(ref):
            return await self._api.get(access, f"{base}/commit/{ref}", read_commit)
        path = f"{base}/refs/branches/{quoted_path(ref)}"
        return await self._api.get(access, path, lambda answer: read_commit(find(answer, "target")))

    async def changed_files(
        self, installation: Installation, repository: str, before: str, after: str
    ) -> tuple[str, ...] | None:
        """See the port."""
        access = self._access(installation)
        path = f"{self._path(installation, repository)}/diffstat/{after}..{before}"
        # `topic=false`: the difference of the two, not that of one from where they parted.
        query: Query | None = {"topic": "false", "pagelen": PAGE_MAX}
        found: set[str] = set()
        for _ in range(PAGES_MAX):
            try:
                paths, query = await self._api.get(access, path, lambda a: (read_changed(a), next_query(a)), query)
            except NoSuchRepository:
                return None
            found |= paths
            if query is None:
                return tuple(sorted(found))
        return None

    async def pull_request(self, installation: Installation, repository: str, id: str) -> PullRequest:
        """See the port."""
        access = self._access(installation)
        path = f"{self._path(installation, repository)}/pullrequests/{numeric(id)}"
        base = _base(installation)
        answer, request = await self._api.get(access, path, lambda a: (a, read_pull_request(a, repository, base)))
        # Pull requests only have the beginning of the hash.
        owner = text(answer, "source", "repository", "full_name")
        if not owner:
            raise NoSuchRepository("the repository of the pull request's source is gone")
        commit_path = f"/repositories/{quoted_path(owner)}/commit/{quoted(request.commit)}"
        full = await self._api.get(access, commit_path, read_commit)
        return read_pull_request(answer, repository, base, full.hash)

    async def clone_source(self, installation: Installation, repository: str) -> CloneSource:
        """See the port."""
        found = await self.repository(installation, repository)
        token, user = installation.credentials.get("token", ""), installation.credentials.get("username", "")
        username = "x-bitbucket-api-token-auth" if user else "x-token-auth"
        url = clone_url(_base(installation), f"{found.organization}/{found.name}")
        return CloneSource(url, CloneAccess(username, token))

    async def set_status(self, installation: Installation, repository: str, commit: str, status: CommitStatus) -> None:
        """See the port."""
        context = status.context
        content = {
            "key": context if len(context) <= KEY_CHARS else context[: KEY_CHARS - 8] + _short_digest(context),
            "name": context,
            "state": STATES[status.state],
            "url": status.target_url,
            "description": status.description,
        }
        path = f"{self._path(installation, repository)}/commit/{quoted(commit)}/statuses/build"
        await self._api.tell(self._access(installation), "POST", path, content)

    async def comment(
        self, installation: Installation, repository: str, pull_request: str, marker: str, text: str
    ) -> None:
        """See the port. Bitbucket shows HTML comments as text, so the marker is written as a link nobody refers to."""
        hidden = _hidden(marker)
        content = {"content": {"raw": text.replace(marker, f"\n\n{hidden}\n\n").strip()}}
        path = f"{self._path(installation, repository)}/pullrequests/{numeric(pull_request)}/comments"
        ours = await self._all(installation, path, lambda answer: read_marked(answer, hidden))
        access = self._access(installation)

        async def change(id: int) -> None:
            await self._api.tell(access, "PUT", f"{path}/{id}", content)

        if not await replace_or_add(ours, change):
            await self._api.tell(access, "POST", path, content)

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
        """See the port. A pull request's commit is abbreviated here; the interface says it in full."""
        check_digest(headers, ("x-hub-signature",), body, secret)
        event = headers.get("x-event-key", "")
        if event not in HOOK_EVENTS:
            return Ignored(f"nothing is done about the event {event[:60]!r}")
        content = read_json(body)
        repository = needed(content, "repository", "uuid")
        if event == "repo:push":
            return read_push(content, repository)
        if not isinstance(find(content, "pullrequest"), dict):
            raise Malformed("pullrequest is missing")
        request = read_pull_request(content["pullrequest"], repository, DEFAULT_URL)
        return PullRequestEvent(request, event in _CLOSED)

    async def register_webhook(self, installation: Installation, repository: str, url: str, secret: str) -> str:
        """See the port."""
        path = f"{self._path(installation, repository)}/hooks"
        content = {"description": "Hearth", "url": url, "active": True, "secret": secret, "events": HOOK_EVENTS}
        access = self._access(installation)
        existing = await self._all(installation, path, lambda answer: read_hooks(answer, url))
        if existing:
            await self._api.tell(access, "PUT", f"{path}/{quoted(existing[0])}", content)
            return existing[0]
        return await self._api.send(access, "POST", path, content, read_uuid)

    async def unregister_webhook(self, installation: Installation, repository: str, webhook_id: str) -> None:
        """See the port."""
        try:
            path = f"{self._path(installation, repository)}/hooks/{quoted(webhook_id)}"
            await self._api.tell(self._access(installation), "DELETE", path)
        except NoSuchRepository:
            return

    def _access(self, installation: Installation) -> Access:
        base = _base(installation)
        token, user = installation.credentials.get("token", ""), installation.credentials.get("username", "")
        basic = "Basic " + base64.b64encode(f"{user}:{token}".encode()).decode()
        headers = {"authorization": basic if user else f"Bearer {token}"}
        return Access(API_URL if base == DEFAULT_URL else f"{base}/2.0", base, headers)

    def _workspace(self, installation: Installation) -> str:
        if not installation.organization:
            raise GitHostFailed("The installation names no workspace: make it again with `organization`.")
        return quoted(installation.organization)

    def _path(self, installation: Installation, id: str) -> str:
        if not _UUID.match(id):
            raise NoSuchRepository(f"{id[:60]!r} is not a UUID in braces, as ids of Bitbucket are")
        return f"/repositories/{self._workspace(installation)}/{quoted(id)}"

    async def _source(self, installation: Installation, repository: str, ref: str) -> str:
        """The path of a commit's files: names of branches with a slash are not understood there."""
        if not ref:
            ref = (await self.repository(installation, repository)).default_branch
            if not ref:
                raise NoSuchRepository("the repository is empty")
        commit = ref if is_hash(ref) else (await self.latest_commit(installation, repository, ref)).hash
        return f"{self._path(installation, repository)}/src/{commit}"

    async def _all(self, installation: Installation, path: str, read: Callable[[Any], list[T]]) -> list[T]:
        """The items that `read` finds on the pages of a list."""
        access = self._access(installation)
        query: Query | None = {"pagelen": PAGE_MAX}
        found: list[T] = []
        for _ in range(PAGES_MAX):
            items, query = await self._api.get(access, path, lambda answer: (read(answer), next_query(answer)), query)
            found += items
            if query is None:
                break
        return found


_META: Mapping[str, str | int] = {"format": "meta"}


def _base(installation: Installation) -> str:
    return (installation.base_url or DEFAULT_URL).rstrip("/")


def _short_digest(context: str) -> str:
    # Base 32 keeps the key printable; 5 bytes are 8 characters.
    return base64.b32encode(hashlib.sha256(context.encode()).digest()[:5]).decode()


def _hidden(marker: str) -> str:
    inner = _HTML_COMMENT.sub(r"\1", marker)
    return f"[//]: # ({inner.replace('(', '').replace(')', '')})"
