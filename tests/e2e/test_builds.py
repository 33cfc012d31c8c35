"""Builds through a whole server: private registries, the build cache, and a bundle of 40 MB."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.executor.sandbox.config import HOST_PSEUDO_ADDRESS
from hearth.runtimes.shims import zstd
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
MODULES, MODULE_BYTES = 400, 100_000
MAIN = """
const words = [1, 2, 3].map((n) => require(`./lib/m${n}.js`).word);
module.exports = async ({ res }) => res.text(words.join(' '));
"""


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


def test_a_python_package_comes_by_a_secret_variable_and_the_cache_spares_the_registry_until_it_is_left_out(
    client: httpx.Client, server: Server, private: Registry, tmp_path: Path
) -> None:
    """By a pip.conf and PIP_INDEX_URL: installed once, restored, and installed anew by a push without the cache."""
    python_function(client, private, "cached")
    code = tmp_path / "functions" / "cached"
    code.mkdir(parents=True)
    for name, content in python_files(private).items():
        (code / name).write_text(str(content))
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
        log = without_secrets(built(client, "cached", pushed["deploymentId"]))["buildLogs"]
        return log, private.requests.count(f"/files/{WHEEL}") - before

    first, fetched = push()
    assert RESTORED not in first
    assert fetched == 1
    assert execute(client, "cached")["responseBody"] == "private"
    (code / "main.py").write_text(PYTHON + "# another\n")
    second, fetched = push()
    assert RESTORED in second
    assert fetched == 0
    third, fetched = push("--no-cache")
    assert RESTORED not in third
    assert fetched == 1
    assert execute(client, "cached")["responseBody"] == "private"


def bundle() -> dict[str, str | bytes]:
    """Code that compresses as code does: an upload of it is small."""
    files: dict[str, str | bytes] = {"main.js": MAIN}
    for number in range(MODULES):
        line = f"// module {number}: what a bundler leaves of a library, line after line of it\n"
        files[f"lib/m{number}.js"] = f"exports.word = 'w{number}';\n" + line * (MODULE_BYTES // len(line))
    return files


def cold(client: httpx.Client) -> float:
    started = time.monotonic()
    assert execute(client, "large")["responseBody"] == "w1 w2 w3"
    return (time.monotonic() - started) * 1_000


def test_a_bundle_of_40_mb_is_packed_small_and_starts_cold_also_after_its_code_was_dropped(server: Server) -> None:
    with server.client() as client:
        create_function(client, "large", runtime_of("node"), entrypoint="main.js", timeout=30)
        done = deploy(client, "large", bundle(), commands=":")
        assert done["status"] == "ready", done["buildLogs"]
        print(f"cold start of 40 MB, unpacked before: {cold(client):.0f} ms")
        path = f"/functions/large/deployments/{done['$id']}/download"
        head = client.get(path, params={"type": "output"}, headers={"range": "bytes=0-99"})
        assert head.status_code == 206
        assert head.content.startswith(zstd.MAGIC if zstd.is_available() else b"\x1f\x8b")
        assert ok(client.get(f"/functions/large/deployments/{done['$id']}"))["buildSize"] < 4_000_000

    # As on a machine that never had it: unpacked by the first execution.
    assert server.stop() == 0
    shutil.rmtree(server.data_dir / "cache" / "code")
    server.start()
    with server.client() as client:
        print(f"cold start of 40 MB that has to be unpacked: {cold(client):.0f} ms")
