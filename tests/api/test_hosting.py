"""Projects, keys, platforms, project variables, templates, the console, published events, over real control."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hearth.model.events import Occurrence
from hearth.model.people import CONSOLE
from tests.api.hosting import TEAM_ID, add_console_user, add_user, admin_client, client_of, console_client, deploy
from tests.api.support import NOW
from tests.api.whole import OTHER_PROJECT_ID, PROJECT_ID, Whole, whole

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[Whole]:
    async with whole(tmp_path) as composed:
        yield composed


@pytest.fixture
async def client(app: Whole) -> AsyncIterator[httpx.AsyncClient]:
    async with app.client() as opened:
        yield opened


@pytest.fixture
async def session(app: Whole) -> str:
    return await add_console_user(app)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"]


class TestProjects:
    async def test_a_member_makes_finds_and_renames_projects(self, app: Whole, session: str) -> None:
        async with console_client(app, session) as console:
            body = {"projectId": "shop", "name": "Shop", "teamId": TEAM_ID}
            made = await console.post("/projects", json=body)
            assert (made.status_code, made.json()["$id"], made.json()["teamId"]) == (201, "shop", TEAM_ID)
            assert refused(await console.post("/projects", json=body)) == (409, "project_already_exists")
            found = await console.get("/projects", params={"search": "sho"})
            assert [item["$id"] for item in found.json()["projects"]] == ["shop"]
            mine = {"method": "equal", "attribute": "teamId", "values": [TEAM_ID]}
            listed = await console.get("/projects", params={"queries[0]": json.dumps(mine)})
            assert (listed.json()["total"], {item["$id"] for item in listed.json()["projects"]}) == (
                2,
                {PROJECT_ID, "shop"},
            )
            renamed = await console.patch("/projects/shop", json={"name": "Store"})
            assert (renamed.json()["name"], (await console.get("/projects/shop")).json()["name"]) == ("Store", "Store")
            new = await console.post(
                "/organization/projects",
                json={"projectId": "unique()", "name": "New"},
                headers={"x-appwrite-organization": TEAM_ID},
            )
            assert (new.status_code, len(new.json()["$id"])) == (201, 20)

    @pytest.mark.parametrize(
        ("body", "status", "type"),
        [
            ({"projectId": "console"}, 400, "project_reserved_project"),
            ({"teamId": "missing"}, 404, "team_not_found"),
            ({"region": "moon"}, 400, "project_region_unsupported"),
            ({"region": "default"}, 201, ""),
            ({"name": ""}, 400, "general_argument_invalid"),
        ],
    )
    async def test_what_cannot_be_a_project_is_refused(
        self, app: Whole, session: str, body: dict[str, Any], status: int, type: str
    ) -> None:
        async with console_client(app, session) as console:
            answer = await console.post("/projects", json={"projectId": "p1", "name": "P", "teamId": TEAM_ID} | body)
        assert (answer.status_code, answer.json().get("type", "")) == (status, type)

    async def test_projects_of_others_are_not_there(self, app: Whole, session: str) -> None:
        stranger = await add_console_user(app, "stranger", roles=())
        async with console_client(app, stranger) as console:
            assert (await console.get("/projects")).json() == {"total": 0, "projects": []}
            assert refused(await console.get(f"/projects/{PROJECT_ID}")) == (404, "project_not_found")
            assert refused(await console.get(f"/projects/{PROJECT_ID}/keys")) == (404, "project_not_found")
            body = {"projectId": "p1", "name": "P", "teamId": TEAM_ID}
            assert refused(await console.post("/projects", json=body)) == (404, "team_not_found")
        async with console_client(app, session) as console:
            assert refused(await console.get(f"/projects/{OTHER_PROJECT_ID}")) == (404, "project_not_found")

    async def test_a_member_without_a_role_of_power_may_look_and_change_nothing(self, app: Whole) -> None:
        viewer = await add_console_user(app, "viewer", roles=("billing",))
        async with console_client(app, viewer) as console:
            assert refused(await console.patch(f"/projects/{PROJECT_ID}", json={"name": "x"})) == (
                401,
                "general_unauthorized_scope",
            )
            assert refused(await console.get(f"/projects/{PROJECT_ID}/webhooks")) == (401, "general_unauthorized_scope")

    async def test_a_users_sight_of_projects_does_not_open_the_paths_of_the_console(self, app: Whole) -> None:
        """Users of a project hold `projects.read`; that must not show them the project's keys."""
        user = await add_user(app)
        async with client_of(app, x_appwrite_project=PROJECT_ID, x_appwrite_session=user) as browser:
            assert refused(await browser.get("/project/keys")) == (401, "general_unauthorized_scope")
            assert refused(await browser.get(f"/projects/{PROJECT_ID}/keys")) == (401, "general_unauthorized_scope")
            assert refused(await browser.get(f"/projects/{OTHER_PROJECT_ID}")) == (404, "project_not_found")

    async def test_a_key_reads_its_own_project_only(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/project")).json()["$id"] == PROJECT_ID
        assert refused(await client.get(f"/projects/{OTHER_PROJECT_ID}")) == (404, "project_not_found")

    async def test_a_service_that_is_off_answers_keys_and_admins_only(
        self, app: Whole, client: httpx.AsyncClient, session: str
    ) -> None:
        await deploy(app, client)
        off = await client.patch("/project/services/functions", json={"enabled": False})
        assert {"$id": "functions", "enabled": False} in off.json()["services"]
        assert off.json()["serviceStatusForFunctions"] is False
        run = "/functions/f1/executions"
        user = await add_user(app)
        async with (
            client_of(app, x_appwrite_project=PROJECT_ID, x_appwrite_session=user) as browser,
            client_of(app, x_appwrite_project=PROJECT_ID) as guest,
            admin_client(app, session) as admin,
        ):
            assert refused(await browser.post(run, json={})) == (403, "general_service_disabled")
            assert refused(await guest.post(run, json={})) == (403, "general_service_disabled")
            # Before the scopes: a guest has no `functions.read`.
            assert refused(await guest.get("/functions")) == (403, "general_service_disabled")
            assert (await client.post(run, json={})).status_code == 201
            assert (await admin.post(run, json={})).status_code == 201
            on = await admin.patch(f"/projects/{PROJECT_ID}/service", json={"service": "functions", "status": True})
            assert on.status_code == 200
            assert (await browser.post(run, json={})).status_code == 201
            await admin.patch("/project/protocols/rest", json={"enabled": False})
            assert refused(await browser.post(run, json={})) == (403, "general_api_disabled")
            await admin.patch(f"/projects/{PROJECT_ID}/api/all", json={"status": True})
            assert (await browser.post(run, json={})).status_code == 201

    async def test_a_project_moves_to_another_organization_of_the_caller_only(self, app: Whole, session: str) -> None:
        async with console_client(app, session) as console:
            answer = await console.patch(f"/projects/{PROJECT_ID}/team", json={"teamId": "elsewhere"})
            assert refused(answer) == (404, "team_not_found")
            same = await console.patch(f"/projects/{PROJECT_ID}/team", json={"teamId": TEAM_ID})
            assert same.json()["teamId"] == TEAM_ID
            labelled = await console.put(f"/projects/{PROJECT_ID}/labels", json={"labels": ["a", "b", "a"]})
            assert labelled.json()["labels"] == ["a", "b"]


class TestKeys:
    async def test_a_key_is_made_used_changed_and_deleted_and_its_secret_is_shown_once(
        self, app: Whole, session: str
    ) -> None:
        async with admin_client(app, session) as admin:
            expire = (NOW + timedelta(days=1)).isoformat()
            made = await admin.post(
                "/project/keys",
                json={"keyId": "k1", "name": "Key", "scopes": ["functions.read"], "expire": expire},
            )
            assert made.status_code == 201
            secret = made.json()["secret"]
            assert secret.startswith("standard_") and len(secret) == 9 + 256
            assert made.json()["expire"] == "2026-11-25T10:20:30.123+00:00"
            assert (await admin.get("/project/keys/k1")).json()["secret"] == ""
            assert [item["secret"] for item in (await admin.get("/project/keys")).json()["keys"]] == ["", ""]
            async with app.client(secret) as user:
                assert (await user.get("/functions")).status_code == 200
                body = {"name": "Key", "scopes": [], "expire": None}
                changed = await admin.put(f"/projects/{PROJECT_ID}/keys/k1", json=body)
                assert (changed.json()["scopes"], changed.json()["expire"]) == ([], "")
                assert refused(await user.get("/functions")) == (401, "general_unauthorized_scope")
                await admin.put("/project/keys/k1", json={"name": "Key", "scopes": ["functions.read"]})
                assert (await user.get("/functions")).status_code == 200
                assert (await admin.delete("/project/keys/k1")).status_code == 204
                assert (await user.get("/functions")).status_code == 401
            assert refused(await admin.get("/project/keys/k1")) == (404, "key_not_found")
            again = {"keyId": "key-default", "name": "Key", "scopes": []}
            assert refused(await admin.post("/project/keys", json=again)) == (409, "key_already_exists")

    async def test_no_key_makes_keys_or_gives_one_what_it_has_not(
        self, app: Whole, client: httpx.AsyncClient, session: str
    ) -> None:
        body = {"keyId": "k2", "name": "Key", "scopes": ["functions.read"]}
        assert refused(await client.post("/project/keys", json=body)) == (403, "key_creation_denied")
        ephemeral = {"scopes": ["functions.read"], "duration": 60}
        assert refused(await client.post("/project/keys/ephemeral", json=ephemeral)) == (403, "key_creation_denied")
        async with admin_client(app, session) as admin:
            made = await admin.post("/project/keys", json=body | {"scopes": ["keys.write"]})
        async with app.client(made.json()["secret"]) as limited:
            more = {"name": "Key", "scopes": ["keys.write", "functions.write"]}
            assert refused(await limited.put("/project/keys/k2", json=more)) == (403, "key_creation_denied")
            same = await limited.put("/project/keys/k2", json={"name": "Renamed", "scopes": ["keys.write"]})
            assert (same.status_code, same.json()["name"]) == (200, "Renamed")

    @pytest.mark.parametrize(
        ("version", "name", "other"), [("1.9.5", "secret", "jwt"), ("1.8.1", "jwt", "secret"), ("", "secret", "jwt")]
    )
    async def test_an_ephemeral_key_works_until_it_ends_under_the_name_each_client_knows(
        self, app: Whole, session: str, version: str, name: str, other: str
    ) -> None:
        headers = {"x-appwrite-response-format": version} if version else {}
        async with console_client(app, session) as console:
            answer = await console.post(
                f"/projects/{PROJECT_ID}/jwts", json={"scopes": ["functions.read"], "duration": 3600}, headers=headers
            )
            too_long = await console.post(
                f"/projects/{PROJECT_ID}/jwts", json={"scopes": ["functions.read"], "duration": 3601}
            )
        assert (answer.status_code, other in answer.json(), answer.json()["projectId"]) == (201, False, PROJECT_ID)
        assert refused(too_long) == (400, "general_argument_invalid")
        async with app.client(answer.json()[name]) as user:
            assert (await user.get("/functions")).status_code == 200
            assert refused(await user.post("/functions", json={})) == (401, "general_unauthorized_scope")

    async def test_scopes_that_do_not_exist_are_refused(self, app: Whole, session: str) -> None:
        async with admin_client(app, session) as admin:
            body = {"keyId": "k3", "name": "Key", "scopes": ["everything"]}
            assert refused(await admin.post("/project/keys", json=body)) == (400, "general_argument_invalid")
            body["scopes"] = ["events.write"]
            assert (await admin.post("/project/keys", json=body)).status_code == 201


class TestPlatforms:
    async def test_pages_of_a_registered_host_may_call_and_others_may_not(
        self, app: Whole, client: httpx.AsyncClient
    ) -> None:
        made = await client.post(
            "/project/platforms/web", json={"platformId": "w", "name": "Web", "hostname": "App.Example.com"}
        )
        assert (made.status_code, made.json()["hostname"], made.json()["type"]) == (201, "app.example.com", "web")
        await client.post("/project/platforms/web", json={"name": "All", "hostname": "*.wild.example"})

        async def ask(origin: str, project: str = PROJECT_ID) -> httpx.Response:
            async with client_of(app, x_appwrite_project=project) as browser:
                return await browser.get("/functions/runtimes", headers={"origin": origin})

        good = await ask("https://app.example.com")
        assert good.headers["access-control-allow-origin"] == "https://app.example.com"
        assert (await ask("https://a.b.wild.example")).status_code == 200
        assert refused(await ask("https://wild.example")) == (403, "general_unknown_origin")
        assert refused(await ask("https://other.example")) == (403, "general_unknown_origin")
        assert refused(await ask("https://app.example.com", OTHER_PROJECT_ID)) == (403, "general_unknown_origin")
        preflight = await client.options("/functions/runtimes", headers={"origin": "https://app.example.com"})
        assert preflight.headers["access-control-allow-origin"] == "https://app.example.com"
        await client.put("/project/platforms/web/w", json={"name": "Web", "hostname": "new.example.com"})
        assert refused(await ask("https://app.example.com")) == (403, "general_unknown_origin")
        assert (await ask("https://new.example.com")).status_code == 200
        assert (await client.delete("/project/platforms/w")).status_code == 204
        assert refused(await ask("https://new.example.com")) == (403, "general_unknown_origin")
        assert refused(await client.get("/project/platforms/w")) == (404, "platform_not_found")

    @pytest.mark.parametrize(
        ("type", "field"),
        [
            ("apple", "bundleIdentifier"),
            ("android", "applicationId"),
            ("linux", "packageName"),
            ("windows", "packageIdentifierName"),
        ],
    )
    async def test_apps_are_registered_by_the_name_their_kind_has(
        self, client: httpx.AsyncClient, type: str, field: str
    ) -> None:
        body = {"platformId": "p1", "name": "App", field: "com.example.app"}
        made = await client.post(f"/project/platforms/{type}", json=body)
        assert (made.status_code, made.json()[field], made.json()["key"]) == (201, "com.example.app", "com.example.app")
        assert refused(await client.post(f"/project/platforms/{type}", json=body)) == (409, "platform_already_exists")
        wrong = await client.put("/project/platforms/web/p1", json={"name": "x", "hostname": "x.example"})
        assert refused(wrong) == (404, "platform_not_found")
        listed = await client.get("/project/platforms")
        assert [(item["$id"], item["type"]) for item in listed.json()["platforms"]] == [("p1", type)]

    async def test_older_consoles_register_platforms_in_their_way(self, app: Whole, session: str) -> None:
        path = f"/projects/{PROJECT_ID}/platforms"
        async with console_client(app, session) as console:
            web = await console.post(path, json={"type": "flutter-web", "name": "Web", "hostname": "old.example.com"})
            assert (web.status_code, web.json()["type"]) == (201, "web")
            assert refused(await console.post(path, json={"type": "web", "name": "Web"})) == (
                400,
                "general_argument_invalid",
            )
            changed = await console.put(f"{path}/{web.json()['$id']}", json={"name": "New"})
            assert (changed.json()["name"], changed.json()["hostname"]) == ("New", "old.example.com")
            assert (await console.get(path)).json()["total"] == 1
            assert (await console.delete(f"{path}/{web.json()['$id']}")).status_code == 204


class TestProjectVariables:
    async def test_a_write_reaches_every_function_and_no_other_project(
        self, app: Whole, client: httpx.AsyncClient
    ) -> None:
        deployment_id = await deploy(app, client)
        run = "/functions/f1/executions"
        await client.post(run, json={})
        seen: list[str] = []
        app.events.subscribe(lambda occurrence: seen.append(occurrence.event))
        made = await client.post(
            "/project/variables", json={"variableId": "v", "key": "A", "value": "1", "secret": False}
        )
        assert (made.status_code, made.json()["resourceType"], made.json()["resourceId"]) == (201, "project", "")
        assert (await client.get("/functions/f1")).json()["live"] is False
        assert app.executor.retired == [deployment_id]
        await client.post(run, json={})
        assert app.executor.invocations[-1].template.environment["A"] == "1"
        assert "A" not in app.executor.invocations[0].template.environment
        updated = await client.put("/project/variables/v", json={"value": "2", "secret": True})
        assert updated.json()["value"] == ""
        await client.post(run, json={})
        assert app.executor.invocations[-1].template.environment["A"] == "2"
        assert refused(await client.put("/project/variables/v", json={"secret": False})) == (
            400,
            "variable_cannot_unset_secret",
        )
        assert refused(await client.put("/project/variables/v", json={})) == (400, "general_argument_invalid")
        twice = {"key": "A", "value": "3"}
        assert refused(await client.post("/project/variables", json=twice)) == (409, "variable_already_exists")
        assert (await client.delete("/project/variables/v")).status_code == 204
        await client.post(run, json={})
        assert "A" not in app.executor.invocations[-1].template.environment
        assert [event for event in seen if event.startswith("variables.")] == [
            "variables.v.create",
            "variables.v.update",
            "variables.v.delete",
        ]

    async def test_variables_of_functions_are_not_among_them(self, app: Whole, client: httpx.AsyncClient) -> None:
        await deploy(app, client)
        own = await client.post("/functions/f1/variables", json={"variableId": "own", "key": "A", "value": "1"})
        assert own.status_code == 201
        assert (await client.get("/project/variables")).json() == {"total": 0, "variables": []}
        for answer in (
            await client.get("/project/variables/own"),
            await client.put("/project/variables/own", json={"value": "x"}),
            await client.delete("/project/variables/own"),
        ):
            assert refused(answer) == (404, "variable_not_found")


class TestTemplates:
    async def test_templates_are_listed_best_first_and_filtered(self, client: httpx.AsyncClient) -> None:
        whole_list = (await client.get("/functions/templates", params={"limit": 5000})).json()
        assert whole_list["total"] == len(whole_list["templates"]) == 41
        first = (await client.get("/functions/templates")).json()
        assert (first["total"], len(first["templates"])) == (41, 25)
        page = (await client.get("/functions/templates", params={"limit": 2, "offset": 1, "total": "false"})).json()
        assert (page["total"], page["templates"]) == (0, whole_list["templates"][1:3])
        starters = {"useCases[0]": "starter", "runtimes[0]": "rust-1.83"}
        assert [it["id"] for it in (await client.get("/functions/templates", params=starters)).json()["templates"]] == [
            "starter"
        ]
        wrong = await client.get("/functions/templates", params={"useCases[0]": "nothing"})
        assert refused(wrong) == (400, "general_argument_invalid")

    async def test_a_template_is_whole_and_needs_no_project(self, app: Whole) -> None:
        async with client_of(app) as nobody:
            found = (await nobody.get("/functions/templates/starter")).json()
            assert (found["vcsProvider"], found["providerOwner"], found["providerRepositoryId"]) == (
                "github",
                "appwrite",
                "templates",
            )
            assert "score" not in found
            runtime = next(it for it in found["runtimes"] if it["name"] == "python-3.12")
            assert (runtime["entrypoint"], runtime["providerRootDirectory"]) == ("src/main.py", "python/starter")
            old = await nobody.get(
                "/functions/templates/prompt-chatgpt", headers={"x-appwrite-response-format": "1.6.0"}
            )
            assert all("secret" not in it for it in old.json()["variables"])
            missing = await nobody.get("/functions/templates/missing")
            assert refused(missing) == (404, "function_template_not_found")


class TestConsole:
    async def test_the_cli_learns_the_functions_domain(self, app: Whole, session: str) -> None:
        async with console_client(app, session) as console:
            answer = await console.get("/console/variables")
            assert answer.json()["_APP_DOMAIN_FUNCTIONS"] == "functions.localhost"
        async with client_of(app, x_appwrite_project=CONSOLE) as guest:
            assert (await guest.get("/console/variables")).status_code == 401

    async def test_scopes_and_regions_are_public(self, app: Whole) -> None:
        async with client_of(app, x_appwrite_project=CONSOLE) as guest:
            scopes = (await guest.get("/console/scopes/project")).json()
            assert scopes["total"] == len(scopes["scopes"]) > 50
            assert {"$id", "description", "category", "deprecated"} == set(scopes["scopes"][0])
            assert (await guest.get("/console/scopes/organization")).json()["scopes"][0]["$id"] == "projects.read"
            assert [it["$id"] for it in (await guest.get("/console/regions")).json()["regions"]] == ["default"]

    async def test_a_domain_is_free_until_it_is_taken(self, app: Whole, client: httpx.AsyncClient) -> None:
        asked = {"value": "a.functions.localhost", "type": "rules"}
        assert (await client.get("/console/resources", params=asked)).status_code == 204
        await deploy(app, client)
        await client.post("/proxy/rules/function", json={"domain": "a.functions.localhost", "functionId": "f1"})
        assert refused(await client.get("/console/resources", params=asked)) == (409, "resource_already_exists")


class TestPublishing:
    async def test_a_published_event_is_heard_under_all_its_names(self, app: Whole, client: httpx.AsyncClient) -> None:
        heard: list[Occurrence] = []
        app.events.subscribe(heard.append)
        body = {"event": "databases.d.collections.c.documents.x.create", "payload": {"$id": "x"}, "userId": "u1"}
        answer = await client.post("/events", json=body)
        assert answer.status_code == 202
        assert answer.json()["events"][0] == body["event"]
        assert "databases.*.tables.*.rows.*.create" in answer.json()["events"]
        assert [(it.project_id, it.event, it.user_id) for it in heard] == [(PROJECT_ID, body["event"], "u1")]

    @pytest.mark.parametrize(
        "body",
        [
            {"event": "functions.f.create", "payload": {}},
            {"event": "users.*.create", "payload": {}},
            {"event": "users.u.create", "payload": "text"},
            {"event": "users.u.create"},
            {"event": "users.u.create", "payload": {"a": "x" * 1_048_577}},
        ],
    )
    async def test_what_may_not_be_published_is_refused(
        self, app: Whole, client: httpx.AsyncClient, body: dict[str, Any]
    ) -> None:
        heard: list[Occurrence] = []
        app.events.subscribe(heard.append)
        assert refused(await client.post("/events", json=body)) == (400, "general_argument_invalid")
        assert heard == []

    async def test_publishing_needs_its_scope(self, app: Whole) -> None:
        user = await add_user(app)
        async with client_of(app, x_appwrite_project=PROJECT_ID, x_appwrite_session=user) as browser:
            answer = await browser.post("/events", json={"event": "users.u.create", "payload": {}})
            assert refused(answer) == (401, "general_unauthorized_scope")


class TestWebhookSettings:
    BODY = {"webhookId": "h", "name": "Hook", "url": "https://example.com/hook", "events": ["functions.*"]}  # noqa: RUF012

    async def test_a_webhook_shows_its_secret_once_and_its_password_never(self, client: httpx.AsyncClient) -> None:
        made = await client.post("/webhooks", json=self.BODY | {"authUsername": "u", "authPassword": "p"})
        assert made.status_code == 201
        assert len(made.json()["secret"]) == 128
        assert (made.json()["tls"], made.json()["security"], made.json()["authPassword"]) == (True, True, "")
        shown = (await client.get("/webhooks/h")).json()
        assert (shown["secret"], shown["signatureKey"], shown["authUsername"]) == ("", "", "u")
        assert refused(await client.post("/webhooks", json=self.BODY)) == (409, "webhook_already_exists")
        rotated = await client.patch("/webhooks/h/secret", json={})
        assert len(rotated.json()["secret"]) == 128 and rotated.json()["secret"] != made.json()["secret"]
        own = await client.patch("/webhooks/h/secret", json={"secret": "my own key"})
        assert own.json()["secret"] == "my own key"
        listed = await client.get("/webhooks")
        assert (listed.json()["total"], listed.json()["webhooks"][0]["secret"]) == (1, "")
        assert (await client.delete("/webhooks/h")).status_code == 204
        assert refused(await client.get("/webhooks/h")) == (404, "webhook_not_found")

    async def test_older_consoles_set_webhooks_in_their_way(self, app: Whole, session: str) -> None:
        path = f"/projects/{PROJECT_ID}/webhooks"
        body = {"name": "Hook", "url": "http://example.com/", "events": ["users.*.create"], "security": False}
        async with console_client(app, session) as console:
            made = await console.post(path, json=body | {"httpUser": "u", "httpPass": "p"})
            assert (made.status_code, made.json()["tls"], made.json()["authUsername"]) == (201, False, "u")
            id = made.json()["$id"]
            changed = await console.put(f"{path}/{id}", json=body | {"name": "New", "enabled": False})
            assert (changed.json()["name"], changed.json()["enabled"]) == ("New", False)
            rotated = await console.patch(f"{path}/{id}/signature", json={})
            assert len(rotated.json()["signatureKey"]) == 128
        async with app.store.view(PROJECT_ID) as unit:
            kept = await unit.webhooks.get(id)
        assert kept is not None and kept.auth_password == "p"

    @pytest.mark.parametrize(
        "change",
        [
            {"url": "ftp://example.com"},
            {"url": "https://u:p@example.com/"},
            {"events": ["nothing.*"]},
            {"secret": "short"},
        ],
    )
    async def test_what_cannot_be_a_webhook_is_refused(self, client: httpx.AsyncClient, change: dict[str, Any]) -> None:
        assert refused(await client.post("/webhooks", json=self.BODY | change)) == (400, "general_argument_invalid")
