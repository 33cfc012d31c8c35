"""Push to deploy on a real server: plain git over http, ssh and from a folder; by hook and by polling."""

import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api import built, create_function, execute, ok
from tests.support.git import GitServer, Repository, git_server, open_to_all
from tests.support.runtimes import runtime_of
from tests.support.server import Server, running_server, server_folder, wait_for
from tests.support.ssh import SshServer, ssh_server

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

WAIT_S = 60.0
CODE = "def main(context):\n    return context.res.text('%s')\n"
SDKS = Path(__file__).parents[2] / ".cache" / "clients" / "python"

# What a user does with the SDK.
SDK_FLOW = """
import json, sys
from appwrite.client import Client
from appwrite.services.functions import Functions
try:
    from appwrite.enums.vcs_reference_type import VCSReferenceType as Kind
except ImportError:
    from appwrite.enums.vcs_deployment_type import VCSDeploymentType as Kind
given = json.loads(sys.argv[1])
functions = Functions(Client().set_endpoint(given['endpoint']).set_project(given['project']).set_key(given['key']))
made = functions.create_vcs_deployment(given['function'], Kind.BRANCH, 'main', True)
print(json.dumps(made if isinstance(made, dict) else made.to_dict()))
"""
CREDENTIALS = "deploy:t0ken-of-tests"


class Site:
    """A server, a git host over http with a token, one over ssh with a key, and a folder; all with repositories."""

    def __init__(self, folder: Path, http: GitServer, ssh: SshServer | None) -> None:
        self.folder, self.http, self.ssh = folder, http, ssh
        self.python = runtime_of("python")
        self.server: Server

    def repository(self, name: str) -> Repository:
        return Repository(self.folder / "repositories" / "team" / f"{name}.git")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with (
        server_folder() as folder,
        git_server(folder / "repositories", CREDENTIALS) as http,
        ssh_server(folder) as ssh,
    ):
        (folder / "repositories" / "team").mkdir(parents=True)
        made = Site(folder, http, ssh)
        settings = {
            "HEARTH_EGRESS_ALLOW": f"127.0.0.1:{http.port},127.0.0.1:{ssh.port}",
            "HEARTH_GIT_LOCAL_PATHS": str(folder / "repositories"),
            "HEARTH_GIT_POLL_INTERVAL": "0",
        }
        with running_server(settings) as server:
            made.server = server
            yield made
            log = server.log
        assert "t0ken" not in log
        assert "PRIVATE KEY" not in log


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[httpx.Client]:
    with site.server.client() as opened:
        yield opened


def installation(client: httpx.Client, site: Site, **fields: Any) -> dict[str, Any]:
    asked = {"provider": "git", "organization": "team", "baseUrl": f"{site.http.url}/team"}
    return ok(client.post("/vcs/installations", json=asked | fields))


def by_token(client: httpx.Client, site: Site, **fields: Any) -> dict[str, Any]:
    user, _, token = CREDENTIALS.partition(":")
    return installation(client, site, username=user, token=token, **fields)


def connect(client: httpx.Client, site: Site, id: str, link: dict[str, Any], repository: str, **more: Any) -> None:
    fields = {"installationId": link["$id"], "providerRepositoryId": repository, "providerBranch": "main"}
    create_function(client, id, site.python, entrypoint="main.py", **fields, **more)


def hook(client: httpx.Client, link: dict[str, Any], body: dict[str, Any], secret: str = "") -> httpx.Response:
    content = json.dumps(body).encode()
    signature = hmac.new((secret or link["webhookSecret"]).encode(), content, hashlib.sha256).hexdigest()
    url = urllib.parse.urlsplit(link["eventsUrl"])
    return httpx.post(
        f"{str(client.base_url).rstrip('/')}/vcs/git/events?{url.query}",
        content=content,
        headers={"x-hub-signature-256": f"sha256={signature}", "content-type": "application/json"},
        timeout=30,
    )


def pushed(repository: str, branch: str, before: str, after: str, delivery: str) -> dict[str, Any]:
    return {
        "repository": repository,
        "ref": f"refs/heads/{branch}",
        "before": before or "0" * 40,
        "after": after or "0" * 40,
        "delivery": delivery,
    }


def deployments(client: httpx.Client, id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ok(client.get(f"/functions/{id}/deployments"))["deployments"]
    return found


def answers(client: httpx.Client, id: str) -> str:
    return str(execute(client, id)["responseBody"])


def test_a_push_with_a_hook_is_answered_by_new_code_and_one_call_rolls_back(client: httpx.Client, site: Site) -> None:
    repository = site.repository("hooked")
    first = repository.commit({"main.py": CODE % "one"})
    link = by_token(client, site, repositories=["hooked.git"])
    assert "t0ken" not in json.dumps(link)
    connect(client, site, "hooked", link, "hooked.git")
    made = ok(
        client.post("/functions/hooked/deployments/vcs", json={"type": "branch", "reference": "main", "activate": True})
    )
    done = built(client, "hooked", made["$id"])
    assert done["status"] == "ready", done["buildLogs"]
    assert (done["providerCommitHash"], done["providerBranch"]) == (first, "main")
    assert (done["providerRepositoryName"], done["providerRepositoryOwner"]) == ("hooked", "team")
    assert answers(client, "hooked") == "one"

    second = repository.commit({"main.py": CODE % "two"}, "better")
    started = time.monotonic()
    body = pushed("hooked.git", "main", first, second, "d1")
    assert ok(hook(client, link, body)) == {"result": "accepted"}
    wait_for(lambda: answers(client, "hooked") == "two", WAIT_S, "the new answer")
    print(f"push to new answer: {time.monotonic() - started:.1f} s")
    newest = deployments(client, "hooked")
    assert len(newest) == 2
    assert "t0ken" not in json.dumps(newest)

    # A delivery that comes again is ignored, and so is an old push in a new dress.
    assert "ignored" in ok(hook(client, link, body))["result"]
    assert ok(hook(client, link, body | {"delivery": "d2"})) == {"result": "accepted"}
    # Wrong signature, another installation's secret, none at all.
    refused = hook(client, link, body | {"delivery": "d3"}, secret="wrong")
    assert (refused.status_code, refused.json()["type"]) == (401, "user_unauthorized")
    # 10 MB: refused before anything is looked at.
    huge = hook(client, link, body | {"delivery": "x" * 10_000_000})
    assert (huge.status_code, huge.json()["code"]) == (413, 413)

    ok(client.patch("/functions/hooked/deployment", json={"deploymentId": made["$id"]}))
    assert answers(client, "hooked") == "one"
    assert len(deployments(client, "hooked")) == 2


@pytest.mark.clients
@pytest.mark.parametrize("version", ["13.4.1", "27.0.0"])
def test_the_official_python_sdk_deploys_a_branch(client: httpx.Client, site: Site, version: str) -> None:
    name = f"sdk-{version.partition('.')[0]}"
    commit = site.repository(name).commit({"main.py": CODE % "by the SDK"})
    connect(client, site, name, by_token(client, site), f"{name}.git")
    owner = site.server.credentials
    given = {"endpoint": site.server.endpoint, "project": owner["projectId"], "key": owner["apiKey"], "function": name}
    done = subprocess.run(
        [sys.executable, "-c", SDK_FLOW, json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(SDKS / version)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    made = json.loads(done.stdout.splitlines()[-1])
    assert (made["status"], made["type"], made["providerBranch"]) == ("waiting", "vcs", "main")
    assert built(client, name, made["$id"])["providerCommitHash"] == commit
    assert answers(client, name) == "by the SDK"


def test_a_branch_gets_a_preview_with_its_own_domain_and_takes_it_along(client: httpx.Client, site: Site) -> None:
    repository = site.repository("branched")
    first = repository.commit({"main.py": CODE % "main"})
    link = by_token(client, site)
    patterns = ["main", "feature/*", "!feature/wip-*"]
    connect(client, site, "branched", link, "branched.git", providerBranches=patterns, execute=["any"])
    commit = repository.commit({"main.py": CODE % "preview"}, branch="feature/new")
    repository.commit({"main.py": CODE % "wip"}, branch="feature/wip-1")
    repository.commit({"main.py": CODE % "skipped"}, "no [skip ci] please", branch="feature/skip")
    for number, branch in enumerate(("feature/wip-1", "feature/skip", "feature/new")):
        ok(hook(client, link, pushed("branched.git", branch, "", commit, f"b{number}")))
    wait_for(lambda: len(deployments(client, "branched")) == 1, WAIT_S, "the preview's deployment")
    done = built(client, "branched", deployments(client, "branched")[0]["$id"])
    assert (done["status"], done["activate"]) == ("ready", False), done["buildLogs"]
    assert (done["providerBranch"], done["providerCommitHash"]) == ("feature/new", commit)
    assert ok(client.get("/functions/branched"))["deploymentId"] == ""
    rules = ok(client.get("/proxy/rules"))["rules"]
    (rule,) = [it for it in rules if it["deploymentResourceId"] == "branched"]
    assert rule["domain"].startswith("branch-feature-new-")
    assert (rule["deploymentId"], rule["status"]) == (done["$id"], "verified")
    base = str(client.base_url).removesuffix("/v1/").removesuffix("/v1")
    visit = httpx.get(f"{base}/", headers={"host": rule["domain"]}, timeout=30)
    assert (visit.status_code, visit.text) == (200, "preview")

    repository.git("update-ref", "-d", "refs/heads/feature/new")
    ok(hook(client, link, pushed("branched.git", "feature/new", commit, "", "gone")))
    wait_for(lambda: deployments(client, "branched") == [], WAIT_S, "the end of the preview")
    assert not [it for it in ok(client.get("/proxy/rules"))["rules"] if it["deploymentResourceId"] == "branched"]
    assert first


def test_a_monorepo_builds_only_the_functions_whose_paths_changed(client: httpx.Client, site: Site) -> None:
    repository = site.repository("mono")
    files = {"a/main.py": CODE % "a1", "b/main.py": CODE % "b1", "docs/x.md": "1"}
    before = repository.commit(files)
    link = by_token(client, site)
    for name in ("a", "b"):
        root = {"providerRootDirectory": name, "providerPaths": [f"{name}/**", "!**/*.md"]}
        connect(client, site, f"mono-{name}", link, "mono.git", **root)
    docs = repository.commit(files | {"docs/x.md": "2", "a/README.md": "x"})
    after = repository.commit(files | {"a/main.py": CODE % "a2"})
    ok(hook(client, link, pushed("mono.git", "main", docs, after, "m1")))
    wait_for(lambda: bool(deployments(client, "mono-a")), WAIT_S, "the deployment of a")
    done = built(client, "mono-a", deployments(client, "mono-a")[0]["$id"])
    assert done["status"] == "ready", done["buildLogs"]
    assert answers(client, "mono-a") == "a2"
    assert deployments(client, "mono-b") == []
    assert before != after


def test_the_repository_is_shown_and_its_runtime_detected(client: httpx.Client, site: Site) -> None:
    repository = site.repository("shown")
    repository.commit({"requirements.txt": "", "src/main.py": "x", "README.md": "y"})
    repository.commit({"x": "y"}, branch="other")
    link = by_token(client, site, repositories=["shown.git"])
    base = f"/vcs/github/installations/{link['$id']}"
    listed = ok(client.get(f"{base}/providerRepositories", params={"type": "runtime"}))
    ((id, runtime),) = [(it["id"], it["runtime"]) for it in listed["runtimeProviderRepositories"]]
    assert (id, runtime.startswith("python-")) == ("shown.git", True)
    shown = ok(client.get(f"{base}/providerRepositories/shown.git"))
    assert (shown["name"], shown["organization"], shown["defaultBranch"]) == ("shown", "team", "main")
    branches = ok(client.get(f"{base}/providerRepositories/shown.git/branches"))
    assert [it["name"] for it in branches["branches"]] == ["main", "other"]
    contents = ok(client.get(f"{base}/providerRepositories/shown.git/contents"))["contents"]
    assert {(it["name"], it["isDirectory"]) for it in contents} == {
        ("README.md", False),
        ("requirements.txt", False),
        ("src", True),
    }
    detected = ok(client.post(f"{base}/detections", json={"providerRepositoryId": "shown.git", "type": "runtime"}))
    assert detected["runtime"].startswith("python-")
    assert detected["entrypoint"] == "src/main.py"
    assert detected["commands"] == "pip install -r requirements.txt"
    missing = client.get(f"{base}/providerRepositories/none.git")
    assert missing.status_code in (400, 404)
    assert "t0ken" not in missing.text


def test_wrong_credentials_and_forbidden_addresses_are_refused_with_the_reason(
    client: httpx.Client, site: Site
) -> None:
    site.repository("closed").commit({"main.py": "x"})
    base = {"provider": "git", "baseUrl": f"{site.http.url}/team", "repositories": ["closed.git"]}
    refused = client.post("/vcs/installations", json=base | {"username": "deploy", "token": "wrong"})
    assert (refused.status_code, refused.json()["type"]) == (400, "general_provider_failure")
    assert "credentials do not open it" in refused.json()["message"]
    for url, words in (
        (f"http://127.0.0.1:{httpx.URL(str(client.base_url)).port}", "cannot be reached"),
        ("http://10.0.0.1", "cannot be reached"),
        ("http://169.254.169.254", "cannot be reached"),
        ("file:///etc", "HEARTH_GIT_LOCAL_PATHS"),
        ("ext::sh -c id", "`baseUrl` must be"),
        ("ssh://-oProxyCommand=x/y", "`baseUrl` must be"),
    ):
        answer = client.post("/vcs/installations", json=base | {"baseUrl": url}, timeout=60)
        assert answer.status_code == 400, url
        assert words in answer.json()["message"], (url, answer.json()["message"])


def test_a_repository_over_ssh_is_deployed_with_a_deploy_key(client: httpx.Client, site: Site) -> None:
    assert site.ssh is not None
    repository = site.repository("shell")
    old = repository.commit({"main.py": CODE % "old"})
    blob = repository.blob((CODE % "ssh").encode())
    # A real history, so that the older commit is on the branch but is not its tip.
    tree = repository.git("mktree", send=f"100644 blob {blob}\tmain.py\n".encode())
    new = repository.git("commit-tree", tree, "-p", old, send=b"new")
    repository.git("update-ref", "refs/heads/main", new)
    path = repository.folder
    link = installation(
        client,
        site,
        baseUrl=f"ssh://{site.ssh.user}@127.0.0.1:{site.ssh.port}{path}",
        privateKey=site.ssh.private_key,
    )
    assert link["repositories"] == ["shell.git"]
    assert "ssh-ed25519" in link["knownHosts"]
    connect(client, site, "shell", link, "shell.git")
    for reference, text in ((new, "ssh"), (old, "old")):
        made = ok(
            client.post(
                "/functions/shell/deployments/vcs",
                json={"type": "commit", "reference": reference, "activate": True},
            )
        )
        done = built(client, "shell", made["$id"])
        assert done["status"] == "ready", done["buildLogs"]
        assert answers(client, "shell") == text
    stranger = client.post(
        "/vcs/installations",
        json={
            "provider": "git",
            "baseUrl": f"ssh://{site.ssh.user}@127.0.0.1:{site.ssh.port}{path}",
            "privateKey": site.ssh.private_key,
            "knownHosts": "127.0.0.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE111111111111111111111111111111111111111111",
        },
    )
    assert stranger.status_code == 400
    assert "another ssh key" in stranger.json()["message"] or "could not be fetched" in stranger.json()["message"]


def test_a_template_is_pushed_over_ssh_and_the_hook_of_that_push_builds_nothing(
    client: httpx.Client, site: Site
) -> None:
    assert site.ssh is not None
    repository = site.repository("templated")
    before = repository.commit({"README": "kept"})
    link = installation(
        client,
        site,
        baseUrl=f"ssh://{site.ssh.user}@127.0.0.1:{site.ssh.port}{repository.folder}",
        privateKey=site.ssh.private_key,
    )
    connect(client, site, "templated", link, "templated.git")
    starter = {"owner": "hearth", "repository": "starters", "rootDirectory": "python", "type": "tag", "reference": "1"}
    made = ok(client.post("/functions/templated/deployments/template", json=starter | {"activate": True}))
    done = built(client, "templated", made["$id"])
    assert done["status"] == "ready", done["buildLogs"]
    after = repository.git("rev-parse", "main")
    assert (done["providerCommitHash"], repository.git("rev-parse", "main~1")) == (after, before)
    assert repository.git("show", "main:README") == "kept"
    assert execute(client, "templated", path="/", method="GET")["responseBody"].startswith("Hello from your function.")
    assert ok(hook(client, link, pushed("templated.git", "main", before, after, "t1"))) == {"result": "accepted"}
    later = repository.commit({"main.py": CODE % "later"}, branch="other")
    ok(hook(client, link, pushed("templated.git", "other", "", later, "t2")))
    wait_for(lambda: len(deployments(client, "templated")) == 2, WAIT_S, "the push after it")
    assert {it["providerBranch"] for it in deployments(client, "templated")} == {"main", "other"}


def test_polling_finds_a_push_to_a_folder_and_an_update_disconnects(site: Site) -> None:
    with server_folder() as folder:
        repository = Repository(folder / "repositories" / "local.git")
        first = repository.commit({"main.py": CODE % "one"})
        open_to_all(folder / "repositories")
        settings = {"HEARTH_GIT_LOCAL_PATHS": str(folder / "repositories"), "HEARTH_GIT_POLL_INTERVAL": "1"}
        with running_server(settings) as server, server.client() as client:
            link = ok(
                client.post(
                    "/vcs/installations",
                    json={"provider": "git", "baseUrl": f"file://{folder}/repositories", "repositories": ["local.git"]},
                )
            )
            create_function(client, "local", site.python, entrypoint="main.py")
            update = {"name": "local", "installationId": link["$id"], "providerRepositoryId": "local.git"}
            connected = ok(client.put("/functions/local", json=update | {"providerBranch": "main"}))
            assert connected["providerRepositoryId"] == "local.git"
            wait_for(lambda: len(deployments(client, "local")) == 1, WAIT_S, "the first deployment")
            assert built(client, "local", deployments(client, "local")[0]["$id"])["providerCommitHash"] == first
            assert answers(client, "local") == "one"
            started = time.monotonic()
            repository.commit({"main.py": CODE % "two"})
            open_to_all(folder / "repositories")
            wait_for(lambda: answers(client, "local") == "two", WAIT_S, "the polled answer")
            print(f"push to new answer by polling every second: {time.monotonic() - started:.1f} s")
            # Kept when it is not named, gone when it is named empty (contract: functions-api 5.3).
            kept = ok(client.put("/functions/local", json={"name": "renamed"}))
            assert (kept["providerRepositoryId"], kept["providerBranch"]) == ("local.git", "main")
            gone = ok(client.put("/functions/local", json={"name": "renamed", "providerRepositoryId": ""}))
            assert (gone["installationId"], gone["providerRepositoryId"], gone["providerSilentMode"]) == ("", "", True)
            refused = client.post("/functions/local/deployments/vcs", json={"type": "branch", "reference": "main"})
            assert refused.json()["type"] == "installation_not_found"
