"""Receives the multipart body of an upload as it streams in: the file goes to a scratch file, never into memory.

Which bytes of the part belong where is decided by `hearth.control.uploads` (contract: functions-api 8, clients 3).
"""

import asyncio
from pathlib import Path
from typing import Any, BinaryIO

from multipart import MultipartError, MultipartSegment  # type: ignore[import-untyped] # has no types

from hearth.api.messages import Request, nest
from hearth.api.params import form_parser, form_value, read_fields, unreadable_form
from hearth.control.views import UPLOAD_CHUNK_BYTES, UploadedPart
from hearth.model.refusals import Refusal

#: Name of the file part; any other file part is read and dropped (some SDKs send the chunk again as `file`).
FILE_PART = "code"
#: Bytes of one form field; the longest legal one is 8192 characters of `commands`.
FIELD_MAX_BYTES = 64 * 1024
#: Bytes of a body without a file.
PLAIN_BODY_MAX_BYTES = 1024 * 1024
#: What a request may hold beside the archive: a repeated chunk, fields, part headers.
OVERHEAD_BYTES = UPLOAD_CHUNK_BYTES + 1024 * 1024
_WRITE_BYTES = 1024 * 1024


def body_limit(source_max_bytes: int) -> int:
    """Bytes of one upload request: some SDKs send the whole archive with every chunk, and the chunk beside it."""
    return (source_max_bytes or 2**50) + OVERHEAD_BYTES


def refuse_too_big(request: Request, source_max_bytes: int) -> None:
    """Refuse, before anything is read, a request that announces more than an archive at the limit needs."""
    announced = request.announced_bytes()
    if source_max_bytes and announced is not None and announced > body_limit(source_max_bytes):
        raise _archive_too_big(source_max_bytes)


def _archive_too_big(limit: int) -> Refusal:
    return Refusal(
        "deployment_invalid_file_size", f"The code archive is too large: this server accepts at most {limit} bytes."
    )


async def receive_form(
    request: Request, scratch: Path, source_max_bytes: int
) -> tuple[dict[str, Any], UploadedPart | None]:
    """Read the whole body: its fields, and the part `code` written to `scratch` (None if there was none).

    Fields may follow the file, so nothing is decided before the end. Raises Refusal for a body that is not a
    form, or has a field or file over its limit.
    """
    content_type = request.header(b"content-type")
    if not content_type.lower().startswith("multipart/form-data"):
        return read_fields(content_type, await request.body(PLAIN_BODY_MAX_BYTES)), None
    with scratch.open("wb") as file:
        form = _Form(file, source_max_bytes)
        try:
            with form_parser(content_type) as parser:
                async for chunk in request.chunks(body_limit(source_max_bytes)):
                    for event in parser.parse(chunk):
                        form.take(event)
                    if form.pending >= _WRITE_BYTES:
                        await asyncio.to_thread(form.flush)
        except MultipartError as error:
            raise unreadable_form(error) from None
        await asyncio.to_thread(form.flush)
    part = None if form.filename is None else UploadedPart(form.filename, scratch, form.file_bytes)
    return nest(form.fields), part


class _Form:
    """What has been read of a form so far. Bytes of the file wait in memory, at most about a megabyte."""

    def __init__(self, file: BinaryIO, source_max_bytes: int) -> None:
        self.fields: list[tuple[str, Any]] = []
        self.filename: str | None = None
        self.file_bytes = 0
        self.pending = 0
        self._file = file
        self._limit = source_max_bytes
        self._waiting: list[bytes] = []
        self._segment: MultipartSegment | None = None
        self._is_code = False
        self._value = bytearray()

    def take(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """Take one event of the parser: a part's head, some of its bytes, or (None) its end."""
        if event is None:
            if self._segment is not None and self._segment.filename is None:
                self.fields.append((self._segment.name or "", form_value(bytes(self._value))))
        elif isinstance(event, bytes | bytearray):
            self._take_bytes(bytes(event))
        else:
            self._segment = event
            self._value = bytearray()
            # Of several files named `code` the first one counts.
            self._is_code = event.filename is not None and event.name == FILE_PART and self.filename is None
            if self._is_code:
                self.filename = event.filename

    def _take_bytes(self, data: bytes) -> None:
        if self._is_code:
            self.file_bytes += len(data)
            if self._limit and self.file_bytes > self._limit + 1:  # one stray byte is cut off later (clients 3)
                raise _archive_too_big(self._limit)
            self._waiting.append(data)
            self.pending += len(data)
        elif self._segment is not None and self._segment.filename is None:
            self._value += data
            if len(self._value) > FIELD_MAX_BYTES:
                name = (self._segment.name or "")[:64]
                raise Refusal(
                    "general_argument_invalid",
                    f"The form field `{name}` is too large: at most {FIELD_MAX_BYTES} bytes.",
                )

    def flush(self) -> None:
        """Write what waits. Runs in a thread while nothing else touches the form."""
        waiting, self._waiting, self.pending = self._waiting, [], 0
        self._file.writelines(waiting)
