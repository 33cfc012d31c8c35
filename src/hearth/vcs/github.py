"""GitHub and GitHub Enterprise Server: by the operator's GitHub App, or by a user's token with webhooks of its own.

Repositories are addressed by id (`/repositories/<id>/...`), the form GitHub itself uses in links to further pages: it
outlives a change of name.
"""

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
    Installation,
    Provider,
    ProviderRepository,
    PullRequest,
    RepositoryPage,
)
from hearth.ports import GitHostFailed, NoSuchRepository
from hearth.vcs.answers import at, read_commit, read_contents, read_id, read_login, read_marked, read_pull_request
from hearth.vcs.api import (
    Access,
    Api,
    Rejected,
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
    window,
)
from hearth.vcs.github_app import DEFAULT_URL, PAGE_MAX, GitHubApp, access, no_app
from hearth.vcs.github_events import parse_event
from hearth.vcs.reading import flag, items, moment, needed, needed_hash, number, text

T = TypeVar("T")

#: Files a comparison names at most.
COMPARED_MAX = 300
DESCRIPTION_CHARS = 140
HOOK_EVENTS = ["push", "pull_request"]
_STATES = {CommitState.PENDING: "pending", CommitState.SUCCESS: "success", CommitState.FAILURE: "failure"}


class GitHub:
    """See `hearth.ports.GitHost`. `app` is None where the operator has set none up."""

    provider = Provider.GITHUB

    def __init__(self, api: Api, app: GitHubApp | None) -> None:
        self._api = api
        self._app = app
        self.webhook_secret = app.webhook_secret if app else ""

    async def complete(self, installation: Installation) -> Installation:
        """See the port. For installations with a token; those of the app come by `authorized`."""
        needed_token(installation.credentials)
        found = dataclasses.replace(installation, base_url=checked_base(installation.base_url, DEFAULT_URL))
        there = await self._access(found)
        login = await self._api.get(there, "/user", read_login)
        if found.organization:
            asked = self._api.get(there, f"/users/{quoted(found.organization)}", read_login)
            login = await named(asked, found.organization)
        return dataclasses.replace(found, organization=login)

    def authorize_url(self, state: str) -> str:
        """See the port. `""` where no app is set up."""
        return self._app.install_url(state) if self._app else ""

    async def authorized(self, query: Mapping[str, str]) -> tuple[str, str]:
        """See the port."""
        id, code = query.get("installation_id", ""), query.get("code", "")
        if not id:
            raise GitHostFailed("GitHub named no installation: the app was not installed, or waits for consent.")
        if not code:
            raise GitHostFailed(
                "GitHub did not let the user sign in, so nobody can tell whose installation this is: the app needs "
                "`Request user authorization (OAuth) during installation`."
            )
        try:
            return id, await self._required_app().account(id, code)
        except NoSuchRepository as error:
            raise GitHostFailed(f"There is no installation {id[:20]} of the GitHub App.") from error

    async def repositories(self, installation: Installation, search: str, offset: int, limit: int) -> RepositoryPage:
        """See the port. GitHub cannot search here: `search` looks at the first thousand repositories."""
        there = await self._access(installation)

        async def page(index: int, size: int) -> tuple[list[ProviderRepository], int]:
            query: dict[str, str | int] = {"per_page": size, "page": index}
            if _token(installation):
                query["sort"] = "full_name"
                (found, _), headers = await self._api.get_page(there, "/user/repos", _repositories, query)
                more = 'rel="next"' in headers.get("link", "")
                return found, (index - 1) * size + len(found) + (1 if more else 0)
            found, total = await self._api.get(there, "/installation/repositories", _repositories, query)
            return found, total if total is not None else (index - 1) * size + len(found)

        if not search:
            found, total = await window(page, offset, limit, PAGE_MAX)
            return RepositoryPage(total, tuple(found))

        async def whole(index: int) -> tuple[list[ProviderRepository], bool]:
            found, _ = await page(index, PAGE_MAX)
            return found, len(found) == PAGE_MAX

        every = await self._api.all_pages(whole)
        matching = [found for found in every if search.lower() in found.name.lower()]
        return RepositoryPage(len(matching), tuple(matching[offset : offset + limit]))

    async def repository(self, installation: Installation, id: str) -> ProviderRepository:
        """See the port."""
        return await self._api.get(await self._access(installation), _path(id), _repository)

    async def create_repository(self, installation: Installation, name: str, private: bool) -> ProviderRepository:
        """See the port. An app may do it for an organization only: GitHub lets it make none for a user."""
        there = await self._access(installation)
        content = {"name": name, "private": private, "auto_init": True}
        if _token(installation):
            own = await self._api.get(there, "/user", read_login)
            if installation.organization.lower() in ("", own.lower()):
                return await self._api.send(there, "POST", "/user/repos", content, _repository)
        path = f"/orgs/{quoted(installation.organization)}/repos"
        try:
            return await self._api.send(there, "POST", path, content, _repository)
        except NoSuchRepository:
            raise GitHostFailed(
                f"GitHub lets the app make no repository for {installation.organization}: it can for organizations "
                "that allowed it `Administration: write`. Make the repository at GitHub instead."
            ) from None

    async def branches(self, installation: Installation, repository: str) -> tuple[Branch, ...]:
        """See the port."""
        there = await self._access(installation)
        return tuple(await self._all(there, f"{_path(repository)}/branches", _branches))

    async def contents(self, installation: Installation, repository: str, path: str, ref: str) -> tuple[Content, ...]:
        """See the port."""
        url = f"{_path(repository)}/{below('contents', path)}"
        return await self._api.get(await self._access(installation), url, read_contents, at(ref))

    async def file(self, installation: Installation, repository: str, path: str, ref: str) -> bytes:
        """See the port."""
        url = f"{_path(repository)}/{below('contents', path)}"
        raw = {"accept": "application/vnd.github.raw+json"}
        return await self._api.raw(await self._access(installation), url, at(ref), raw)

    async def latest_commit(self, installation: Installation, repository: str, ref: str) -> HostedCommit:
        """See the port."""
        # A tag may have the name of a branch; `heads/` says which is meant.
        name = ref if is_hash(ref) else f"heads/{quoted_path(ref)}"
        try:
            return await self._api.get(
                await self._access(installation), f"{_path(repository)}/commits/{name}", read_commit
            )
        except Rejected as error:
            # An empty repository is a conflict for GitHub, a commit it does not know cannot be processed.
            if error.status in (409, 422):
                raise NoSuchRepository(f"there is no commit {ref}") from None
            raise

    async def changed_files(
        self, installation: Installation, repository: str, before: str, after: str
    ) -> tuple[str, ...] | None:
        """See the port. Cannot say after a forced push: GitHub compares with where the two parted."""
        path = f"{_path(repository)}/compare/{quoted(before)}...{quoted(after)}"
        try:
            return await self._api.get(await self._access(installation), path, _changed)
        except NoSuchRepository:
            return None

    async def pull_request(self, installation: Installation, repository: str, id: str) -> PullRequest:
        """See the port."""
        path = f"{_path(repository)}/pulls/{numeric(id)}"
        return await self._api.get(await self._access(installation), path, lambda a: read_pull_request(a, repository))

    async def clone_source(self, installation: Installation, repository: str) -> CloneSource:
        """See the port."""
        found = await self.repository(installation, repository)
        token = _token(installation) or await self._required_app().installation_token(
            installation.provider_installation_id
        )
        url = clone_url(self._base(installation), f"{found.organization}/{found.name}")
        return CloneSource(url, CloneAccess("x-access-token", token))

    async def set_status(self, installation: Installation, repository: str, commit: str, status: CommitStatus) -> None:
        """See the port."""
        content = {
            "state": _STATES[status.state],
            "target_url": status.target_url,
            "description": status.description[:DESCRIPTION_CHARS],
            "context": status.context,
        }
        path = f"{_path(repository)}/statuses/{quoted(commit)}"
        await self._api.tell(await self._access(installation), "POST", path, content)

    async def comment(
        self, installation: Installation, repository: str, pull_request: str, marker: str, text: str
    ) -> None:
        """See the port."""
        there, base = await self._access(installation), _path(repository)
        path = f"{base}/issues/{numeric(pull_request)}/comments"
        ours = await self._all(there, path, lambda answer: read_marked(answer, marker))

        async def change(id: int) -> None:
            await self._api.tell(there, "PATCH", f"{base}/issues/comments/{id}", {"body": text})

        if not await replace_or_add(ours, change):
            await self._api.tell(there, "POST", path, {"body": text})

    def parse_webhook(self, headers: Mapping[str, str], body: bytes, secret: str) -> HostEvent:
        """See the port."""
        return parse_event(headers, body, secret)

    async def register_webhook(self, installation: Installation, repository: str, url: str, secret: str) -> str:
        """See the port. An app has its webhook already; with a token, the repository gets one."""
        if not _token(installation):
            return ""
        there, path = await self._access(installation), f"{_path(repository)}/hooks"
        config = {"url": url, "content_type": "json", "secret": secret, "insecure_ssl": "0"}
        content = {"config": config, "events": HOOK_EVENTS, "active": True}
        existing = await self._all(there, path, lambda answer: _hooks(answer, url))
        if existing:
            await self._api.tell(there, "PATCH", f"{path}/{existing[0]}", content)
            return str(existing[0])
        return str(await self._api.send(there, "POST", path, {"name": "web", **content}, read_id))

    async def unregister_webhook(self, installation: Installation, repository: str, webhook_id: str) -> None:
        """See the port."""
        if not webhook_id or not _token(installation):
            return
        try:
            path = f"{_path(repository)}/hooks/{numeric(webhook_id)}"
            await self._api.tell(await self._access(installation), "DELETE", path)
        except NoSuchRepository:
            return

    def _required_app(self) -> GitHubApp:
        if self._app is None:
            raise no_app()
        return self._app

    def _base(self, installation: Installation) -> str:
        if _token(installation):
            return (installation.base_url or DEFAULT_URL).rstrip("/")
        # The app's tokens go to the app's GitHub only.
        return self._required_app().url

    async def _access(self, installation: Installation) -> Access:
        base, token, id = self._base(installation), _token(installation), installation.provider_installation_id
        if token:
            return access(base, f"Bearer {token}")
        app = self._required_app()

        async def renew() -> Mapping[str, str]:
            # GitHub takes tokens back when an installation is suspended; after that it gives new ones.
            app.forget(id)
            return {"authorization": f"Bearer {await app.installation_token(id)}"}

        found = access(base, f"Bearer {await app.installation_token(id)}")
        return dataclasses.replace(found, renew=renew)

    async def _all(self, there: Access, path: str, read: Callable[[Any], list[T]]) -> list[T]:
        """The items that `read` finds on the pages of a list."""

        async def page(index: int) -> tuple[list[T], bool]:
            query: dict[str, str | int] = {"per_page": PAGE_MAX, "page": index}
            found, headers = await self._api.get_page(there, path, read, query)
            return found, 'rel="next"' in headers.get("link", "")

        return await self._api.all_pages(page)


def _token(installation: Installation) -> str:
    return installation.credentials.get("token", "")


def _path(id: str) -> str:
    return f"/repositories/{numeric(id)}"


def _repository(answer: Any) -> ProviderRepository:
    return ProviderRepository(
        id=str(number(answer, "id")),
        name=needed(answer, "name"),
        organization=needed(answer, "owner", "login"),
        default_branch=text(answer, "default_branch"),
        private=flag(answer, "private"),
        url=text(answer, "html_url"),
        pushed_at=moment(answer, "pushed_at"),
    )


def _repositories(answer: Any) -> tuple[list[ProviderRepository], int | None]:
    """A list of a user's repositories, or of an installation's with how many there are."""
    if isinstance(answer, list):
        return [_repository(entry) for entry in answer], None
    return [_repository(entry) for entry in items(answer, "repositories")], number(answer, "total_count")


def _branches(answer: Any) -> list[Branch]:
    return [Branch(needed(entry, "name"), needed_hash(entry, "commit", "sha")) for entry in items(answer)]


def _changed(answer: Any) -> tuple[str, ...] | None:
    files = items(answer, "files")
    if text(answer, "status") not in ("ahead", "identical") or len(files) >= COMPARED_MAX:
        return None
    named = {text(file, name) for file in files for name in ("filename", "previous_filename")}
    return tuple(sorted(named - {""}))


def _hooks(answer: Any, url: str) -> list[int]:
    return [number(entry, "id") for entry in items(answer) if text(entry, "config", "url") == url]
