"""Kept requests and responses: sealed, bound to their execution, gone with it."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from hearth.model.bodies import Bodies, Body, BodyCopy, KeptRequest, KeptResponse, kept_body
from hearth.model.statuses import ExecutionStatus, Trigger
from hearth.store import SqlStore
from hearth.store.sql.sealed import SEALED
from tests.store.samples import NOW, execution

pytestmark = pytest.mark.anyio

SECRET = b"what nobody else is to read \xff\x00"


def bodies(id: str, *, function_id: str = "f", answered: bool = True, days: int = 0) -> Bodies:
    request = KeptRequest(
        "PUT",
        "/a?b=c",
        {"x-own": SECRET.decode("latin-1")},
        Body(SECRET, len(SECRET)),
        Trigger.EVENT,
        "u",
        "r",
        "1",
        "e",
    )
    response = KeptResponse(201, (("set-cookie", "a"), ("set-cookie", "b")), kept_body(SECRET * 3, 40))
    return Bodies("p", function_id, id, NOW + timedelta(days=days), request, response if answered else None)


async def insert(store: SqlStore, *ids: str, function_id: str = "f") -> None:
    async with store.begin("p") as unit:
        for id in ids:
            await unit.executions.insert(execution(id, function_id=function_id, status=ExecutionStatus.COMPLETED))


async def kept(store: SqlStore, *ids: str) -> list[str]:
    async with store.view("p") as unit:
        return [id for id in ids if await unit.bodies.get("f", id) is not None]


async def test_what_is_kept_comes_back_as_it_was_and_is_replaced_by_what_is_kept_later(store: SqlStore) -> None:
    await insert(store, "a", "b")
    first, second = bodies("a"), bodies("b", answered=False)
    await store.keep_bodies([first, second])
    async with store.view("p") as unit:
        assert await unit.bodies.get("f", "a") == first
        assert await unit.bodies.response("f", "a") == first.response
        assert await unit.bodies.get("f", "b") == second
        assert await unit.bodies.response("f", "b") is None
        assert await unit.bodies.get("other", "a") is None
        assert await unit.bodies.response("f", "none") is None
    async with store.view("q") as unit:
        assert await unit.bodies.get("f", "a") is None
    later = bodies("b", days=1)
    await store.keep_bodies([later])
    async with store.view("p") as unit:
        assert await unit.bodies.get("f", "b") == later


async def test_nothing_is_kept_of_what_does_not_exist_any_more(store: SqlStore) -> None:
    await insert(store, "a")
    await store.keep_bodies([bodies("a"), bodies("gone")])
    await store.keep_bodies([bodies("gone")])
    await store.keep_bodies([])
    assert await kept(store, "a", "gone") == ["a"]


async def test_bodies_go_with_their_executions_however_those_go(store: SqlStore) -> None:
    ids = [f"e{number}" for number in range(6)]
    await insert(store, *ids)
    await insert(store, "g", function_id="other")
    await store.keep_bodies([*map(bodies, ids), bodies("g", function_id="other")])
    async with store.begin("p") as unit:
        await unit.executions.delete("e3")
    assert await kept(store, *ids) == ["e0", "e1", "e2", "e4", "e5"]
    async with store.begin("p") as unit:
        assert await unit.executions.delete_before("f", NOW + timedelta(seconds=1), 2) == 2
    assert await kept(store, *ids) == ["e2", "e4", "e5"]
    async with store.begin("p") as unit:
        assert await unit.executions.delete_up_to("f", await unit.executions.beyond("f", 2), 9) == 1
    assert await kept(store, *ids) == ["e4", "e5"]
    async with store.begin("p") as unit:
        assert await unit.executions.delete_of("f", 9) == 2
        assert await unit.bodies.get("other", "g") is not None
    assert await kept(store, *ids) == []


async def test_the_oldest_are_deleted_first_and_only_those_of_the_function(store: SqlStore) -> None:
    await insert(store, "a", "b", "c")
    await insert(store, "g", function_id="other")
    await store.keep_bodies(
        [bodies("a", days=2), bodies("b", days=1), bodies("c", days=9), bodies("g", function_id="other")]
    )
    async with store.begin("p") as unit:
        assert await unit.bodies.delete_before("f", NOW + timedelta(days=3), 1) == 1
    assert await kept(store, "a", "b", "c") == ["a", "c"]
    async with store.begin("p") as unit:
        assert await unit.bodies.delete_before("f", NOW + timedelta(days=3), 9) == 1
        assert await unit.bodies.delete("c")
        assert not await unit.bodies.delete("c")
        assert await unit.bodies.get("other", "g") is not None


async def test_the_database_holds_nothing_of_it_in_clear_and_each_part_opens_in_its_place_only(
    store: SqlStore, database: str, tmp_path: Path
) -> None:
    await insert(store, "a", "b")
    await store.keep_bodies([bodies("a"), bodies("b")])
    rows = await raw_rows(database, tmp_path)
    assert len(rows) == 2
    for request, response in rows:
        assert len(request) > len(SECRET)
        for part in (b"nobody else", b"x-own", b"/a?b=c", b"set-cookie"):
            assert part not in request
            assert part not in response
    contexts = SEALED["execution_bodies"]
    values = {"project_id": "p", "function_id": "f", "execution_id": "a"}
    cipher = store._cipher
    (request, response), _ = rows
    assert SECRET in cipher.open_bytes(request, contexts["request"](values))
    assert SECRET[:20] in cipher.open_bytes(response, contexts["response"](values))
    for blob, context in (
        (request, contexts["response"](values)),
        (request, contexts["request"](values | {"execution_id": "b"})),
        (request, contexts["request"](values | {"function_id": "g"})),
        (request, contexts["request"](values | {"project_id": "q"})),
    ):
        with pytest.raises(ValueError, match="not encrypted with this key"):
            cipher.open_bytes(blob, context)


async def raw_rows(database: str, tmp_path: Path) -> list[tuple[bytes, bytes]]:
    statement = "SELECT request, response FROM execution_bodies ORDER BY execution_id"
    if database:
        connection = await asyncpg.connect(database)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()
    with sqlite3.connect(next(tmp_path.glob("*.db"))) as file:
        rows = file.execute(statement).fetchall()
    file.close()
    return rows


@pytest.mark.parametrize("limit", [0, 3, 7, 100])
def test_a_body_that_passes_by_in_pieces_is_kept_as_one_that_is_whole(limit: int) -> None:
    copy = BodyCopy(limit)
    for piece in (b"12", b"", b"345", b"67"):
        copy.add(piece)
    assert copy.body() == kept_body(b"1234567", limit)
    assert copy.body().is_truncated == (limit < 7)
    assert copy.body().sha256() == kept_body(b"1234567", 99).sha256()
