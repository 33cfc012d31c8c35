"""Reads that are answered again hold for exactly as long as nothing is written."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hearth.control.remembered import KEPT_MAX, KEPT_S, Remembered

pytestmark = pytest.mark.anyio


class World:
    """A store that counts, a clock set by hand, and a value that is read."""

    def __init__(self) -> None:
        self.changes: int | None = 0
        self.now = 50.0
        self.value = "first"
        self.reads = 0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        self.remembered = Remembered[str](cast("Any", self), cast("Any", clock))

    async def load(self) -> str:
        self.reads += 1
        value = self.value
        await asyncio.sleep(0)
        return value

    async def read(self, key: str = "key") -> str:
        return await self.remembered.read(key, self.load)


async def test_a_read_is_answered_again_until_something_is_written() -> None:
    world = World()
    assert [await world.read() for _ in range(3)] == ["first"] * 3
    assert world.reads == 1
    world.value, world.changes = "second", 1
    assert await world.read() == "second"


async def test_what_was_read_while_something_was_written_is_not_kept() -> None:
    world = World()
    reading = asyncio.ensure_future(world.read())
    await asyncio.sleep(0)
    world.value, world.changes = "second", 1
    assert await reading == "first", "asked before the write"
    assert await world.read() == "second"


async def test_what_another_process_wrote_is_seen_soon() -> None:
    world = World()
    await world.read()
    world.value = "second"
    world.now += KEPT_S
    assert await world.read() == "second"


async def test_nothing_is_kept_where_others_write_and_no_failure_is() -> None:
    world = World()
    world.changes = None
    assert [await world.read() for _ in range(2)] == ["first"] * 2
    assert world.reads == 2
    world.changes = 0

    async def fail() -> str:
        raise KeyError("gone")

    with pytest.raises(KeyError):
        await world.remembered.read("key", fail)
    assert await world.read() == "first"


async def test_no_more_are_kept_than_the_limit() -> None:
    world = World()
    for number in range(KEPT_MAX * 2 + 1):
        await world.read(str(number))
    assert len(world.remembered._answers) <= KEPT_MAX
