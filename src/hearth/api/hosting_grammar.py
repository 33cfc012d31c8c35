"""Validators of dates, domains, addresses and payloads in the parameters around functions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hearth.api.grammar import read_date
from hearth.api.validators import Invalid

DOMAIN_MAX_CHARS = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_TEXT = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Date:
    """A moment; becomes a datetime in UTC."""

    text = "Value must be an ISO 8601 date, such as 2027-01-31T12:00:00.000+00:00"
    schema = {**_TEXT, "description": "ISO 8601"}  # noqa: RUF012 - never changed

    def check(self, value: Any) -> datetime:
        moment = read_date(value) if isinstance(value, str) else None
        if moment is None:
            raise Invalid(self.text)
        return moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Domain:
    """A host name of at least two labels, without scheme, port or path; becomes lower case."""

    wildcard: bool = False
    """Whether the first label may be `*`."""

    @property
    def text(self) -> str:
        also = ", the first of which may be *" if self.wildcard else ""
        return (
            f"Value must be a host name of at most {DOMAIN_MAX_CHARS} characters, labels separated by periods{also}, "
            "without http:// or https://, port or path"
        )

    @property
    def schema(self) -> dict[str, Any]:
        return {**_TEXT, "minLength": 1, "maxLength": DOMAIN_MAX_CHARS}

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > DOMAIN_MAX_CHARS:
            raise Invalid(self.text)
        name = value.lower().rstrip(".")
        labels = name.split(".")
        if self.wildcard and labels[0] == "*":
            labels = labels[1:]
        elif not self.wildcard and (len(labels) < 2 or _is_address(name)):
            raise Invalid(self.text)
        if not labels or not all(_LABEL.match(label) for label in labels):
            raise Invalid(self.text)
        return name


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Url:
    """An absolute address of the web."""

    most: int = 2_048

    @property
    def text(self) -> str:
        return (
            f"Value must be an http:// or https:// address of at most {self.most} characters, without name or password"
        )

    @property
    def schema(self) -> dict[str, Any]:
        return {**_TEXT, "minLength": 1, "maxLength": self.most, "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://"}

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or len(value) > self.most or not value.isascii() or not value.isprintable():
            raise Invalid(self.text)
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            raise Invalid(self.text) from None
        if (
            " " in value
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or port == 0
            or "@" in parts.netloc
        ):
            raise Invalid(self.text)
        return value


@dataclass(frozen=True, slots=True)
class Payload:
    """A JSON object of at most `most_bytes` bytes."""

    most_bytes: int

    @property
    def text(self) -> str:
        return f"Value must be a JSON object of at most {self.most_bytes} bytes"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "object"}

    def check(self, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict) or len(msgspec.json.encode(value)) > self.most_bytes:
            raise Invalid(self.text)
        return value


@dataclass(frozen=True, slots=True)
class RedirectStatus:
    """The status of a redirect, as a number or its digits."""

    text = "Value must be one of (301, 302, 307, 308)"
    schema = {"enum": [301, 302, 307, 308], "type": "integer"}  # noqa: RUF012 - never changed

    def check(self, value: Any) -> int:
        for status in (301, 302, 307, 308):
            if value in (status, str(status)):
                return status
        raise Invalid(self.text)
