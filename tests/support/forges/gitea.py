"""Gitea's interface `/api/v1` (Forgejo has the same): token, pages with `Link` and `X-Total-Count`, webhooks."""

import hashlib
import hmac
import json
import math
import uuid
from typing import Any

from tests.support.forges.standin import Request, StandIn, page_of, route
from tests.support.forges.world import Comment, Commit, Pull, Repository, World

TOKEN = "gitea-token"
R = "/api/v1/repos/{owner}/{name}"


class GiteaStandIn(StandIn):
    def __init__(self, world: World, brand: str = "gitea") -> None:
        super().__init__(world)
        self.brand = brand

    def authorized(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"token {TOKEN}"

    def opens(self, username: str, password: str) -> bool:
        return bool(username) and password == TOKEN

    def _repository(self, request: Request) -> Repository | None:
        return self.world.named(f"{request.parts['owner']}/{request.parts['name']}")

    def _page(self, request: Request, items: list[Any], key: str = "") -> Any:
        page, size = request.number("page", 1), min(request.number("limit", 30), 50)
        headers = {"X-Total-Count": str(len(items))}
        if page < math.ceil(len(items) / size):
            headers["Link"] = f'<{self.url}{request.path}?page={page + 1}&limit={size}>; rel="next"'
        found = page_of(items, page, size)
        return 200, ({"ok": True, key: found} if key else found), headers

    def describe(self, found: Repository) -> dict[str, Any]:
        return {
            "id": found.id,
            "owner": {"id": 7, "login": found.owner},
            "name": found.name,
            "full_name": found.full_name,
            "empty": not found.branches,
            "private": found.private,
            "html_url": f"{self.url}/{found.full_name}",
            "clone_url": "http://wrong.example/x.git",
            "default_branch": found.default_branch,
            "updated_at": "2026-01-02T03:04:05+02:00",
        }

    @route("GET", "/api/v1/user")
    def user(self, request: Request) -> Any:
        return {"id": 3, "login": self.world.login}

    @route("GET", "/api/v1/users/{login}")
    def one_user(self, request: Request) -> Any:
        if request.parts["login"].lower() not in ("acme", self.world.login):
            return None
        return {"id": 7, "login": request.parts["login"]}

    @route("GET", "/api/v1/repos/search", query="q uid exclusive sort page limit")
    def search(self, request: Request) -> Any:
        if request.query["uid"] not in ("3", "7"):
            return {"ok": True, "data": []}
        asked = request.query.get("q", "").lower()
        found = [self.describe(one) for one in self.world.repositories.values() if asked in one.name.lower()]
        return self._page(request, found, "data")

    @route("GET", "/api/v1/repositories/{id}")
    def by_id(self, request: Request) -> Any:
        found = self.world.repositories.get(int(request.parts["id"]))
        return found and self.describe(found)

    @route("POST", "/api/v1/orgs/{org}/repos", required={"name": str}, optional={"private": bool, "auto_init": bool})
    @route("POST", "/api/v1/user/repos", required={"name": str}, optional={"private": bool, "auto_init": bool})
    def create(self, request: Request) -> Any:
        owner = request.parts.get("org", self.world.login)
        if self.world.named(f"{owner}/{request.body['name']}"):
            return 409, {"message": "The repository with the same name already exists."}
        return 201, self.describe(self.world.add(owner, request.body["name"], private=request.body["private"]))

    @route("GET", R + "/branches", query="page limit")
    def branches(self, request: Request) -> Any:
        found = self._repository(request)
        return found and self._page(
            request, [{"name": name, "commit": {"id": hash}} for name, hash in sorted(found.branches.items())]
        )

    @route("GET", R + "/branches/{branch*}")
    def branch(self, request: Request) -> Any:
        found = self._repository(request)
        hash = found and found.branches.get(request.parts["branch"])
        return hash and {"name": request.parts["branch"], "commit": {"id": hash, "message": "m"}}

    @route("GET", R + "/git/commits/{sha}", query="stat verification files")
    def commit(self, request: Request) -> Any:
        found = self._repository(request)
        commit = found and found.commits.get(request.parts["sha"])
        return commit and self._describe_commit(found, commit)

    def _describe_commit(self, found: Repository, commit: Commit) -> dict[str, Any]:
        return {
            "sha": commit.hash,
            "html_url": f"{self.url}/{found.full_name}/commit/{commit.hash}",
            "commit": {"message": commit.message, "author": {"name": commit.author, "email": "a@example.com"}},
            "author": {"login": "ada", "html_url": f"{self.url}/ada"},
        }

    @route("GET", R + "/contents", query="ref")
    @route("GET", R + "/contents/{path*}", query="ref")
    def contents(self, request: Request) -> Any:
        found = self._repository(request)
        commit = found and found.resolve(request.query.get("ref", ""))
        path = request.parts.get("path", "")
        if not commit or not found:
            return None
        if path in commit.files:
            return {"name": path, "type": "file", "size": len(commit.files[path])}
        entries = found.entries(commit, path)
        return (
            None
            if entries is None
            else [
                {"name": name, "type": "dir" if is_folder else "file", "size": size}
                for name, is_folder, size in entries
            ]
        )

    @route("GET", R + "/raw/{path*}", query="ref")
    def raw(self, request: Request) -> Any:
        found = self._repository(request)
        commit = found and found.resolve(request.query.get("ref", ""))
        return commit and commit.files.get(request.parts["path"])

    @route("GET", R + "/compare/{basehead*}")
    def compare(self, request: Request) -> Any:
        found = self._repository(request)
        base, _, head = request.parts["basehead"].partition("...")
        if not found or base not in found.commits or head not in found.commits:
            return None
        new = [hash for hash in found.ancestors(head) if hash not in found.ancestors(base)]
        commits = []
        for hash in new:
            parent = found.commits[hash].parent
            names = found.differing(parent, hash) if parent else sorted(found.commits[hash].files)
            commits.append({"sha": hash, "files": [{"filename": name, "status": "modified"} for name in names]})
        return {"total_commits": len(commits), "commits": commits}

    @route("GET", R + "/pulls/{number}")
    def pull(self, request: Request) -> Any:
        found = self._repository(request)
        pull = found and found.pulls.get(int(request.parts["number"]))
        return pull and self.describe_pull(found, pull)

    def describe_pull(self, base: Repository, pull: Pull) -> dict[str, Any]:
        return {
            "number": pull.number,
            "title": pull.title,
            "html_url": f"{self.url}/{base.full_name}/pulls/{pull.number}",
            "head": {
                "ref": pull.branch,
                "sha": pull.commit,
                "repo": {"id": pull.head.id, "full_name": pull.head.full_name} if pull.head else None,
            },
            "base": {"ref": pull.base_branch, "repo": {"id": base.id}},
        }

    @route(
        "POST",
        R + "/statuses/{sha}",
        required={"state": str, "context": str},
        optional={"target_url": str, "description": str},
    )
    def status(self, request: Request) -> Any:
        found = self._repository(request)
        if not found or request.parts["sha"] not in found.commits:
            return None
        if request.body["state"] not in ("pending", "success", "error", "failure", "warning"):
            return 422, {"message": "no such state"}
        found.statuses.append((request.parts["sha"], request.body))
        return 201, {"id": 1}

    @route("GET", R + "/issues/{number}/comments")
    def comments(self, request: Request) -> Any:
        found = self._repository(request)
        every = found.comments.get(int(request.parts["number"]), []) if found else []
        return [{"id": one.id, "body": one.text, "user": {"login": one.author}} for one in every]

    @route("POST", R + "/issues/{number}/comments", required={"body": str})
    def add_comment(self, request: Request) -> Any:
        found = self._repository(request)
        return found and (
            201,
            self._comment(found.add_comment(int(request.parts["number"]), self.world.login, request.body["body"])),
        )

    @route("PATCH", R + "/issues/comments/{id}", required={"body": str})
    def edit_comment(self, request: Request) -> Any:
        found = self._repository(request)
        comment = found and found.find_comment(int(request.parts["id"]))
        if comment and comment.author != self.world.login:
            return 403, {"message": "not yours"}
        if comment:
            comment.text = request.body["body"]
        return comment and self._comment(comment)

    @staticmethod
    def _comment(comment: Comment) -> dict[str, Any]:
        return {"id": comment.id, "body": comment.text}

    @route("GET", R + "/hooks", query="page limit")
    def hooks(self, request: Request) -> Any:
        found = self._repository(request)
        return found and self._page(request, [self._hook(id, hook) for id, hook in found.hooks.items()])

    def _hook(self, id: int, hook: dict[str, Any]) -> dict[str, Any]:
        shown = {name: value for name, value in hook["config"].items() if name != "secret"}
        return {"id": id, "type": hook.get("type", ""), "config": shown, "events": hook["events"], "active": True}

    @route(
        "POST",
        R + "/hooks",
        required={"type": str, "config": dict},
        optional={"events": list, "active": bool, "branch_filter": str},
    )
    def add_hook(self, request: Request) -> Any:
        found = self._repository(request)
        if request.body["type"] not in ("gitea", "forgejo") or request.body["config"]["content_type"] != "json":
            self.note(request, "not a hook of this kind")
        if found:
            found.hooks[len(found.hooks) + 1] = request.body
        return found and (201, self._hook(len(found.hooks), request.body))

    @route("PATCH", R + "/hooks/{id}", optional={"config": dict, "events": list, "active": bool})
    def edit_hook(self, request: Request) -> Any:
        found = self._repository(request)
        if not found or int(request.parts["id"]) not in found.hooks:
            return None
        found.hooks[int(request.parts["id"])].update(request.body)
        return self._hook(int(request.parts["id"]), request.body)

    @route("DELETE", R + "/hooks/{id}")
    def delete_hook(self, request: Request) -> Any:
        found = self._repository(request)
        return found and found.hooks.pop(int(request.parts["id"]), None) and (204, None)

    # ------------------------------------------------------------------------------------------ what it sends

    def webhook(self, event: str, content: Any, secret: str) -> tuple[dict[str, str], bytes]:
        body = json.dumps(content).encode()
        name = self.brand
        headers = {
            "content-type": "application/json",
            f"x-{name}-delivery": str(uuid.uuid4()),
            f"x-{name}-event": event,
            "x-github-event": event,
            f"x-{name}-signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        return headers, body

    def push(self, found: Repository, ref: str, before: str, after: str, secret: str) -> tuple[dict[str, str], bytes]:
        repository = self.describe(found)
        if not after:
            name = ref.removeprefix("refs/heads/").removeprefix("refs/tags/")
            kind = "tag" if ref.startswith("refs/tags/") else "branch"
            content = {"ref": name, "ref_type": kind, "pusher_type": "user", "repository": repository}
            return self.webhook("delete", content, secret)
        content = {"ref": ref, "before": before or "0" * 40, "after": after, "repository": repository, "commits": []}
        return self.webhook("push", content, secret)

    def pull_changed(self, found: Repository, pull: Pull, what: str, secret: str) -> tuple[dict[str, str], bytes]:
        """`what`: opened, changed (new commits), closed, labeled."""
        content = {
            "action": {"changed": "synchronized", "labeled": "label_updated"}.get(what, what),
            "number": pull.number,
            "pull_request": self.describe_pull(found, pull),
            "repository": self.describe(found),
        }
        return self.webhook("pull_request", content, secret)
