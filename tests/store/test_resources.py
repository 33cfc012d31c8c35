"""What the repositories promise (`hearth.ports`), on both databases."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from hearth.model.queries import ListQuery
from hearth.model.statuses import DeploymentStatus, ExecutionStatus
from hearth.ports import Conflict
from hearth.store import SqlStore
from tests.store.samples import (
    NOW,
    FakeClock,
    deployment,
    execution,
    function,
    key,
    project,
    variable,
)

pytestmark = pytest.mark.anyio

FULL_FUNCTION = function(
    execute=("any", 'user:"x"'),
    events=("users.*.create",),
    schedule="* * * * *",
    timeout_s=900,
    enabled=False,
    live=False,
    logging=False,
    entrypoint="src/main.py",
    commands="pip install -r requirements.txt",
    scopes=("users.read",),
    deployment_id="d",
    deployment_created_at=NOW,
    latest_deployment_id="d2",
    latest_deployment_created_at=NOW + timedelta(seconds=1),
    latest_deployment_status="ready",
    deployment_retention_days=30,
    provider_branches=("main", "!x"),
    build_specification="s-1vcpu-512mb",
)
FULL_EXECUTION = execution(
    request_headers=(("content-type", "text/plain"), ("x", "ü")),
    response_headers=(("a", "1"), ("a", "2")),
    response_status_code=201,
    duration_s=0.125,
    permissions=('read("user:u1")',),
    scheduled_at=NOW,
    logs="lögs\n",
    errors="e",
)


async def test_what_is_stored_is_read_back_equal(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        stored = [
            await unit.functions.insert(FULL_FUNCTION),
            await unit.variables.insert(variable(value="välue\x00")),
            await unit.deployments.insert(deployment(build_started_at=NOW, build_logs="log", source_size_bytes=2**40)),
            await unit.executions.insert(FULL_EXECUTION),
            await unit.keys.insert(key(expires_at=NOW, sdks=("python",))),
        ]
    async with store.view("p") as unit:
        assert stored == [
            await unit.functions.get("f"),
            await unit.variables.get("v"),
            await unit.deployments.get("f", "d"),
            await unit.executions.get("f", "e"),
            await unit.keys.get("k"),
        ]
    assert stored[0] == replace(FULL_FUNCTION, sequence=stored[0].sequence)
    assert all(resource.sequence > 0 for resource in stored)


async def test_an_id_is_taken_once_per_project_and_a_conflict_leaves_the_unit_usable(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.functions.insert(function())
        with pytest.raises(Conflict) as conflict:
            await unit.functions.insert(function(name="other"))
        assert conflict.value.field == "id"
        await unit.functions.insert(function("g"))
    async with store.begin("q") as unit:
        await unit.functions.insert(function(project_id="q"))
    async with store.view("p") as unit:
        assert [item.id for item in (await unit.functions.list(ListQuery())).items] == ["f", "g"]


async def test_a_unit_sees_and_changes_its_own_project_only(store: SqlStore) -> None:
    for name in ("p", "q"):
        async with store.begin(name) as unit:
            await unit.functions.insert(function(project_id=name))
            await unit.variables.insert(variable(project_id=name))
            await unit.deployments.insert(deployment(project_id=name))
            await unit.executions.insert(execution(project_id=name))
            await unit.keys.insert(key(project_id=name))
    async with store.begin("q") as unit:
        assert await unit.functions.update("f", name="changed")
        assert await unit.deployments.move("d", DeploymentStatus.FAILED)
        await unit.deployments.clear_activate("f", "")
        await unit.deployments.add_chunk("d", 0, 9)
        for deleted in (unit.functions.delete("f"), unit.variables.delete("v"), unit.keys.delete("k")):
            assert await deleted
        assert await unit.executions.delete_of("f", 10) == 1
        assert await unit.deployments.delete("d")
    async with store.view("p") as unit:
        assert await unit.functions.get("f") == replace(function(), sequence=1)
        assert (await unit.deployments.get("f", "d") or deployment()).status is DeploymentStatus.WAITING
        assert await unit.variables.get("v")
        assert await unit.executions.get("f", "e")
        assert await unit.keys.get("k")
        assert await unit.deployments.chunks("d") == ()


async def test_a_unit_refuses_what_belongs_to_another_project(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        for insert in (
            unit.functions.insert(function(project_id="q")),
            unit.variables.insert(variable(project_id="q")),
            unit.deployments.insert(deployment(project_id="q")),
            unit.executions.insert(execution(project_id="q")),
            unit.keys.insert(key(project_id="q")),
        ):
            with pytest.raises(ValueError, match="project"):
                await insert


async def test_an_update_sets_the_named_fields_and_the_time(store: SqlStore, clock: FakeClock) -> None:
    async with store.begin("p") as unit:
        before = await unit.functions.insert(FULL_FUNCTION)
        clock.move(5)
        after = await unit.functions.update("f", timeout_s=1, execute=())
        assert after == replace(before, timeout_s=1, execute=(), updated_at=NOW + timedelta(seconds=5))
        assert await unit.functions.update("missing", name="x") is None
        with pytest.raises(TypeError, match="nam"):
            await unit.functions.update("f", nam="x")
        with pytest.raises(TypeError, match="id"):
            await unit.functions.update("f", project_id="q")


async def test_a_variable_key_is_taken_once_per_resource(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.variables.insert(variable("a", key="K"))
        await unit.variables.insert(variable("b", key="L"))
        await unit.variables.insert(variable("c", key="K", resource_type="project", resource_id=""))
        with pytest.raises(Conflict) as conflict:
            await unit.variables.insert(variable("d", key="K"))
        assert conflict.value.field == "key"
        with pytest.raises(Conflict) as conflict:
            await unit.variables.insert(variable("a", key="K"))
        assert conflict.value.field == "id"
        with pytest.raises(Conflict) as conflict:
            await unit.variables.update("b", key="K")
        assert conflict.value.field == "key"
        renamed = await unit.variables.update("b", key="M", value="new")
        assert renamed is not None
        assert (renamed.key, renamed.value) == ("M", "new")
        assert [item.id for item in await unit.variables.of("function", "f", 10)] == ["a", "b"]
        assert [item.value for item in await unit.variables.of("function", "f", 1)] == ["value"]
        assert await unit.variables.delete_of("function", "f") == 2
        assert await unit.variables.get("c")


async def test_a_deployment_moves_only_where_its_status_allows(store: SqlStore) -> None:
    """A late result of a canceled build is dropped; canceling twice is fine."""
    async with store.begin("p") as unit:
        await unit.deployments.insert(deployment())
        moved = await unit.deployments.move("d", DeploymentStatus.BUILDING, build_started_at=NOW)
        assert moved is not None
        assert (moved.status, moved.build_started_at) == (DeploymentStatus.BUILDING, NOW)
        assert await unit.deployments.move("d", DeploymentStatus.CANCELED)
        assert await unit.deployments.move("d", DeploymentStatus.READY, build_size_bytes=5) is None
        assert await unit.deployments.move("d", DeploymentStatus.CANCELED)
        assert await unit.deployments.move("none", DeploymentStatus.CANCELED) is None
        with pytest.raises(TypeError):
            await unit.deployments.update("d", status=DeploymentStatus.READY)
        found = await unit.deployments.get("f", "d")
        assert found is not None
        assert (found.status, found.build_size_bytes) == (DeploymentStatus.CANCELED, 0)


async def test_a_build_log_keeps_its_last_characters_and_ends_with_the_build(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.deployments.insert(deployment())
        for piece in ("abc", "dé", "fgh"):
            await unit.deployments.append_log("d", piece, 6)
        found = await unit.deployments.get("f", "d")
        assert found is not None
        assert found.build_logs == "abcdéfgh"[-6:]
        await unit.deployments.move("d", DeploymentStatus.CANCELED)
        await unit.deployments.append_log("d", "late", 6)
        found = await unit.deployments.get("f", "d")
        assert found is not None
        assert found.build_logs == "abcdéfgh"[-6:]


async def test_deployments_are_found_through_their_function_only(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        for id, owner in (("a", "f"), ("b", "g"), ("c", "f")):
            await unit.deployments.insert(
                deployment(id, function_id=owner, activate=True, artifact_key=f"artifacts/{id}")
            )
        assert await unit.deployments.get("f", "b") is None
        newest = await unit.deployments.newest("f")
        assert newest is not None
        assert newest.id == "c"
        assert await unit.deployments.newest("none") is None
        await unit.deployments.clear_activate("f", "c")
        await unit.deployments.move("c", DeploymentStatus.FAILED)
        everything = [*await unit.deployments.all_of("f"), *await unit.deployments.all_of("g")]
        assert [(item.id, item.activate) for item in everything] == [("a", False), ("c", True), ("b", True)]
        assert [item.id for item in await unit.deployments.unfinished()] == ["a", "b"]
    assert await store.projects.artifact_in_use("artifacts/b")
    assert not await store.projects.artifact_in_use("artifacts/x")


@pytest.mark.slow
async def test_chunks_that_arrive_in_parallel_are_counted_exactly(store: SqlStore) -> None:
    """Eight at a time, in any order, each sent twice: exactly one call sees the whole for the first time."""
    size, total = 10, 400
    async with store.begin("p") as unit:
        await unit.deployments.insert(deployment())
    places = asyncio.Semaphore(8)
    counts: list[int] = []

    async def send(start: int) -> None:
        async with places, store.begin("p") as unit:
            counts.append(await unit.deployments.add_chunk("d", start, start + size - 1))

    starts = [start for start in range(0, total, size) if start != 200]
    await asyncio.gather(*(send(start) for start in [*starts, *reversed(starts)]))
    assert max(counts) == total - size
    await send(200)
    assert counts[-1] == total
    async with store.begin("p") as unit:
        assert len(await unit.deployments.chunks("d")) == total // size
        assert await unit.deployments.add_chunk("d", 5, 14) == total  # overlaps two others
        assert (await unit.deployments.chunks("d"))[:3] == ((0, 9), (5, 14), (10, 19))
        await unit.deployments.clear_chunks("d")
        assert await unit.deployments.add_chunk("d", 0, 0) == 1


async def test_executions_move_forward_only_and_are_deleted_in_pieces(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        await unit.executions.insert(execution(status=ExecutionStatus.WAITING))
        moved = await unit.executions.move("e", ExecutionStatus.COMPLETED, response_status_code=200, logs="x")
        assert moved is not None
        assert (moved.status, moved.logs) == (ExecutionStatus.COMPLETED, "x")
        assert await unit.executions.move("e", ExecutionStatus.FAILED) is None
        for number in range(5):
            await unit.executions.insert(execution(f"e{number}", created_at=NOW + timedelta(seconds=number)))
            await unit.executions.move(f"e{number}", ExecutionStatus.COMPLETED)
        assert await unit.executions.delete_before("f", NOW + timedelta(seconds=2), 2) == 2
        assert await unit.executions.delete_before("f", NOW + timedelta(seconds=2), 2) == 1
        assert await unit.executions.delete_of("f", 2) == 2
        assert await unit.executions.delete_of("f", 2) == 1
        assert await unit.executions.delete_of("f", 2) == 0


async def test_executions_beyond_a_count_are_the_oldest_and_those_that_still_run_stay(store: SqlStore) -> None:
    async with store.begin("p") as unit:
        for number in range(6):
            await unit.executions.insert(execution(f"e{number}", status=ExecutionStatus.COMPLETED))
        await unit.executions.insert(execution("other", function_id="g", status=ExecutionStatus.COMPLETED))
        last = await unit.executions.insert(execution("running", status=ExecutionStatus.PROCESSING))
        assert await unit.executions.beyond("f", 7) == 0
        beyond = await unit.executions.beyond("f", 3)
        assert 0 < beyond < last.sequence
        assert await unit.executions.delete_up_to("f", beyond, 3) == 3
        assert await unit.executions.delete_up_to("f", beyond, 3) == 1
        assert await unit.executions.delete_up_to("f", last.sequence, 9) == 2
        assert await unit.executions.get("f", "running") is not None
        assert await unit.executions.get("g", "other") is not None


async def test_executions_are_listed_to_whom_their_permissions_name(store: SqlStore) -> None:
    permissions = {
        "mine": ('read("user:u")',),
        "shared": ('update("user:u")', 'read("user:x")', 'read("users")'),
        "nobody": (),
        "written": ('update("user:u")',),
        "longer": ('read("user:u2")',),
        "quoted": ('x"read("user:u")"',),
    }
    async with store.begin("p") as unit:
        for id, allowed in permissions.items():
            await unit.executions.insert(execution(id, permissions=allowed))

        async def readable(*roles: str) -> list[str]:
            return [item.id for item in (await unit.executions.list("f", ListQuery(), roles)).items]

        assert await readable("user:u", "any") == ["mine"]
        assert await readable("user:u", "users") == ["mine", "shared"]
        assert await readable() == []
        everything = await unit.executions.list("f", ListQuery(), None)
        assert everything.total == len(permissions)


async def test_projects_and_keys(store: SqlStore, clock: FakeClock) -> None:
    stored = await store.projects.insert(project())
    assert await store.projects.get("p") == stored
    assert await store.projects.all() == (stored,)
    with pytest.raises(Conflict):
        await store.projects.insert(project())
    async with store.begin("p") as unit:
        stored_key = await unit.keys.insert(key())
        with pytest.raises(Conflict):
            await unit.keys.insert(key("k2", secret_hash=stored_key.secret_hash))
    assert await store.projects.key_by_hash("hash-p-k") == stored_key
    assert await store.projects.key_by_hash("none") is None
    for sdk in ("python", "cli", "python", ""):
        await store.projects.touch_key(stored_key, NOW, sdk)
    assert await store.projects.key_by_hash("hash-p-k") == replace(stored_key, accessed_at=NOW, sdks=("python", "cli"))
    clock.move(1)
    moved = await store.projects.update("p", name="Other", team_id="t")
    assert moved == replace(stored, name="Other", team_id="t", updated_at=clock.now())
    assert await store.projects.get("p") == moved
    assert await store.projects.update("q", name="Other") is None


async def test_texts_no_database_can_hold_are_made_harmless(store: SqlStore) -> None:
    """User code may log NUL characters and lone surrogates; the record must not be lost over that."""
    bad = "a\x00b\ud800c"
    async with store.begin("p") as unit:
        await unit.executions.insert(execution(logs=bad, request_headers=(("x", bad),), permissions=(bad,)))
        found = await unit.executions.get("f", "e")
        assert found is not None
        assert found.logs == "a\ufffdb?c"
        assert found.request_headers == (("x", "a\ufffdb?c"),)
        assert found.permissions == ("a\ufffdb?c",)
