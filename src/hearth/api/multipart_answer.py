"""The multipart answer of create execution, for bodies that are not text (contract: functions-api 10.4)."""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec

from hearth.api.messages import Answer

_BOUNDARY_PREFIX = "-" * 27


def wants_multipart(accept: str) -> bool:
    """Whether the first entry of `accept` that names JSON or multipart names multipart."""
    if "multipart/" not in accept:
        return False
    for entry in accept.split(", "):
        if entry.startswith(("application/json", "application/*")):
            return False
        if entry.startswith(("multipart/form-data", "multipart/*")):
            return True
    return False


def multipart_answer(status: int, payload: Mapping[str, Any]) -> Answer:
    """One part per key, in order; bytes go out as they are, lists as JSON parts."""
    boundary = _BOUNDARY_PREFIX + secrets.token_hex(7)[:13]
    parts: list[bytes] = []
    for name, value in payload.items():
        content, is_json = _content(value)
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n'
        if is_json:
            head += "Content-Type: application/json\r\n"
        parts += [head.encode(), b"\r\n", content, b"\r\n"]
    parts.append(f"--{boundary}--\r\n".encode())
    return Answer(status, b"".join(parts), f"multipart/form-data; boundary={boundary}".encode())


def _content(value: Any) -> tuple[bytes, bool]:
    """The bytes of a part, and whether they are JSON."""
    match value:
        case bytes():
            return value, False
        case str():
            return value.encode(), False
        case bool():
            return (b"1" if value else b"0"), False
        case None:
            return b"", False
        case int() | float():
            return msgspec.json.encode(value), False
    return msgspec.json.encode(value), True
