"""Blobs on the local disk: unfinished uploads, stored files, scratch files, all below one folder of mode 0700.

Stored files never change, so a copy is a hard link. They are readable for all inside the closed folder: a
sandbox, which runs as another user, is shown single files of it. Whatever may take long happens in threads.
"""

import asyncio
import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar

from hearth.model.refusals import PlatformFault, StorageAway
from hearth.ports import FileNotStored
from hearth.store.settling import settled

PIECE_BYTES = 256 * 1024
#: What an upload collects before it is handed to a thread; smaller writes are made directly.
_WRITE_BYTES = 1024 * 1024
_DIRECT_BYTES = 32 * 1024
FILE_MODE = 0o644
#: An upload nobody continued for a week belongs to no deployment any more.
_STALE_UPLOAD_S = 7 * 86_400

STORED, UPLOADS, _SCRATCH = "stored", "uploads", "scratch"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127}){0,7}\Z")


def is_key(text: str) -> bool:
    """Whether a file may be stored under this name."""
    return _KEY.match(text) is not None


P = ParamSpec("P")
R = TypeVar("R")


async def _in_thread(work: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Run in a thread and wait for it even when cancelled: descriptors are closed right after."""
    return await settled(asyncio.to_thread(work, *arguments, **named))


@contextmanager
def _translated(step: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        text = f"The file store failed to {step}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageAway(text, reason="its disk is full") from error
        raise PlatformFault(text) from error


class _Upload:
    """An unfinished upload that is being worked on, by `users` calls.

    `over` = nothing may be written any more; `quiet` is set while no thread writes.
    """

    def __init__(self) -> None:
        self.users = 0
        self.over = False
        self.quiet = asyncio.Event()
        self.quiet.set()
        self._writing = 0

    async def write(self, descriptor: int, data: bytearray, offset: int) -> None:
        """Write all of `data`, unless the upload is over."""
        if self.over:
            return
        with _translated("write an upload"):
            if len(data) <= _DIRECT_BYTES:
                _pwrite_all(descriptor, data, offset)
                return
            self._writing += 1
            self.quiet.clear()
            try:
                await _in_thread(_pwrite_all, descriptor, data, offset)
            finally:
                self._writing -= 1
                if not self._writing:
                    self.quiet.set()


async def _write_all(upload: _Upload, descriptor: int, offset: int, data: AsyncIterator[bytes]) -> int:
    total, pending = 0, bytearray()
    async for piece in data:
        pending += piece
        if len(pending) >= _WRITE_BYTES:
            await upload.write(descriptor, pending, offset + total)
            total += len(pending)
            pending = bytearray()
    if pending:
        await upload.write(descriptor, pending, offset + total)
    return total + len(pending)


class LocalFiles:
    """See `hearth.ports.Files`. Keys must match `segment/segment/...`; anything else raises ValueError.

    Belongs to the one server of a data folder: it makes `<data folder>/files` and sweeps what an earlier server
    left there. Raises PlatformFault if it cannot.
    """

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "files"
        self._uploads: dict[str, _Upload] = {}
        with _translated("open"):
            for folder in (self._root, *(self._root / area for area in (STORED, UPLOADS, _SCRATCH))):
                make_folder(folder)
            _sweep(self._root)

    async def write_at(self, key: str, offset: int, data: AsyncIterator[bytes]) -> int:
        """See the port. Returns how many bytes came. Raises PlatformFault (disk full, say).

        Bytes that come after `finish_upload` are taken and dropped: a repeated chunk must neither change the
        stored file nor begin a second one.
        """
        path = self._path(UPLOADS, key)
        with self._upload(key) as upload:
            if upload.over or self._path(STORED, key).exists():
                return sum([len(piece) async for piece in data])
            with _translated("open an upload"):
                make_folder(path.parent)
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                return await _write_all(upload, descriptor, offset, data)
            finally:
                os.close(descriptor)

    async def finish_upload(self, key: str, size: int) -> None:
        """See the port. Raises FileNotStored without an upload, PlatformFault when it has another size.

        Repeating it changes nothing, so a step that a kill cut off may be taken again.
        """
        source, target = self._path(UPLOADS, key), self._path(STORED, key)
        with self._upload(key) as upload:
            await self._end(upload)
            stored = not source.exists()
            found = await self.size(key) if stored else source.stat().st_size
            if found != size:
                upload.over = False
                raise PlatformFault(f"The upload {key} has {found} bytes instead of {size}")
            with _translated("store an upload"):
                if not stored:
                    await _in_thread(_place, source, target)

    async def discard_upload(self, key: str) -> None:
        """See the port."""
        path = self._path(UPLOADS, key)
        with self._upload(key) as upload:
            await self._end(upload)
            with _translated("discard an upload"):
                path.unlink(missing_ok=True)

    @contextmanager
    def _upload(self, key: str) -> Iterator[_Upload]:
        upload = self._uploads.setdefault(key, _Upload())
        upload.users += 1
        try:
            yield upload
        finally:
            upload.users -= 1
            if not upload.users and self._uploads.get(key) is upload:
                del self._uploads[key]

    async def _end(self, upload: _Upload) -> None:
        """Let no further byte in, and wait for the writes in threads."""
        upload.over = True
        await upload.quiet.wait()

    async def size(self, key: str) -> int:
        """In bytes. Raises FileNotStored."""
        try:
            return self._path(STORED, key).stat().st_size
        except FileNotFoundError:
            raise FileNotStored(key) from None

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See the port: pieces of 256 KiB; ends early where the file does. A file deleted meanwhile is read on."""
        try:
            descriptor = os.open(self._path(STORED, key), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise FileNotStored(key) from None
        try:
            left = length
            while left is None or left > 0:
                wanted = PIECE_BYTES if left is None else min(PIECE_BYTES, left)
                with _translated("read"):
                    piece = await _in_thread(os.pread, descriptor, wanted, start)
                if not piece:
                    return
                yield piece
                start += len(piece)
                left = None if left is None else left - len(piece)
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def local(self, key: str) -> AsyncIterator[Path]:
        """See the port. The path is a link of its own, so the file stays if its key is deleted meanwhile."""
        source = self._path(STORED, key)
        with self._scratch_folder() as folder:
            path = folder / source.name
            try:
                os.link(source, path)
            except FileNotFoundError:
                raise FileNotStored(key) from None
            except OSError as error:
                raise PlatformFault(f"The file store failed to link {key}: {error.strerror}") from error
            yield path

    @asynccontextmanager
    async def scratch(self) -> AsyncIterator[Path]:
        """See the port. Its folder is its own, so names beside it are free to use and go with it."""
        with self._scratch_folder() as folder:
            path = folder / "scratch"
            with _translated("make a scratch file"):
                path.touch(mode=0o600, exist_ok=False)
            yield path

    @contextmanager
    def _scratch_folder(self) -> Iterator[Path]:
        with _translated("make a scratch folder"):
            folder = Path(tempfile.mkdtemp(dir=self._root / _SCRATCH))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def adopt(self, key: str, path: Path) -> None:
        """See the port. Raises ValueError if `path` is no regular file: what a sandbox made is not trusted."""
        target = self._path(STORED, key)
        with _translated("take over a file"):
            await _in_thread(_adopt, path, target, self._root / _SCRATCH)

    async def copy(self, source_key: str, target_key: str) -> None:
        """See the port. Replaces an existing target. Raises FileNotStored."""
        source, target = self._path(STORED, source_key), self._path(STORED, target_key)
        with _translated("copy"):
            try:
                await _in_thread(_copy, source, target, self._root / _SCRATCH)
            except FileNotFoundError:
                raise FileNotStored(source_key) from None

    async def delete(self, key: str) -> None:
        """See the port."""
        with _translated("delete"):
            await _in_thread(self._path(STORED, key).unlink, missing_ok=True)

    async def close(self) -> None:
        """Nothing stays open between calls."""

    def _path(self, area: str, key: str) -> Path:
        if not is_key(key):
            raise ValueError(f"not a key of the file store: {key!r}")
        return self._root / area / key


def _pwrite_all(descriptor: int, data: bytearray, offset: int) -> None:
    with memoryview(data) as whole:
        written = 0
        while written < len(whole):
            written += os.pwrite(descriptor, whole[written:], offset + written)


def make_folder(path: Path) -> None:
    """Make a folder and what is missing above it, each closed to others."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _place(source: Path, target: Path) -> None:
    """Make `source` durable as `target`."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, FILE_MODE)  # whatever the umask
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    make_folder(target.parent)
    source.replace(target)
    _sync_folder(target.parent)


def _adopt(path: Path, target: Path, scratch: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ValueError(f"not a regular file: {path}")
    with os.fdopen(descriptor, "rb") as file:
        # A file of another user, or with a second name, could still be changed after it was taken over.
        if status.st_nlink == 1 and _owned(descriptor, status.st_uid):
            try:
                _place(path, target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            else:
                return
        handle, temporary = tempfile.mkstemp(dir=scratch)
        try:
            with os.fdopen(handle, "wb") as copy:
                shutil.copyfileobj(file, copy, _WRITE_BYTES)
            _place(Path(temporary), target)
        finally:
            Path(temporary).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _owned(descriptor: int, uid: int) -> bool:
    """Make the file ours; False where we may not."""
    if uid != os.geteuid():
        try:
            os.fchown(descriptor, os.geteuid(), os.getegid())
        except PermissionError:
            return False
    return True


def _copy(source: Path, target: Path, scratch: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        link = folder / "link"
        os.link(source, link)
        make_folder(target.parent)
        link.replace(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path) -> None:
    for entry in (root / _SCRATCH).iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    oldest = time.time() - _STALE_UPLOAD_S
    for folder, _, names in os.walk(root / UPLOADS):
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_mtime < oldest:
                    path.unlink()
