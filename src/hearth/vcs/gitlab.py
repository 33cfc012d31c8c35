"""GitLab, gitlab.com or one's own (`/api/v4`): a personal, group or project access token, webhooks registered by us."""

import dataclasses
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
from hearth.ports import NoSuchRepository
from hearth.vcs.answers import CONTENTS_MAX, ByToken, push_event, read_id, read_marked
from hearth.vcs.api import (
    Access,
    Api,
    Rejected,
    TooLarge,
    checked_base,
    clone_url,
    is_hash,
    named,
    needed_token,
    numeric,
    quoted,
    replace_or_add,
    told_total,
    window,
)
from hearth.vcs.reading import (
    Malformed,
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
from hearth.vcs.signatures import check_gitlab, signing_key

T = TypeVar("T")

DEFAULT_URL = "https://gitlab.com"
PAGE_MAX = 100
#: Differences a comparison shows before it may be cut (`diff_max_files` as installed).
DIFFS_MAX = 1_000
STATES = {CommitState.PENDING: "pending", CommitState.SUCCESS: "success", CommitState.FAILURE: "failed"}
_PUSH, _MERGE_REQUEST = "Push Hook", "Merge Request Hook"


class GitLab(ByToken):
    """See `hearth.ports.GitHost`. A project is a repository, a merge request a pull request (its `iid` the id)."""

    provider = Provider.GITLAB

    def __init__(self, api: Api) -> None:
        self._api = api

    async def complete(self, installation: Installation) -> Installation:
        """See the port. Without an organization (a group or user), it is the token's user."""
        needed_token(installation.credentials)
        found = dataclasses.replace(installation, base_url=checked_base(installation.base_url, DEFAULT_URL))
        access = self._access(found)
        name = await self._api.get(access, "/user", lambda answer: needed(answer, "username"))
        if found.organization:
            path = f"/namespaces/{quoted(found.organization)}"
            asked = self._api.get(access, path, lambda answer: needed(answer, "full_path"))
            name = await named(asked, found.organization)
        return dataclasses.replace(found, organization=name)

    async def repositories(self, installation: Installation, search: str, offset: int, limit: int) -> RepositoryPage:
        """See the port. The projects of which the token's user is a member."""
        access = self._access(installation)
        query: dict[str, str | int] = {"membership": "true", "order_by": "last_activity_at"}
        if search:
            query["search"] = search

        async def page(number: int, size: int) -> tuple[list[ProviderRepository], int]:
            paged: dict[str, str | int] = {**query, "page": number, "per_page": size}
            found, headers = await self._api.get_page(access, "/projects", _repositories, paged)
            # Not sent for more than 10,000.
            return found, told_total(headers.get("x-total", ""), (number - 1) * size + len(found))

        found, total = await window(page, offset, limit, PAGE_MAX)
        return RepositoryPage(total, tuple(found))

    async def repository(self, installation: Installation, id: str) -> ProviderRepository:
        """See the port."""
        return await self._api.get(self._access(installation), f"/projects/{numeric(id)}", _repository)

    async def create_repository(self, installation: Installation, name: str, private: bool) -> ProviderRepository:
        """See the port."""
        access = self._access(installation)
        content: dict[str, Any] = {
            "name": name,
            "visibility": "private" if private else "public",
            "initialize_with_readme": True,
        }
        if installation.organization:
            namespace = f"/namespaces/{quoted(installation.organization)}"
            content["namespace_id"] = await self._api.get(access, namespace, read_id)
        return await self._api.send(access, "POST", "/projects", content, _repository)

    async def branches(self, installation: Installation, repository: str) -> tuple[Branch, ...]:
        """See the port."""
        return tuple(await self._all(installation, f"/projects/{numeric(repository)}/repository/branches", _branches))

    async def contents(self, installation: Installation, repository: str, path: str, ref: str) -> tuple[Content, ...]:
        """See the port. GitLab does not say sizes of files."""
        query = {"path": path, "ref": ref}
        base = f"/projects/{numeric(repository)}/repository/tree"
        found = await self._all(installation, base, _contents, {name: value for name, value in query.items() if value})
        if not found and path:
            # Git has no empty folders, and GitLab answers some missing ones with an empty list.
            raise NoSuchRepository(f"there is no folder {path}")
        return tuple(found[:CONTENTS_MAX])

    async def file(self, installation: Installation, repository: str, path: str, ref: str) -> bytes:
        """See the port."""
        base = f"/projects/{numeric(repository)}/repository/files/{quoted(path)}/raw"
        return await self._api.raw(self._access(installation), base, {"ref": ref or "HEAD"})

    async def latest_commit(self, installation: Installation, repository: str, ref: str) -> HostedCommit:
        """See the port."""
        base = f"/projects/{numeric(repository)}/repository"
        access = self._access(installation)
        if is_hash(ref):
            return await self._api.get(access, f"{base}/commits/{ref}", _commit)
        return await self._api.get(access, f"{base}/branches/{quoted(ref)}", lambda a: _commit(find(a, "commit")))

    async def changed_files(
        self, installation: Installation, repository: str, before: str, after: str
    ) -> tuple[str, ...] | None:
        """See the port."""
        path = f"/projects/{numeric(repository)}/repository/compare"
        query = {"from": before, "to": after, "straight": "true"}
        try:
            return await self._api.get(self._access(installation), path, _changed, query)
        except (NoSuchRepository, TooLarge):
            return None

    async def pull_request(self, installation: Installation, repository: str, id: str) -> PullRequest:
        """See the port."""
        path = f"/projects/{numeric(repository)}/merge_requests/{numeric(id)}"
        return await self._api.get(self._access(installation), path, lambda a: _merge_request(a, repository))

    async def clone_source(self, installation: Installation, repository: str) -> CloneSource:
        """See the port. Next to a token any user name does."""
        found = await self.repository(installation, repository)
        url = clone_url(self._base(installation), f"{found.organization}/{found.name}")
        username = installation.credentials.get("username", "") or "oauth2"
        return CloneSource(url, CloneAccess(username, installation.credentials.get("token", "")))

    async def set_status(self, installation: Installation, repository: str, commit: str, status: CommitStatus) -> None:
        """See the port."""
        content = {
            "state": STATES[status.state],
            "target_url": status.target_url,
            "description": status.description,
            "name": status.context,
        }
        path = f"/projects/{numeric(repository)}/statuses/{quoted(commit)}"
        try:
            await self._api.tell(self._access(installation), "POST", path, content)
        except Rejected as error:
            # GitLab refuses to set a state that is set already.
            if "Cannot transition" not in str(error):
                raise

    async def comment(
        self, installation: Installation, repository: str, pull_request: str, marker: str, text: str
    ) -> None:
        """See the port."""
        path = f"/projects/{numeric(repository)}/merge_requests/{numeric(pull_request)}/notes"
        ours = await self._all(installation, path, lambda answer: read_marked(answer, marker))
        access = self._access(installation)

        async def change(id: int) -> None:
            await self._api.tell(access, "PUT", f"{path}/{id}", {"body": text})

        if not await replace_or_add(ours, change):
            await self._api.tell(access, "POST", path, {"body": text})

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
        """See the port. Tags come as an event of their own (`Tag Push Hook`)."""
        check_gitlab(headers, body, secret)
        event = headers.get("x-gitlab-event", "")
        if event not in (_PUSH, _MERGE_REQUEST):
            return Ignored(f"nothing is done about the event {event[:60]!r}")
        content = read_json(body)
        repository = str(number(content, "project", "id"))
        if event == _MERGE_REQUEST:
            return _merge_request_event(content, repository)
        return push_event(content, repository)

    async def register_webhook(self, installation: Installation, repository: str, url: str, secret: str) -> str:
        """See the port. A GitLab that knows signing tokens signs, an older one sends the secret itself."""
        path = f"/projects/{numeric(repository)}/hooks"
        content = {
            "url": url,
            "push_events": True,
            "merge_requests_events": True,
            "tag_push_events": False,
            "token": secret,
            "signing_token": signing_key(secret),
            "enable_ssl_verification": True,
        }
        access = self._access(installation)
        existing = await self._all(installation, path, lambda a: _hooks(a, url))
        if existing:
            await self._api.tell(access, "PUT", f"{path}/{existing[0]}", content)
            return str(existing[0])
        return str(await self._api.send(access, "POST", path, content, read_id))

    async def unregister_webhook(self, installation: Installation, repository: str, webhook_id: str) -> None:
        """See the port."""
        try:
            path = f"/projects/{numeric(repository)}/hooks/{numeric(webhook_id)}"
            await self._api.tell(self._access(installation), "DELETE", path)
        except NoSuchRepository:
            return

    def _base(self, installation: Installation) -> str:
        return (installation.base_url or DEFAULT_URL).rstrip("/")

    def _access(self, installation: Installation) -> Access:
        base = self._base(installation)
        return Access(f"{base}/api/v4", base, {"private-token": installation.credentials.get("token", "")})

    async def _all(
        self,
        installation: Installation,
        path: str,
        read: Callable[[Any], list[T]],
        query: Mapping[str, str | int] | None = None,
    ) -> list[T]:
        """The items that `read` finds on the pages of a list."""
        access = self._access(installation)

        async def page(number: int) -> tuple[list[T], bool]:
            paged: dict[str, str | int] = {**(query or {}), "page": number, "per_page": PAGE_MAX}
            found, headers = await self._api.get_page(access, path, read, paged)
            return found, headers.get("x-next-page", "") != ""

        return await self._api.all_pages(page)


def _repository(answer: Any) -> ProviderRepository:
    owner, _, name = needed(answer, "path_with_namespace").rpartition("/")
    return ProviderRepository(
        id=str(number(answer, "id")),
        name=name,
        organization=owner,
        default_branch=text(answer, "default_branch"),
        # `internal` is not for everybody either.
        private=text(answer, "visibility") != "public",
        url=text(answer, "web_url"),
        pushed_at=moment(answer, "last_activity_at"),
    )


def _repositories(answer: Any) -> list[ProviderRepository]:
    return [_repository(entry) for entry in items(answer)]


def _branches(answer: Any) -> list[Branch]:
    return [Branch(needed(entry, "name"), needed_hash(entry, "commit", "id")) for entry in items(answer)]


def _contents(answer: Any) -> list[Content]:
    return [Content(needed(entry, "name"), text(entry, "type") == "tree") for entry in items(answer)]


def _commit(answer: Any) -> HostedCommit:
    return HostedCommit(
        hash=needed_hash(answer, "id"),
        message=text(answer, "message"),
        author=text(answer, "author_name"),
        url=text(answer, "web_url"),
    )


def _changed(answer: Any) -> tuple[str, ...] | None:
    diffs = items(answer, "diffs")
    if flag(answer, "compare_timeout") or len(diffs) >= DIFFS_MAX:
        return None
    return tuple(sorted({needed(diff, name) for diff in diffs for name in ("old_path", "new_path")}))


def _hooks(answer: Any, url: str) -> list[int]:
    return [number(entry, "id") for entry in items(answer) if text(entry, "url") == url]


def _merge_request(answer: Any, repository: str) -> PullRequest:
    return PullRequest(
        id=str(number(answer, "iid")),
        repository_id=repository,
        branch=needed(answer, "source_branch"),
        commit=needed_hash(answer, "sha"),
        base_branch=needed(answer, "target_branch"),
        # The source is null once a fork was deleted.
        is_external=str(find(answer, "source_project_id")) != repository,
        title=text(answer, "title"),
        url=text(answer, "web_url"),
    )


def _merge_request_event(content: Any, repository: str) -> HostEvent:
    change = find(content, "object_attributes")
    if not isinstance(change, dict):
        raise Malformed("object_attributes is missing")
    action = text(change, "action")
    # An update has `oldrev` only if there are new commits.
    is_changed = action in ("open", "reopen") or (action == "update" and text(change, "oldrev") != "")
    is_closed = action in ("close", "merge")
    if not is_changed and not is_closed:
        return Ignored(f"nothing is done about a merge request's {action[:60]}")
    request = PullRequest(
        id=str(number(change, "iid")),
        repository_id=repository,
        branch=needed(change, "source_branch"),
        commit=needed_hash(change, "last_commit", "id"),
        base_branch=needed(change, "target_branch"),
        is_external=str(find(change, "source_project_id")) != str(find(change, "target_project_id")),
        title=text(change, "title"),
        url=text(change, "url"),
    )
    return PullRequestEvent(request, is_closed)
