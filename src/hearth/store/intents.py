"""The intent file: which executions were begun, for the case that the server is killed before it records them.

One JSON line per execution, appended once per event-loop tick, without fsync: it has to survive the process,
not the machine. A line is not taken back when its execution is recorded; the database says that. When the
file has grown, it is written anew with the lines still open.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
import structlog
from msgspec.structs import replace

from hearth.model.resources import Execution
from hearth.store.texts import storable

_COMPACT_BYTES = 8 * 1024 * 1024
#: Executions that were begun and whose end nobody reported; far more than can run at once.
_OPEN_MAX = 100_000

log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Execution).decode

Key = tuple[str, str]
"""Project id and execution id."""


class IntentFile:
    """The intents of one server at `path` (mode 0600). Used from one event loop; `open` comes first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._size = 0
        self._open: dict[Key, bytes] = {}
        self._waiting: list[bytes] = []
        self._torn = False

    def open(self) -> tuple[Execution, ...]:
        """Open the file and return what it holds, in order. A line that was cut off by the end is skipped.

        Everything stays an open intent until `settle` says otherwise.
        """
        with contextlib.suppress(FileNotFoundError):
            for line in self._path.read_bytes().splitlines():
                with contextlib.suppress(msgspec.DecodeError):
                    execution = _decode(line)
                    self._open[execution.project_id, execution.id] = line + b"\n"
        self._rewrite()
        return tuple(_decode(line) for line in self._open.values())

    def add(self, execution: Execution) -> None:
        """Note an execution; written at the end of this tick. Never raises: a run does not depend on it."""
        try:
            line = _encode(execution) + b"\n"
        except UnicodeEncodeError:  # a lone surrogate in a header or path; the kill note can do without them
            line = (
                _encode(replace(execution, request_path=storable(execution.request_path), request_headers=())) + b"\n"
            )
        if len(self._open) >= _OPEN_MAX:
            del self._open[next(iter(self._open))]
        self._open[execution.project_id, execution.id] = line
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(line)

    def settle(self, keys: Iterable[Key]) -> None:
        """These executions are recorded in the database."""
        for key in keys:
            self._open.pop(key, None)
        if self._size > _COMPACT_BYTES:
            self._rewrite()

    def close(self) -> None:
        """Write what waits and close. What is still open is found by the next `open`."""
        if self._descriptor < 0:
            return
        self._write()
        self._rewrite()
        os.close(self._descriptor)
        self._descriptor = -1

    def _write(self) -> None:
        lines, self._waiting = self._waiting, []
        if not lines or self._descriptor < 0:
            return
        data = b"".join([b"\n", *lines] if self._torn else lines)
        try:
            written = os.write(self._descriptor, data)
            self._size += written
            self._torn = written < len(data)  # the disk is full; the next line must not join the half one
        except OSError as error:
            log.warning("intents were not written; a kill now would lose these executions", error=str(error))

    def _rewrite(self) -> None:
        """Replace the file by one with the open lines only; on failure go on with the old one."""
        fresh = self._path.with_name(self._path.name + ".new")
        data = b"".join(self._open.values())
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        try:
            descriptor = os.open(fresh, flags, 0o600)
            try:
                _write_all(descriptor, data)
                fresh.replace(self._path)
            except OSError:
                os.close(descriptor)
                raise
        except OSError as error:
            if self._descriptor < 0:
                raise
            log.warning("the intent file was not shortened", error=str(error))
            return
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = len(data)
        self._torn = False


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
