"""The official CLI in key mode, unmodified: set-up, push of a new and a known function, variables, pull.

What each version does is recorded in the contract (clients 5). The exit status says nothing: it is 0 for a failed
push too, so what counts is what the server has afterwards and what the CLI prints.
"""

import hashlib
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.api import execute, ok
from tests.support.archives import DIGESTS, incompressible
from tests.support.server import HEARTH, Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]

MODULES = Path(__file__).parent / "node" / "node_modules"
PAYLOAD = incompressible(11_000_000, seed=11)
CODE = "module.exports = async ({ req, res }) => res.text(`${process.env.GREETING ?? 'none'}:${req.bodyText}`);\n"
VARS = [{"key": "GREETING", "value": "hello"}, {"key": "SECOND", "value": "two"}]
VARIABLES = "".join(f"{it['key']}={it['value']}\n" for it in VARS)
RUN_WAIT_S = 90
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Cli:
    """One version of the CLI with a home and a project folder of its own."""

    def __init__(self, version: str, folder: Path) -> None:
        self.version = version
        self.major = int(version.partition(".")[0])
        self.package = MODULES / f"appwrite-cli-{self.major}"
        self.home, self.project = folder / "home", folder / "project"
        for path in (self.home, self.project):
            path.mkdir()

    @property
    def config(self) -> Path:
        """The project's file; CLI 6 knows only the older name."""
        return self.project / ("appwrite.json" if self.major < 8 else "appwrite.config.json")

    def run(self, *arguments: str) -> str:
        """Run a command in the project's folder; what it printed, without colours."""
        done = subprocess.run(
            ["node", str(self.package / "index.js"), *arguments],
            cwd=self.project,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_WAIT_S,
            env={**os.environ, "HOME": str(self.home), "NO_COLOR": "1"},
            check=False,
        )
        return _COLOURS.sub("", done.stdout + done.stderr)

    def push(self, *options: str) -> str:
        return self.run("--all", "--force", "push", "functions", *options)

    def log_in(self, server: Server) -> str:
        owner = server.credentials
        return self.run(
            *("client", "--endpoint", server.endpoint, "--project-id", owner["projectId"], "--key", owner["apiKey"])
        )

    def configure(self, server: Server, functions: list[dict[str, Any]]) -> None:
        document = {"projectId": server.credentials["projectId"], "endpoint": server.endpoint, "functions": functions}
        self.config.write_text(json.dumps(document, indent=2))


def function_entry(id: str, runtime: str) -> dict[str, Any]:
    return {
        "$id": id,
        "name": id,
        "runtime": runtime,
        "specification": "s-1vcpu-512mb",
        "execute": ["any"],
        "events": [],
        "scopes": ["users.read"],
        "schedule": "",
        "timeout": 20,
        "enabled": True,
        "logging": True,
        "entrypoint": "main.js",
        "commands": "",
        "ignore": ["node_modules", ".env"],
        "path": f"functions/{id}",
    }


@pytest.mark.parametrize("version", ["6.2.3", "8.3.0", "11.1.1", "12.0.1"])
def test_the_cli_pushes_and_pulls(server: Server, node: str, tmp_path: Path, version: str) -> None:
    """Set-up, a new function, variables, more than one chunk of code, and all of it back."""
    cli = Cli(version, tmp_path)
    assert json.loads((cli.package / "package.json").read_text())["version"] == version
    id = f"cli-{cli.major}"
    code = cli.project / "functions" / id
    code.mkdir(parents=True)
    (code / "main.js").write_text(CODE)
    (code / ".env").write_text(VARIABLES)
    entry = function_entry(id, node)
    if cli.major < 8:  # it takes variables from its configuration, not from a file
        entry["vars"] = VARS
    cli.configure(server, [entry])
    assert "error" not in cli.log_in(server).lower()

    with server.client() as client:
        push_new(cli, client, id)
        assert execute(client, id, body="x")["responseBody"] == "none:x"
        push_variables(cli, client, id)
        assert execute(client, id, body="y")["responseBody"] == "hello:y"
        push_large(cli, client, id, code)
        pull(cli, server, id, code)
        pull_variables(cli, id)
        assert client.delete(f"/functions/{id}").status_code == 204


def push_new(cli: Cli, client: httpx.Client, id: str) -> None:
    """From version 8 on a first push ends for want of a console session, the second completes (clients 5.6)."""
    printed = cli.push()
    function = ok(client.get(f"/functions/{id}"))
    if cli.major >= 8:
        assert "Session not found" in printed
        assert function["deploymentId"] == ""
        printed = cli.push()
        function = ok(client.get(f"/functions/{id}"))
    assert function["deploymentId"] != "", printed
    assert function["execute"] == ["any"]
    assert function["scopes"] == ["users.read"]
    deployment = ok(client.get(f"/functions/{id}/deployments/{function['deploymentId']}"))
    assert (deployment["type"], deployment["status"]) == ("cli", "ready"), printed


def push_variables(cli: Cli, client: httpx.Client, id: str) -> None:
    """What was there is replaced by what the project has, also when it is more than a page."""
    for number in range(30):
        body = {"variableId": f"old-{number}", "key": f"OLD_{number}", "value": "x", "secret": False}
        ok(client.post(f"/functions/{id}/variables", json=body))
    printed = cli.push("--with-variables", "--no-code")
    variables = ok(client.get(f"/functions/{id}/variables"))
    assert {it["key"]: it["value"] for it in variables["variables"]} == {"GREETING": "hello", "SECOND": "two"}, printed


def push_large(cli: Cli, client: httpx.Client, id: str, code: Path) -> None:
    """Three chunks arrive whole, and the new deployment replaces the old one."""
    before = ok(client.get(f"/functions/{id}"))["deploymentId"]
    (code / "main.js").write_text(DIGESTS["node"])
    (code / "payload.bin").write_bytes(PAYLOAD)
    printed = cli.push()
    function = ok(client.get(f"/functions/{id}"))
    assert function["deploymentId"] not in ("", before), printed
    deployment = ok(client.get(f"/functions/{id}/deployments/{function['deploymentId']}"))
    assert deployment["chunksTotal"] == 3
    assert deployment["sourceSize"] > len(PAYLOAD)
    assert execute(client, id)["responseBody"] == hashlib.sha256(PAYLOAD).hexdigest()


def pull(cli: Cli, server: Server, id: str, pushed: Path) -> None:
    """Code and settings come back into an empty project as they were pushed."""
    for path in sorted(cli.project.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    cli.configure(server, [])
    printed = cli.run("--all", "--force", "pull", "functions")
    entries = {it["$id"]: it for it in json.loads(cli.config.read_text())["functions"]}
    assert entries[id]["entrypoint"] == "main.js", printed
    assert entries[id]["timeout"] == 20
    pulled = cli.project / entries[id]["path"]
    assert (pulled / "main.js").read_text() == DIGESTS["node"], printed
    assert (pulled / "payload.bin").read_bytes() == PAYLOAD
    assert not (pulled / ".env").exists(), "ignored when it was pushed"
    assert pulled.name == pushed.name


def pull_variables(cli: Cli, id: str) -> None:
    """Asked for, the variables come back too, where the version keeps them."""
    printed = cli.run("--all", "--force", "pull", "functions", "--with-variables")
    entries = {it["$id"]: it for it in json.loads(cli.config.read_text())["functions"]}
    assert sorted((cli.project / entries[id]["path"] / ".env").read_text().splitlines()) == VARIABLES.split(), printed


def test_the_cli_reads_what_our_own_command_wrote(server: Server, node: str, tmp_path: Path) -> None:
    """`hearth init` makes the folder and the CLI pushes it; `hearth pull` writes it anew and the CLI pushes that."""
    cli = Cli("12.0.1", tmp_path)
    owner = server.credentials
    id = f"ours-{cli.major}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEARTH_")}
    environment |= {"HEARTH_ENDPOINT": server.endpoint, "HEARTH_KEY": owner["apiKey"], "HOME": str(cli.home)}

    def ours(*arguments: str) -> None:
        subprocess.run(
            [str(HEARTH), *arguments], cwd=cli.project, env=environment, check=True, timeout=RUN_WAIT_S,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    ours("init", ".", "--name", id, "--runtime", node, "--project", owner["projectId"], "--force")
    assert cli.config.is_file()
    assert "error" not in cli.log_in(server).lower()
    with server.client() as client:
        cli.push()
        printed = cli.push()  # only the second one completes (clients 5.6)
        first = ok(client.get(f"/functions/{id}"))
        assert first["deploymentId"] != "", printed
        hello = "Hello from your function."
        assert execute(client, id, path="/", method="GET")["responseBody"].startswith(hello)

        ok(client.put(f"/functions/{id}", json={"name": "Renamed", "timeout": 33, "execute": ["any"]}))
        ours("pull", id, "--force")
        (entry,) = [it for it in json.loads(cli.config.read_text())["functions"] if it["$id"] == id]
        assert (entry["name"], entry["timeout"]) == ("Renamed", 33)
        printed = cli.push()
        second = ok(client.get(f"/functions/{id}"))
        assert second["deploymentId"] not in ("", first["deploymentId"]), printed
        assert (second["name"], second["timeout"]) == ("Renamed", 33)
        assert execute(client, id, path="/", method="GET")["responseBody"].startswith(hello)
