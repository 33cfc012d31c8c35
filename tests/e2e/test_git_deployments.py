"""Deployments from git on a real server: from a host, a mirror and the bundled starters to an answer."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.cli.client.init import STARTERS
from tests.support.api import built, create_function, execute, ok
from tests.support.git import GitServer, Repository, git_server, open_to_all
from tests.support.runtimes import available_runtimes, runtime_of
from tests.support.server import Server, running_server, server_folder, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

STEP_WAIT_S = 30.0
SDKS = Path(__file__).parents[2] / ".cache" / "clients" / "python"

# Answers with what a build from git gives to the function's environment.
HANDLER = """
import os
def main(context):
    return context.res.json({key: os.environ[key] for key in ('APPWRITE_VCS_COMMIT_HASH',
        'APPWRITE_VCS_REPOSITORY_BRANCH', 'APPWRITE_DEPLOYMENT_TYPE')} | {'text': TEXT})
TEXT = '%s'
"""

# What a user does with the SDK: any generation's way to name a version.
SDK_FLOW = """
import inspect, json, sys, time
from appwrite.client import Client
from appwrite.services.functions import Functions
given = json.loads(sys.argv[1])
functions = Functions(Client().set_endpoint(given['endpoint']).set_project(given['project']).set_key(given['key']))
plain = lambda answer: answer if isinstance(answer, dict) else answer.to_dict()
create = functions.create_template_deployment
takes = inspect.signature(create).parameters
reference = {'version': '1.*'} if 'version' in takes else {'type': 'tag', 'reference': '1.*'}
if 'version' not in takes:
    from appwrite.enums.template_reference_type import TemplateReferenceType
    reference['type'] = TemplateReferenceType.TAG
made = plain(create(given['function'], 'r', 'o', 'python', activate=True, **reference))
deadline = time.monotonic() + 60
while True:
    seen = plain(functions.get_deployment(given['function'], made['$id']))
    if seen['status'] in ('ready', 'failed', 'canceled') or time.monotonic() > deadline:
        break
    time.sleep(0.1)
print(json.dumps({'made': made, 'seen': seen}))
"""


def template(client: httpx.Client, id: str, **body: Any) -> httpx.Response:
    fields = {"owner": "o", "repository": "r", "rootDirectory": "python", "type": "tag", "reference": "1.*"}
    return client.post(f"/functions/{id}/deployments/template", json={**fields, "activate": True, **body})


def deployed(client: httpx.Client, id: str, **body: Any) -> dict[str, Any]:
    return built(client, id, ok(template(client, id, **body))["$id"])


@pytest.fixture(scope="module")
def python() -> str:
    return runtime_of("python")


@pytest.fixture(scope="module")
def host() -> Iterator[tuple[GitServer, Repository]]:
    """A git host on loopback with one repository."""
    with server_folder() as folder, git_server(folder / "repositories") as running:
        repository = Repository(folder / "repositories" / "o" / "r")
        repository.commit({"python/main.py": HANDLER % "one", "node/f": "x"}, "one\n\nmore " + "x" * 300)
        repository.tag("1.0.9")
        repository.commit({"python/main.py": HANDLER % "two"}, "two")
        repository.tag("1.0.10", "v2.0.0", annotated=True)
        yield running, repository


@pytest.fixture(scope="module")
def server(host: tuple[GitServer, Repository]) -> Iterator[Server]:
    at = f"127.0.0.1:{host[0].port}"
    settings = {"HEARTH_TEMPLATES_URL": f"http://ada:s3cret@{at}", "HEARTH_EGRESS_ALLOW": at}
    with running_server(settings) as started:
        yield started
        assert "s3cret" not in started.log


@pytest.fixture(scope="module")
def client(server: Server, python: str) -> Iterator[httpx.Client]:
    with server.client() as opened:
        create_function(opened, "git", python, entrypoint="main.py")
        yield opened


def test_a_tag_range_is_fetched_built_activated_and_runs(
    client: httpx.Client, host: tuple[GitServer, Repository]
) -> None:
    made = ok(template(client, "git"))
    assert (made["status"], made["type"], made["providerBranch"]) == ("waiting", "vcs", "1.*")
    done = built(client, "git", made["$id"])
    assert done["status"] == "ready", done["buildLogs"]
    commit = host[1].git("rev-parse", "1.0.10^{commit}")
    assert (done["providerBranch"], done["providerCommitHash"]) == ("1.0.10", commit)
    assert (done["providerCommitAuthor"], done["providerCommitMessage"]) == ("Ada", "two")
    assert done["providerCommitUrl"].endswith(f"/o/r/commit/{commit}")
    assert done["sourceSize"] > 0
    assert "1.* is 1.0.10" in done["buildLogs"]
    seen = json.loads(execute(client, "git")["responseBody"])
    assert seen == {
        "APPWRITE_VCS_COMMIT_HASH": commit,
        "APPWRITE_VCS_REPOSITORY_BRANCH": "1.0.10",
        "APPWRITE_DEPLOYMENT_TYPE": "vcs",
        "text": "two",
    }


def test_the_fetched_source_can_be_downloaded_and_built_again(client: httpx.Client) -> None:
    done = deployed(client, "git", reference="1.0.9")
    assert done["status"] == "ready", done["buildLogs"]
    assert len(done["providerCommitMessage"]) == 255
    assert done["providerCommitMessage"].endswith("x...")
    source = client.get(f"/functions/git/deployments/{done['$id']}/download", params={"type": "source"})
    assert (source.status_code, len(source.content)) == (200, done["sourceSize"])
    again = ok(client.post("/functions/git/deployments/duplicate", json={"deploymentId": done["$id"]}))
    rebuilt = built(client, "git", again["$id"])
    assert rebuilt["status"] == "ready", rebuilt["buildLogs"]
    assert rebuilt["providerCommitHash"] == done["providerCommitHash"]
    assert json.loads(execute(client, "git")["responseBody"])["text"] == "one"


def test_a_failed_fetch_says_why_and_the_function_stays_as_it_is(client: httpx.Client) -> None:
    before = ok(client.get("/functions/git"))["deploymentId"]
    failed = deployed(client, "git", reference="3.*")
    assert failed["status"] == "failed"
    assert "has no tag that fits 3.*. Some of its tags: v2.0.0, 1.0.10" in failed["buildLogs"]
    assert "s3cret" not in json.dumps(failed)
    missing = deployed(client, "git", repository="none")
    assert "does not exist. Check owner and repository." in missing["buildLogs"]
    assert ok(client.get("/functions/git"))["deploymentId"] == before


def test_a_cancel_ends_a_fetch_at_once(client: httpx.Client, host: tuple[GitServer, Repository]) -> None:
    git, _ = host
    git.hold.clear()
    git.asked.clear()
    made = ok(template(client, "git"))
    path = f"/functions/git/deployments/{made['$id']}"
    assert git.asked.wait(STEP_WAIT_S)
    assert ok(client.get(path))["status"] == "processing"
    canceled = ok(client.patch(f"{path}/status"))
    assert canceled["status"] == "canceled"
    git.hold.set()
    wait_for(lambda: ok(client.get("/functions/git"))["latestDeploymentStatus"] == "canceled", STEP_WAIT_S, "the end")
    assert "Build has been canceled." in ok(client.get(path))["buildLogs"]


def test_starters_run_without_any_host(client: httpx.Client) -> None:
    """One of each language that can run here, built side by side."""
    starter = {"owner": "hearth", "repository": "starters", "reference": "1.0.0"}
    newest = {id.rpartition("-")[0]: id for id in available_runtimes()}
    families = [family for family in STARTERS if family in newest]
    assert {"node", "python"} <= set(families)
    made = {}
    for family in families:
        known = STARTERS[family]
        create_function(client, f"starter-{family}", newest[family], entrypoint=known.entrypoint,
                        commands=known.commands)  # fmt: skip
        made[family] = ok(template(client, f"starter-{family}", rootDirectory=family, **starter))["$id"]
    for family in families:
        done = built(client, f"starter-{family}", made[family])
        assert done["status"] == "ready", (family, done["buildLogs"])
        ran = execute(client, f"starter-{family}", path="/", method="GET")
        greeting = "Hello from your site." if family == "static" else "Hello from your function."
        assert greeting in ran["responseBody"], (family, ran["errors"])


@pytest.mark.clients
@pytest.mark.parametrize("version", ["13.4.1", "27.0.0"])
def test_the_official_python_sdk_deploys_a_template(server: Server, client: httpx.Client, version: str) -> None:
    """By `version` in the older generation, by type and reference in the newer one."""
    owner = server.credentials
    given = {"endpoint": server.endpoint, "project": owner["projectId"], "key": owner["apiKey"], "function": "git"}
    done = subprocess.run(
        [sys.executable, "-c", SDK_FLOW, json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(SDKS / version)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["made"]["status"] == "waiting"
    assert told["seen"]["status"] == "ready", told["seen"]
    assert told["seen"]["providerBranch"] == "1.0.10"


def test_a_mirror_serves_offline_and_survives_a_kill_while_fetching(python: str) -> None:
    with server_folder() as folder:
        repository = Repository(folder / "mirror" / "o" / "r.git")
        repository.commit({"python/main.py": HANDLER % "mirrored"})
        repository.tag("1.0.0")
        open_to_all(folder / "mirror")
        with running_server({"HEARTH_TEMPLATES_URL": f"file://{folder}/mirror"}) as server:
            with server.client() as client:
                create_function(client, "git", python, entrypoint="main.py")
                done = deployed(client, "git")
                assert done["status"] == "ready", done["buildLogs"]
                assert done["providerRepositoryUrl"] == "https://github.com/o/r"
                made = ok(template(client, "git"))
                server.kill()
                server.start()
                after = built(client, "git", made["$id"])
                assert after["status"] in ("ready", "failed"), after
                assert after["buildLogs"].strip(), "whatever became of it, the log says so"
                assert json.loads(execute(client, "git")["responseBody"])["text"] == "mirrored"
            server.assert_nothing_left()
