"""The file store."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol


class FileNotStored(Exception):
    """The file store has no file of that key."""


class Files(Protocol):
    """Blobs by key (`sources/<project>/<deployment>`, `artifacts/<digest>`); keys are made by us, never by callers."""

    async def write_at(self, key: str, offset: int, data: AsyncIterator[bytes]) -> int:
        """Write bytes into the unfinished upload `key` at `offset` (parallel calls on distinct ranges are fine)."""

    async def finish_upload(self, key: str, size: int) -> None:
        """Turn the unfinished upload into a stored file of exactly `size` bytes; durable on return."""

    async def discard_upload(self, key: str) -> None: ...
    async def size(self, key: str) -> int:
        """Raises FileNotStored."""

    def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Raises FileNotStored at the first step."""

    def local(self, key: str) -> AbstractAsyncContextManager[Path]:
        """A local, readable path of the file for as long as the context lasts. Raises FileNotStored."""

    def scratch(self) -> AbstractAsyncContextManager[Path]:
        """The path of a new empty file beside the store, gone after the context unless `adopt`ed."""

    async def adopt(self, key: str, path: Path) -> None:
        """Take over a finished local file as `key` (replacing an equal one); durable on return."""

    async def copy(self, source_key: str, target_key: str) -> None: ...
    async def delete(self, key: str) -> None:
        """Deleting what is not there is fine."""

    async def close(self) -> None: ...
