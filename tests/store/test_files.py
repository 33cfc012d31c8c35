"""The local file store: uploads in pieces, stored files that never change, and nothing left behind."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hearth.model.refusals import PlatformFault
from hearth.ports import FileNotStored
from hearth.store import LocalFiles
from tests.support.leftovers import open_below

pytestmark = pytest.mark.anyio
KEY = "sources/p/d"


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(tmp_path)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def whole(files: LocalFiles, key: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in files.read(key, start, length)])


async def upload(files: LocalFiles, key: str, data: bytes) -> None:
    assert await files.write_at(key, 0, pieces(data)) == len(data)
    await files.finish_upload(key, len(data))


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_chunks_in_any_order_and_in_parallel_become_one_file(files: LocalFiles) -> None:
    data = os.urandom(3_000_000)
    size = 300_000

    async def send(start: int) -> None:
        part = data[start : start + size]
        assert await files.write_at(KEY, start, pieces(part[:1000], part[1000:])) == len(part)

    await asyncio.gather(*(send(start) for start in reversed(range(0, len(data), size))))
    with pytest.raises(FileNotStored):
        await files.size(KEY)
    await files.finish_upload(KEY, len(data))
    assert await files.size(KEY) == len(data)
    assert await whole(files, KEY) == data
    assert await whole(files, KEY, 5, 10) == data[5:15]
    assert await whole(files, KEY, len(data) - 3, 100) == data[-3:]
    assert await whole(files, KEY, len(data)) == b""
    assert await whole(files, KEY, 0, 0) == b""


async def test_reading_yields_pieces_of_bounded_size_and_outlives_a_delete(files: LocalFiles) -> None:
    await upload(files, KEY, bytes(1_000_000))
    sizes = []
    async for piece in files.read(KEY):
        sizes.append(len(piece))
        await files.delete(KEY)
    assert sizes == [262_144] * 3 + [1_000_000 - 3 * 262_144]
    with pytest.raises(FileNotStored):
        await whole(files, KEY)
    await files.delete(KEY)  # what is not there is fine


async def test_an_upload_of_another_size_is_not_stored(files: LocalFiles) -> None:
    await files.write_at(KEY, 0, pieces(b"abc"))
    for size in (2, 4):
        with pytest.raises(PlatformFault, match="3 bytes"):
            await files.finish_upload(KEY, size)
    await files.write_at(KEY, 3, pieces(b"d"))
    await files.finish_upload(KEY, 4)
    assert await whole(files, KEY) == b"abcd"
    with pytest.raises(FileNotStored):
        await files.finish_upload("sources/p/none", 1)


async def test_finishing_twice_changes_nothing(files: LocalFiles) -> None:
    """A start after a kill repeats the step."""
    await upload(files, KEY, b"abc")
    await files.finish_upload(KEY, 3)
    with pytest.raises(PlatformFault):
        await files.finish_upload(KEY, 4)
    assert await whole(files, KEY) == b"abc"


async def test_a_chunk_repeated_after_the_end_cannot_change_the_stored_file(files: LocalFiles, tmp_path: Path) -> None:
    finished = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"X" * 2_000_000
        await finished.wait()
        yield b"Y" * 2_000_000

    late = asyncio.create_task(files.write_at(KEY, 0, slow()))
    await files.write_at(KEY, 0, pieces(b"a" * 3_000_000))
    await files.finish_upload(KEY, 3_000_000)
    stored = await whole(files, KEY)
    finished.set()
    assert await late == 4_000_000
    assert await files.write_at(KEY, 0, pieces(b"zzz")) == 3
    assert await whole(files, KEY) == stored
    assert everything(tmp_path / "files") == [f"stored/{KEY}"]


async def test_a_discarded_upload_is_gone(files: LocalFiles, tmp_path: Path) -> None:
    await files.write_at(KEY, 0, pieces(b"abc"))
    await files.discard_upload(KEY)
    await files.discard_upload(KEY)
    assert everything(tmp_path / "files") == []
    await upload(files, KEY, b"new")
    assert await whole(files, KEY) == b"new"


async def test_a_client_that_breaks_off_leaves_an_upload_that_goes_on(files: LocalFiles) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        await files.write_at(KEY, 0, broken())
    await upload(files, KEY, b"a" * 2_500_000)
    assert await whole(files, KEY) == b"a" * 2_500_000


async def test_cancelled_in_the_middle_no_descriptor_is_left(files: LocalFiles, tmp_path: Path) -> None:
    await upload(files, "sources/p/big", bytes(3_000_000))

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(1_100_000)

    async def read() -> None:
        async for _ in files.read("sources/p/big"):
            await asyncio.sleep(0)

    for work in (lambda: files.write_at(KEY, 0, endless()), read):
        for steps in (1, 3, 10):
            task = asyncio.ensure_future(work())
            for _ in range(steps):
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
    assert open_below(tmp_path) == []


async def test_a_local_path_lasts_as_long_as_its_context(files: LocalFiles, tmp_path: Path) -> None:
    await upload(files, KEY, b"abc")
    async with files.local(KEY) as path:
        await files.delete(KEY)
        assert path.read_bytes() == b"abc"
        assert path.stat().st_mode & 0o777 == 0o644
    assert not path.exists()
    with pytest.raises(FileNotStored):
        async with files.local(KEY):
            raise AssertionError
    assert everything(tmp_path / "files") == []


async def test_a_scratch_file_is_gone_unless_it_was_adopted(files: LocalFiles, tmp_path: Path) -> None:
    async with files.scratch() as path:
        assert path.read_bytes() == b""
        path.write_bytes(b"dropped")
    async with files.scratch() as path:
        path.write_bytes(b"kept")
        await files.adopt("artifacts/a", path)
    assert await whole(files, "artifacts/a") == b"kept"
    assert everything(tmp_path / "files") == ["stored/artifacts/a"]
    async with files.scratch() as path:
        path.write_bytes(b"kept")
        await files.adopt("artifacts/a", path)  # an equal one
    assert await whole(files, "artifacts/a") == b"kept"


async def test_what_is_adopted_must_be_a_plain_file_that_nobody_else_can_change(
    files: LocalFiles, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(secret)
    os.mkfifo(pipe)
    with pytest.raises(PlatformFault):
        await files.adopt("artifacts/a", link)
    for bad in (pipe, tmp_path):
        with pytest.raises(ValueError, match="regular"):
            await files.adopt("artifacts/a", bad)
    twice = tmp_path / "twice"
    twice.write_bytes(b"first")
    os.link(twice, tmp_path / "second name")
    await files.adopt("artifacts/a", twice)
    (tmp_path / "second name").write_bytes(b"other")
    assert await whole(files, "artifacts/a") == b"first"
    assert not twice.exists()


async def test_a_copy_is_independent_of_its_original(files: LocalFiles, tmp_path: Path) -> None:
    await upload(files, KEY, b"abc")
    await files.copy(KEY, "sources/p/e")
    await files.copy(KEY, "sources/p/e")
    await files.delete(KEY)
    assert await whole(files, "sources/p/e") == b"abc"
    with pytest.raises(FileNotStored):
        await files.copy(KEY, "sources/p/f")
    assert everything(tmp_path / "files") == ["stored/sources/p/e"]


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".hidden", "a/.b", "a\x00b", "a b"])
async def test_a_key_cannot_leave_the_store(files: LocalFiles, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        await files.size(key)
    with pytest.raises(ValueError, match="key"):
        await files.write_at(key, 0, pieces(b"x"))


async def test_folders_are_private_and_a_start_sweeps_what_an_earlier_one_left(
    files: LocalFiles, tmp_path: Path
) -> None:
    await upload(files, KEY, b"abc")
    for key in ("sources/p/young", "sources/p/old"):
        await files.write_at(key, 0, pieces(b"x"))
    week_ago = time.time() - 8 * 86_400
    os.utime(tmp_path / "files/uploads/sources/p/old", (week_ago, week_ago))
    context = files.scratch()
    left = await context.__aenter__()
    again = LocalFiles(tmp_path)
    assert not left.exists()
    assert everything(tmp_path / "files") == [f"stored/{KEY}", "uploads/sources/p/young"]
    assert await whole(again, KEY) == b"abc"
    for folder in (tmp_path / "files", *(path for path in (tmp_path / "files").rglob("*") if path.is_dir())):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    await context.__aexit__(None, None, None)


async def test_a_full_disk_is_our_fault_and_said(
    files: LocalFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hearth.store.files.local.os.pwrite", full)
    for size in (10, 2_000_000):
        with pytest.raises(PlatformFault, match="No space left"):
            await files.write_at(KEY, 0, pieces(bytes(size)))
