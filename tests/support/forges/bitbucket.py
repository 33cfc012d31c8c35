"""Bitbucket Cloud's API 2.0: bearer or basic credentials, pages with `next`, UUIDs in braces, webhooks."""

import base64
import hashlib
import hmac
import json
import math
import urllib.parse
import uuid
from typing import Any

from tests.support.forges.standin import Request, StandIn, page_of, route
from tests.support.forges.world import Commit, Pull, Repository, World

TOKEN = "ATCTT-token"
R = "/2.0/repositories/{workspace}/{repo}"
#: A pull request shows this much of a hash.
SHORT = 12
HOOK = {"description": str, "active": bool, "secret": str, "events": list}


class BitbucketStandIn(StandIn):
    """With `email` it asks for a user's API token instead of an access token."""

    def __init__(self, world: World, email: str = "") -> None:
        super().__init__(world)
        self.email = email

    def authorized(self, request: Request) -> bool:
        basic = "Basic " + base64.b64encode(f"{self.email}:{TOKEN}".encode()).decode()
        return request.headers.get("authorization") == (basic if self.email else f"Bearer {TOKEN}")

    def opens(self, username: str, password: str) -> bool:
        expected = "x-bitbucket-api-token-auth" if self.email else "x-token-auth"
        return (username, password) == (expected, TOKEN)

    def _repository(self, request: Request) -> Repository | None:
        name = request.parts["repo"]
        found = self.world.with_uuid(name) or self.world.named(f"{request.parts['workspace']}/{name}")
        return found if found and found.owner == request.parts["workspace"] else None

    def _page(self, request: Request, items: list[Any], *, is_numbered: bool = False) -> Any:
        """One page of a list; but for a few lists, what names the next page is no number."""
        prefix = "" if is_numbered else "AbC"
        given, size = request.query.get("page", f"{prefix}1"), min(request.number("pagelen", 10), 100)
        if not given.startswith(prefix):
            self.note(request, "makes up the name of a page")
            return {"values": []}
        page = int(given.removeprefix(prefix))
        content = {"values": page_of(items, page, size), "page": page, "pagelen": size, "size": len(items)}
        if page < math.ceil(len(items) / size):
            more = {**request.query, "page": f"{prefix}{page + 1}", "pagelen": str(size)}
            content["next"] = f"{self.url}{request.path}?{urllib.parse.urlencode(more)}"
        return content

    def describe(self, found: Repository) -> dict[str, Any]:
        return {
            "type": "repository",
            "uuid": found.uuid,
            "name": found.name.title(),
            "full_name": found.full_name,
            "is_private": found.private,
            "mainbranch": {"type": "branch", "name": found.default_branch} if found.branches else None,
            "updated_on": "2026-01-02T01:04:05.123456+00:00",
            "links": {"html": {"href": f"{self.url}/{found.full_name}"}},
        }

    @route("GET", "/2.0/repositories/{workspace}", query="q sort page pagelen role")
    def repositories(self, request: Request) -> Any:
        if request.parts["workspace"] not in ("acme", *(one.owner for one in self.world.repositories.values())):
            return None
        asked = request.query.get("q", 'name ~ ""')
        if not (asked.startswith('name ~ "') and asked.endswith('"')):
            return 400, {"type": "error", "error": {"message": "Invalid query"}}
        word = asked.removeprefix('name ~ "').removesuffix('"').lower()
        owned = [one for one in self.world.repositories.values() if one.owner == request.parts["workspace"]]
        return self._page(request, [self.describe(one) for one in owned if word in one.name.lower()], is_numbered=True)

    @route("GET", R)
    def by_id(self, request: Request) -> Any:
        found = self._repository(request)
        return found and self.describe(found)

    @route("POST", R, optional={"scm": str, "name": str, "is_private": bool, "project": dict})
    def create(self, request: Request) -> Any:
        workspace, slug = request.parts["workspace"], request.parts["repo"]
        if self.world.named(f"{workspace}/{slug}"):
            return 400, {"type": "error", "error": {"message": "Repository with this Slug and Owner already exists."}}
        return self.describe(self.world.add(workspace, slug, private=request.body["is_private"]))

    def _commit(self, found: Repository, commit: Commit) -> dict[str, Any]:
        return {
            "type": "commit",
            "hash": commit.hash,
            "message": commit.message,
            "author": {"raw": f"{commit.author} <ada@example.com>"},
            "links": {"html": {"href": f"{self.url}/{found.full_name}/commits/{commit.hash}"}},
        }

    @route("GET", R + "/refs/branches", query="page pagelen")
    def branches(self, request: Request) -> Any:
        found = self._repository(request)
        return found and self._page(
            request,
            [
                {"type": "branch", "name": name, "target": self._commit(found, found.commits[hash])}
                for name, hash in sorted(found.branches.items())
            ],
        )

    @route("GET", R + "/refs/branches/{branch*}")
    def branch(self, request: Request) -> Any:
        found = self._repository(request)
        hash = found and found.branches.get(request.parts["branch"])
        return hash and {"type": "branch", "target": self._commit(found, found.commits[hash])}

    @route("GET", R + "/commit/{commit}")
    def commit(self, request: Request) -> Any:
        found, asked = self._repository(request), request.parts["commit"]
        hash = next((hash for hash in (found.commits if found else ()) if hash.startswith(asked)), None)
        return found and hash and self._commit(found, found.commits[hash])

    @route("GET", R + "/src/{commit}/{path*}", query="format page pagelen")
    def source(self, request: Request) -> Any:
        found, path = self._repository(request), request.parts["path"]
        commit = found and found.commits.get(request.parts["commit"])
        if not found or not commit:
            return None
        if path in commit.files:
            content = commit.files[path]
            is_meta = request.query.get("format") == "meta"
            return {"type": "commit_file", "path": path, "size": len(content)} if is_meta else content
        folder = path.rstrip("/")
        entries = found.entries(commit, folder)
        if entries is None:
            return None
        if request.query.get("format") == "meta":
            return {"type": "commit_directory", "path": folder}
        prefix = f"{folder}/" if folder else ""
        return self._page(
            request,
            [
                {"type": "commit_directory", "path": prefix + name}
                if is_folder
                else {"type": "commit_file", "path": prefix + name, "size": size}
                for name, is_folder, size in entries
            ],
        )

    @route("GET", R + "/diffstat/{spec}", query="topic page pagelen")
    def diffstat(self, request: Request) -> Any:
        found = self._repository(request)
        one, _, other = request.parts["spec"].partition("..")
        if not found or one not in found.commits or other not in found.commits:
            return None
        if request.query.get("topic") != "false":
            self.note(request, "compares with where the two parted")
        return self._page(
            request,
            [
                {
                    "type": "diffstat",
                    "old": {"path": name} if name in found.commits[other].files else None,
                    "new": {"path": name} if name in found.commits[one].files else None,
                }
                for name in found.differing(one, other)
            ],
        )

    @route("GET", R + "/pullrequests/{id}")
    def pull(self, request: Request) -> Any:
        found = self._repository(request)
        pull = found and found.pulls.get(int(request.parts["id"]))
        return pull and self.describe_pull(found, pull)

    def describe_pull(self, base: Repository, pull: Pull) -> dict[str, Any]:
        head = {"uuid": pull.head.uuid, "full_name": pull.head.full_name} if pull.head else None
        return {
            "type": "pullrequest",
            "id": pull.number,
            "title": pull.title,
            "source": {"branch": {"name": pull.branch}, "commit": {"hash": pull.commit[:SHORT]}, "repository": head},
            "destination": {"branch": {"name": pull.base_branch}, "repository": {"uuid": base.uuid}},
            "links": {"html": {"href": f"{self.url}/{base.full_name}/pull-requests/{pull.number}"}},
        }

    @route(
        "POST",
        R + "/commit/{commit}/statuses/build",
        required={"key": str, "state": str, "url": str},
        optional={"name": str, "description": str},
    )
    def status(self, request: Request) -> Any:
        found = self._repository(request)
        if not found or request.parts["commit"] not in found.commits:
            return None
        if request.body["state"] not in ("INPROGRESS", "SUCCESSFUL", "FAILED", "STOPPED"):
            return 400, {"type": "error", "error": {"message": "Bad state"}}
        if len(request.body["key"]) > 40:
            return 400, {"type": "error", "error": {"message": "The key is too long"}}
        found.statuses.append((request.parts["commit"], request.body))
        return 201, {"type": "build"}

    @route("GET", R + "/pullrequests/{id}/comments", query="page pagelen")
    def comments(self, request: Request) -> Any:
        found = self._repository(request)
        every = found.comments.get(int(request.parts["id"]), []) if found else []
        return self._page(request, [{"id": one.id, "content": {"raw": one.text}} for one in every])

    @route("POST", R + "/pullrequests/{id}/comments", required={"content": dict})
    def add_comment(self, request: Request) -> Any:
        found = self._repository(request)
        text = request.body["content"]["raw"]
        made = found and found.add_comment(int(request.parts["id"]), self.world.login, text)
        return made and (201, {"id": made.id})

    @route("PUT", R + "/pullrequests/{id}/comments/{comment}", required={"content": dict})
    def edit_comment(self, request: Request) -> Any:
        found = self._repository(request)
        comment = found and found.find_comment(int(request.parts["comment"]))
        if comment and comment.author != self.world.login:
            return 403, {"type": "error", "error": {"message": "not yours"}}
        if comment:
            comment.text = request.body["content"]["raw"]
        return comment and {"id": comment.id}

    @staticmethod
    def _hook_id(number: int) -> str:
        return "{" + str(uuid.UUID(int=number)) + "}"

    @route("GET", R + "/hooks", query="page pagelen")
    def hooks(self, request: Request) -> Any:
        found = self._repository(request)
        return found and self._page(
            request, [{"uuid": self._hook_id(id), "url": hook["url"]} for id, hook in found.hooks.items()]
        )

    @route("POST", R + "/hooks", required={"url": str}, optional=HOOK)
    def add_hook(self, request: Request) -> Any:
        found = self._repository(request)
        if found:
            found.hooks[len(found.hooks) + 1] = request.body
        return found and (201, {"uuid": self._hook_id(len(found.hooks)), "url": request.body["url"]})

    @route("PUT", R + "/hooks/{uid}", required={"url": str}, optional=HOOK)
    def edit_hook(self, request: Request) -> Any:
        found = self._repository(request)
        id = uuid.UUID(request.parts["uid"].strip("{}")).int
        if not found or id not in found.hooks:
            return None
        found.hooks[id].update(request.body)
        return {"uuid": self._hook_id(id)}

    @route("DELETE", R + "/hooks/{uid}")
    def delete_hook(self, request: Request) -> Any:
        found = self._repository(request)
        id = uuid.UUID(request.parts["uid"].strip("{}")).int
        return found and found.hooks.pop(id, None) and (204, None)

    # ------------------------------------------------------------------------------------------ what it sends

    def webhook(self, event: str, content: Any, secret: str) -> tuple[dict[str, str], bytes]:
        body = json.dumps(content).encode()
        headers = {
            "content-type": "application/json",
            "x-event-key": event,
            "x-hook-uuid": str(uuid.uuid4()),
            "x-request-uuid": str(uuid.uuid4()),
            "x-attempt-number": "1",
            "x-hub-signature": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        return headers, body

    def push(self, found: Repository, ref: str, before: str, after: str, secret: str) -> tuple[dict[str, str], bytes]:
        return self.pushes(found, [(ref, before, after)], secret)

    def pushes(
        self, found: Repository, changes: list[tuple[str, str, str]], secret: str
    ) -> tuple[dict[str, str], bytes]:
        """One push of several references, (name, before, after) each."""

        def side(ref: str, hash: str) -> Any:
            kind = "tag" if ref.startswith("refs/tags/") else "branch"
            return {"type": kind, "name": ref.split("/", 2)[2], "target": {"hash": hash}} if hash else None

        content = {
            "repository": self.describe(found),
            "push": {
                "changes": [
                    {"old": side(ref, before), "new": side(ref, after), "created": not before, "closed": not after}
                    for ref, before, after in changes
                ]
            },
        }
        return self.webhook("repo:push", content, secret)

    def pull_changed(self, found: Repository, pull: Pull, what: str, secret: str) -> tuple[dict[str, str], bytes]:
        """`what`: opened, changed (new commits), closed, labeled (approved, here)."""
        event = {"opened": "created", "changed": "updated", "closed": "rejected", "labeled": "approved"}[what]
        content = {"repository": self.describe(found), "pullrequest": self.describe_pull(found, pull)}
        return self.webhook(f"pullrequest:{event}", content, secret)
