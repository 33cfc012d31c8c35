"""Packs the files of a commit straight from git's objects into the source archive; nothing is written in between."""

from __future__ import annotations

import contextlib
import gzip
import os
import posixpath
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from .git import Git
from .layout import FetchFailed, Request
from .tree import Entry

_GZIP_LEVEL = 6
_LINK_MAX_BYTES = 4_096
#: Pointers are small texts (specification of Git LFS: less than 1024 bytes).
_POINTER_MAX_BYTES = 1_024
_POINTER_START = b"version https://git-lfs.github.com/spec/"
_PIECE_BYTES = 1 << 20


@dataclass
class Packed:
    """What was packed. `pointers` are files that stand for contents kept elsewhere (Git LFS)."""

    files: int = 0
    content_bytes: int = 0
    archive_bytes: int = 0
    pointers: list[str] = field(default_factory=list)


def pack(entries: Sequence[Entry], request: Request, time_s: int, descriptor: int) -> Packed:
    """Write the entries as `.tar.gz` to `descriptor`, all with the time of the commit. Raises FetchFailed."""
    packed = Packed()
    sizes = _sizes(entries)
    packed.content_bytes = _check_sizes(entries, sizes, request)
    with open(descriptor, "wb", closefd=False) as file:
        bounded = _Bounded(file, request.archive_bytes)
        with (
            gzip.GzipFile("", "wb", _GZIP_LEVEL, cast(BinaryIO, bounded), mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            _write(sorted(entries, key=lambda entry: os.fsencode(entry.name)), sizes, time_s, tar, packed)
        packed.archive_bytes = bounded.written
    return packed


def _sizes(entries: Sequence[Entry]) -> dict[str, int]:
    """Bytes of every blob, asked for in one command per repository."""
    sizes: dict[str, int] = {}
    for git in {id(entry.git): entry.git for entry in entries}.values():
        blobs = list(dict.fromkeys(entry.blob for entry in entries if entry.git is git))
        asked = "".join(f"{blob}\n" for blob in blobs).encode()
        told = git.run("cat-file", "--batch-check=%(objectname) %(objecttype) %(objectsize)", send=asked)
        for line in told.decode().splitlines():
            blob, kind, *size = line.split(" ")
            if kind != "blob" or not size:
                raise FetchFailed("The repository is damaged: a file's content is missing. Push it again.")
            sizes[blob] = int(size[0])
    return sizes


def _check_sizes(entries: Sequence[Entry], sizes: dict[str, int], request: Request) -> int:
    total = sum(sizes[entry.blob] for entry in entries)
    if total > request.content_bytes:
        largest = max(entries, key=lambda entry: sizes[entry.blob])
        raise FetchFailed(
            f"The files asked for hold {_megabytes(total)}, more than a source may: "
            f'{_megabytes(request.content_bytes)}. The largest is "{_plain(largest.name)}" with '
            f"{_megabytes(sizes[largest.blob])}. Remove what the function does not need from the repository, or name "
            "a smaller root directory."
        )
    return total


def _write(entries: Sequence[Entry], sizes: dict[str, int], time_s: int, tar: tarfile.TarFile, packed: Packed) -> None:
    with _Readers() as readers:
        for entry in entries:
            size = sizes[entry.blob]
            info = tarfile.TarInfo(entry.name)
            info.mtime = time_s
            content = readers.of(entry.git).open(entry.blob, size)
            if entry.is_link:
                info.type, info.mode = tarfile.SYMTYPE, 0o777
                info.linkname = _link_target(entry, content.read(_LINK_MAX_BYTES + 1))
                content.skip()
                tar.addfile(info)
            else:
                info.size, info.mode = size, 0o755 if entry.is_executable else 0o644
                if size <= _POINTER_MAX_BYTES and content.peek(size).startswith(_POINTER_START):
                    packed.pointers.append(entry.name)
                tar.addfile(info, cast(BinaryIO, content))
            packed.files += 1


def _link_target(entry: Entry, raw: bytes) -> str:
    """Where a symbolic link leads; raises FetchFailed unless that is inside."""
    target = raw.decode("utf-8", "surrogateescape")
    inside = posixpath.normpath(posixpath.join(posixpath.dirname(entry.name), target))
    is_plain = 0 < len(raw) <= _LINK_MAX_BYTES and all(ord(char) >= 32 for char in target)
    if not is_plain or target.startswith("/") or inside == ".." or inside.startswith("../"):
        raise FetchFailed(
            f'The link "{_plain(entry.name)}" in the repository points to "{_plain(target)}", outside of the folder '
            "that is fetched. Replace it by the file itself."
        )
    return target


class _Content:
    """The content of one blob as a file object of exactly `size` bytes."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size
        self._seen = b""

    def peek(self, size: int) -> bytes:
        """The first bytes, which stay to be read."""
        self._seen += self._take(size - len(self._seen))
        return self._seen

    def read(self, size: int) -> bytes:
        """As of any file."""
        seen, self._seen = self._seen[:size], self._seen[size:]
        return seen + self._take(size - len(seen))

    def skip(self) -> None:
        """Pass over what is left."""
        while self.read(_PIECE_BYTES):
            pass

    def _take(self, size: int) -> bytes:
        data = self._stream.read(min(size, self._left)) if size > 0 and self._left else b""
        if len(data) < min(size, self._left):
            raise FetchFailed("The repository is damaged: a file's content cannot be read. Push it again.")
        self._left -= len(data)
        return data


class _Reader:
    """Asks one repository for one blob after the other."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asks, self._tells = process.stdin, process.stdout
        self._is_first = True

    def open(self, blob: str, size: int) -> _Content:
        """The content of the next blob; that of the one before has been read to its end."""
        if not self._is_first:
            self._tells.read(1)  # the newline after a content
        self._is_first = False
        self._asks.write(blob.encode() + b"\n")
        self._asks.flush()
        header = self._tells.readline().split()
        if header != [blob.encode(), b"blob", str(size).encode()]:
            raise FetchFailed("The repository is damaged: a file's content is missing. Push it again.")
        return _Content(cast(BinaryIO, self._tells), size)


class _Readers(contextlib.ExitStack):
    """Gives the reader of a repository, started when first asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._readers: dict[int, _Reader] = {}

    def of(self, git: Git) -> _Reader:
        if id(git) not in self._readers:
            self._readers[id(git)] = _Reader(self.enter_context(git.objects()))
        return self._readers[id(git)]


class _Bounded:
    """A file that refuses more than `limit` bytes (0 = no limit)."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file = file
        self._limit = limit
        self.written = 0

    def write(self, data: bytes) -> int:
        self.written += len(data)
        if self._limit and self.written > self._limit:
            raise FetchFailed(
                f"The source is larger than {_megabytes(self._limit)} when packed, the limit of this server "
                "(HEARTH_SOURCE_SIZE_LIMIT). Name a smaller root directory, or remove what the build can install."
            )
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:120]
