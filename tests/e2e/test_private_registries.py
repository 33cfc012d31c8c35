"""Packages of private registries, by secret variables, .npmrc and pip.conf; and what the build cache makes of them."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.executor.sandbox.config import HOST_PSEUDO_ADDRESS
from tests.support.api import built, create_function, deploy, execute, ok
from tests.support.registry import PIP_USER, TARBALL, TOKEN, WHEEL, Registry, registry
from tests.support.runtimes import runtime_of
from tests.support.server import HEARTH, Server, running_server

pytestmark = [pytest.mark.slow, pytest.mark.sandbox]

RUN_WAIT_S = 120.0
RESTORED = "Restored what an earlier build installed"
PYTHON = "from acme_words import WORD\ndef main(context):\n    return context.res.text(WORD)\n"
NODE = "const word = require('@acme/words');\nmodule.exports = async ({ res }) => res.text(word);\n"
REQUIREMENTS = "acme-words==1.0\n"


@pytest.fixture(scope="module")
def private() -> Iterator[Registry]:
    with registry() as running:
        yield running


@pytest.fixture(scope="module")
def server(private: Registry) -> Iterator[Server]:
    """A server whose operator opened the registry, which has a private address, to sandboxes."""
    with running_server({"HEARTH_EGRESS_ALLOW": f"127.0.0.1:{private.port}"}) as started:
        yield started
        assert TOKEN not in started.log


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as opened:
        yield opened


def place(private: Registry) -> str:
    """Where sandboxes find it: they have a loopback of their own."""
    return f"{HOST_PSEUDO_ADDRESS}:{private.port}"


def set_variable(client: httpx.Client, id: str, key: str, value: str, *, secret: bool) -> None:
    fields = {"variableId": "unique()", "key": key, "value": value, "secret": secret}
    ok(client.post(f"/functions/{id}/variables", json=fields))


def python_files(private: Registry) -> dict[str, str | bytes]:
    return {
        "main.py": PYTHON,
        "requirements.txt": REQUIREMENTS,
        # What is no secret may be in a file of the source.
        "pip.conf": f"[global]\ntrusted-host = {place(private)}\ndisable-pip-version-check = true\n",
    }


def python_function(client: httpx.Client, private: Registry, id: str, token: str = TOKEN) -> None:
    create_function(client, id, runtime_of("python"), entrypoint="main.py")
    set_variable(client, id, "PIP_CONFIG_FILE", "pip.conf", secret=False)
    index = f"http://{PIP_USER}:{token}@{place(private)}/simple/"
    set_variable(client, id, "PIP_INDEX_URL", index, secret=True)


def without_secrets(deployment: dict[str, Any], *secrets: str) -> dict[str, Any]:
    for secret in secrets or (TOKEN,):
        assert secret not in json.dumps(deployment)
    return deployment


def test_a_python_package_comes_by_a_secret_variable_and_a_pip_conf(client: httpx.Client, private: Registry) -> None:
    python_function(client, private, "pip")
    done = without_secrets(deploy(client, "pip", python_files(private)))
    assert done["status"] == "ready", done["buildLogs"]
    assert execute(client, "pip")["responseBody"] == "private"
    assert f"/files/{WHEEL}" in private.requests


def test_an_npm_package_comes_by_an_npmrc_that_names_a_secret_variable(client: httpx.Client, private: Registry) -> None:
    create_function(client, "npm", runtime_of("node"), entrypoint="main.js")
    set_variable(client, "npm", "NPM_TOKEN", TOKEN, secret=True)
    files: dict[str, str | bytes] = {
        "main.js": NODE,
        "package.json": json.dumps({"name": "f", "version": "1.0.0", "dependencies": {"@acme/words": "1.0.0"}}),
        ".npmrc": f"@acme:registry=http://{place(private)}/\n//{place(private)}/:_authToken=${{NPM_TOKEN}}\n"
        "audit=false\nfund=false\nupdate-notifier=false\n",
    }
    done = without_secrets(deploy(client, "npm", files))
    assert done["status"] == "ready", done["buildLogs"]
    assert execute(client, "npm")["responseBody"] == "private"
    assert f"/files/{TARBALL}" in private.requests


def test_a_wrong_token_fails_the_build_and_is_not_told(client: httpx.Client, private: Registry) -> None:
    python_function(client, private, "refused", token="not-the-t0ken")
    done = without_secrets(deploy(client, "refused", python_files(private)), TOKEN, "not-the-t0ken")
    assert done["status"] == "failed"
    assert "acme-words" in done["buildLogs"]
    assert "/simple/acme-words/" in private.refused


def test_the_cache_spares_the_registry_until_a_push_without_it(
    client: httpx.Client, server: Server, private: Registry, tmp_path: Path
) -> None:
    """Through the whole server and the command: installed once, restored, and installed anew when asked to."""
    python_function(client, private, "cached")
    code = tmp_path / "functions" / "cached"
    code.mkdir(parents=True)
    for name, content in python_files(private).items():
        (code / name).write_text(str(content))
    # The cache is the project's: what another test installed from the same list would be restored here.
    (code / "requirements.txt").write_text(f"# of this test\n{REQUIREMENTS}")
    owner = server.credentials
    entry = {
        "$id": "cached",
        "name": "cached",
        "runtime": runtime_of("python"),
        "path": "functions/cached",
        "entrypoint": "main.py",
    }
    config = {"projectId": owner["projectId"], "functions": [entry]}
    (tmp_path / "appwrite.config.json").write_text(json.dumps(config))

    def push(*flags: str) -> tuple[str, int]:
        """The log of the build, and how often the package was fetched for it."""
        before = private.requests.count(f"/files/{WHEEL}")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
        environment |= {"HEARTH_ENDPOINT": server.endpoint, "HEARTH_KEY": owner["apiKey"]}
        environment["XDG_STATE_HOME"] = str(tmp_path / "state")
        done = subprocess.run(
            [str(HEARTH), "push", "cached", *flags, "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_WAIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (pushed,) = json.loads(done.stdout)
        log = built(client, "cached", pushed["deploymentId"])["buildLogs"]
        return log, private.requests.count(f"/files/{WHEEL}") - before

    first, fetched = push()
    assert RESTORED not in first
    assert fetched == 1
    (code / "main.py").write_text(PYTHON + "# another\n")
    second, fetched = push()
    assert RESTORED in second
    assert fetched == 0
    third, fetched = push("--no-cache")
    assert RESTORED not in third
    assert fetched == 1
    assert execute(client, "cached")["responseBody"] == "private"
