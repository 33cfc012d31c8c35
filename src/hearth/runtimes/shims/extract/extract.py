"""Unpacks an archive of somebody else's making, inside a sandbox that holds nothing else.

    extract.py <archive-fd> <target-folder> --max-bytes N --max-entries N

`<archive-fd>` is an open descriptor of a tar file, plain or compressed by gzip or Zstandard (found out by its first
bytes).
`<target-folder>` is an empty folder that this program may write to. `--max-bytes` bounds the sum of all file sizes,
`--max-entries` the number of entries.

Output: one line on standard output, the last one. Exit code 0: `ok entries=<n> bytes=<n>`. Exit code 3: the archive
is bad, and the line is a sentence for its author. Any other exit code: this program or the disk failed.

What comes out has folders and programs of mode 0755, other files of 0644, times as in the archive, symbolic links
that stay inside the target, hard links as further names of one file. Refused, never skipped: absolute names, `..`,
control characters, links that leave the target, devices, fifos, set-user-id files, sparse files, unknown entry types,
a bad checksum, an archive that ends early, anything but zeros after its end. Owners and extended attributes are not
taken over. Standard library only; every file is written while the target holds no symbolic link.
"""

from __future__ import annotations

import os
import stat
import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

BLOCK = 512
PIECE_BYTES = 256 * 1024
HEADER_EXTENSION_MAX_BYTES = 1024 * 1024  # a pax or GNU long-name record
DEPTH_MAX = 100
NAME_MAX_BYTES = 255
PATH_MAX_BYTES = 3000
MTIME_MAX_S = 2**33
EXIT_BAD_ARCHIVE = 3
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class BadArchive(Exception):
    """The archive is refused; the message is for whoever made it."""


def refuse(message: str, name: bytes | None = None) -> NoReturn:
    shown = "" if name is None else f"{_shown(name)}: "
    raise BadArchive(f"{shown}{message}")


def _shown(name: bytes) -> str:
    text = name[:200].decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else "?" for char in text)


# ------------------------------------------------------------------------------------------------ reading


def _zstd_decompressor(first: bytes) -> Any:
    """Loaded for those archives only: it takes longer to load than most archives take to unpack."""
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from shims.zstd import Decompressor, Unavailable  # type: ignore[import-not-found]

    try:
        decompressor = Decompressor()
    except Unavailable as problem:
        refuse(f"The archive is compressed by Zstandard, which this machine cannot read: {problem}")
    decompressor.feed(first)
    return decompressor


class Stream:
    """The bytes of the tar file, decompressed, read once from front to back."""

    def __init__(self, descriptor: int, limit_bytes: int) -> None:
        self._descriptor = descriptor
        self._left = limit_bytes
        self._buffer = b""
        self._at = 0
        first = self._raw()
        self._unzip: zlib._Decompress | None = None
        self._input = b""
        if not first:
            refuse("The archive is empty.")
        if first[:2] == b"\x1f\x8b":
            self._input = first
            self._more = self._more_of_gzip
        elif first[:4] == ZSTD_MAGIC:
            self._zstd = _zstd_decompressor(first)
            self._more = self._more_of_zstd
        else:
            self._buffer = first
            self._more = self._raw

    def _raw(self) -> bytes:
        return os.read(self._descriptor, PIECE_BYTES)

    def _more_of_zstd(self) -> bytes:
        """The next piece of the tar file; `b""` at its end."""
        while True:
            piece: bytes = self._zstd.piece()
            if piece:
                return piece
            if self._zstd.needs_input:
                data = self._raw()
                if not data and not self._zstd.is_whole:
                    refuse("The archive ends in the middle of its compressed data.")
                if not data:
                    return b""
                self._zstd.feed(data)

    def _more_of_gzip(self) -> bytes:
        """The next piece of the tar file; `b""` at its end."""
        while True:
            if self._unzip is None:
                self._input = self._input or self._raw()
                if not self._input.strip(b"\0"):
                    if self._input:
                        self._input = b""
                        continue  # zero padding after the last member
                    return b""
                self._unzip = zlib.decompressobj(wbits=31)
            unzip = self._unzip
            data: bytes = unzip.decompress(self._input, PIECE_BYTES)
            self._input = unzip.unconsumed_tail
            if unzip.eof:
                self._input = unzip.unused_data
                self._unzip = None
            if data:
                return data
            if not unzip.eof and not self._input:
                self._input = self._raw()
                if not self._input:
                    refuse("The archive ends in the middle of its compressed data.")

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        pieces = []
        missing = size
        while missing:
            if self._at == len(self._buffer):
                self._buffer = self._more()
                self._at = 0
                if not self._buffer:
                    break
                self._left -= len(self._buffer)
                if self._left < 0:
                    refuse("The archive unpacks to more than is allowed.")
            piece = self._buffer[self._at : self._at + missing]
            self._at += len(piece)
            missing -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def exactly(self, size: int) -> bytes:
        data = self.read(size)
        if len(data) < size:
            refuse("The archive ends early.")
        return data


class Entry:
    """One entry of the archive."""

    __slots__ = ("kind", "link", "mode", "mtime", "name", "size")

    def __init__(self, name: bytes, kind: bytes, size: int, mode: int, mtime: float, link: bytes) -> None:
        self.name = name
        self.kind = kind
        self.size = size
        self.mode = mode
        self.mtime = mtime
        self.link = link


def entries(stream: Stream) -> Iterator[Entry]:
    """All entries in order. The content of one must be read before the next is asked for."""
    is_first = True
    shared: dict[bytes, bytes] = {}
    own: dict[bytes, bytes] = {}
    while True:
        block = stream.read(BLOCK)
        if len(block) < BLOCK:
            refuse("The archive is not a tar or tar.gz file." if is_first else "The archive ends early.")
        if not block.strip(b"\0"):
            _check_end(stream)
            return
        if not _checksum_fits(block):
            refuse("The archive is not a tar or tar.gz file." if is_first else "The archive is damaged (checksum).")
        is_first = False
        kind = block[156:157]
        size = _number(block[124:136])
        if kind in (b"x", b"g", b"L", b"K"):
            if size > HEADER_EXTENSION_MAX_BYTES:
                refuse("The archive has a header that is too long.")
            data = stream.exactly(size)
            stream.exactly(-size % BLOCK)
            if kind == b"x":
                own.update(_pax(data))
            elif kind == b"g":
                shared.update(_pax(data))
            else:
                own[b"path" if kind == b"L" else b"linkpath"] = data.split(b"\0", 1)[0]
            continue
        extra = {**shared, **own}
        own = {}
        name = extra.get(b"path") or _name(block)
        if any(key.startswith(b"GNU.sparse.") for key in extra) or kind == b"S":
            refuse("Sparse files are not supported.", name)
        if b"size" in extra:
            size = _decimal(extra[b"size"])
        mtime = _time(extra.get(b"mtime"), block)
        link = extra.get(b"linkpath") or block[157:257].split(b"\0", 1)[0]
        yield Entry(name, kind, size, _number(block[100:108]), mtime, link)


def _name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _checksum_fits(block: bytes) -> bool:
    stated = block[148:156].split(b"\0", 1)[0].strip()
    if not stated or not all(char in b"01234567" for char in stated):
        return False
    return int(stated, 8) == sum(block[:148]) + 8 * 32 + sum(block[156:])


def _number(raw: bytes) -> int:
    if raw[0] & 0x80:
        value = int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
        if raw[0] & 0x40 or value >= 2**62:
            refuse("The archive has a number that is out of range.")
        return value
    text = raw.split(b"\0", 1)[0].strip()
    if not all(char in b"01234567" for char in text):
        refuse("The archive is damaged (not a number).")
    return int(text, 8) if text else 0


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        refuse("The archive is damaged (not a number).")
    return int(text)


def _time(stated: bytes | None, block: bytes) -> float:
    if stated is not None:
        whole, _, fraction = stated.partition(b".")
        if whole.isdigit() and (not fraction or fraction.isdigit()) and len(stated) < 40:
            return min(float(stated), MTIME_MAX_S)
        return 0.0
    raw = block[136:148]
    return 0.0 if raw[0] & 0xC0 == 0xC0 else float(min(_number(raw), MTIME_MAX_S))


def _pax(data: bytes) -> dict[bytes, bytes]:
    """Records `<length> <key>=<value>\\n`; the length counts itself."""
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        if data[at] == 0 and not data[at:].strip(b"\0"):
            break  # padding
        length_text, space, _ = data[at : at + 20].partition(b" ")
        if not space or not length_text.isdigit():
            refuse("The archive is damaged (extended header).")
        end = at + int(length_text)
        record = data[at + len(length_text) + 1 : end]
        if end > len(data) or not record.endswith(b"\n") or b"=" not in record:
            refuse("The archive is damaged (extended header).")
        key, _, value = record[:-1].partition(b"=")
        records[key] = value
        at = end
    return records


def _check_end(stream: Stream) -> None:
    while True:
        rest = stream.read(PIECE_BYTES)
        if rest.strip(b"\0"):
            refuse("The archive has data after its end.")
        if len(rest) < PIECE_BYTES:
            return


# ------------------------------------------------------------------------------------------------ writing


class Target:
    """The folder that is filled. Names are relative, checked, and as bytes."""

    def __init__(self, folder: str, max_bytes: int, max_entries: int) -> None:
        self.root = os.fsencode(os.path.realpath(folder))
        self.entries = 0
        self.bytes = 0
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._folders: dict[bytes, float | None] = {b"": None}
        self._files: set[bytes] = set()
        self._links: dict[bytes, tuple[bytes, float]] = {}

    def add(self, entry: Entry, stream: Stream) -> None:
        self.entries += 1
        if self.entries > self._max_entries:
            refuse(f"The archive has more than {self._max_entries} entries.")
        parts = _parts(entry.name)
        name = b"/".join(parts)
        is_folder = entry.kind == b"5" or (entry.kind in (b"0", b"\0") and entry.name.endswith(b"/"))
        if is_folder:
            self._folder(parts, entry)
            return
        if not parts:
            refuse("A file needs a name.", entry.name)
        if entry.kind in (b"0", b"\0", b"7"):
            self._file(parts, name, entry, stream)
        elif entry.kind == b"2":
            self._check_new(parts, name, entry)
            if name in self._files:
                os.unlink(self._path(name))
                self._files.discard(name)
            self._links[name] = (_link_target(entry), entry.mtime)
        elif entry.kind == b"1":
            self._hard_link(parts, name, entry)
        elif entry.kind in (b"3", b"4"):
            refuse("Device files are not allowed.", entry.name)
        elif entry.kind == b"6":
            refuse("Named pipes are not allowed.", entry.name)
        else:
            refuse(f"Entries of type {_shown(entry.kind)} are not supported.", entry.name)
        if entry.kind in (b"1", b"2") and entry.size:
            refuse("A link must not have content.", entry.name)

    def finish(self) -> None:
        """Make the symbolic links, check that each stays inside, set the times of folders."""
        for name, (target, mtime) in self._links.items():
            os.symlink(target, self._path(name))
            os.utime(self._path(name), (mtime, mtime), follow_symlinks=False)
        for name in self._links:
            end = os.path.realpath(self._path(name))
            if end != self.root and not end.startswith(self.root + b"/"):
                refuse("Links that lead out of the archive are not allowed.", name)
        for folder, stated in sorted(self._folders.items(), reverse=True):
            if folder and stated is not None:
                os.utime(self._path(folder), (stated, stated))

    def _path(self, name: bytes) -> bytes:
        return self.root + b"/" + name if name else self.root

    def _check_new(self, parts: list[bytes], name: bytes, entry: Entry) -> None:
        """The parent exists as a real folder afterwards; the name is not taken by a folder or a link."""
        self._ensure_folder(parts[:-1], entry)
        if name in self._folders:
            refuse("The name is used for a folder and for something else.", entry.name)
        if name in self._links:
            refuse("The name is used for a link and for something else.", entry.name)

    def _ensure_folder(self, parts: list[bytes], entry: Entry) -> None:
        name = b"/".join(parts)
        if name in self._folders:
            return
        self._ensure_folder(parts[:-1], entry)
        if name in self._files or name in self._links:
            refuse("The name is used for a folder and for something else.", entry.name)
        os.mkdir(self._path(name), 0o755)
        self._folders[name] = None

    def _folder(self, parts: list[bytes], entry: Entry) -> None:
        if entry.size:
            refuse("A folder must not have content.", entry.name)
        self._ensure_folder(parts, entry)
        self._folders[b"/".join(parts)] = entry.mtime

    def _file(self, parts: list[bytes], name: bytes, entry: Entry, stream: Stream) -> None:
        if entry.mode & (stat.S_ISUID | stat.S_ISGID):
            refuse("Set-user-id and set-group-id files are not allowed.", entry.name)
        self.bytes += entry.size
        if self.bytes > self._max_bytes:
            refuse(f"The archive unpacks to more than {self._max_bytes} bytes.")
        self._check_new(parts, name, entry)
        if name in self._files:
            os.unlink(self._path(name))  # as tar does: the last one counts; a hard link keeps the old content
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._path(name), flags, 0o600)
        try:
            left = entry.size
            while left:
                piece = stream.exactly(min(left, PIECE_BYTES))
                left -= len(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(descriptor, view) :]
            stream.exactly(-entry.size % BLOCK)
            os.fchmod(descriptor, 0o755 if entry.mode & 0o111 else 0o644)
            os.utime(descriptor, (entry.mtime, entry.mtime))
        finally:
            os.close(descriptor)
        self._files.add(name)

    def _hard_link(self, parts: list[bytes], name: bytes, entry: Entry) -> None:
        target = b"/".join(_parts(entry.link))
        if target not in self._files:
            refuse("A hard link must name a file that comes before it in the archive.", entry.name)
        self._check_new(parts, name, entry)
        if name == target:
            return
        if name in self._files:
            os.unlink(self._path(name))
        os.link(self._path(target), self._path(name), follow_symlinks=False)
        self._files.add(name)


def _parts(name: bytes) -> list[bytes]:
    """The checked components of a name; `.` components are left out."""
    if name.startswith(b"/"):
        refuse("Absolute names are not allowed.", name)
    if len(name) > PATH_MAX_BYTES:
        refuse(f"Names of more than {PATH_MAX_BYTES} bytes are not allowed.", name)
    if any(char < 32 or char == 127 for char in name):
        refuse("Control characters in names are not allowed.", name)
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        refuse("Names with `..` are not allowed.", name)
    if len(parts) > DEPTH_MAX:
        refuse(f"More than {DEPTH_MAX} levels of folders are not allowed.", name)
    if any(len(part) > NAME_MAX_BYTES for part in parts):
        refuse(f"Names of more than {NAME_MAX_BYTES} bytes are not allowed.", name)
    return parts


def _link_target(entry: Entry) -> bytes:
    link = entry.link
    if not link or len(link) > PATH_MAX_BYTES or any(char < 32 or char == 127 for char in link):
        refuse("The target of the link is not a usable name.", entry.name)
    if link.startswith(b"/"):
        refuse("Links that lead out of the archive are not allowed.", entry.name)
    return link


def _arguments(argv: list[str]) -> tuple[int, str, int, int]:
    if len(argv) != 7 or argv[3] != "--max-bytes" or argv[5] != "--max-entries":
        sys.exit("usage: extract.py <archive-fd> <target-folder> --max-bytes N --max-entries N")
    return int(argv[1]), argv[2], int(argv[4]), int(argv[6])


def main(argv: list[str]) -> int:
    descriptor, folder, max_bytes, max_entries = _arguments(argv)
    os.umask(0o022)
    sys.setrecursionlimit(10_000)
    target = Target(folder, max_bytes, max_entries)
    # Headers and padding: up to 1 KiB per entry, extended ones more.
    limit_bytes = max_bytes + max_entries * 4 * BLOCK + 16 * 1024 * 1024
    try:
        stream = Stream(descriptor, limit_bytes)
        for entry in entries(stream):
            target.add(entry, stream)
        target.finish()
    except BadArchive as problem:
        print(problem, flush=True)
        return EXIT_BAD_ARCHIVE
    except Exception as problem:
        # Zstandard's is only loaded where it is needed.
        if not isinstance(problem, zlib.error) and type(problem).__name__ != "Damaged":
            raise
        print("The archive is damaged (compressed data).", flush=True)
        return EXIT_BAD_ARCHIVE
    print(f"ok entries={target.entries} bytes={target.bytes}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
