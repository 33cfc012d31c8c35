"""Users, accounts and sessions over the real control and store (contract: side-services 5)."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hearth.auth.sessions import unpack
from tests.api.people import PASSWORD, Town, ok, refused, town
from tests.api.whole import OTHER_SECRET

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        yield made


def query(method: str, attribute: str = "", *values: Any) -> str:
    return json.dumps({"method": method, "attribute": attribute, "values": list(values)})


async def test_a_user_is_made_found_changed_and_deleted(here: Town) -> None:
    server = here.server
    made = await here.user("ann", phone="+4912345678")
    assert made["email"] == "ann@example.com"
    assert made["hash"] == "argon2"
    assert made["password"].startswith("$argon2id$"), "servers see the hash"
    assert made["hashOptions"]["memoryCost"] == 8
    assert None not in made.values()
    assert await refused(server.post("/users", json={"userId": "ann"})) == (409, "user_already_exists")
    taken = {"userId": "other", "email": "ANN@example.com"}
    assert await refused(server.post("/users", json=taken)) == (409, "user_already_exists")

    changes: list[tuple[str, str, dict[str, Any], str, Any]] = [
        ("PATCH", "name", {"name": "Annie"}, "name", "Annie"),
        ("PATCH", "email", {"email": "Annie@Example.com"}, "email", "annie@example.com"),
        ("PATCH", "phone", {"number": "+4987654321"}, "phone", "+4987654321"),
        ("PATCH", "status", {"status": False}, "status", False),
        ("PATCH", "verification", {"emailVerification": True}, "emailVerification", True),
        ("PATCH", "verification/phone", {"phoneVerification": True}, "phoneVerification", True),
        ("PATCH", "impersonator", {"impersonator": True}, "impersonator", True),
        ("PUT", "labels", {"labels": ["b", "a", "b"]}, "labels", ["b", "a"]),
    ]
    for method, path, body, key, value in changes:
        changed = await ok(server.request(method, f"/users/ann/{path}", json=body))
        assert changed[key] == value
    assert await ok(server.patch("/users/ann/prefs", json={"prefs": {"a": {"b": 1}}})) == {"a": {"b": 1}}
    assert await ok(server.get("/users/ann/prefs")) == {"a": {"b": 1}}
    found = await ok(server.get("/users/ann"))
    assert (found["name"], found["labels"], found["prefs"]) == ("Annie", ["b", "a"], {"a": {"b": 1}})
    moved = await ok(server.patch("/users/ann/email", json={"email": "new@example.com"}))
    assert not moved["emailVerification"], "a new address is not verified"

    assert (await server.delete("/users/ann")).status_code == 204
    assert await refused(server.get("/users/ann")) == (404, "user_not_found")
    assert await refused(server.patch("/users/ann/name", json={"name": "x"})) == (404, "user_not_found")


async def test_users_are_listed_by_query_and_search(here: Town) -> None:
    for id in ("ann", "bob", "cid"):
        await here.user(id)
    await ok(here.server.put("/users/bob/labels", json={"labels": ["vip"]}))

    async def ids(*queries: str, **params: str) -> list[str]:
        page = await ok(here.server.get("/users", params={"queries[]": list(queries), **params}))
        return [item["$id"] for item in page["users"]]

    assert await ids() == ["ann", "bob", "cid"]
    assert await ids(query("equal", "email", "bob@example.com")) == ["bob"]
    assert await ids(query("contains", "labels", "vip")) == ["bob"]
    assert await ids(query("orderDesc", "name"), query("limit", "", 2)) == ["cid", "bob"]
    assert await ids(search="cid") == ["cid"]
    assert await refused(here.server.get("/users", params={"queries[]": query("equal", "password", "x")})) == (
        400,
        "general_argument_invalid",
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/users", {"userId": "_x"}),
        ("/users", {"userId": "x", "email": "no address"}),
        ("/users", {"userId": "x", "email": "a@b"}),
        ("/users", {"userId": "x", "phone": "0123"}),
        ("/users", {"userId": "x", "password": "1234567"}),
        ("/users", {"userId": "x", "password": "p" * 257}),
        ("/users", {"userId": "x", "name": "n" * 129}),
        ("/users/ann/jwts", {"duration": 3601}),
        ("/users/ann/tokens", {"length": 3}),
        ("/users/ann/tokens", {"expire": 59}),
    ],
)
async def test_bad_values_are_refused(here: Town, path: str, body: dict[str, Any]) -> None:
    assert await refused(here.server.post(path, json=body)) == (400, "general_argument_invalid")


async def test_labels_are_letters_and_digits_and_prefs_an_object(here: Town) -> None:
    await here.user("ann")
    for labels in (["a-b"], [""], ["x" * 37], "vip", ["v"] * 1001):
        assert await refused(here.server.put("/users/ann/labels", json={"labels": labels})) == (
            400,
            "general_argument_invalid",
        )
    for prefs in ([], "x", 1, {"k": "v" * 70_000}):
        assert (await refused(here.server.patch("/users/ann/prefs", json={"prefs": prefs})))[0] == 400


async def test_signing_up_and_in_as_a_browser_does(here: Town) -> None:
    async with here.anybody(origin="http://localhost:3000") as browser:
        given = {"userId": "unique()", "email": "Ann@Example.com", "password": PASSWORD, "name": "Ann"}
        account = await ok(browser.post("/account", json=given))
        assert account["email"] == "ann@example.com"
        assert "password" not in account, "nobody but a server sees a hash"
        assert await refused(browser.post("/account", json=given)) == (409, "user_already_exists")
        assert await refused(browser.get("/account")) == (401, "general_unauthorized_scope")

        answer = await browser.post("/account/sessions/email", json={"email": "ann@example.com", "password": PASSWORD})
        assert answer.status_code == 201
        session = answer.json()
        assert session["secret"] == "", "the secret is in the cookie"
        assert (session["userId"], session["provider"], session["current"]) == (account["$id"], "email", True)
        assert None not in session.values()
        first, legacy = answer.headers.get_list("set-cookie")
        assert first.startswith("a_session_default=")
        assert {"httponly", "samesite=None", "path=/"} <= set(first.split("; "))
        assert legacy.startswith("a_session_default_legacy=")
        assert "samesite" not in legacy.lower()
        fallback = json.loads(answer.headers["x-fallback-cookies"])
        assert unpack(fallback["a_session_default"]) is not None
        assert "X-Fallback-Cookies" in answer.headers["access-control-expose-headers"]
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"

        assert (await ok(browser.get("/account")))["$id"] == account["$id"], "the jar sends the cookie back"
        again = browser.post("/account/sessions/email", json={"email": "ann@example.com", "password": PASSWORD})
        assert await refused(again) == (401, "user_session_already_exists")
        ended = await browser.delete("/account/sessions/current")
        assert ended.status_code == 204
        assert ended.headers.get_list("set-cookie")[0].startswith("a_session_default=; expires=Thu, 01 Jan 1970")
        assert await refused(browser.get("/account")) == (401, "general_unauthorized_scope")

    async with here.anybody(x_fallback_cookies=json.dumps(fallback)) as blocked:
        assert await refused(blocked.get("/account")) == (401, "general_unauthorized_scope"), "it was ended"


async def test_a_page_of_our_own_host_needs_no_fallback(here: Town) -> None:
    await here.user("ann")
    async with here.anybody(origin="http://api.test") as browser:
        answer = await browser.post("/account/sessions/email", json={"email": "ann@example.com", "password": PASSWORD})
    assert answer.status_code == 201
    assert "x-fallback-cookies" not in answer.headers


async def test_a_wrong_password_and_an_unknown_address_are_answered_alike(here: Town) -> None:
    await here.user("ann")
    await ok(here.server.post("/users", json={"userId": "bob", "email": "bob@example.com"}))
    async with here.anybody() as guest:
        answers = [
            (await guest.post("/account/sessions/email", json={"email": email, "password": "wrong horse"})).json()
            for email in ("ann@example.com", "bob@example.com", "nobody@example.com")
        ]
    assert answers[0]["type"] == "user_invalid_credentials"
    assert answers[0] == answers[1] == answers[2]


async def test_guessing_a_password_is_limited_by_address_and_success_begins_anew(here: Town) -> None:
    """Contract: side-services 5.2, whatever the letters' case."""
    await here.user("ann")

    async def attempt(email: str, password: str) -> tuple[int, str]:
        async with here.anybody() as guest:
            answer = await guest.post("/account/sessions/email", json={"email": email, "password": password})
        return answer.status_code, answer.json().get("type", "")

    for _ in range(9):
        assert await attempt("Ann@example.com", "wrong horse") == (401, "user_invalid_credentials")
    assert await attempt("ann@example.com", PASSWORD) == (201, "")
    for _ in range(10):
        assert await attempt("ann@example.com", "wrong horse") == (401, "user_invalid_credentials")
    assert await attempt("ANN@example.com", PASSWORD) == (429, "general_rate_limit_exceeded")
    assert await attempt("other@example.com", "wrong horse") == (401, "user_invalid_credentials")


async def test_a_blocked_user_cannot_sign_in_or_go_on(here: Town) -> None:
    await here.user("ann")
    async with await here.as_user("ann") as ann:
        await ok(ann.get("/account"))
        await ok(here.server.patch("/users/ann/status", json={"status": False}))
        assert await refused(ann.get("/account")) == (403, "user_blocked")
    async with here.anybody() as guest:
        given = {"email": "ann@example.com", "password": PASSWORD}
        assert await refused(guest.post("/account/sessions/email", json=given)) == (403, "user_blocked")
        given["password"] = "wrong horse"
        assert await refused(guest.post("/account/sessions/email", json=given)) == (401, "user_invalid_credentials")


async def test_what_a_user_changes_of_himself(here: Town) -> None:
    await here.user("ann")
    await here.user("bob")
    other = await here.session("ann")
    async with await here.as_user("ann") as ann:
        assert (await ok(ann.patch("/account/name", json={"name": "A"})))["name"] == "A"
        assert (await ok(ann.patch("/account/prefs", json={"prefs": {"x": 1}})))["prefs"] == {"x": 1}
        assert await ok(ann.get("/account/prefs")) == {"x": 1}
        wrong = {"email": "new@example.com", "password": "wrong horse"}
        assert await refused(ann.patch("/account/email", json=wrong)) == (401, "user_invalid_credentials")
        taken = {"email": "bob@example.com", "password": PASSWORD}
        assert await refused(ann.patch("/account/email", json=taken)) == (409, "user_email_already_exists")
        moved = await ok(ann.patch("/account/email", json={"email": "new@example.com", "password": PASSWORD}))
        assert moved["email"] == "new@example.com"
        phone = await ok(ann.patch("/account/phone", json={"phone": "+4912345678", "password": PASSWORD}))
        assert phone["phone"] == "+4912345678"
        assert await refused(ann.patch("/account/password", json={"password": "new horse battery"})) == (
            401,
            "user_invalid_credentials",
        )
        await ok(ann.patch("/account/password", json={"password": "new horse battery", "oldPassword": PASSWORD}))
        assert (await ok(ann.get("/account")))["$id"] == "ann", "the session that changed it goes on"
        async with here.anybody(x_appwrite_session=other) as elsewhere:
            assert await refused(elsewhere.get("/account")) == (401, "general_unauthorized_scope")
        assert (await ok(ann.patch("/account/status", json={})))["status"] is False
        assert await refused(ann.get("/account")) == (403, "user_blocked")


async def test_factors_and_mfa_say_that_there_are_none(here: Town) -> None:
    await here.user("ann")
    async with await here.as_user("ann") as ann:
        assert not any((await ok(ann.get("/account/mfa/factors"))).values())
        assert (await ok(ann.patch("/account/mfa", json={"mfa": False})))["mfa"] is False
        assert await refused(ann.patch("/account/mfa", json={"mfa": True})) == (400, "general_feature_unsupported")


async def test_an_anonymous_user_can_become_somebody(here: Town) -> None:
    async with here.anybody() as browser:
        session = await ok(browser.post("/account/sessions/anonymous"))
        assert session["provider"] == "anonymous"
        account = await ok(browser.get("/account"))
        assert (account["email"], account["name"]) == ("", "")
        named = await ok(browser.patch("/account/email", json={"email": "me@example.com", "password": PASSWORD}))
        assert named["email"] == "me@example.com"
        await ok(browser.delete("/account/sessions/current"))
        await ok(browser.post("/account/sessions/email", json={"email": "me@example.com", "password": PASSWORD}))
        assert (await ok(browser.get("/account")))["$id"] == account["$id"]
    async with here.anybody("console") as guest:
        assert await refused(guest.post("/account/sessions/anonymous")) == (401, "user_anonymous_console_prohibited")


async def test_a_token_opens_one_session(here: Town) -> None:
    await here.user("ann")
    token = await ok(here.server.post("/users/ann/tokens", json={"length": 32, "expire": 60}))
    assert len(token["secret"]) == 32
    given = {"userId": "ann", "secret": token["secret"]}
    async with here.anybody() as browser:
        wrong = given | {"secret": "0" * 32}
        assert await refused(browser.post("/account/sessions/token", json=wrong)) == (401, "user_invalid_token")
        assert (await ok(browser.post("/account/sessions/token", json=given)))["provider"] == "token"
        assert (await ok(browser.get("/account")))["$id"] == "ann"
    async with here.anybody() as browser:
        assert await refused(browser.post("/account/sessions/token", json=given)) == (401, "user_invalid_token")
    late = await ok(here.server.post("/users/ann/tokens", json={"expire": 60}))
    here.clock.move(seconds=61)
    async with here.anybody() as browser:
        given["secret"] = late["secret"]
        assert await refused(browser.post("/account/sessions/token", json=given)) == (401, "user_invalid_token")


async def test_a_server_opens_a_session_whose_secret_works_anywhere(here: Town) -> None:
    await here.user("ann")
    made = await ok(here.server.post("/users/ann/sessions", json={}))
    assert made["provider"] == "server"
    for headers in (
        {"x_appwrite_session": made["secret"]},
        {"cookie": f"a_session_default={made['secret']}"},
        {"cookie": f"a_session_default_legacy={made['secret']}"},
        {"x_fallback_cookies": json.dumps({"a_session_default": made["secret"]})},
    ):
        async with here.anybody(**headers) as client:
            assert (await ok(client.get("/account")))["$id"] == "ann", headers
    listed = await ok(here.server.get("/users/ann/sessions"))
    assert (listed["total"], listed["sessions"][0]["secret"]) == (1, "")
    async with here.anybody() as guest:
        # Guests hold `sessions.write`: it must not open other people's accounts.
        assert await refused(guest.post("/users/ann/sessions", json={})) == (401, "general_unauthorized_scope")
    elsewhere = here.whole.client(OTHER_SECRET)
    elsewhere.headers["x-appwrite-project"] = "other"
    assert await refused(elsewhere.post("/users/ann/sessions", json={})) == (404, "user_not_found")
    async with here.anybody("other", x_appwrite_session=made["secret"]) as client:
        assert await refused(client.get("/account")) == (401, "general_unauthorized_scope")


async def test_the_eleventh_session_ends_the_first(here: Town) -> None:
    await here.user("ann")
    secrets = [await here.session("ann") for _ in range(11)]
    assert (await ok(here.server.get("/users/ann/sessions")))["total"] == 10
    async with (
        here.anybody(x_appwrite_session=secrets[0]) as first,
        here.anybody(x_appwrite_session=secrets[1]) as second,
    ):
        assert await refused(first.get("/account")) == (401, "general_unauthorized_scope")
        assert (await ok(second.get("/account")))["$id"] == "ann"


async def test_sessions_are_listed_extended_and_ended_by_their_user(here: Town) -> None:
    await here.user("ann")
    other = (await ok(here.server.post("/users/ann/sessions", json={})))["$id"]
    async with await here.as_user("ann") as ann:
        listed = (await ok(ann.get("/account/sessions")))["sessions"]
        assert [item["current"] for item in listed] == [False, True]
        here.clock.move(days=100)
        before = await ok(ann.get("/account/sessions/current"))
        after = await ok(ann.patch("/account/sessions/current", json={}))
        assert after["expire"] > before["expire"]
        assert (await ok(ann.get(f"/account/sessions/{other}")))["$id"] == other
        await ok(ann.delete(f"/account/sessions/{other}"))
        assert await refused(ann.get(f"/account/sessions/{other}")) == (404, "user_session_not_found")
        await ok(ann.delete("/account/sessions"))
        assert await refused(ann.get("/account")) == (401, "general_unauthorized_scope")


async def test_a_session_ends_after_a_year(here: Town) -> None:
    await here.user("ann")
    async with await here.as_user("ann") as ann:
        here.clock.move(days=364)
        await ok(ann.get("/account"))
        here.clock.move(days=2)
        assert await refused(ann.get("/account")) == (401, "general_unauthorized_scope")


async def test_a_jwt_stands_for_a_session_and_ends_with_it(here: Town) -> None:
    await here.user("ann")
    async with await here.as_user("ann") as ann:
        jwt = (await ok(ann.post("/account/jwts", json={})))["jwt"]
        assert "jwt" in await ok(ann.post("/account/jwt", json={"duration": 60}))
        async with here.anybody(x_appwrite_jwt=jwt) as bearer:
            assert (await ok(bearer.get("/account")))["$id"] == "ann"
            assert await refused(bearer.post("/account/jwts", json={})) == (403, "user_jwt_creation_denied")
            await ok(ann.delete("/account/sessions/current"))
            assert await refused(bearer.get("/account")) == (401, "general_unauthorized_scope")


async def test_a_server_makes_jwts_for_users(here: Town) -> None:
    await here.user("ann")
    free = (await ok(here.server.post("/users/ann/jwts", json={})))["jwt"]
    session = await ok(here.server.post("/users/ann/sessions", json={}))
    bound = (await ok(here.server.post("/users/ann/jwts", json={"sessionId": session["$id"]})))["jwt"]
    recent = (await ok(here.server.post("/users/ann/jwts", json={"sessionId": "recent()"})))["jwt"]
    clients = [here.anybody(x_appwrite_jwt=jwt) for jwt in (free, bound, recent)]
    for client in clients:
        assert (await ok(client.get("/account")))["$id"] == "ann"
    await ok(here.server.delete(f"/users/ann/sessions/{session['$id']}"))
    assert [(await client.get("/account")).status_code for client in clients] == [200, 401, 401]
    await ok(here.server.delete("/users/ann"))
    assert await refused(clients[0].get("/account")) == (401, "general_unauthorized_scope")


async def test_deleting_a_user_ends_everything_of_his(here: Town) -> None:
    await here.user("ann")
    await ok(here.server.post("/teams", json={"teamId": "t", "name": "T"}))
    await ok(here.server.post("/teams/t/memberships", json={"userId": "ann", "roles": []}))
    async with await here.as_user("ann") as ann:
        await ok(ann.get("/account"))
        await ok(here.server.delete("/users/ann"))
        assert await refused(ann.get("/account")) == (401, "general_unauthorized_scope")
    assert (await ok(here.server.get("/teams/t")))["total"] == 0
    async with here.store.view("default") as unit:
        assert await unit.sessions.of("ann") == ()
        assert await unit.memberships.of_user("ann") == ()


async def test_events_name_what_happened_to_people(here: Town) -> None:
    seen: list[tuple[str, str]] = []
    here.whole.events.subscribe(lambda it: seen.append((it.event, it.user_id)))
    await here.user("ann")
    await ok(here.server.put("/users/ann/labels", json={"labels": ["a"]}))
    async with await here.as_user("ann") as ann:
        await ok(ann.patch("/account/name", json={"name": "A"}))
        session = await ok(ann.get("/account/sessions/current"))
        await ok(ann.delete("/account/sessions/current"))
    assert seen == [
        ("users.ann.create", ""),
        ("users.ann.update.labels", ""),
        (f"users.ann.sessions.{session['$id']}.create", "ann"),
        ("users.ann.update.name", "ann"),
        (f"users.ann.sessions.{session['$id']}.delete", "ann"),
    ]
