"""The backup file: a tar of parts, with a manifest at the end that names each part and its digest.

```
tables/<table>/<number>   rows, MessagePack in zlib     files/<number>    a file of the file store, as it is
keys                      the sealed keys               manifest.json     what is in it (the last but one)
manifest.sha256           the digest of the manifest (the last)
```

The manifest stands last because only then the digests are known; a file that was cut off has none and is refused.
Everything here blocks; a backup runs in a process of its own.
"""

import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec

FORMAT = 1
MANIFEST, MANIFEST_DIGEST, KEYS = "manifest.json", "manifest.sha256", "keys"
#: Rows are collected up to this size, in bytes before compression, and then written as one part.
_PART_BYTES = 4 * 1024 * 1024
_COPY_BYTES = 1024 * 1024
_MANIFEST_MAX_BYTES = 1024 * 1024 * 1024
_LEVEL = 1  # logs and JSON shrink to a fifth already here; more costs time only

Row = tuple[Any, ...]


class BackupRefused(Exception):
    """A file that is no whole and unchanged backup, or not one for this place; the text says why."""


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """One member of the archive. `size` is in bytes, `rows` the number of rows (0 for what is no table)."""

    member: str
    sha256: str
    size: int
    rows: int = 0


class TableParts(msgspec.Struct, frozen=True, rename="camel"):
    """The rows of one table; values stand in the order of `columns`."""

    name: str
    columns: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


class StoredFile(msgspec.Struct, frozen=True, rename="camel"):
    """A file of the file store: `area` is `stored` or `uploads`. Several keys may share one part."""

    area: str
    key: str
    part: Part


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """What a backup holds. `project` is `""` for a whole instance; `schema` is the revision of its tables."""

    format: int
    hearth: str
    schema: str
    created_at: str
    engine: str
    project: str
    tables: tuple[TableParts, ...]
    files: tuple[StoredFile, ...]
    keys: Part | None = None
    runtimes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts())

    def parts(self) -> Iterator[Part]:
        """Every part once."""
        for table in self.tables:
            yield from table.parts
        seen = set()
        for file in self.files:
            if file.part.member not in seen:
                seen.add(file.part.member)
                yield file.part
        if self.keys is not None:
            yield self.keys

    def table(self, name: str) -> TableParts | None:
        return next((table for table in self.tables if table.name == name), None)


class ArchiveWriter:
    """Writes a backup to `file`, which must be empty and open for writing. `finish` makes it valid."""

    def __init__(self, file: IO[bytes]) -> None:
        # A stream ("w|") needs no seeking, so that a backup may also go through a pipe.
        self._tar = tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed by finish
        self._files = 0

    def add_rows(self, table: str, number: int, rows: Iterable[bytes], count: int) -> Part:
        """Add encoded rows as part `number` of a table."""
        return self._add_bytes(f"tables/{table}/{number:06}", zlib.compress(b"".join(rows), _LEVEL), count)

    def add_keys(self, sealed: bytes) -> Part:
        """Add the sealed keys."""
        return self._add_bytes(KEYS, sealed)

    def add_file(self, source: IO[bytes], size: int) -> Part:
        """Add the first `size` bytes of an open file. Raises BackupRefused if it has fewer."""
        self._files += 1
        info = tarfile.TarInfo(f"files/{self._files:06}")
        info.size, info.mode = size, 0o600
        counted = _Hashing(source, size)
        try:
            self._tar.addfile(info, counted)
        except OSError as error:
            if counted.left:
                raise BackupRefused(f"A file of the file store became shorter while it was read: {error}") from error
            raise
        return Part(info.name, counted.digest.hexdigest(), size)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and end the archive."""
        document = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        self._add_bytes(MANIFEST, document)
        self._add_bytes(MANIFEST_DIGEST, hashlib.sha256(document).hexdigest().encode())
        self._tar.close()

    def _add_bytes(self, name: str, data: bytes, rows: int = 0) -> Part:
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(data), 0o600
        self._tar.addfile(info, io.BytesIO(data))
        return Part(name, hashlib.sha256(data).hexdigest(), len(data), rows)


class RowWriter:
    """Collects the rows of one table into parts of bounded size."""

    def __init__(self, archive: ArchiveWriter, table: str) -> None:
        self._archive, self._table = archive, table
        self._encode = msgspec.msgpack.Encoder().encode
        self._waiting: list[bytes] = []
        self._bytes = 0
        self.parts: list[Part] = []

    def add(self, row: Row) -> None:
        """Take one row."""
        encoded = self._encode(row)
        self._waiting.append(encoded)
        self._bytes += len(encoded)
        if self._bytes >= _PART_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was collected."""
        if self._waiting:
            count = len(self._waiting)
            self.parts.append(self._archive.add_rows(self._table, len(self.parts), self._waiting, count))
            self._waiting, self._bytes = [], 0


class ArchiveReader:
    """Reads the backup in `file`, which must be seekable. Raises BackupRefused if it is not one, or is damaged."""

    def __init__(self, file: IO[bytes]) -> None:
        try:
            self._tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - the file is its opener's
            self._members = {member.name: member for member in self._tar.getmembers()}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise BackupRefused(f"This is no backup of hearth, or it was cut off: {error}.") from error
        self.manifest = self._manifest()

    def _manifest(self) -> Manifest:
        if MANIFEST not in self._members or MANIFEST_DIGEST not in self._members:
            raise BackupRefused("The backup has no manifest: it was cut off, or is no backup of hearth.")
        if self._members[MANIFEST].size > _MANIFEST_MAX_BYTES:
            raise BackupRefused("The manifest of the backup is larger than 1 GiB.")
        document = self._open(MANIFEST).read()
        if hashlib.sha256(document).hexdigest().encode() != self._open(MANIFEST_DIGEST).read():
            raise BackupRefused("The manifest of the backup was changed: its digest is another.")
        try:
            found = msgspec.json.decode(document)
            if isinstance(found, dict) and found.get("format") != FORMAT:
                raise BackupRefused(
                    f"The backup has format {found.get('format')}; this version reads {FORMAT}. Use the newer hearth."
                )
            return msgspec.convert(found, Manifest)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            raise BackupRefused(f"The manifest of the backup cannot be read: {error}") from error

    def rows(self, table: TableParts) -> Iterator[list[Row]]:
        """The rows of a table, part by part, each checked against its digest."""
        decoder = msgspec.msgpack.Decoder(list[tuple[Any, ...]])
        for part in table.parts:
            data = zlib.decompress(self.read(part))
            # Rows stand there one after the other; an array needs their number in front (MessagePack, array 32).
            rows = decoder.decode(b"\xdd" + part.rows.to_bytes(4, "big") + data)
            if any(len(row) != len(table.columns) for row in rows):
                raise BackupRefused(f"A row of {table.name} has another number of values than columns.")
            yield rows

    def read(self, part: Part) -> bytes:
        """A whole part, checked. For parts that fit in memory: rows and keys."""
        data = self._open(part.member).read()
        _check(part, hashlib.sha256(data).hexdigest())
        return data

    def copy(self, part: Part, target: IO[bytes]) -> None:
        """Write a part to `target`, checked; what was written is worthless if this raises."""
        source, digest = self._open(part.member), hashlib.sha256()
        while piece := source.read(_COPY_BYTES):
            digest.update(piece)
            target.write(piece)
        _check(part, digest.hexdigest())

    def verify(self) -> Iterator[int]:
        """Check every part against its digest; yields the bytes of each as it is done."""
        for part in self.manifest.parts():
            self.copy(part, _Nowhere())
            yield part.size

    def _open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        file = None if member is None else self._tar.extractfile(member)
        if file is None:
            raise BackupRefused(f"The backup lacks its part {name}.")
        return file


class _Hashing(io.RawIOBase):
    """The first `size` bytes of a file, with their digest as they are read."""

    def __init__(self, source: IO[bytes], size: int) -> None:
        self._source, self.left = source, size
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(piece)
        self.digest.update(piece)
        return piece


class _Nowhere(io.BytesIO):
    def write(self, data: Any) -> int:
        return len(data)


def _check(part: Part, sha256: str) -> None:
    if sha256 != part.sha256:
        raise BackupRefused(f"The backup is damaged: the digest of its part {part.member} is another.")
