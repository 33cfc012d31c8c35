"""Who may execute a function, and what the function is told of him (functions-api 1.2, 5.15, 12.2)."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.api.people import Town, ok, refused, town

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        for id in ("ann", "bob"):
            await made.user(id)
        await ok(made.server.patch("/users/ann/verification", json={"emailVerification": True}))
        await ok(made.server.put("/users/ann/labels", json={"labels": ["vip"]}))
        await ok(made.server.post("/teams", json={"teamId": "red", "name": "Red"}))
        await ok(made.server.post("/teams/red/memberships", json={"userId": "ann", "roles": ["player"]}))
        await made.function("f1")
        yield made


async def test_the_execute_roles_admit_exactly_whom_they_name(here: Town) -> None:
    membership = (await ok(here.server.get("/users/ann/memberships")))["memberships"][0]["$id"]
    everyone = {"guest", "ann", "bob", "key", "admin"}
    privileged = {"key", "admin"}
    table: list[tuple[list[str], set[str]]] = [
        ([], privileged),
        (["any"], everyone),
        (["guests"], privileged | {"guest"}),
        (["users"], privileged | {"ann", "bob"}),
        (["users/verified"], privileged | {"ann"}),
        (["users/unverified"], privileged | {"bob"}),
        (["user:ann"], privileged | {"ann"}),
        (["user:ann/unverified"], privileged),
        (["user:bob/unverified"], privileged | {"bob"}),
        (["label:vip"], privileged | {"ann"}),
        (["team:red"], privileged | {"ann"}),
        (["team:red/player"], privileged | {"ann"}),
        (["team:red/owner"], privileged),
        (["team:blue"], privileged),
        ([f"member:{membership}"], privileged | {"ann"}),
        (["member:other"], privileged),
        (["label:vip", "guests"], privileged | {"ann", "guest"}),
    ]
    callers = {
        "guest": here.anybody(),
        "ann": await here.as_user("ann"),
        "bob": await here.as_user("bob"),
        "key": here.server,
        "admin": await here.console("default", x_appwrite_mode="admin"),
    }
    for execute, admitted in table:
        await ok(here.server.put("/functions/f1", json={"name": "f1", "execute": execute}))
        for name, client in callers.items():
            answer = await client.post("/functions/f1/executions", json={})
            assert (answer.status_code == 201) is (name in admitted), (execute, name, answer.text)
            if name not in admitted:
                assert answer.json()["type"] == "user_unauthorized"
    for client in callers.values():
        await client.aclose()


async def test_a_jwt_is_the_user_it_stands_for(here: Town) -> None:
    await ok(here.server.put("/functions/f1", json={"name": "f1", "execute": ["user:ann"]}))
    for id, status in (("ann", 201), ("bob", 401)):
        token = (await ok(here.server.post(f"/users/{id}/jwts", json={})))["jwt"]
        async with here.anybody(x_appwrite_jwt=token) as bearer:
            assert (await bearer.post("/functions/f1/executions", json={})).status_code == status


async def test_users_read_their_own_executions_and_no_logs(here: Town) -> None:
    await ok(here.server.put("/functions/f1", json={"name": "f1", "execute": ["any"]}))
    async with await here.as_user("ann") as ann, await here.as_user("bob") as bob, here.anybody() as guest:
        made = await ok(ann.post("/functions/f1/executions", json={}))
        assert made["$permissions"] == ['read("user:ann")']
        assert (made["logs"], made["errors"]) == ("", "")
        nobodys = await ok(guest.post("/functions/f1/executions", json={}))
        assert nobodys["$permissions"] == []
        path = f"/functions/f1/executions/{made['$id']}"
        assert (await ok(ann.get(path)))["$id"] == made["$id"]
        assert await refused(bob.get(path)) == (404, "execution_not_found")
        assert await refused(guest.get(path)) == (401, "general_unauthorized_scope")
        assert (await ok(ann.get("/functions/f1/executions")))["total"] == 1
        assert (await ok(bob.get("/functions/f1/executions")))["total"] == 0
    assert (await ok(here.server.get("/functions/f1/executions")))["total"] == 2
    assert (await ok(here.server.get(path)))["logs"] == "logged\n"


async def run(here: Town, client: Any, **headers: str) -> dict[str, str]:
    """Execute, and return the headers the function got."""
    await ok(client.post("/functions/f1/executions", json={}, headers=headers))
    return dict(here.executor.invocations[-1].headers)


async def test_a_function_is_told_who_calls_and_gets_his_jwt_from_sessions_only(here: Town) -> None:
    await ok(here.server.put("/functions/f1", json={"name": "f1", "execute": ["any"], "timeout": 30}))
    async with await here.as_user("ann") as ann, here.anybody() as guest:
        session = (await ok(ann.get("/account/sessions/current")))["$id"]
        seen = await run(here, ann)
        assert seen["x-appwrite-user-id"] == "ann"
        claims = jwt.decode(seen["x-appwrite-user-jwt"], options={"verify_signature": False})
        assert (claims["userId"], claims["sessionId"], claims["exp"] - claims["iat"]) == ("ann", session, 90)
        async with here.anybody(x_appwrite_jwt=seen["x-appwrite-user-jwt"]) as function:
            assert (await ok(function.get("/account")))["$id"] == "ann", "the function can act for him"
            inner = await run(here, function)
        assert (inner["x-appwrite-user-id"], inner["x-appwrite-user-jwt"]) == ("ann", ""), "a JWT makes no JWT"
        for client in (guest, here.server):
            seen = await run(here, client)
            assert (seen["x-appwrite-user-id"], seen["x-appwrite-user-jwt"]) == ("", "")
    async with await here.console("default", x_appwrite_mode="admin") as admin:
        seen = await run(here, admin)
    assert (seen["x-appwrite-user-id"], seen["x-appwrite-user-jwt"]) == ("", ""), "an admin is no user of the project"


async def test_an_impersonator_runs_as_the_other_but_the_function_knows_him(here: Town) -> None:
    await ok(here.server.put("/functions/f1", json={"name": "f1", "execute": ["user:ann"]}))
    await ok(here.server.patch("/users/bob/impersonator", json={"impersonator": True}))
    async with await here.as_user("bob") as bob:
        assert await refused(bob.post("/functions/f1/executions", json={})) == (401, "user_unauthorized")
        seen = await run(here, bob, **{"x-appwrite-impersonate-user-id": "ann"})
    assert seen["x-appwrite-user-id"] == "bob"
    listed = (await ok(here.server.get("/functions/f1/executions")))["executions"]
    assert listed[0]["$permissions"] == ['read("user:ann")']


async def test_nobody_can_pretend_to_be_somebody_by_a_header(here: Town) -> None:
    await ok(here.server.put("/functions/f1", json={"name": "f1", "execute": ["any"]}))
    async with here.anybody() as guest:
        for headers in ({"X-Appwrite-User-Id": "ann"}, json.dumps({"x-appwrite-user-jwt": "x"})):
            given = {"headers": headers}
            assert (await guest.post("/functions/f1/executions", json=given)).status_code == 400


async def test_a_warm_execution_by_a_session_or_jwt_reads_no_database(
    here: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Architecture, the paths: only the record of the run is written."""
    await ok(here.server.put("/functions/f1", json={"name": "f1", "execute": ["users"]}))
    token = (await ok(here.server.post("/users/ann/jwts", json={})))["jwt"]
    async with await here.as_user("ann") as ann, here.anybody(x_appwrite_jwt=token) as bearer:
        for client in (ann, bearer, ann, bearer):
            await ok(client.post("/functions/f1/executions", json={}))

        @asynccontextmanager
        async def closed(project_id: str) -> AsyncIterator[None]:
            raise AssertionError("the database was asked")
            yield

        monkeypatch.setattr(here.store, "view", closed)
        monkeypatch.setattr(here.store, "begin", closed)
        for client in (ann, bearer):
            await ok(client.post("/functions/f1/executions", json={}))
