"""What a commit says of itself."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class CommitFacts:
    """What a commit says of itself; `time_s` is when it was committed, since 1970."""

    author: str
    message: str
    time_s: int


def commit_facts(raw: bytes) -> CommitFacts:
    """Read a commit object: headers, an empty line, the message. What does not make sense is left out."""
    head, _, message = raw.partition(b"\n\n")
    fields: dict[bytes, bytes] = {}
    for line in head.split(b"\n"):
        key, _, value = line.partition(b" ")
        fields.setdefault(key, value)
    encoding = fields.get(b"encoding", b"utf-8").decode("ascii", "replace")
    time_s = re.search(rb"> (\d{1,11}) [+-]\d{4}\Z", fields.get(b"committer", b""))
    author = fields.get(b"author", b"").partition(b"<")[0].strip()
    return CommitFacts(_decoded(author, encoding), _decoded(message, encoding), int(time_s.group(1)) if time_s else 0)


def _decoded(text: bytes, encoding: str) -> str:
    try:
        decoded = text.decode(encoding, "replace")
    except LookupError:
        decoded = text.decode("utf-8", "replace")
    return decoded.replace("\0", "")
