"""Identifiers: how they are made and what they may look like (contract: functions-api 2.1)."""

import itertools
import os
import re
import time

ID_MAX_CHARS = 36
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}\Z")

#: The literal a client may send instead of an id; the server then makes one.
UNIQUE = "unique()"

_counter = itertools.count(int.from_bytes(os.urandom(2), "big"))
_node = os.urandom(2).hex()[:3]


def is_id(text: str) -> bool:
    """Whether `text` may be used as an id: 1-36 chars of `A-Za-z0-9_-.`, not starting with a special one."""
    return _ID.match(text) is not None


def unique_id() -> str:
    """Make a new id of 20 hex digits that sorts by creation time.

    13 digits of microseconds, 4 of a process-wide counter (so ids of one microsecond stay distinct and
    ordered enough for an index), 3 that differ between processes.
    """
    return f"{int(time.time() * 1e6):013x}"[-13:] + f"{next(_counter) & 0xFFFF:04x}{_node}"


def custom_id(text: str) -> str:
    """Return `text`, or a new id where the client sent the literal `unique()`."""
    return unique_id() if text == UNIQUE else text
