"""Validators of the small languages in parameters: roles, event patterns, scopes, execution headers, dates."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from hearth.api.validators import Invalid
from hearth.model import times
from hearth.model.events import PARTS_MAX, PARTS_MIN, is_pattern
from hearth.model.ids import is_id

ROLE_DIMENSION_MAX_CHARS = 81
_VERIFICATION = ("verified", "unverified")
_DIMENSION = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{ROLE_DIMENSION_MAX_CHARS - 1}}}\Z")

#: Limits of the headers given to an execution (contract: functions-api 5.15).
HEADERS_MAX = 100
HEADERS_MAX_BYTES = 16_384
HEADERS_JSON_MAX_CHARS = 65_535
_HEADER_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\Z")
_RESERVED_PREFIX = "x-appwrite-"


@dataclass(frozen=True, slots=True)
class Role:
    """One role string (contract: functions-api 2.2)."""

    text = (
        "Each must be one of any, guests, users, users/verified, users/unverified, user:ID, user:ID/verified, "
        "user:ID/unverified, team:ID, team:ID/ROLE, member:ID, label:NAME"
    )

    def check(self, value: Any) -> str:
        if isinstance(value, str) and _is_role(value):
            return value
        raise Invalid(self.text)


def _is_role(value: str) -> bool:
    head, slash, dimension = value.partition("/")
    role, colon, identifier = head.partition(":")
    match role:
        case "any" | "guests":
            return not colon and not slash
        case "users":
            return not colon and (not slash or dimension in _VERIFICATION)
        case "user":
            return is_id(identifier) and (not slash or dimension in _VERIFICATION)
        case "team":
            return is_id(identifier) and (not slash or _DIMENSION.match(dimension) is not None)
        case "member":
            return is_id(identifier) and not slash
        case "label":
            return identifier.isascii() and identifier.isalnum() and len(identifier) <= 36 and not slash
    return False


@dataclass(frozen=True, slots=True)
class Event:
    """One event pattern that somebody may listen to (contract: functions-api 14).

    `functions` says whether events of functions are among them: webhooks may listen to those, functions may not.
    """

    functions: bool = False

    @property
    def text(self) -> str:
        also = "" if self.functions else "; functions may not listen to functions.*"
        return (
            "Each must be an event such as users.*.create or databases.*.collections.*.documents.*.update, "
            f"of {PARTS_MIN} to {PARTS_MAX} parts with an id or * after each resource{also}"
        )

    def check(self, value: Any) -> str:
        if isinstance(value, str) and is_pattern(value, functions=self.functions):
            return value
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class ExecutionHeaders:
    """A JSON object, or JSON text of one, of header names and plain values; becomes a mapping of texts.

    Only the shape is looked at here; names and size are checked by `check_headers`, after the schedule
    (contract: functions-api 5.15, order 3).
    """

    text = f"Value must be a JSON object of headers, or its JSON text of at most {HEADERS_JSON_MAX_CHARS} characters"

    def check(self, value: Any) -> dict[str, str]:
        if isinstance(value, str):
            if len(value) > HEADERS_JSON_MAX_CHARS:
                raise Invalid(self.text)
            try:
                value = msgspec.json.decode(value) if value else {}
            except (ValueError, RecursionError):
                raise Invalid(self.text) from None
        if value == []:
            return {}  # an empty object, as PHP clients write it
        if not isinstance(value, dict):
            raise Invalid(self.text)
        return {name: item if isinstance(item, str) else _header_text(name, item) for name, item in value.items()}


def _header_text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return msgspec.json.encode(value).decode()
    raise Invalid(f"The value of the header `{name}` must be text or a number")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers an execution may not be given. Raises Invalid.

    The reserved prefix is refused in any case of letters (upstream looks at lower case only): a function must be
    able to trust those names.
    """
    if len(headers) > HEADERS_MAX:
        raise Invalid(f"At most {HEADERS_MAX} headers may be given, not {len(headers)}")
    size = 0
    for name, value in headers.items():
        size += len(name) + (len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass")))
        if _HEADER_NAME.match(name) is None:
            raise Invalid(
                f"The header name `{name[:64]}` must consist of letters, digits and hyphens, "
                "and start and end with a letter or digit"
            )
        if name[: len(_RESERVED_PREFIX)].lower() == _RESERVED_PREFIX:
            raise Invalid(
                f"The header `{name[:64]}` may not be set: names starting with {_RESERVED_PREFIX} are reserved"
            )
        if "\r" in value or "\n" in value or "\0" in value:
            raise Invalid(f"The value of the header `{name[:64]}` must be a single line")
    if size >= HEADERS_MAX_BYTES:
        raise Invalid(f"Names and values of all headers together must be under {HEADERS_MAX_BYTES} bytes, not {size}")


def read_date(value: str) -> datetime | None:
    """The moment an ISO 8601 text names; None if it names none."""
    try:
        return times.parse(value)
    except (ValueError, OverflowError):
        return None
