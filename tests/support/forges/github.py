"""GitHub's interface as a GitHub App uses it: RS256 tokens of the app, tokens of installations, `Link` pages, webhooks.

Its site and its interface have one address here, as with GitHub Enterprise Server: the interface is below `/api/v3`.
"""

import functools
import hashlib
import hmac
import json
import math
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.forges.standin import Request, StandIn, page_of, route
from tests.support.forges.world import Commit, Pull, Repository, World

APP_ID, CLIENT_ID, CLIENT_SECRET = "1234", "Iv1.client", "client-secret"
INSTALLATION = 42
#: A code a user comes back with, and a user's own token.
CODE, USER_TOKEN = "code-of-ada", "ghu_ada"
PERSONAL_TOKEN = "github_pat_ada"
R = "/api/v3/repositories/{id}"


@functools.cache
def app_key() -> tuple[str, Any]:
    """The private key of the app (PEM) and its public key; made once, it takes a moment."""
    key = rsa.generate_private_key(65_537, 2_048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    return pem.decode(), key.public_key()


class GitHubStandIn(StandIn):
    """`account` is where the app is installed; `lifetime_s` how long tokens of installations live."""

    def __init__(self, world: World, account: str = "acme") -> None:
        super().__init__(world)
        self.account = account
        self.lifetime_s = 3_600.0
        self.minted: list[str] = []

    def authorized(self, request: Request) -> bool:
        path, given = request.path, request.headers.get("authorization", "")
        if path == "/login/oauth/access_token":
            return True
        if request.headers.get("x-github-api-version") != "2022-11-28":
            self.note(request, "the version of the interface is not named")
        if "application/vnd.github" not in request.headers.get("accept", ""):
            self.note(request, "accepts no media type of GitHub")
        if path.startswith("/api/v3/app"):
            return self._is_app(given.removeprefix("Bearer "))
        if path == "/api/v3/user/installations":
            return given == f"Bearer {USER_TOKEN}"
        if given == f"Bearer {PERSONAL_TOKEN}":
            return path != "/api/v3/installation/repositories"
        if path == "/api/v3/user" or path.startswith("/api/v3/user/"):
            return False
        return given.removeprefix("Bearer ") in self.minted

    def opens(self, username: str, password: str) -> bool:
        return username == "x-access-token" and password in (*self.minted, PERSONAL_TOKEN)

    @staticmethod
    def _is_app(token: str) -> bool:
        try:
            claims = jwt.decode(token, app_key()[1], algorithms=["RS256"], issuer=APP_ID)
        except jwt.PyJWTError:
            return False
        return bool(claims["exp"] - time.time() <= 600)

    def _repository(self, request: Request) -> Repository | None:
        return self.world.repositories.get(int(request.parts["id"]))

    def _page(self, request: Request, items: list[Any], key: str = "") -> Any:
        page, size = request.number("page", 1), min(request.number("per_page", 30), 100)
        more = page < math.ceil(len(items) / size)
        link = f'<{self.url}{request.path}?page={page + 1}>; rel="next", <{self.url}{request.path}>; rel="last"'
        found: Any = page_of(items, page, size)
        if key:
            found = {"total_count": len(items), key: found}
        return 200, found, {"Link": link} if more else {}

    def describe(self, found: Repository) -> dict[str, Any]:
        return {
            "id": found.id,
            "name": found.name,
            "full_name": found.full_name,
            "owner": {"login": found.owner, "type": "Organization"},
            "private": found.private,
            "html_url": f"{self.url}/{found.full_name}",
            "clone_url": "https://wrong.example/x.git",
            "default_branch": found.default_branch,
            "pushed_at": "2026-01-02T01:04:05Z",
        }

    # ------------------------------------------------------------------------------------------ the app

    @route("GET", "/api/v3/app/installations/{installation}")
    def installation(self, request: Request) -> Any:
        if request.parts["installation"] != str(INSTALLATION):
            return None
        return {"id": INSTALLATION, "account": {"login": self.account, "type": "Organization"}}

    @route(
        "POST",
        "/api/v3/app/installations/{installation}/access_tokens",
        optional={"repositories": list, "permissions": dict},
    )
    def access_token(self, request: Request) -> Any:
        if request.parts["installation"] != str(INSTALLATION):
            return None
        self.minted.append(f"ghs_{len(self.minted)}")
        end = datetime.now(UTC) + timedelta(seconds=self.lifetime_s)
        return 201, {"token": self.minted[-1], "expires_at": end.strftime("%Y-%m-%dT%H:%M:%SZ")}

    @route(
        "POST", "/login/oauth/access_token", required={"client_id": str, "client_secret": str, "code": str}, query=""
    )
    def user_token(self, request: Request) -> Any:
        sent = request.body
        if (sent["client_id"], sent["client_secret"], sent["code"]) != (CLIENT_ID, CLIENT_SECRET, CODE):
            return 200, {"error": "bad_verification_code", "error_description": "The code is incorrect or expired."}
        return {"access_token": USER_TOKEN, "token_type": "bearer"}

    @route("GET", "/api/v3/user/installations", query="per_page page")
    def user_installations(self, request: Request) -> Any:
        # More than one page, ours on the second.
        every = [{"id": 5_000 + index} for index in range(100)] + [{"id": INSTALLATION}]
        return self._page(request, every, "installations")

    @route("GET", "/api/v3/installation/repositories", query="per_page page")
    def repositories(self, request: Request) -> Any:
        return self._page(request, [self.describe(one) for one in self.world.repositories.values()], "repositories")

    @route("GET", "/api/v3/user/repos", query="per_page page sort")
    def user_repositories(self, request: Request) -> Any:
        return self._page(request, [self.describe(one) for one in self.world.repositories.values()])

    @route("GET", "/api/v3/user")
    def user(self, request: Request) -> Any:
        return {"login": "ada", "id": 1}

    @route("GET", "/api/v3/users/{login}")
    def account_of(self, request: Request) -> Any:
        return {"login": request.parts["login"]} if request.parts["login"] == "acme" else None

    # ------------------------------------------------------------------------------------------ repositories

    @route("GET", R)
    def by_id(self, request: Request) -> Any:
        found = self._repository(request)
        return found and self.describe(found)

    @route("POST", "/api/v3/orgs/{org}/repos", required={"name": str}, optional={"private": bool, "auto_init": bool})
    @route("POST", "/api/v3/user/repos", required={"name": str}, optional={"private": bool, "auto_init": bool})
    def create(self, request: Request) -> Any:
        owner = request.parts.get("org", "ada")
        if "org" in request.parts and owner != "acme":
            return None
        if self.world.named(f"{owner}/{request.body['name']}"):
            return 422, {"message": "Repository creation failed.", "errors": []}
        return 201, self.describe(self.world.add(owner, request.body["name"], private=request.body["private"]))

    @route("GET", R + "/branches", query="per_page page protected")
    def branches(self, request: Request) -> Any:
        found = self._repository(request)
        return found and self._page(
            request, [{"name": name, "commit": {"sha": hash}} for name, hash in sorted(found.branches.items())]
        )

    @route("GET", R + "/commits/{ref*}")
    def commit(self, request: Request) -> Any:
        found, ref = self._repository(request), request.parts["ref"]
        if not found:
            return None
        if not found.branches:
            return 409, {"message": "Git Repository is empty."}
        hash = found.branches.get(ref.removeprefix("heads/"), "") if ref.startswith("heads/") else ref
        if hash not in found.commits:
            return 422, {"message": f"No commit found for SHA: {ref}"}
        return self._describe_commit(found, found.commits[hash])

    def _describe_commit(self, found: Repository, commit: Commit) -> dict[str, Any]:
        return {
            "sha": commit.hash,
            "html_url": f"{self.url}/{found.full_name}/commit/{commit.hash}",
            "commit": {"message": commit.message, "author": {"name": commit.author}},
            "author": {"login": "ada", "html_url": f"{self.url}/ada"},
        }

    @route("GET", R + "/contents", query="ref")
    @route("GET", R + "/contents/{path*}", query="ref")
    def contents(self, request: Request) -> Any:
        found, path = self._repository(request), request.parts.get("path", "")
        commit = found and found.resolve(request.query.get("ref", ""))
        if not commit or not found:
            return None
        is_raw = request.headers["accept"] == "application/vnd.github.raw+json"
        if path in commit.files:
            return commit.files[path] if is_raw else {"type": "file", "name": path, "size": len(commit.files[path])}
        entries = found.entries(commit, path)
        return (
            None
            if entries is None or is_raw
            else [{"type": "dir" if folder else "file", "name": name, "size": size} for name, folder, size in entries]
        )

    @route("GET", R + "/compare/{basehead*}")
    def compare(self, request: Request) -> Any:
        found = self._repository(request)
        base, _, head = request.parts["basehead"].partition("...")
        if not found or base not in found.commits or head not in found.commits:
            return None
        is_ahead = base in found.ancestors(head)
        files = [{"filename": name, "status": "modified"} for name in found.differing(base, head)]
        return {"status": "ahead" if is_ahead else "diverged", "files": files[:300]}

    @route("GET", R + "/pulls/{number}")
    def pull(self, request: Request) -> Any:
        found = self._repository(request)
        pull = found and found.pulls.get(int(request.parts["number"]))
        return pull and self.describe_pull(found, pull)

    def describe_pull(self, base: Repository, pull: Pull) -> dict[str, Any]:
        return {
            "number": pull.number,
            "title": pull.title,
            "html_url": f"{self.url}/{base.full_name}/pull/{pull.number}",
            "head": {
                "ref": pull.branch,
                "sha": pull.commit,
                "repo": {"id": pull.head.id, "fork": True} if pull.head else None,
            },
            "base": {"ref": pull.base_branch, "repo": {"id": base.id}},
        }

    @route(
        "POST",
        R + "/statuses/{sha}",
        required={"state": str},
        optional={"target_url": str, "description": str, "context": str},
    )
    def status(self, request: Request) -> Any:
        found = self._repository(request)
        if not found or request.parts["sha"] not in found.commits:
            return None
        if (
            request.body["state"] not in ("error", "failure", "pending", "success")
            or len(request.body.get("description", "")) > 140
        ):
            return 422, {"message": "Validation Failed"}
        found.statuses.append((request.parts["sha"], request.body))
        return 201, {"id": 1}

    @route("GET", R + "/issues/{number}/comments", query="per_page page since")
    def comments(self, request: Request) -> Any:
        found = self._repository(request)
        every = found.comments.get(int(request.parts["number"]), []) if found else []
        return self._page(request, [{"id": one.id, "body": one.text} for one in every])

    @route("POST", R + "/issues/{number}/comments", required={"body": str})
    def add_comment(self, request: Request) -> Any:
        found = self._repository(request)
        made = found and found.add_comment(int(request.parts["number"]), self.world.login, request.body["body"])
        return made and (201, {"id": made.id})

    @route("PATCH", R + "/issues/comments/{comment}", required={"body": str})
    def edit_comment(self, request: Request) -> Any:
        found = self._repository(request)
        comment = found and found.find_comment(int(request.parts["comment"]))
        if comment and comment.author != self.world.login:
            return 403, {"message": "Resource not accessible by integration"}
        if comment:
            comment.text = request.body["body"]
        return comment and {"id": comment.id}

    @route("GET", R + "/hooks", query="per_page page")
    def hooks(self, request: Request) -> Any:
        found = self._repository(request)
        return found and self._page(
            request, [{"id": id, "config": {"url": hook["config"]["url"]}} for id, hook in found.hooks.items()]
        )

    @route("POST", R + "/hooks", required={"config": dict}, optional={"name": str, "events": list, "active": bool})
    def add_hook(self, request: Request) -> Any:
        found = self._repository(request)
        if request.body.get("name") != "web" or request.body["config"].get("content_type") != "json":
            self.note(request, "not a webhook with JSON")
        if found:
            found.hooks[len(found.hooks) + 1] = request.body
        return found and (201, {"id": len(found.hooks)})

    @route("PATCH", R + "/hooks/{hook}", optional={"config": dict, "events": list, "active": bool})
    def edit_hook(self, request: Request) -> Any:
        found = self._repository(request)
        if not found or int(request.parts["hook"]) not in found.hooks:
            return None
        found.hooks[int(request.parts["hook"])].update(request.body)
        return {"id": int(request.parts["hook"])}

    @route("DELETE", R + "/hooks/{hook}")
    def delete_hook(self, request: Request) -> Any:
        found = self._repository(request)
        return found and found.hooks.pop(int(request.parts["hook"]), None) and (204, None)

    # ------------------------------------------------------------------------------------------ what it sends

    def webhook(self, event: str, content: Any, secret: str) -> tuple[dict[str, str], bytes]:
        body = json.dumps({**content, "installation": {"id": INSTALLATION}}).encode()
        headers = {
            "content-type": "application/json",
            "x-github-event": event,
            "x-github-delivery": str(uuid.uuid4()),
            "x-hub-signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        }
        return headers, body

    def push(self, found: Repository, ref: str, before: str, after: str, secret: str) -> tuple[dict[str, str], bytes]:
        content = {
            "ref": ref,
            "before": before or "0" * 40,
            "after": after or "0" * 40,
            "created": not before,
            "deleted": not after,
            "forced": False,
            "repository": self.describe(found),
            "commits": [],
        }
        return self.webhook("push", content, secret)

    def pull_changed(self, found: Repository, pull: Pull, what: str, secret: str) -> tuple[dict[str, str], bytes]:
        """`what`: opened, changed (new commits), closed, labeled."""
        content = {
            "action": "synchronize" if what == "changed" else what,
            "number": pull.number,
            "pull_request": self.describe_pull(found, pull),
            "repository": self.describe(found),
        }
        return self.webhook("pull_request", content, secret)
