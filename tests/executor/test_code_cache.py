"""Unpacked code: once per artifact, whole or not at all, never removed while in use, bounded on disk."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from hearth.executor.code_cache import BadArtifact, CodeCache
from hearth.executor.limits import ExecutorLimits
from hearth.executor.sandbox.spec import Profile
from hearth.model.running import Artifact
from hearth.ports import FileNotStored
from tests.support.executors import FakeFiles, pack_files
from tests.support.process_driver import ProcessDriver

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class World:
    """A cache on plain processes."""

    def __init__(self, folder: Path, limits: ExecutorLimits) -> None:
        self.folder = folder
        self.files = FakeFiles(folder / "files")
        self.limits = limits
        self.driver = ProcessDriver()
        self.cache = CodeCache(self.driver, self.files, folder, limits)

    def artifact(self, text: str) -> Artifact:
        return self.files.put(pack_files({"main.py": text}))

    def names(self) -> list[str]:
        """What is in the cache's folder; digests are shortened."""
        return sorted(path.name for path in (self.folder / "cache" / "code").iterdir())

    @property
    def extractions(self) -> int:
        return len(self.driver.started)

    async def settled(self, condition: Callable[[], bool]) -> None:
        for _ in range(500):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"never settled: {self.names()}")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., World]:
    return lambda limits=None: World(tmp_path, limits or ExecutorLimits())


async def test_the_code_is_there_and_stays_unpacked(make: Callable[..., World]) -> None:
    world = make()
    await world.cache.open()
    artifact = world.artifact("code")
    for _ in range(2):
        async with world.cache.use(artifact) as path:
            assert (path / "main.py").read_text() == "code"
    assert world.extractions == 1
    assert world.names() == [artifact.digest, f"{artifact.digest}.size"]
    assert world.driver.started[0].profile is Profile.EXTRACT
    await world.cache.close()


async def test_callers_at_the_same_time_share_one_unpacking(make: Callable[..., World]) -> None:
    world = make()
    await world.cache.open()
    artifact = world.artifact("code")
    await asyncio.gather(*(world.cache.prepare(artifact) for _ in range(5)))
    assert world.extractions == 1
    await world.cache.close()


@pytest.mark.slow
async def test_a_caller_that_leaves_at_any_moment_leaves_no_claim(make: Callable[..., World]) -> None:
    """With no room at all, the tree goes as soon as nobody uses it, whenever the caller was canceled."""
    world = make(ExecutorLimits(code_cache_bytes=1))
    await world.cache.open()
    artifact = world.artifact("code")
    for turns in range(12):
        call = asyncio.ensure_future(world.cache.prepare(artifact))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await world.settled(lambda: world.names() == [])
    await world.cache.close()


async def test_a_caller_that_leaves_does_not_stop_the_others(make: Callable[..., World]) -> None:
    world = make()
    await world.cache.open()
    artifact = world.artifact("code")
    first, second = (asyncio.ensure_future(world.cache.prepare(artifact)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    assert world.extractions == 1
    await world.cache.close()


async def test_a_bad_artifact_leaves_nothing(make: Callable[..., World]) -> None:
    world = make()
    await world.cache.open()
    artifact = world.files.put(b"not an archive")
    with pytest.raises(BadArtifact, match=r"The archive is not a tar or tar\.gz file"):
        await world.cache.prepare(artifact)
    with pytest.raises(FileNotStored):
        await world.cache.prepare(Artifact("artifacts/none", "none", 1))
    assert world.names() == []
    await world.cache.close()


async def test_unpacking_that_takes_too_long_is_ended(make: Callable[..., World]) -> None:
    world = make(ExecutorLimits(unpack_timeout_s=0.0))
    await world.cache.open()
    with pytest.raises(BadArtifact, match="took more than 0 s"):
        await world.cache.prepare(world.artifact("code"))
    assert world.names() == []
    await world.cache.close()


async def test_the_next_process_takes_over_what_is_whole_and_removes_the_rest(make: Callable[..., World]) -> None:
    world = make()
    await world.cache.open()
    whole, torn = world.artifact("whole"), world.artifact("torn")
    await world.cache.prepare(whole)
    await world.cache.prepare(torn)
    await world.cache.close()
    folder = world.folder / "cache" / "code"
    (folder / f"{torn.digest}.size").unlink()  # killed between the rename and the note
    (folder / f"{torn.digest}.partial-1").mkdir()
    (folder / "gone.size").write_text("5")
    next_world = make()
    next_world.files = world.files
    await next_world.cache.open()
    assert next_world.names() == [whole.digest, f"{whole.digest}.size"]
    await next_world.cache.prepare(whole)
    assert next_world.extractions == 0
    await next_world.cache.close()


async def test_the_least_recently_used_code_goes_when_room_is_needed(make: Callable[..., World]) -> None:
    """Each tree counts 4 KiB per file and its bytes; there is room for two."""
    world = make(ExecutorLimits(code_cache_bytes=10_000))
    await world.cache.open()
    first, second, third = (world.artifact(text) for text in ("first", "second", "third"))
    await world.cache.prepare(first)
    await world.cache.prepare(second)
    await world.cache.prepare(first)
    await world.cache.prepare(third)
    kept = sorted([first.digest, f"{first.digest}.size", third.digest, f"{third.digest}.size"])
    await world.settled(lambda: world.names() == kept)
    await world.cache.close()


async def test_code_in_use_is_never_removed(make: Callable[..., World]) -> None:
    world = make(ExecutorLimits(code_cache_bytes=1))
    await world.cache.open()
    first, second = world.artifact("first"), world.artifact("second")
    async with world.cache.use(first) as path, world.cache.use(second) as other:
        await asyncio.sleep(0)
        assert (path / "main.py").read_text() == "first"
        assert (other / "main.py").read_text() == "second"
    await world.settled(lambda: world.names() == [])
    async with world.cache.use(first) as path:
        assert (path / "main.py").read_text() == "first"
    await world.cache.close()
