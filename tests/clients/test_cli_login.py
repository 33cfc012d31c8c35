"""The official CLI, unmodified, by somebody who has logged in: who he is, his organizations, pushes, pull, logout.

What each version does is recorded in the contract (clients 5.2-5.6).
"""

import json
from pathlib import Path

import pytest

from tests.clients.test_cli import (
    CODE,
    VARIABLES,
    VARS,
    Cli,
    function_entry,
    pull,
    pull_variables,
    push_large,
    push_variables,
)
from tests.support.api import execute, ok
from tests.support.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]


def log_in(cli: Cli, server: Server, password: str) -> str:
    owner = server.credentials
    return cli.run(*("login", "--email", owner["consoleEmail"], "--password", password, "--endpoint", server.endpoint))


@pytest.mark.parametrize("version", ["6.2.3", "8.3.0", "11.1.1", "12.0.1"])
def test_the_cli_logs_in_and_acts_on_a_project(server: Server, node: str, tmp_path: Path, version: str) -> None:
    """Unlike a key, a login carries a first push of a new function to its end (clients 5.6)."""
    cli = Cli(version, tmp_path)
    owner = server.credentials
    refused = log_in(cli, server, "wrong horse battery")
    assert "Invalid credentials" in refused, refused
    printed = log_in(cli, server, owner["consolePassword"])
    assert "Success" in printed, printed
    assert owner["consoleEmail"] in cli.run("whoami"), "the whole Set-Cookie line comes back as the cookie"

    id = f"login-{cli.major}"
    code = cli.project / "functions" / id
    code.mkdir(parents=True)
    (code / "main.js").write_text(CODE)
    (code / ".env").write_text(VARIABLES)
    entry = function_entry(id, node)
    if cli.major < 8:
        entry["vars"] = VARS
    cli.configure(server, [entry])
    printed = cli.push()
    with server.client() as client:
        function = ok(client.get(f"/functions/{id}"))
        assert function["deploymentId"] != "", printed
        assert execute(client, id, body="x")["responseBody"] == "none:x"
        push_variables(cli, client, id)
        assert execute(client, id, body="y")["responseBody"] == "hello:y"
        push_large(cli, client, id, code)
        pull(cli, server, id, code)
        pull_variables(cli, id)
        assert client.delete(f"/functions/{id}").status_code == 204

    teams = json.loads(cli.run("--json", "teams", "list"))
    assert teams["total"] == 0, "these are the project's, not the organizations"
    cli.run("logout")
    assert owner["consoleEmail"] not in cli.run("whoami")
