"""What stands around functions, by official clients: the CLI's domains and console commands, the Python SDK."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from appwrite.client import Client
from appwrite.enums.project_key_scopes import ProjectKeyScopes
from appwrite.enums.project_service_id import ProjectServiceId
from appwrite.exception import AppwriteException
from appwrite.services.project import Project
from appwrite.services.proxy import Proxy
from appwrite.services.webhooks import Webhooks

from tests.clients.test_cli import CODE, Cli, function_entry
from tests.clients.test_cli_login import log_in
from tests.support.api import create_function, ok
from tests.support.server import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow, pytest.mark.sandbox]


@pytest.fixture
def cli(server: Server, tmp_path: Path) -> Cli:
    """The CLI after a login, with a project."""
    made = Cli("12.0.1", tmp_path)
    assert "Success" in log_in(made, server, server.credentials["consolePassword"])
    return made


@pytest.mark.parametrize("version", ["8.3.0", "12.0.1"])
def test_a_function_pushed_by_the_cli_has_a_domain_that_visitors_can_open(
    server: Server, node: str, tmp_path: Path, version: str
) -> None:
    cli = Cli(version, tmp_path)
    assert "Success" in log_in(cli, server, server.credentials["consolePassword"])
    id = f"visited-{cli.major}"
    code = cli.project / "functions" / id
    code.mkdir(parents=True)
    (code / "main.js").write_text(CODE)
    cli.configure(server, [function_entry(id, node)])
    printed = cli.push()
    with server.client() as client:
        (rule,) = [it for it in ok(client.get("/proxy/rules"))["rules"] if it["deploymentResourceId"] == id]
        assert rule["domain"] in printed, printed
        assert rule["deploymentId"] == ok(client.get(f"/functions/{id}"))["deploymentId"]
        visit = httpx.post(
            server.endpoint.removesuffix("/v1"), headers={"host": rule["domain"]}, content="hello", trust_env=False
        )
        assert (visit.status_code, visit.text) == (200, "none:hello")
        execution = ok(client.get(f"/functions/{id}/executions/{visit.headers['x-appwrite-execution-id']}"))
        assert (execution["trigger"], execution["status"]) == ("http", "completed")
        assert client.delete(f"/functions/{id}").status_code == 204


def test_the_cli_administers_a_project(server: Server, cli: Cli) -> None:
    project = server.credentials["projectId"]

    def run(*arguments: str) -> Any:
        printed = cli.run("--json", *arguments)
        try:
            return json.loads(printed)
        except ValueError:
            raise AssertionError(printed) from None

    cli.configure(server, [])
    assert project in [it["$id"] for it in run("projects", "list")["projects"]]
    assert run("projects", "get", "--project-id", project)["name"] == "Default"
    common = ("--project-id", project)
    key = run("projects", "create-key", *common, "--name", "cli", "--scopes", "functions.read")
    with server.client() as client:
        assert client.get("/functions", headers={"x-appwrite-key": key["secret"]}).status_code == 200
    hook = run(
        *("projects", "create-webhook", *common, "--name", "hook", "--events", "functions.*.create"),
        *("--url", "https://example.com/", "--security", "true"),
    )
    assert (hook["security"], len(hook["signatureKey"])) == (True, 128)
    platform = run(
        *("projects", "create-platform", *common, "--type", "web", "--name", "web", "--hostname", "cli.example.com")
    )
    assert platform["hostname"] == "cli.example.com"
    assert run("projects", "create-jwt", *common, "--scopes", "users.read")["jwt"].startswith("ephemeral_")
    assert run("projects", "list-webhooks", *common)["total"] == 1
    for kind, id in (("key", key["$id"]), ("webhook", hook["$id"]), ("platform", platform["$id"])):
        cli.run("projects", f"delete-{kind}", *common, f"--{kind}-id", id)
    assert run("projects", "list-platforms", *common)["total"] == 0
    assert run("functions", "list-templates", "--limit", "2")["total"] == 41


@pytest.fixture
def sdk(server: Server) -> Client:
    """The newest Python SDK, which refuses answers that lack a field or hold a null."""
    owner = server.credentials
    return Client().set_endpoint(server.endpoint).set_project(owner["projectId"]).set_key(owner["apiKey"])


def test_the_python_sdk_reads_every_model(server: Server, sdk: Client, node: str) -> None:
    project, proxy, webhooks = Project(sdk), Proxy(sdk), Webhooks(sdk)
    assert project.get().name == "Default"
    changed = project.update_service(ProjectServiceId.AVATARS, False)
    assert [it.enabled for it in changed.services if it.id == ProjectServiceId.AVATARS] == [False]
    project.update_service(ProjectServiceId.AVATARS, True)
    assert [it.name for it in project.list_keys().keys] == ["Default"]
    with pytest.raises(AppwriteException) as refused:
        project.create_ephemeral_key([ProjectKeyScopes.USERS_READ], 60)
    assert refused.value.type == "key_creation_denied"

    web = project.create_web_platform("sdk-web", "Web", "sdk.example.com")
    app = project.create_android_platform("sdk-app", "App", "com.example.app")
    assert (web.hostname, app.applicationid) == ("sdk.example.com", "com.example.app")
    assert {it.id for it in project.list_platforms().platforms} == {"sdk-web", "sdk-app"}
    for id in ("sdk-web", "sdk-app"):
        project.delete_platform(id)

    variable = project.create_variable("sdk-variable", "SDK", "value", False)
    assert (variable.value, variable.resourcetype) == ("value", "project")
    assert project.update_variable("sdk-variable", value="new").value == "new"
    assert [it.key for it in project.list_variables().variables] == ["SDK"]
    project.delete_variable("sdk-variable")

    hook = webhooks.create("sdk-hook", "https://example.com/", "Hook", ["functions.*"], True, True, "u", "p")
    assert (hook.tls, hook.authusername, len(hook.secret)) == (True, "u", 128)
    assert webhooks.update("sdk-hook", "New", "https://example.com/", ["users.*"]).name == "New"
    assert webhooks.update_secret("sdk-hook").secret != hook.secret
    assert webhooks.list().total == 1
    webhooks.delete("sdk-hook")

    with server.client() as client:
        create_function(client, "sdk-domain", node, execute=["any"], entrypoint="main.js")
    rule = proxy.create_function_rule("sdk.functions.localhost", "sdk-domain")
    assert (rule.status.value, rule.deploymentid) == ("verified", "")
    assert proxy.get_rule(rule.id).domain == "sdk.functions.localhost"
    assert proxy.update_rule_status(rule.id).status.value == "verified"
    assert rule.id in [it.id for it in proxy.list_rules().rules]
    proxy.delete_rule(rule.id)
    with server.client() as client:
        assert client.delete("/functions/sdk-domain").status_code == 204
