"""GitLab's interface `/api/v4`: PRIVATE-TOKEN, pages with `X-Total` and `X-Next-Page`, signed or tokened webhooks."""

import base64
import hashlib
import hmac
import json
import math
import uuid
from typing import Any

from tests.support.forges.standin import Request, StandIn, page_of, route
from tests.support.forges.world import Commit, Pull, Repository, World

TOKEN = "glpat-token"
P = "/api/v4/projects/{id}"
HOOK = {
    "push_events": bool,
    "merge_requests_events": bool,
    "tag_push_events": bool,
    "token": str,
    "signing_token": str,
    "enable_ssl_verification": bool,
}


class GitLabStandIn(StandIn):
    """`signs` says whether it is new enough to know signing tokens."""

    def __init__(self, world: World, *, signs: bool = True) -> None:
        super().__init__(world)
        self.signs = signs

    def authorized(self, request: Request) -> bool:
        return request.headers.get("private-token") == TOKEN

    def opens(self, username: str, password: str) -> bool:
        return bool(username) and password == TOKEN

    def _project(self, request: Request) -> Repository | None:
        return self.world.repositories.get(int(request.parts["id"]))

    def _page(self, request: Request, items: list[Any]) -> Any:
        page, size = request.number("page", 1), min(request.number("per_page", 20), 100)
        more = page < math.ceil(len(items) / size)
        headers = {"X-Total": str(len(items)), "X-Next-Page": str(page + 1) if more else ""}
        return 200, page_of(items, page, size), headers

    def describe(self, found: Repository) -> dict[str, Any]:
        return {
            "id": found.id,
            "name": found.name.title(),
            "path": found.name,
            "path_with_namespace": found.full_name,
            "default_branch": found.default_branch if found.branches else None,
            "visibility": "private" if found.private else "public",
            "web_url": f"{self.url}/{found.full_name}",
            "http_url_to_repo": "http://wrong.example/x.git",
            "last_activity_at": "2026-01-02T01:04:05.000Z",
        }

    @route("GET", "/api/v4/projects", query="membership search order_by page per_page")
    def projects(self, request: Request) -> Any:
        asked = request.query.get("search", "").lower()
        found = [self.describe(one) for one in self.world.repositories.values() if asked in one.name.lower()]
        return self._page(request, found)

    @route("GET", P)
    def project(self, request: Request) -> Any:
        found = self._project(request)
        return found and self.describe(found)

    @route("GET", "/api/v4/user")
    def user(self, request: Request) -> Any:
        return {"id": 3, "username": self.world.login}

    @route("GET", "/api/v4/namespaces/{name}")
    def namespace(self, request: Request) -> Any:
        found = {"acme/tools": (7, "group"), self.world.login: (3, "user")}.get(request.parts["name"])
        return found and {"id": found[0], "full_path": request.parts["name"], "kind": found[1]}

    @route(
        "POST",
        "/api/v4/projects",
        required={"name": str},
        optional={"visibility": str, "namespace_id": int, "initialize_with_readme": bool},
    )
    def create(self, request: Request) -> Any:
        owner = "acme/tools" if request.body.get("namespace_id") == 7 else self.world.login
        if self.world.named(f"{owner}/{request.body['name']}"):
            return 400, {"message": {"name": ["has already been taken"]}}
        private = request.body["visibility"] == "private"
        return 201, self.describe(self.world.add(owner, request.body["name"], private=private))

    @route("GET", P + "/repository/branches", query="page per_page search")
    def branches(self, request: Request) -> Any:
        found = self._project(request)
        return found and self._page(
            request, [{"name": name, "commit": {"id": hash}} for name, hash in sorted(found.branches.items())]
        )

    @route("GET", P + "/repository/branches/{branch}")
    def branch(self, request: Request) -> Any:
        found = self._project(request)
        hash = found and found.branches.get(request.parts["branch"])
        return hash and {"name": request.parts["branch"], "commit": self._commit(found, found.commits[hash])}

    @route("GET", P + "/repository/commits/{sha}")
    def commit(self, request: Request) -> Any:
        found = self._project(request)
        commit = found and found.commits.get(request.parts["sha"])
        return commit and self._commit(found, commit)

    def _commit(self, found: Repository, commit: Commit) -> dict[str, Any]:
        return {
            "id": commit.hash,
            "short_id": commit.hash[:8],
            "title": commit.message.splitlines()[0],
            "message": commit.message,
            "author_name": commit.author,
            "web_url": f"{self.url}/{found.full_name}/-/commit/{commit.hash}",
        }

    @route("GET", P + "/repository/tree", query="path ref page per_page")
    def tree(self, request: Request) -> Any:
        found = self._project(request)
        commit = found and found.resolve(request.query.get("ref", ""))
        if not found or not commit:
            return None
        path = request.query.get("path", "")
        entries = None if path in commit.files else found.entries(commit, path)
        if entries is None:
            return 404, {"message": "404 invalid revision or path Not Found"}
        return self._page(
            request,
            [{"id": "0" * 40, "name": name, "type": "tree" if folder else "blob"} for name, folder, _ in entries],
        )

    @route("GET", P + "/repository/files/{path}/raw", query="ref")
    def raw(self, request: Request) -> Any:
        found = self._project(request)
        commit = found and found.resolve(request.query["ref"])
        return commit and commit.files.get(request.parts["path"])

    @route("GET", P + "/repository/compare", query="from to straight")
    def compare(self, request: Request) -> Any:
        found = self._project(request)
        before, after = request.query["from"], request.query["to"]
        if not found or before not in found.commits or after not in found.commits:
            return None
        if request.query.get("straight") != "true":
            self.note(request, "compares with where the two parted")
        diffs = [{"old_path": name, "new_path": name, "diff": "@@"} for name in found.differing(before, after)]
        return {"commits": [], "diffs": diffs, "compare_timeout": False, "compare_same_ref": False}

    @route("GET", P + "/merge_requests/{iid}")
    def merge_request(self, request: Request) -> Any:
        found = self._project(request)
        pull = found and found.pulls.get(int(request.parts["iid"]))
        return pull and {
            "id": 9_000 + pull.number,
            "iid": pull.number,
            "title": pull.title,
            "source_branch": pull.branch,
            "target_branch": pull.base_branch,
            "source_project_id": pull.head.id if pull.head else None,
            "target_project_id": found.id,
            "sha": pull.commit,
            "web_url": f"{self.url}/{found.full_name}/-/merge_requests/{pull.number}",
        }

    @route(
        "POST",
        P + "/statuses/{sha}",
        required={"state": str},
        optional={"name": str, "target_url": str, "description": str},
    )
    def status(self, request: Request) -> Any:
        found = self._project(request)
        if not found or request.parts["sha"] not in found.commits:
            return None
        state = request.body["state"]
        if state not in ("pending", "running", "success", "failed", "canceled", "skipped"):
            return 400, {"error": "state does not have a valid value"}
        if any(sha == request.parts["sha"] and body["state"] == state for sha, body in found.statuses):
            return 400, {"message": f"Cannot transition status via :enqueue from :{state}"}
        found.statuses.append((request.parts["sha"], request.body))
        return 201, {"id": 1}

    @route("GET", P + "/merge_requests/{iid}/notes", query="page per_page")
    def notes(self, request: Request) -> Any:
        found = self._project(request)
        every = found.comments.get(int(request.parts["iid"]), []) if found else []
        return self._page(request, [{"id": one.id, "body": one.text} for one in every])

    @route("POST", P + "/merge_requests/{iid}/notes", required={"body": str})
    def add_note(self, request: Request) -> Any:
        found = self._project(request)
        made = found and found.add_comment(int(request.parts["iid"]), self.world.login, request.body["body"])
        return made and (201, {"id": made.id})

    @route("PUT", P + "/merge_requests/{iid}/notes/{note}", required={"body": str})
    def edit_note(self, request: Request) -> Any:
        found = self._project(request)
        comment = found and found.find_comment(int(request.parts["note"]))
        if comment and comment.author != self.world.login:
            return 403, {"message": "403 Forbidden"}
        if comment:
            comment.text = request.body["body"]
        return comment and {"id": comment.id}

    @route("GET", P + "/hooks", query="page per_page")
    def hooks(self, request: Request) -> Any:
        found = self._project(request)
        return found and self._page(request, [{"id": id, "url": hook["url"]} for id, hook in found.hooks.items()])

    @route("POST", P + "/hooks", required={"url": str}, optional=HOOK)
    def add_hook(self, request: Request) -> Any:
        found = self._project(request)
        token = request.body.get("signing_token", "")
        if len(base64.b64decode(token.removeprefix("whsec_"), validate=True)) != 32:
            return 422, {"message": "signing token is not 32 bytes"}
        if found:
            found.hooks[len(found.hooks) + 1] = request.body
        return found and (201, {"id": len(found.hooks), "url": request.body["url"]})

    @route("PUT", P + "/hooks/{hook}", required={"url": str}, optional=HOOK)
    def edit_hook(self, request: Request) -> Any:
        found = self._project(request)
        if not found or int(request.parts["hook"]) not in found.hooks:
            return None
        found.hooks[int(request.parts["hook"])].update(request.body)
        return {"id": int(request.parts["hook"])}

    @route("DELETE", P + "/hooks/{hook}")
    def delete_hook(self, request: Request) -> Any:
        found = self._project(request)
        return found and found.hooks.pop(int(request.parts["hook"]), None) and (204, None)

    # ------------------------------------------------------------------------------------------ what it sends

    def webhook(self, event: str, content: Any, secret: str) -> tuple[dict[str, str], bytes]:
        body = json.dumps(content).encode()
        id = str(uuid.uuid4())
        headers = {
            "content-type": "application/json",
            "x-gitlab-event": event,
            "x-gitlab-event-uuid": id,
            "x-gitlab-token": secret,
        }
        if self.signs:
            # The signing token that `register_webhook` sent.
            tokens = {hook["signing_token"] for one in self.world.repositories.values() for hook in one.hooks.values()}
            if tokens:
                key = base64.b64decode(tokens.pop().removeprefix("whsec_"))
                signed = f"{id}.1790000000.".encode() + body
                signature = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
                headers |= {"webhook-id": id, "webhook-timestamp": "1790000000", "webhook-signature": f"v1,{signature}"}
        return headers, body

    def _short(self, found: Repository) -> dict[str, Any]:
        return {"id": found.id, "path_with_namespace": found.full_name, "default_branch": found.default_branch}

    def push(self, found: Repository, ref: str, before: str, after: str, secret: str) -> tuple[dict[str, str], bytes]:
        is_tag = ref.startswith("refs/tags/")
        content = {
            "object_kind": "tag_push" if is_tag else "push",
            "before": before or "0" * 40,
            "after": after or "0" * 40,
            "ref": ref,
            "checkout_sha": after or None,
            "project_id": found.id,
            "project": self._short(found),
            "commits": [],
        }
        return self.webhook("Tag Push Hook" if is_tag else "Push Hook", content, secret)

    def pull_changed(self, found: Repository, pull: Pull, what: str, secret: str) -> tuple[dict[str, str], bytes]:
        """`what`: opened, changed (new commits), closed, labeled."""
        action = {"opened": "open", "changed": "update", "closed": "close", "labeled": "update"}[what]
        change: dict[str, Any] = {
            "id": 9_000 + pull.number,
            "iid": pull.number,
            "title": pull.title,
            "action": action,
            "source_branch": pull.branch,
            "target_branch": pull.base_branch,
            "source_project_id": pull.head.id if pull.head else None,
            "target_project_id": found.id,
            "last_commit": {"id": pull.commit, "message": "m"},
            "url": f"{self.url}/{found.full_name}/-/merge_requests/{pull.number}",
        }
        if what == "changed":
            change["oldrev"] = "1" * 40
        content = {"object_kind": "merge_request", "project": self._short(found), "object_attributes": change}
        return self.webhook("Merge Request Hook", content, secret)
