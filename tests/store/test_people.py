"""What the repositories of people promise (`hearth.ports`), on both databases."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from hearth.model.people import Membership, Session, Team, Token, User
from hearth.model.queries import Filter, ListQuery
from hearth.ports import Conflict
from hearth.store import SqlStore
from tests.store.samples import NOW, FakeClock

pytestmark = pytest.mark.anyio


def user(id: str = "u", project_id: str = "p", **fields: Any) -> User:
    return User(id, project_id, NOW, NOW, NOW, **fields)


def session(id: str = "s", user_id: str = "u", **fields: Any) -> Session:
    fields = {"secret_hash": f"hash-{id}", "provider": "email"} | fields
    return Session(id, "p", user_id, NOW, NOW, NOW + timedelta(days=1), **fields)


def team(id: str = "t", **fields: Any) -> Team:
    return Team(id, "p", NOW, NOW, **({"name": "Team"} | fields))


def membership(id: str = "m", team_id: str = "t", user_id: str = "u", **fields: Any) -> Membership:
    return Membership(id, "p", team_id, user_id, NOW, NOW, NOW, **fields)


async def test_what_is_stored_is_read_back_equal(store: SqlStore) -> None:
    full = user(
        email="ann@example.com",
        phone="+4912345678",
        name="Änn",
        password_hash="$argon2id$",
        password_updated_at=NOW,
        status=False,
        labels=("vip",),
        email_verified=True,
        phone_verified=True,
        impersonator=True,
        reset_required=True,
        accessed_at=NOW,
        prefs={"theme": {"dark": True}},
    )
    async with store.begin("p") as unit:
        stored = [
            await unit.users.insert(full),
            await unit.sessions.insert(session(factors=("password",), ip="::1", user_agent="curl/8")),
            await unit.teams.insert(team(prefs={"a": [1]})),
            await unit.memberships.insert(membership(roles=("owner",), joined_at=NOW, confirmed=True)),
            await unit.tokens.insert(Token("k", "p", "u", NOW, NOW, NOW, "hash")),
        ]
    async with store.view("p") as unit:
        assert stored == [
            await unit.users.get("u"),
            await unit.sessions.get("u", "s"),
            await unit.teams.get("t"),
            await unit.memberships.get("m"),
            (await unit.tokens.of("u"))[0],
        ]
    assert stored[0] == replace(full, sequence=stored[0].sequence)


async def test_people_are_of_one_project_only(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.users.insert(user(email="a@b.cd"))
        await unit.sessions.insert(session())
        await unit.teams.insert(team())
        await unit.memberships.insert(membership())
    async with store.begin("q") as unit:
        assert await unit.users.get("u") is None
        assert await unit.users.by_email("a@b.cd") is None
        assert await unit.sessions.by_hash("hash-s") is None
        assert await unit.teams.get("t") is None
        assert await unit.memberships.of_user("u") == ()
        assert not await unit.users.delete("u")
        assert await unit.sessions.delete_of("u") == 0
        await unit.users.insert(user(project_id="q", email="a@b.cd"))
        with pytest.raises(ValueError, match="project"):
            await unit.users.insert(user("v"))


async def test_addresses_and_numbers_are_unique_in_a_project_but_nobody_needs_one(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.users.insert(user("u1", email="a@b.cd", phone="+49123456789"))
        await unit.users.insert(user("u2"))
        await unit.users.insert(user("u3"))
        for fields, field in (
            ({"id": "u1"}, "id"),
            ({"id": "u4", "email": "a@b.cd"}, "email"),
            ({"id": "u4", "phone": "+49123456789"}, "phone"),
        ):
            with pytest.raises(Conflict) as conflict:
                await unit.users.insert(user(**fields))
            assert conflict.value.field == field
        for name, value in (("email", "a@b.cd"), ("phone", "+49123456789")):
            with pytest.raises(Conflict) as conflict:
                await unit.users.update("u2", **{name: value})
            assert conflict.value.field == name
        assert await unit.users.update("u1", email="a@b.cd") is not None, "one's own address is not taken"
        assert await unit.users.update("u1", email="") is not None
        assert await unit.users.update("u2", email="a@b.cd") is not None
        assert await unit.users.by_email("") is None
        assert await unit.users.by_phone("") is None
        assert await unit.users.update("nobody", name="x") is None


async def test_users_are_found_by_word_filter_and_id(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.users.insert(user("u1", email="ann@example.com", name="Ann Smith", labels=("vip",)))
        await unit.users.insert(user("u2", email="bob@example.org", name="Bob", status=False))
        await unit.users.update("u2", name="Robert")

        async def found(**fields: Any) -> list[str]:
            return [item.id for item in (await unit.users.list(ListQuery(**fields))).items]

        assert await found(search="smith") == ["u1"]
        assert await found(search="example") == ["u1", "u2"]
        assert await found(search="robert") == ["u2"]
        assert await found(search="bob") == ["u2"], "his address still has it"
        assert await found(filters=(Filter("equal", "status", (False,)),)) == ["u2"]
        assert await found(filters=(Filter("contains", "labels", ("vip",)),)) == ["u1"]
        assert sorted(await unit.users.several(["u1", "u2", "u3", "u1"])) == ["u1", "u2"]
        assert await unit.users.several([]) == {}


async def test_being_here_is_no_change(store: SqlStore, clock: FakeClock) -> None:
    async with store.begin("p") as unit:
        await unit.users.insert(user())
        clock.move(60)
        await unit.users.touch("u", clock.now())
        found = await unit.users.get("u")
    assert found is not None
    assert (found.accessed_at, found.updated_at) == (clock.now(), NOW)


async def test_sessions_are_listed_oldest_first_and_end_one_or_all(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        for id in ("s1", "s2", "s3"):
            await unit.sessions.insert(session(id))
        await unit.sessions.insert(session("s4", "v"))
        assert [item.id for item in await unit.sessions.of("u")] == ["s1", "s2", "s3"]
        found = await unit.sessions.by_hash("hash-s2")
        assert found is not None
        assert found.id == "s2"
        assert await unit.sessions.get("v", "s2") is None
        moved = await unit.sessions.update("s2", expires_at=NOW)
        assert moved is not None
        assert moved.expires_at == NOW
        assert await unit.sessions.delete_of("u", "s2") == 2
        assert await unit.sessions.delete("s2")
        assert not await unit.sessions.delete("s2")
        assert [item.id for item in await unit.sessions.of("v")] == ["s4"]


async def test_a_member_of_a_team_is_one_once(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.memberships.insert(membership())
        with pytest.raises(Conflict) as conflict:
            await unit.memberships.insert(membership("m2"))
        assert conflict.value.field == "user"
        with pytest.raises(Conflict) as conflict:
            await unit.memberships.insert(membership("m", user_id="v"))
        assert conflict.value.field == "id"
        await unit.memberships.insert(membership("m2", user_id="v"))
        await unit.memberships.insert(membership("m3", team_id="t2"))


async def test_the_total_of_a_team_counts_who_has_joined(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.teams.insert(team())
        await unit.memberships.insert(membership("m1", confirmed=True, roles=("owner", "x")))
        await unit.memberships.insert(membership("m2", user_id="v", roles=("owner",)))
        await unit.memberships.insert(membership("m3", team_id="other", confirmed=True))
        await unit.teams.count_members("t")
        found = await unit.teams.get("t")
        assert found is not None
        assert found.total == 1
        assert await unit.memberships.owners("t") == 1, "who has not joined owns nothing"
        assert sorted(await unit.memberships.users_of("t")) == ["u", "v"]


async def test_the_teams_of_a_user_are_those_he_has_joined(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        for id in ("t1", "t2", "t3"):
            await unit.teams.insert(team(id))
        await unit.memberships.insert(membership("m1", "t1", confirmed=True))
        await unit.memberships.insert(membership("m2", "t2"))
        mine = await unit.teams.list(ListQuery(), "u")
        assert ([item.id for item in mine.items], mine.total) == (["t1"], 1)
        assert (await unit.teams.list(ListQuery())).total == 3
        assert [item.id for item in await unit.memberships.of_user("u")] == ["m1", "m2"]
        assert (await unit.memberships.list(ListQuery(), user_id="u")).total == 2
        assert (await unit.memberships.list(ListQuery(), team_id="t2")).items[0].id == "m2"
        assert await unit.memberships.of_pair("t2", "u") is not None
        assert await unit.memberships.of_pair("t3", "u") is None
        with pytest.raises(ValueError, match="team"):
            await unit.memberships.delete_of()
        assert await unit.memberships.delete_of(team_id="t2") == 1
        assert await unit.memberships.delete_of(user_id="u") == 1


async def test_renamed_teams_are_found_by_the_new_name(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.teams.insert(team(name="Red"))
        await unit.teams.update("t", name="Blue")
        assert (await unit.teams.list(ListQuery(search="red"))).total == 0
        assert (await unit.teams.list(ListQuery(search="blue"))).total == 1
        assert await unit.teams.update("none", name="x") is None
        assert await unit.teams.delete("t")
        assert not await unit.teams.delete("t")
