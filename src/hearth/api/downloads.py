"""Answers of download endpoints: whole files and byte ranges (contract: functions-api 5.12)."""

import re

from hearth.api.messages import Answer
from hearth.control.views import Download
from hearth.model.refusals import Refusal

#: Bytes given for an open-ended range (contract: functions-api 4, `MAX_OUTPUT_CHUNK_SIZE`).
PIECE_BYTES = 10_485_760
CACHE_S = 3_888_000  # 45 days; a source or an artifact never changes

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{1,15})\s*-\s*(\d{0,15})\s*\Z")


def parse_range(text: str, size: int) -> tuple[int, int]:
    """First and last byte (inclusive) that `Range: text` asks for, of `size`.

    Raises `storage_invalid_range` for another unit, several ranges, a suffix range, start >= end, or end >= size.
    So a range of one byte is refused, as upstream does.
    """
    match = _RANGE.match(text)
    if match is None:
        raise Refusal("storage_invalid_range")
    start = int(match.group(1))
    if not match.group(2):
        if start >= size:
            raise Refusal("storage_invalid_range")
        return start, min(start + PIECE_BYTES, size) - 1
    end = int(match.group(2))
    if start >= end or end >= size:
        raise Refusal("storage_invalid_range")
    return start, end


def download_answer(download: Download, range_text: str) -> Answer:
    """The file, or the part of it that `range_text` (`""` = all) asks for. Raises `storage_invalid_range`."""
    # The name is made of ids by control, but a quote must never end it early.
    name = download.filename.replace('"', "").replace("\\", "")
    headers = [
        (b"content-disposition", f'attachment; filename="{name}"'.encode()),
        (b"cache-control", f"private, max-age={CACHE_S}".encode()),
    ]
    status, start, length = 200, 0, download.size_bytes
    if range_text:
        start, end = parse_range(range_text, download.size_bytes)
        status, length = 206, end - start + 1
        headers += [
            (b"accept-ranges", b"bytes"),
            (b"content-range", f"bytes {start}-{end}/{download.size_bytes}".encode()),
        ]
    return Answer(
        status,
        content_type=download.content_type.encode("latin-1"),
        headers=headers,
        stream=download.read(start, length),
        length=length,
    )
