"""Comments at pull requests: one each, which says how the deployments of its branch stand (side-services 12)."""

import asyncio
import re
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from hearth.control.git_hosts import GitHosts, host_of
from hearth.control.rules import RuleBook
from hearth.model.pushes import preview_domain
from hearth.model.resources import Deployment, Function
from hearth.model.statuses import DeploymentStatus
from hearth.model.vcs import Installation, Provider, PullRequest
from hearth.ports import Store

_STATES = {
    DeploymentStatus.READY: "ready",
    DeploymentStatus.FAILED: "failed",
    DeploymentStatus.CANCELED: "canceled",
}
_HASH_CHARS = 12
_WAITS = (
    "This pull request comes from a fork. It is deployed as a preview once somebody of the project approves it, and "
    "then at each push to it."
)


@dataclass(frozen=True, slots=True)
class _Row:
    """A function in a comment; `deployment` is the branch's newest one, None = a fork that is not approved."""

    function: Function
    deployment: Deployment | None
    preview: str


class PullRequests:
    """Knows which pull requests are open, and writes their comments. Previews are reached as `endpoint` is.

    A comment leaves silent functions out; where all are silent, or nothing is deployed, there is none.
    """

    def __init__(
        self, *, store: Store, hosts: GitHosts, rule_book: RuleBook, functions_domain: str, endpoint: str
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._rule_book = rule_book
        self._functions_domain = functions_domain
        self._endpoint = urllib.parse.urlsplit(endpoint)
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def seen(self, installation: Installation, pull_request: PullRequest) -> None:
        """A pull request was opened or changed: note whose branch it is, and write its comment.

        Raises GitHostFailed and NoSuchRepository (to be tried again).
        """
        branch = shown_branch(pull_request)
        async with self._store.begin(installation.project_id) as unit:
            links = unit.repository_links
            await links.note_pull_request(installation.id, pull_request.repository_id, pull_request.id, branch)
        await self._write(installation, pull_request.repository_id, pull_request.id, branch)

    async def follow(self, installation: Installation, repository_id: str, branch: str) -> None:
        """A deployment of a branch changed: bring the comments of its pull requests up to date. Raises as `seen`."""
        async with self._store.view(installation.project_id) as unit:
            open = await unit.repository_links.pull_requests_of(installation.id, repository_id, branch)
        for id in open:
            await self._write(installation, repository_id, id, branch)

    async def _write(self, installation: Installation, repository_id: str, id: str, branch: str) -> None:
        if installation.provider is Provider.GIT:
            return  # has neither
        # One after the other: what is read last is written last, and nobody makes a second comment.
        lock = self._writing.setdefault(f"{installation.project_id}/{installation.id}", asyncio.Lock())
        async with lock:
            rows = await self._rows(installation, repository_id, id, branch)
            if not rows:
                return
            marker = f"<!-- hearth {installation.project_id} -->"
            text = f"{marker}\n{comment_text(rows)}"
            await host_of(self._hosts, installation.provider).comment(installation, repository_id, id, marker, text)

    async def _rows(self, installation: Installation, repository_id: str, id: str, branch: str) -> Sequence[_Row]:
        rows = []
        is_fork = branch == fork_branch(id)
        async with self._store.view(installation.project_id) as unit:
            for link in await unit.repository_links.of_repository(installation.id, repository_id):
                function = await unit.functions.get(link.function_id)
                if function is None or function.provider_silent_mode:
                    continue
                newest = await unit.deployments.newest(function.id, branch)
                if newest is not None:
                    rows.append(_Row(function, newest, self._preview(function, branch)))
                elif is_fork and id not in link.pull_requests:
                    rows.append(_Row(function, None, ""))
        return rows

    def _preview(self, function: Function, branch: str) -> str:
        """The address of a branch's preview, `""` if it has none."""
        domain = preview_domain(function, branch, self._functions_domain)
        if self._rule_book.find(domain) is None:
            return ""
        port = self._endpoint.port
        return f"{self._endpoint.scheme}://{domain}" + (f":{port}" if port else "")


def fork_branch(id: str) -> str:
    """What deployments of a fork's pull request show as their branch: what the fork calls its own must lead nowhere."""
    return f"pull/{id}"


def is_fork_branch(branch: str) -> bool:
    """Whether it is one of those (or one of ours that somebody named like it)."""
    return re.fullmatch(r"pull/\d+", branch) is not None


def shown_branch(pull_request: PullRequest) -> str:
    """The branch that deployments of a pull request show."""
    return fork_branch(pull_request.id) if pull_request.is_external else pull_request.branch


def comment_text(rows: Sequence[_Row]) -> str:
    """The comment as Markdown."""
    lines = ["| Function | Deployment | Commit | Preview |", "|---|---|---|---|"]
    for row in rows:
        state = "waits for approval"
        commit = ""
        if row.deployment is not None:
            state = _STATES.get(row.deployment.status, "building")
            commit = row.deployment.provider_commit_hash[:_HASH_CHARS]
        lines.append(f"| {_plain(row.function.name)} | {state} | {commit} | {row.preview} |")
    if any(row.deployment is None for row in rows):
        lines += ["", _WAITS]
    return "\n".join(lines)


def _plain(name: str) -> str:
    """A name that can neither leave its cell nor mention anybody."""
    kept = "".join(char for char in name if char.isprintable() and char not in "`|")
    return f"`{kept.strip() or '-'}`"
