"""Credentials of people: the order in which they are refused, admin mode, impersonation (functions-api 1, 1.1)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.people import Town, ok, refused, town
from tests.api.whole import SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        await made.user("ann")
        yield made


async def test_the_first_failing_check_of_a_persons_credentials_answers(here: Town) -> None:
    """Checks 6 to 16; each row fails its own check and all later ones."""
    session = await here.session("ann")
    blocked, reset = "blocked", "reset"
    for id in (blocked, reset):
        await here.user(id)
    sessions = {id: await here.session(id) for id in (blocked, reset)}
    await ok(here.server.patch(f"/users/{blocked}/status", json={"status": False}))
    async with here.store.begin("default") as unit:
        await unit.users.update(reset, reset_required=True)
    async with await here.console() as console:
        cookie = console.headers["cookie"]
    operator = await _console_user(here)
    async with here.store.begin("console") as unit:
        await unit.memberships.delete_of(user_id=operator.id)
    here.whole.people.forget("console", operator.id)
    jwt = (await ok(here.server.post("/users/ann/jwts", json={})))["jwt"]
    rows: list[tuple[str, dict[str, str], tuple[int, str]]] = [
        (
            "6 before 7: a key of another project",
            {"x-appwrite-key": "standard_elsewhere", "x-appwrite-session": session, "x-appwrite-jwt": "bad"},
            (403, "project_id_missing"),
        ),
        (
            "7 before 8: session and JWT",
            {"x-appwrite-session": session, "x-appwrite-jwt": "bad"},
            (403, "user_jwt_and_cookie_set"),
        ),
        ("8: a bad JWT", {"x-appwrite-jwt": "bad", "x-appwrite-mode": "admin"}, (401, "user_jwt_invalid")),
        ("8, also beside a key", {"x-appwrite-jwt": "bad", "x-appwrite-key": SECRET}, (401, "user_jwt_invalid")),
        (
            "9: an account key with a session",
            {"x-appwrite-user": "ann", "x-appwrite-key": "account_x", "x-appwrite-session": session},
            (403, "user_api_key_and_session_set"),
        ),
        ("11: admin mode from outside", {"cookie": cookie, "x-appwrite-mode": "admin"}, (401, "user_unauthorized")),
        (
            "14: admin mode without a session is a guest",
            {"x-appwrite-mode": "admin"},
            (401, "general_unauthorized_scope"),
        ),
        (
            "14 before 15: scope before block",
            {"x-appwrite-session": sessions[blocked]},
            (401, "general_unauthorized_scope"),
        ),
        ("a session is not one of the console", {"x-appwrite-session": "bad"}, (401, "general_unauthorized_scope")),
    ]
    for name, headers, expected in rows:
        async with here.anybody(**headers) as client:
            assert await refused(client.post("/functions", content=b"{nope")) == expected, name
    for name, headers, expected in [
        ("15: blocked", {"x-appwrite-session": sessions[blocked]}, (403, "user_blocked")),
        ("16: reset", {"x-appwrite-session": sessions[reset]}, (412, "user_password_reset_required")),
        (
            "a stale session beside a JWT",
            {"x-appwrite-session": "bad", "x-appwrite-jwt": jwt},
            (404, "function_not_found"),
        ),
    ]:
        async with here.anybody(**headers) as client:
            assert await refused(client.post("/functions/none/executions", json={})) == expected, name


async def _console_user(here: Town) -> Any:
    async with here.store.view("console") as unit:
        return await unit.users.by_email(here.console_email)


async def test_a_jwt_works_in_its_own_project_only(here: Town) -> None:
    """A user of the same id elsewhere must not become this one."""
    jwt = (await ok(here.server.post("/users/ann/jwts", json={})))["jwt"]
    elsewhere = here.whole.client("standard_elsewhere")
    elsewhere.headers["x-appwrite-project"] = "other"
    await ok(elsewhere.post("/users", json={"userId": "ann"}))
    async with here.anybody("other", x_appwrite_jwt=jwt) as client:
        assert await refused(client.get("/account")) == (401, "user_jwt_invalid")


async def test_the_console_acts_on_projects_of_its_organizations(here: Town) -> None:
    async with await here.console("default", x_appwrite_mode="admin") as admin:
        await ok(admin.get("/functions"))
        assert [item["$id"] for item in (await ok(admin.get("/users")))["users"]] == ["ann"]
        await ok(admin.get("/teams"))
        assert (await ok(admin.get("/account")))["email"] == here.console_email, "his own account is in the console"
    async with await here.console("other", x_appwrite_mode="admin") as admin:
        assert await refused(admin.get("/functions")) == (401, "user_unauthorized")
    async with await here.console("default") as nobody:
        assert await refused(nobody.get("/functions")) == (401, "general_unauthorized_scope"), "not in admin mode"
    async with await here.console() as console:
        assert await refused(console.get("/users")) == (401, "general_unauthorized_scope")


@pytest.mark.parametrize(
    ("roles", "allowed"),
    [
        (("owner",), True),
        (("developer",), True),
        (("project-default-developer",), True),
        (("project-other-developer",), False),
        (("viewer",), False),
    ],
)
async def test_the_roles_in_the_organization_decide(here: Town, roles: tuple[str, ...], allowed: bool) -> None:
    user = await _console_user(here)
    async with here.store.begin("console") as unit:
        [membership] = await unit.memberships.of_user(user.id)
        await unit.memberships.update(membership.id, roles=roles)
    async with await here.console("default", x_appwrite_mode="admin") as admin:
        answer = await admin.get("/functions")
    assert answer.status_code == (200 if allowed else 401), answer.text


async def test_an_invitation_alone_opens_no_project(here: Town) -> None:
    user = await _console_user(here)
    async with here.store.begin("console") as unit:
        [membership] = await unit.memberships.of_user(user.id)
        await unit.memberships.update(membership.id, confirmed=False)
    async with await here.console("default", x_appwrite_mode="admin") as admin:
        assert await refused(admin.get("/functions")) == (401, "user_unauthorized")


async def test_a_team_named_like_an_organization_opens_nothing(here: Town) -> None:
    """Users of a project choose the ids of their teams."""
    async with await here.console() as console:
        assert [item["$id"] for item in (await ok(console.get("/projects")))["projects"]] == ["default"]
        organization = (await ok(console.get("/teams")))["teams"][0]["$id"]
    async with await here.as_user("ann") as ann:
        await ok(ann.post("/teams", json={"teamId": organization, "name": "Mine"}))
        assert (await ok(ann.get("/projects")))["total"] == 0
        assert await refused(ann.get("/functions", headers={"x-appwrite-mode": "admin"})) == (
            401,
            "general_unauthorized_scope",
        )


async def test_membership_and_block_count_from_the_next_call(here: Town) -> None:
    """What is remembered of a session is dropped by every write that concerns its user."""
    async with await here.as_user("ann") as ann:
        assert (await ok(ann.get("/teams")))["total"] == 0
        await ok(here.server.post("/teams", json={"teamId": "red", "name": "Red"}))
        made = await ok(here.server.post("/teams/red/memberships", json={"userId": "ann", "roles": ["owner"]}))
        await ok(ann.put("/teams/red", json={"name": "Mine"}))
        path = f"/teams/red/memberships/{made['$id']}"
        await ok(here.server.patch(path, json={"roles": []}))
        assert await refused(ann.put("/teams/red", json={"name": "Mine"})) == (401, "user_unauthorized")
        await ok(here.server.delete("/teams/red"))
        assert await refused(ann.get("/teams/red")) == (404, "team_not_found")


async def test_a_user_may_be_impersonated_by_who_is_allowed_to(here: Town) -> None:
    await here.user("bob", phone="+4912345678")
    for headers in (
        {"x_appwrite_impersonate_user_id": "bob"},
        {"x_appwrite_impersonate_user_email": "BOB@example.com"},
        {"x_appwrite_impersonate_user_phone": "+4912345678"},
    ):
        async with await here.as_user("ann") as ann:
            ann.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
            await ok(here.server.patch("/users/ann/impersonator", json={"impersonator": False}))
            assert (await ok(ann.get("/account")))["$id"] == "ann", "not without leave"
            await ok(here.server.patch("/users/ann/impersonator", json={"impersonator": True}))
            account = await ok(ann.get("/account"))
            assert (account["$id"], account["impersonatorUserId"]) == ("bob", "ann")
            await ok(ann.get("/users"))
    async with await here.as_user("ann") as ann:
        assert (await ok(ann.get("/account", params={"impersonateUserId": "bob"})))["$id"] == "bob"
        unknown = {"x-appwrite-impersonate-user-id": "nobody"}
        assert (await ok(ann.get("/account", headers=unknown)))["$id"] == "ann", "an unknown target is ignored"
        await ok(here.server.patch("/users/ann/status", json={"status": False}))
        asked = ann.get("/account", headers={"x-appwrite-impersonate-user-id": "bob"})
        assert await refused(asked) == (403, "user_blocked"), "who is blocked does not come back as another"
    impersonating = here.whole.client(x_appwrite_impersonate_user_id="bob")
    assert await refused(impersonating.get("/account")) == (401, "general_unauthorized_scope"), "a key is nobody"


async def test_a_visit_is_noted_once_a_day(here: Town) -> None:
    async with await here.as_user("ann") as ann:
        await ok(ann.get("/account"))
        first = (await ok(here.server.get("/users/ann")))["accessedAt"]
        assert first
        here.clock.move(hours=23)
        await ok(ann.get("/account"))
        assert (await ok(here.server.get("/users/ann")))["accessedAt"] == first
        here.clock.move(hours=2)
        await ok(ann.get("/account"))
        assert (await ok(here.server.get("/users/ann")))["accessedAt"] > first
