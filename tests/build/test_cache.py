"""The store of build cache entries: who finds what, what is dropped, and what makes room."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from hearth.build.cache import BuildCache, CacheKey

pytestmark = pytest.mark.anyio


class Shelf:
    """A cache of 4000 bytes with a clock that is set by hand."""

    def __init__(self, root: Path, **changes: int) -> None:
        self.root = root
        self.now = 1_000_000.0
        settings = {"limit_bytes": 4_000, "max_age_s": 1_000, **changes}
        self.cache = BuildCache(root / "build-cache", b"key", clock=lambda: self.now, **settings)

    async def put(self, key: CacheKey, data: bytes) -> None:
        path = self.root / "scratch"
        path.write_bytes(data)
        await self.cache.put(key, path)

    async def get(self, key: CacheKey) -> bytes | None:
        async with self.cache.entry(key) as descriptor:
            return None if descriptor is None else os.read(descriptor, 100_000)

    def files(self) -> list[Path]:
        return [path for path in (self.root / "build-cache").rglob("*") if path.is_file()]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def inputs(**changes: object) -> Mapping[str, object]:
    return {"manifests": "m", "commands": "npm ci", "variables": {"TOKEN": "s3cret"}, **changes}


async def test_what_was_put_is_found_by_the_same_inputs(shelf: Shelf) -> None:
    await shelf.put(shelf.cache.key("p", inputs()), b"installed")
    assert await shelf.get(shelf.cache.key("p", inputs())) == b"installed"


@pytest.mark.parametrize(
    "changes", [{"manifests": "n"}, {"commands": "npm install"}, {"variables": {"TOKEN": "other"}}, {"variables": {}}]
)
async def test_any_other_input_finds_nothing(shelf: Shelf, changes: dict[str, object]) -> None:
    await shelf.put(shelf.cache.key("p", inputs()), b"installed")
    assert await shelf.get(shelf.cache.key("p", inputs(**changes))) is None


async def test_projects_never_share_an_entry(shelf: Shelf) -> None:
    await shelf.put(shelf.cache.key("p", inputs()), b"installed")
    assert await shelf.get(shelf.cache.key("q", inputs())) is None


async def test_names_of_entries_tell_nothing_without_the_key(shelf: Shelf, tmp_path: Path) -> None:
    """Who can list the folder cannot try out values of variables."""
    other = BuildCache(tmp_path / "other", b"another key", limit_bytes=1, max_age_s=1)
    assert other.key("p", inputs()) != shelf.cache.key("p", inputs())
    assert "s3cret" not in repr(shelf.cache.key("p", inputs()))


@pytest.mark.parametrize("damage", [b"instal", b"", b"poisoned!", b"installed and more"])
async def test_a_damaged_entry_is_dropped(shelf: Shelf, damage: bytes) -> None:
    key = shelf.cache.key("p", inputs())
    await shelf.put(key, b"installed")
    [path] = shelf.files()
    path.write_bytes(damage)
    assert await shelf.get(key) is None
    assert shelf.files() == []


async def test_an_entry_past_its_age_is_dropped_even_if_it_is_in_use(shelf: Shelf) -> None:
    """What has no exact version is looked up again some day."""
    key = shelf.cache.key("p", inputs())
    await shelf.put(key, b"installed")
    shelf.now += 900
    assert await shelf.get(key) == b"installed"
    shelf.now += 200
    assert await shelf.get(key) is None
    assert shelf.files() == []


async def test_what_was_used_longest_ago_makes_room(shelf: Shelf) -> None:
    keys = [shelf.cache.key("p", inputs(commands=str(number))) for number in range(5)]
    for key in keys[:4]:
        await shelf.put(key, bytes(1_000))
        shelf.now += 1
    assert await shelf.get(keys[0]) is not None
    shelf.now += 1
    await shelf.put(keys[4], bytes(1_000))
    assert [await shelf.get(key) is not None for key in keys] == [True, False, True, True, True]


async def test_an_entry_replaces_the_older_one_of_its_key(shelf: Shelf) -> None:
    key = shelf.cache.key("p", inputs())
    await shelf.put(key, b"old")
    await shelf.put(key, b"new")
    assert await shelf.get(key) == b"new"
    assert len(shelf.files()) == 1


async def test_a_dropped_entry_is_gone(shelf: Shelf) -> None:
    key = shelf.cache.key("p", inputs())
    await shelf.put(key, b"installed")
    await shelf.cache.drop(key)
    assert await shelf.get(key) is None


async def test_the_start_removes_what_a_smaller_limit_has_no_room_for(shelf: Shelf, tmp_path: Path) -> None:
    for number in range(3):
        await shelf.put(shelf.cache.key("p", inputs(commands=str(number))), bytes(1_000))
    await Shelf(tmp_path, limit_bytes=2_000).cache.sweep()
    assert len(shelf.files()) == 2
    await Shelf(tmp_path, limit_bytes=0).cache.sweep()
    assert shelf.files() == []


async def test_entries_are_closed_to_others(shelf: Shelf) -> None:
    await shelf.put(shelf.cache.key("p", inputs()), b"installed")
    [path] = shelf.files()
    assert path.stat().st_mode & 0o077 == 0
    assert (shelf.root / "build-cache").stat().st_mode & 0o077 == 0
