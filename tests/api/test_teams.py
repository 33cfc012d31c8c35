"""Teams and memberships over the real control and store (contract: side-services 6)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from hearth.auth.sessions import hash_secret
from hearth.model.people import Membership
from tests.api.people import Town, ok, refused, town

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Town]:
    async with town(tmp_path) as made:
        for id in ("ann", "bob", "cid"):
            await made.user(id)
        yield made


async def member(here: Town, team: str, user: str, *roles: str) -> str:
    """Put a user into a team and return the membership's id."""
    given = {"userId": user, "roles": list(roles)}
    membership: str = (await ok(here.server.post(f"/teams/{team}/memberships", json=given)))["$id"]
    return membership


async def invite(here: Town, team: str, user: str, secret: str) -> str:
    """An invitation as it is stored once a mail with its secret has gone out."""
    now = here.clock.now()
    membership = Membership(
        f"m-{user}", "default", team, user, now, now, now, ("guest",), secret_hash=hash_secret(secret)
    )
    async with here.store.begin("default") as unit:
        await unit.memberships.insert(membership)
    return membership.id


async def test_a_user_who_makes_a_team_is_its_first_member_and_owner(here: Town) -> None:
    async with await here.as_user("ann") as ann:
        team = await ok(ann.post("/teams", json={"teamId": "red", "name": "Red"}))
        assert (team["name"], team["total"], team["prefs"]) == ("Red", 1, {})
        assert await refused(ann.post("/teams", json={"teamId": "red", "name": "R"})) == (409, "team_already_exists")
        members = (await ok(ann.get("/teams/red/memberships")))["memberships"]
        assert [(item["userId"], item["roles"], item["confirm"]) for item in members] == [("ann", ["owner"], True)]
        assert (await ok(ann.put("/teams/red", json={"name": "Redder"})))["name"] == "Redder"
        assert await ok(ann.put("/teams/red/prefs", json={"prefs": {"c": 1}})) == {"c": 1}
        assert await ok(ann.get("/teams/red/prefs")) == {"c": 1}
        await ok(ann.delete("/teams/red"))
        assert await refused(ann.get("/teams/red")) == (404, "team_not_found")


async def test_a_team_made_by_a_server_has_no_members(here: Town) -> None:
    assert (await ok(here.server.post("/teams", json={"teamId": "unique()", "name": "T"})))["total"] == 0


async def test_only_members_see_a_team_and_only_owners_change_it(here: Town) -> None:
    await ok(here.server.post("/teams", json={"teamId": "red", "name": "Red"}))
    await ok(here.server.post("/teams", json={"teamId": "blue", "name": "Blue"}))
    await member(here, "red", "ann", "owner")
    bobs = await member(here, "red", "bob", "player")
    async with await here.as_user("bob") as bob, await here.as_user("cid") as cid:
        assert [team["$id"] for team in (await ok(bob.get("/teams")))["teams"]] == ["red"]
        assert (await ok(cid.get("/teams"))) == {"total": 0, "teams": []}
        assert await refused(cid.get("/teams/red")) == (404, "team_not_found")
        assert await refused(cid.get("/teams/red/memberships")) == (404, "team_not_found")
        assert await refused(bob.put("/teams/red", json={"name": "x"})) == (401, "user_unauthorized")
        assert await refused(bob.put("/teams/red/prefs", json={"prefs": {}})) == (401, "user_unauthorized")
        assert await refused(bob.delete("/teams/red")) == (401, "user_unauthorized")
        promoted = bob.patch(f"/teams/red/memberships/{bobs}", json={"roles": ["owner"]})
        assert await refused(promoted) == (401, "user_unauthorized")
    async with here.anybody() as guest:
        assert await refused(guest.get("/teams")) == (401, "general_unauthorized_scope")


async def test_a_key_adds_members_at_once(here: Town) -> None:
    await ok(here.server.post("/teams", json={"teamId": "red", "name": "Red"}))
    first = await ok(here.server.post("/teams/red/memberships", json={"userId": "ann", "roles": ["a", "b", "a"]}))
    assert (first["confirm"], first["roles"], first["teamName"]) == (True, ["a", "b"], "Red")
    assert (first["userName"], first["userEmail"]) == ("Ann", "ann@example.com")
    assert first["joined"] == first["invited"] != ""
    assert None not in first.values()
    again = here.server.post("/teams/red/memberships", json={"email": "ANN@example.com", "roles": []})
    assert await refused(again) == (409, "membership_already_confirmed")
    stranger = {"email": "new@example.com", "roles": [], "name": "New"}
    made = await ok(here.server.post("/teams/red/memberships", json=stranger))
    assert (await ok(here.server.get(f"/users/{made['userId']}")))["email"] == "new@example.com"
    assert (await ok(here.server.get("/teams/red")))["total"] == 2


async def test_who_is_meant_must_be_clear(here: Town) -> None:
    await ok(here.server.post("/teams", json={"teamId": "red", "name": "Red"}))
    await here.user("dan", phone="+4912345678")
    path = "/teams/red/memberships"
    for body, expected in [
        ({"roles": []}, (400, "general_argument_invalid")),
        ({"userId": "ann"}, (400, "general_argument_invalid")),
        ({"userId": "nobody", "roles": []}, (404, "user_not_found")),
        ({"userId": "ann", "email": "bob@example.com", "roles": []}, (409, "user_already_exists")),
        ({"email": "ann@example.com", "phone": "+4912345678", "roles": []}, (409, "user_already_exists")),
        ({"email": "new@example.com", "phone": "+4912345678", "roles": []}, (409, "user_already_exists")),
        ({"userId": "ann", "roles": ["no spaces"]}, (400, "general_argument_invalid")),
        ({"userId": "ann", "roles": ["r" * 82]}, (400, "general_argument_invalid")),
    ]:
        assert await refused(here.server.post(path, json=body)) == expected, body
    nowhere = here.server.post("/teams/blue/memberships", json={"userId": "ann", "roles": []})
    assert await refused(nowhere) == (404, "team_not_found")


async def test_users_cannot_invite_where_no_mail_is_sent(here: Town) -> None:
    async with await here.as_user("ann") as ann:
        await ok(ann.post("/teams", json={"teamId": "red", "name": "Red"}))
        body = {"email": "bob@example.com", "roles": []}
        assert await refused(ann.post("/teams/red/memberships", json=body)) == (400, "general_argument_invalid")
        body["url"] = "http://localhost/join"
        assert await refused(ann.post("/teams/red/memberships", json=body)) == (503, "general_smtp_disabled")
    assert (await ok(here.server.get("/teams/red")))["total"] == 1


async def test_who_the_others_are_is_not_for_users(here: Town) -> None:
    await ok(here.server.post("/teams", json={"teamId": "red", "name": "Red"}))
    anns = await member(here, "red", "ann", "owner")
    bobs = await member(here, "red", "bob")
    async with await here.as_user("ann") as ann:
        own = await ok(ann.get(f"/teams/red/memberships/{anns}"))
        other = await ok(ann.get(f"/teams/red/memberships/{bobs}"))
    assert (own["userName"], own["userEmail"]) == ("Ann", "ann@example.com")
    assert (other["userId"], other["userName"], other["userEmail"]) == ("bob", "", "")


async def test_roles_are_replaced_and_members_leave_or_are_taken_out(here: Town) -> None:
    await ok(here.server.post("/teams", json={"teamId": "red", "name": "Red"}))
    await ok(here.server.post("/teams", json={"teamId": "blue", "name": "Blue"}))
    await member(here, "red", "ann", "owner")
    bobs, cids = await member(here, "red", "bob"), await member(here, "red", "cid")
    async with await here.as_user("ann") as ann, await here.as_user("bob") as bob:
        changed = await ok(ann.patch(f"/teams/red/memberships/{bobs}", json={"roles": ["x"]}))
        assert changed["roles"] == ["x"]
        assert await refused(bob.delete(f"/teams/red/memberships/{cids}")) == (401, "user_unauthorized")
        await ok(bob.delete(f"/teams/red/memberships/{bobs}"))
        assert await refused(bob.get("/teams/red")) == (404, "team_not_found"), "who has left sees it no more"
        await ok(ann.delete(f"/teams/red/memberships/{cids}"))
        assert await refused(ann.get(f"/teams/red/memberships/{cids}")) == (404, "membership_not_found")
    assert (await ok(here.server.get("/teams/red")))["total"] == 1
    mine = await ok(here.server.get("/users/ann/memberships"))
    assert [(item["teamId"], item["teamName"]) for item in mine["memberships"]] == [("red", "Red")]
    misplaced = here.server.get(f"/teams/blue/memberships/{mine['memberships'][0]['$id']}")
    assert await refused(misplaced) == (404, "team_membership_mismatch")


async def test_an_invitation_is_accepted_with_its_secret_and_signs_in(here: Town) -> None:
    await ok(here.server.post("/teams", json={"teamId": "red", "name": "Red"}))
    await ok(here.server.post("/teams", json={"teamId": "blue", "name": "Blue"}))
    invitation = await invite(here, "red", "bob", "s3cret")
    path = f"/teams/red/memberships/{invitation}/status"
    good = {"userId": "bob", "secret": "s3cret"}
    async with here.anybody() as guest, await here.as_user("ann") as ann:
        for client, url, body, expected in [
            (guest, "/teams/red/memberships/none/status", good, (404, "membership_not_found")),
            (guest, f"/teams/none/memberships/{invitation}/status", good, (404, "team_not_found")),
            (guest, f"/teams/blue/memberships/{invitation}/status", good, (404, "team_membership_mismatch")),
            (guest, path, good | {"secret": "wrong"}, (401, "team_invalid_secret")),
            (guest, path, good | {"userId": "ann"}, (401, "team_invite_mismatch")),
            (ann, path, good, (401, "team_invite_mismatch")),
        ]:
            assert await refused(client.patch(url, json=body)) == expected
        assert (await ok(here.server.get("/teams/red")))["total"] == 0
        here.clock.move(seconds=timedelta(hours=1).total_seconds())
        accepted = await ok(guest.patch(path, json=good))
        assert (accepted["confirm"], accepted["userName"]) == (True, "")
        account = await ok(guest.get("/account"))
        assert (account["$id"], account["emailVerification"]) == ("bob", True)
        assert (await ok(guest.get("/teams/red")))["total"] == 1
        assert await refused(guest.patch(path, json=good)) == (401, "team_invalid_secret"), "it is used up"


async def test_who_is_only_invited_is_no_member_but_may_decline(here: Town) -> None:
    await ok(here.server.post("/teams", json={"teamId": "red", "name": "Red"}))
    invitation = await invite(here, "red", "bob", "s3cret")
    async with await here.as_user("bob") as bob:
        assert await refused(bob.get("/teams/red")) == (404, "team_not_found")
        await ok(bob.delete(f"/teams/red/memberships/{invitation}"))
    assert (await ok(here.server.get("/teams/red/memberships")))["total"] == 0


async def test_an_organization_keeps_an_owner_and_its_projects(here: Town) -> None:
    async with await here.console() as console:
        team = (await ok(console.get("/teams")))["teams"][0]["$id"]
        assert (await ok(console.get("/organizations")))["teams"][0]["$id"] == team
        path = f"/teams/{team}/memberships"
        own = (await ok(console.get(path)))["memberships"][0]
        assert own["userEmail"] == here.console_email, "in the console members know each other"
        downgrade = console.patch(f"{path}/{own['$id']}", json={"roles": ["developer"]})
        assert await refused(downgrade) == (400, "membership_downgrade_prohibited")
        assert await refused(console.delete(f"{path}/{own['$id']}")) == (400, "membership_deletion_prohibited")
        assert await refused(console.delete("/account")) == (400, "membership_deletion_prohibited")
        assert await refused(console.delete(f"/teams/{team}")) == (400, "general_bad_request")
        other = await ok(console.post("/teams", json={"teamId": "unique()", "name": "Other"}))
        await ok(console.delete(f"/teams/{other['$id']}"))
