"""Gitea and Forgejo: the same interface (`/api/v1`, as both publish it), an access token, webhooks registered by us."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hearth.model.vcs import (
    Branch,
    CloneAccess,
    CloneSource,
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
)
from hearth.ports import NoSuchRepository
from hearth.vcs.answers import (
    ByToken,
    at,
    pull_request_event,
    push_event,
    read_commit,
    read_contents,
    read_id,
    read_login,
    read_marked,
    read_pull_request,
)
from hearth.vcs.api import (
    Access,
    Api,
    below,
    checked_base,
    clone_url,
    is_hash,
    named,
    needed_token,
    numeric,
    quoted,
    quoted_path,
    replace_or_add,
    told_total,
    window,
)
from hearth.vcs.reading import (
    find,
    flag,
    items,
    moment,
    needed,
    needed_hash,
    number,
    read_json,
    text,
)
from hearth.vcs.signatures import check_digest

#: The interface's own maximum unless its operator changed it (`MAX_RESPONSE_ITEMS`).
PAGE_MAX = 50
SIGNATURES = ("x-forgejo-signature", "x-gitea-signature")
EVENTS = ("x-forgejo-event", "x-gitea-event")
#: `pull_request` includes new commits; `delete` is how the end of a branch is told.
HOOK_EVENTS = ["push", "delete", "pull_request"]
DEFAULT_URLS = {Provider.GITEA: "https://gitea.com", Provider.FORGEJO: "https://codeberg.org"}
_CHANGES = frozenset({"opened", "reopened", "synchronized", "synchronize"})


class Gitea(ByToken):
    """See `hearth.ports.GitHost`; one object for Gitea, one for Forgejo."""

    def __init__(self, api: Api, provider: Provider = Provider.GITEA) -> None:
        self._api = api
        self.provider = provider

    async def complete(self, installation: Installation) -> Installation:
        """See the port. Without an organization, it is the token's user."""
        needed_token(installation.credentials)
        base = checked_base(installation.base_url, DEFAULT_URLS[self.provider])
        found = dataclasses.replace(installation, base_url=base)
        access = self._access(found)
        login = await self._api.get(access, "/user", read_login)
        if found.organization:
            path = f"/users/{quoted(found.organization)}"
            login = await named(self._api.get(access, path, read_login), found.organization)
        return dataclasses.replace(found, organization=login)

    async def repositories(self, installation: Installation, search: str, offset: int, limit: int) -> RepositoryPage:
        """See the port. The repositories of the organization or user that the installation names."""
        access = self._access(installation)
        owner = f"/users/{quoted(installation.organization)}" if installation.organization else "/user"
        query: dict[str, str | int] = {"q": search, "sort": "alpha", "uid": await self._api.get(access, owner, read_id)}
        if installation.organization:
            query["exclusive"] = "true"

        async def page(number: int, size: int) -> tuple[list[ProviderRepository], int]:
            found, headers = await self._api.get_page(
                access, "/repos/search", _repositories, {**query, "page": number, "limit": size}
            )
            return found, told_total(headers.get("x-total-count", ""), (number - 1) * size + len(found))

        found, total = await window(page, offset, limit, PAGE_MAX)
        return RepositoryPage(total, tuple(found))

    async def repository(self, installation: Installation, id: str) -> ProviderRepository:
        """See the port."""
        return await self._api.get(self._access(installation), f"/repositories/{numeric(id)}", _repository)

    async def create_repository(self, installation: Installation, name: str, private: bool) -> ProviderRepository:
        """See the port."""
        access = self._access(installation)
        own = await self._api.get(access, "/user", read_login)
        is_own = installation.organization.lower() in ("", own.lower())
        path = "/user/repos" if is_own else f"/orgs/{quoted(installation.organization)}/repos"
        content = {"name": name, "private": private, "auto_init": True}
        return await self._api.send(access, "POST", path, content, _repository)

    async def branches(self, installation: Installation, repository: str) -> tuple[Branch, ...]:
        """See the port."""
        access, path = await self._named(installation, repository)

        async def page(number: int) -> tuple[list[Branch], bool]:
            query: dict[str, str | int] = {"page": number, "limit": PAGE_MAX}
            found, headers = await self._api.get_page(access, f"{path}/branches", _branches, query)
            return found, 'rel="next"' in headers.get("link", "")

        return tuple(await self._api.all_pages(page))

    async def contents(self, installation: Installation, repository: str, path: str, ref: str) -> tuple[Content, ...]:
        """See the port."""
        access, base = await self._named(installation, repository)
        return await self._api.get(access, f"{base}/{below('contents', path)}", read_contents, at(ref))

    async def file(self, installation: Installation, repository: str, path: str, ref: str) -> bytes:
        """See the port."""
        access, base = await self._named(installation, repository)
        return await self._api.raw(access, f"{base}/raw/{quoted_path(path)}", at(ref))

    async def latest_commit(self, installation: Installation, repository: str, ref: str) -> HostedCommit:
        """See the port."""
        access, base = await self._named(installation, repository)
        if not is_hash(ref):
            path = f"{base}/branches/{quoted_path(ref)}"
            ref = await self._api.get(access, path, lambda answer: needed_hash(answer, "commit", "id"))
        return await self._api.get(access, f"{base}/git/commits/{ref}", read_commit)

    async def changed_files(
        self, installation: Installation, repository: str, before: str, after: str
    ) -> tuple[str, ...] | None:
        """See the port. Cannot say after a forced push: the interface only lists what was added since."""
        access, base = await self._named(installation, repository)
        try:
            lost = await self._api.get(access, f"{base}/compare/{after}...{before}", _count)
            if lost:
                return None
            return await self._api.get(access, f"{base}/compare/{before}...{after}", _changed)
        except NoSuchRepository:
            return None

    async def pull_request(self, installation: Installation, repository: str, id: str) -> PullRequest:
        """See the port."""
        access, base = await self._named(installation, repository)
        return await self._api.get(access, f"{base}/pulls/{numeric(id)}", lambda a: read_pull_request(a, repository))

    async def clone_source(self, installation: Installation, repository: str) -> CloneSource:
        """See the port."""
        found = await self.repository(installation, repository)
        url = clone_url(self._base(installation), f"{found.organization}/{found.name}")
        username = installation.credentials.get("username", "") or "oauth2"
        return CloneSource(url, CloneAccess(username, installation.credentials.get("token", "")))

    async def set_status(self, installation: Installation, repository: str, commit: str, status: CommitStatus) -> None:
        """See the port."""
        access, base = await self._named(installation, repository)
        content = {
            "state": str(status.state),
            "target_url": status.target_url,
            "description": status.description,
            "context": status.context,
        }
        await self._api.tell(access, "POST", f"{base}/statuses/{quoted(commit)}", content)

    async def comment(
        self, installation: Installation, repository: str, pull_request: str, marker: str, text: str
    ) -> None:
        """See the port."""
        access, base = await self._named(installation, repository)
        path = f"{base}/issues/{numeric(pull_request)}/comments"
        # This list is not paged by the interface.
        ours = await self._api.get(access, path, lambda answer: read_marked(answer, marker))

        async def change(id: int) -> None:
            await self._api.tell(access, "PATCH", f"{base}/issues/comments/{id}", {"body": text})

        if not await replace_or_add(ours, change):
            await self._api.tell(access, "POST", path, {"body": text})

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
        """See the port."""
        check_digest(headers, SIGNATURES, body, secret)
        event = next((headers[name] for name in EVENTS if headers.get(name)), "")
        if event not in ("push", "delete", "pull_request"):
            return Ignored(f"nothing is done about the event {event[:60]!r}")
        content = read_json(body)
        repository = str(number(content, "repository", "id"))
        if event == "pull_request":
            return pull_request_event(content, repository, _CHANGES)
        if event == "delete":
            if text(content, "ref_type") != "branch":
                return Ignored("not a branch")
            return PushEvent(repository, needed(content, "ref").removeprefix("refs/heads/"), "", "")
        return push_event(content, repository)

    async def register_webhook(self, installation: Installation, repository: str, url: str, secret: str) -> str:
        """See the port."""
        access, base = await self._named(installation, repository)
        config = {"url": url, "content_type": "json", "secret": secret}
        content = {"config": config, "events": HOOK_EVENTS, "active": True}

        async def page(number: int) -> tuple[list[int], bool]:
            query: dict[str, str | int] = {"page": number, "limit": PAGE_MAX}
            (found, count), _ = await self._api.get_page(access, f"{base}/hooks", lambda a: _hooks(a, url), query)
            return found, count == PAGE_MAX

        existing = await self._api.all_pages(page)
        if existing:
            await self._api.tell(access, "PATCH", f"{base}/hooks/{existing[0]}", content)
            return str(existing[0])
        kind = "forgejo" if self.provider is Provider.FORGEJO else "gitea"
        return str(await self._api.send(access, "POST", f"{base}/hooks", {"type": kind, **content}, read_id))

    async def unregister_webhook(self, installation: Installation, repository: str, webhook_id: str) -> None:
        """See the port."""
        try:
            access, base = await self._named(installation, repository)
            await self._api.tell(access, "DELETE", f"{base}/hooks/{numeric(webhook_id)}")
        except NoSuchRepository:
            return

    def _base(self, installation: Installation) -> str:
        return (installation.base_url or DEFAULT_URLS[self.provider]).rstrip("/")

    def _access(self, installation: Installation) -> Access:
        base = self._base(installation)
        headers = {"authorization": f"token {installation.credentials.get('token', '')}"}
        return Access(f"{base}/api/v1", base, headers)

    async def _named(self, installation: Installation, id: str) -> tuple[Access, str]:
        """The access, and the path of a repository: most of the interface knows it by name, and names change."""
        found = await self.repository(installation, id)
        return self._access(installation), f"/repos/{quoted(found.organization)}/{quoted(found.name)}"


def _repository(answer: Any) -> ProviderRepository:
    return ProviderRepository(
        id=str(number(answer, "id")),
        name=needed(answer, "name"),
        organization=needed(answer, "owner", "login"),
        default_branch="" if flag(answer, "empty") else text(answer, "default_branch"),
        private=flag(answer, "private"),
        url=text(answer, "html_url"),
        pushed_at=moment(answer, "updated_at"),
    )


def _repositories(answer: Any) -> list[ProviderRepository]:
    return [_repository(entry) for entry in items(answer, "data")]


def _branches(answer: Any) -> list[Branch]:
    return [Branch(needed(entry, "name"), needed_hash(entry, "commit", "id")) for entry in items(answer)]


def _count(answer: Any) -> int:
    return number(answer, "total_commits")


def _changed(answer: Any) -> tuple[str, ...] | None:
    commits = items(answer, "commits")
    # An older version does not name the files.
    if len(commits) < number(answer, "total_commits") or any(find(commit, "files") is None for commit in commits):
        return None
    return tuple(sorted({needed(file, "filename") for commit in commits for file in items(commit, "files")}))


def _hooks(answer: Any, url: str) -> tuple[list[int], int]:
    entries = items(answer)
    return [number(entry, "id") for entry in entries if text(entry, "config", "url") == url], len(entries)
