"""Rules, platforms, webhooks and the lists across projects (`hearth.ports`), on both databases."""

from dataclasses import replace

import pytest
from sqlalchemy import select

from hearth.model import attributes
from hearth.model.queries import ListQuery, parse_queries
from hearth.ports import Conflict, CursorNotFound
from hearth.store import SqlStore
from hearth.store.sql import schema
from tests.store.samples import NOW, FakeClock, function, platform, project, rule, webhook

pytestmark = pytest.mark.anyio

FULL_RULE = rule(
    trigger="deployment",
    redirect_url="https://example.com",
    redirect_status_code=308,
    deployment_id="d",
    branch="main",
    status="verified",
    logs="checked",
)
FULL_WEBHOOK = webhook(
    description="tells", tls=False, enabled=False, auth_username="u", auth_password="pässword", attempts=3, logs="404"
)


async def test_what_is_stored_is_read_back_equal(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        stored = [
            await unit.rules.insert(FULL_RULE),
            await unit.platforms.insert(platform()),
            await unit.webhooks.insert(FULL_WEBHOOK),
        ]
    async with store.view("p") as unit:
        assert stored == [await unit.rules.get("r"), await unit.platforms.get("w"), await unit.webhooks.get("h")]
    assert stored[2] == replace(FULL_WEBHOOK, sequence=1)


async def test_secrets_of_a_webhook_are_never_in_the_database_in_clear(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.webhooks.insert(webhook(secret="sig-one", auth_password="pass-one"))
        await unit.webhooks.update("h", secret="sig-two")
        found = await unit.webhooks.get("h")
    assert found is not None
    assert (found.secret, found.auth_password) == ("sig-two", "pass-one")
    async with store._transactions.view() as session:
        row = await session.one(select(schema.webhooks))
    assert row is not None
    assert not any(word in bytes(value) for value in (row.secret, row.auth_password) for word in (b"sig-", b"pass-"))


async def test_a_domain_is_taken_once_in_all_projects(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.rules.insert(rule(domain="one.example.com"))
    async with store.begin("q") as unit:
        with pytest.raises(Conflict) as conflict:
            await unit.rules.insert(rule(project_id="q", domain="one.example.com"))
        assert conflict.value.field == "domain"
        await unit.rules.insert(rule(project_id="q"))
        with pytest.raises(Conflict) as conflict:
            await unit.rules.insert(rule(project_id="q", domain="two.example.com"))
        assert conflict.value.field == "id"


async def test_a_unit_sees_and_changes_its_own_project_only(store: SqlStore) -> None:
    for name in ("p", "q"):
        async with store.begin(name) as unit:
            await unit.rules.insert(rule(project_id=name))
            await unit.platforms.insert(platform(project_id=name))
            await unit.webhooks.insert(webhook(project_id=name))
            await unit.functions.insert(function(project_id=name, deployment_id="d"))
    async with store.begin("q") as unit:
        assert [item.project_id for item in await unit.rules.point("function", "f", "", "d2")] == ["q"]
        assert [item.project_id for item in await unit.functions.outdate()] == ["q"]
        assert await unit.rules.update("r", logs="x")
        assert await unit.platforms.update("w", name="x")
        assert await unit.webhooks.update("h", name="x")
        assert await unit.rules.delete_of("function", "f")
        assert await unit.platforms.delete("w")
        assert await unit.webhooks.delete("h")
        for listed in (unit.rules.list, unit.platforms.list, unit.webhooks.list):
            assert (await listed(ListQuery())).total == 0
    async with store.view("p") as unit:
        assert await unit.rules.get("r") == rule(sequence=1)
        assert await unit.platforms.get("w") == platform(sequence=1)
        assert await unit.webhooks.get("h") == webhook(sequence=1)
        assert await unit.functions.get("f") == function(deployment_id="d", sequence=1)


async def test_only_manual_rules_of_the_branch_follow_a_deployment(store: SqlStore, clock: FakeClock) -> None:
    async with store.begin("p") as unit:
        await unit.rules.insert(rule("follows"))
        await unit.rules.insert(rule("branch", branch="main"))
        await unit.rules.insert(rule("preview", trigger="deployment", deployment_id="d0"))
        await unit.rules.insert(rule("other", resource_id="g"))
        clock.move(5)
        assert [item.id for item in await unit.rules.point("function", "f", "", "d1")] == ["follows"]
        assert [item.id for item in await unit.rules.point("function", "f", "main", "d2")] == ["branch"]
        page = await unit.rules.list(ListQuery())
    assert [(item.id, item.deployment_id) for item in page.items] == [
        ("follows", "d1"),
        ("branch", "d2"),
        ("preview", "d0"),
        ("other", ""),
    ]
    assert page.items[0].updated_at == clock.now()
    assert page.items[3].updated_at == NOW


async def test_a_project_variable_outdates_every_function_and_names_those_that_run(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.functions.insert(function("a", deployment_id="d"))
        await unit.functions.insert(function("b"))
        assert [item.id for item in await unit.functions.outdate()] == ["a"]
        assert [item.live for item in (await unit.functions.list(ListQuery())).items] == [False, False]


async def test_rules_are_listed_by_either_name_of_their_resource(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.rules.insert(rule("mine"))
        await unit.rules.insert(rule("other", resource_id="g"))
        for name in ("deploymentResourceId", "resourceId"):
            query = parse_queries([{"method": "equal", "attribute": name, "values": ["f"]}], attributes.RULES)
            assert [item.id for item in (await unit.rules.list(query)).items] == ["mine"]
        assert [item.id for item in (await unit.rules.list(ListQuery(search="oth"))).items] == ["other"]
        with pytest.raises(CursorNotFound):
            await unit.rules.list(ListQuery(cursor="missing"))


async def test_projects_are_listed_by_team(store: SqlStore) -> None:
    for id, team_id in (("a", "t1"), ("b", "t2"), ("c", "t1"), ("d", "")):
        await store.projects.insert(replace(project(id), name=f"Name {id}", team_id=team_id))
    page = await store.projects.list(ListQuery(), ["t1"])
    assert (page.total, [item.id for item in page.items]) == (2, ["a", "c"])
    assert (await store.projects.list(ListQuery(), [])).total == 0
    assert [item.id for item in (await store.projects.list(ListQuery(search="name b"), ["t1", "t2"])).items] == ["b"]
    changed = await store.projects.update("a", name="New", services_off=("functions",), protocols_off=("rest",))
    assert changed == await store.projects.get("a")
    assert [item.id for item in (await store.projects.list(ListQuery(search="new"), ["t1"])).items] == ["a"]
    assert await store.projects.update("missing", name="x") is None


async def test_what_is_kept_in_memory_is_read_across_projects(store: SqlStore) -> None:
    for name in ("p", "q"):
        async with store.begin(name) as unit:
            await unit.rules.insert(rule(project_id=name))
            await unit.platforms.insert(platform(project_id=name))
            await unit.platforms.insert(platform("app", project_id=name, type="apple"))
            await unit.webhooks.insert(webhook(project_id=name))
            await unit.webhooks.insert(webhook("off", project_id=name, enabled=False))
    assert [item.project_id for item in await store.projects.rules()] == ["p", "q"]
    assert [(item.project_id, item.id) for item in await store.projects.platforms()] == [("p", "w"), ("q", "w")]
    hooks = await store.projects.webhooks()
    assert [(item.project_id, item.id, item.secret) for item in hooks] == [
        ("p", "h", "signature"),
        ("q", "h", "signature"),
    ]
