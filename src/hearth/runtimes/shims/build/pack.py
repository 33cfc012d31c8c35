"""Packs the output of a build: one deterministic tar, compressed as its size asks for, equal for equal files.

Names sorted, times, owners and everything else that differs between two builds of the same code left out, so that
the digest of the artifact stands for its content.
"""

from __future__ import annotations

import os
import stat
import struct
import tarfile
import zlib
from dataclasses import dataclass, field
from typing import BinaryIO

from .. import zstd
from .layout import BuildFailed

#: Below this an artifact is not compressed (contract: runtime-contract 7, step 8).
COMPRESS_FROM_BYTES = 5_000_000
#: From here on by Zstandard where there is one: a quarter smaller than gzip's, written and read five times as fast
#: (measured on 50 MB of packages: 0.07 s and 0.02 s instead of 0.33 s and 0.11 s).
ZSTD_FROM_BYTES = 20_000_000
#: Fast rather than small: twice the speed of the default for a few percent of size.
GZIP_LEVEL = 4
MAX_ENTRIES = 200_000
MAX_LEVELS = 100
MAX_PATH_BYTES = 3_000
_COPY_BYTES = 1 << 20
_BYTECODE_HEADER_BYTES = 16
_GZIP = 31  # zlib's window bits for a gzip stream; its header carries no time and no name


@dataclass
class Packed:
    """What was packed. `left_out` names what could not or need not go in, with the reason."""

    entries: int = 0
    content_bytes: int = 0
    written_bytes: int = 0
    compression: str = ""
    left_out: list[str] = field(default_factory=list)


@dataclass
class _Entry:
    name: str
    path: str
    status: os.stat_result
    link: str = ""


def pack(
    root: str,
    descriptor: int,
    limit_bytes: int,
    build_root: str | None = None,
    content_bytes: int | None = None,
    *,
    may_zstd: bool = False,
) -> Packed:
    """Write the tree below `root` to `descriptor`; raises BuildFailed if it may not or cannot be packed.

    `limit_bytes` bounds what is written, `content_bytes` the sum of the files' sizes (sparse ones count in full).
    Absolute links below `build_root` (default `root`) become relative ones, since the artifact lives elsewhere.
    `may_zstd`: whoever unpacks it can read Zstandard. Nothing else may change the tree meanwhile.
    """
    packed = Packed()
    entries = _collect(root, os.path.abspath(build_root or root), packed)
    packed.entries = len(entries)
    packed.content_bytes = sum(entry.status.st_size for entry in entries if stat.S_ISREG(entry.status.st_mode))
    if content_bytes is not None and packed.content_bytes > content_bytes:
        raise BuildFailed(
            "size",
            f"The build output holds {packed.content_bytes / 1_000_000:,.0f} MB of files, more than a function may: "
            f"{content_bytes / 1_000_000:,.0f} MB. Remove what it does not need at the end of the build commands.",
        )
    packed.compression = _compression(packed.content_bytes, may_zstd)
    writer = _Writer(descriptor, packed.compression, limit_bytes)
    for entry in entries:
        _write(entry, writer)
    writer.write(bytes(2 * tarfile.BLOCKSIZE))
    writer.close()
    packed.written_bytes = writer.written
    return packed


def _compression(content_bytes: int, may_zstd: bool) -> str:
    """What is compressed with: nothing below 5 MB (contract: runtime-contract 7, step 8)."""
    if content_bytes < COMPRESS_FROM_BYTES:
        return ""
    return "zstd" if content_bytes >= ZSTD_FROM_BYTES and may_zstd and zstd.is_available() else "gzip"


def too_large(limit_bytes: int) -> BuildFailed:
    """The refusal of an artifact above the limit, in the contract's words (functions-api 9.1)."""
    return BuildFailed(
        "size",
        f"Build size should be less than {limit_bytes / 1_000_000:,.2f} MBs. "
        "Leave files the function does not need out of the upload or remove them at the end of the build commands.",
    )


def _collect(root: str, build_root: str, packed: Packed) -> list[_Entry]:
    """Every entry to pack, sorted by the bytes of its name, folders before what is in them."""
    entries: list[_Entry] = []
    folders: list[tuple[str, str]] = [(root, "")]
    while folders:
        folder, prefix = folders.pop()
        for item in _scan(folder):
            name = prefix + item.name
            _check_name(item.name, name)
            status = item.stat(follow_symlinks=False)
            entry = _Entry(name, item.path, status)
            if stat.S_ISLNK(status.st_mode):
                link = _link(entry, root, build_root, packed)
                if link is None:
                    continue
                entry.link = link
            elif stat.S_ISDIR(status.st_mode):
                folders.append((item.path, name + "/"))
            elif not stat.S_ISREG(status.st_mode):
                packed.left_out.append(f"{name} (neither file, folder nor link)")
                continue
            entries.append(entry)
            if len(entries) > MAX_ENTRIES:
                raise BuildFailed(
                    "entries",
                    f"The build output holds more than {MAX_ENTRIES:,} files and folders. "
                    "Remove what the function does not need at the end of the build commands.",
                )
    return sorted(entries, key=lambda entry: os.fsencode(entry.name))


def _scan(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder; one that its owner had closed is opened first (it is ours)."""
    try:
        with os.scandir(folder) as items:
            return list(items)
    except PermissionError:
        os.chmod(folder, 0o700)
        with os.scandir(folder) as items:
            return list(items)


def _check_name(item: str, name: str) -> None:
    """Refuse what the extract program would refuse at the first execution."""
    if any(ord(character) < 32 or character == "\x7f" for character in item):
        reason = "names may not hold control characters"
    elif len(os.fsencode(name)) > MAX_PATH_BYTES or name.count("/") >= MAX_LEVELS:
        reason = f"paths may have {MAX_LEVELS} levels and {MAX_PATH_BYTES:,} bytes"
    else:
        return
    shown = name if len(name) <= 200 else name[:200] + "..."
    raise BuildFailed("name", f"The build output holds a file that cannot be packed, {shown!r}: {reason}. Rename it.")


def _link(entry: _Entry, root: str, build_root: str, packed: Packed) -> str | None:
    """The target to record for a link, None to leave it out; raises BuildFailed if it leaves the tree."""
    target = os.readlink(entry.path)
    parent = os.path.dirname(entry.path)
    if _is_venv_interpreter(parent, entry.name):
        # A function runs with its runtime's own interpreter; the one linked here is that of the build.
        packed.left_out.append(f"{entry.name} (interpreter of a virtual environment)")
        return None
    if os.path.isabs(target):
        if not _is_inside(os.path.normpath(target), build_root):
            raise _leaves(entry.name, target)
        target = os.path.relpath(os.path.normpath(target), parent)
    lexical = os.path.normpath(os.path.join(parent, target))
    if not _is_inside(lexical, root) or not _is_inside(os.path.realpath(entry.path), os.path.realpath(root)):
        raise _leaves(entry.name, target)
    return target


def _is_venv_interpreter(folder: str, name: str) -> bool:
    base = os.path.basename(name)
    return base.startswith(("python", "pypy")) and os.path.lexists(os.path.join(os.path.dirname(folder), "pyvenv.cfg"))


def _is_inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _leaves(name: str, target: str) -> BuildFailed:
    return BuildFailed(
        "link",
        f'The link "{name}" in the build output points to "{target}", outside the output. '
        "Replace it by the file itself (cp -L) or remove it in the build commands.",
    )


class _Writer:
    """Writes blocks compressed or not, and stops at the limit."""

    def __init__(self, descriptor: int, compression: str, limit_bytes: int) -> None:
        self._descriptor = descriptor
        self._zip: zlib._Compress | zstd.Compressor | None = None
        if compression:
            is_zstd = compression == "zstd"
            self._zip = zstd.Compressor() if is_zstd else zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, _GZIP)
        self._limit = limit_bytes
        self.written = 0

    def write(self, data: bytes) -> None:
        self._put(self._zip.compress(data) if self._zip else data)

    def close(self) -> None:
        if self._zip:
            self._put(self._zip.flush())

    def _put(self, data: bytes) -> None:
        self.written += len(data)
        if self.written > self._limit:
            raise too_large(self._limit)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]


def _write(entry: _Entry, writer: _Writer) -> None:
    info = tarfile.TarInfo(entry.name)
    mode = entry.status.st_mode
    if stat.S_ISDIR(mode):
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif stat.S_ISLNK(mode):
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, entry.link
    else:
        info.mode = 0o755 if mode & 0o111 else 0o644
        info.size = entry.status.st_size
    writer.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
    if info.isreg():
        _write_content(entry, info.size, writer)
        writer.write(bytes(-info.size % tarfile.BLOCKSIZE))


def _write_content(entry: _Entry, size: int, writer: _Writer) -> None:
    left = size
    with _open(entry.path) as file:
        while left:
            data = file.read(min(_COPY_BYTES, left))
            if not data:
                raise BuildFailed("changed", f'The file "{entry.name}" shrank while it was packed. Build again.')
            if left == size and entry.name.endswith(".pyc"):
                data = _timeless(data, entry.path)
            left -= len(data)
            writer.write(data)


def _open(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except PermissionError:
        os.chmod(path, 0o600)
        return open(path, "rb")


def _timeless(data: bytes, path: str) -> bytes:
    """Make Python bytecode valid whatever time its source will have in the artifact (PEP 552, unchecked hash).

    Only if it is that of the source beside it now: stale bytecode stays recognisably stale.
    """
    folder, name = os.path.split(path)
    source = os.path.join(os.path.dirname(folder), name.partition(".")[0] + ".py")
    if os.path.basename(folder) != "__pycache__" or len(data) < _BYTECODE_HEADER_BYTES:
        return data
    flags, mtime, size = struct.unpack_from("<III", data, 4)
    try:
        status = os.stat(source)
    except OSError:
        return data
    if flags != 0 or mtime != int(status.st_mtime) & 0xFFFFFFFF or size != status.st_size & 0xFFFFFFFF:
        return data
    return data[:4] + struct.pack("<IQ", 1, 0) + data[_BYTECODE_HEADER_BYTES:]
