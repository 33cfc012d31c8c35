"""Validators of what people are described by: addresses, numbers, passwords, labels, team roles."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from hearth.api.validators import Invalid, Text
from hearth.model.ids import ID_MAX_CHARS, is_id
from hearth.model.people import PASSWORD_MAX_CHARS, PASSWORD_MIN_CHARS

EMAIL_MAX_CHARS = 254  # RFC 5321, 4.5.3.1.3
#: What a mail server could know how to deliver; whether it exists only a mail can tell.
_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+\Z"
)
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}\Z")  # E.164
_LABEL = re.compile(r"[A-Za-z0-9]{1,36}\Z")
#: Contract: side-services 6; long enough for `project-<projectId>-<role>`.
TEAM_ROLE_MAX_CHARS = 81
_TEAM_ROLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}\Z")

PASSWORD = Text(PASSWORD_MIN_CHARS, PASSWORD_MAX_CHARS)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Text of one form; `empty` = or none at all, which means "not given"."""

    form: re.Pattern[str]
    most: int
    subject: str
    empty: bool = False

    @property
    def text(self) -> str:
        return f"Value must be {self.subject}{', or empty' if self.empty else ''}"

    @property
    def schema(self) -> dict[str, Any]:
        pattern = "^" + self.form.pattern.removesuffix(r"\Z") + "$"
        return {"type": "string", "maxLength": self.most, "pattern": f"^$|{pattern}" if self.empty else pattern}

    def check(self, value: Any) -> str:
        if (
            isinstance(value, str)
            and len(value) <= self.most
            and (self.form.match(value) or (self.empty and not value))
        ):
            return value
        raise Invalid(self.text)


EMAIL = Pattern(_EMAIL, EMAIL_MAX_CHARS, f"an e-mail address of at most {EMAIL_MAX_CHARS} characters")
EMAIL_OR_NONE = Pattern(_EMAIL, EMAIL_MAX_CHARS, EMAIL.subject, empty=True)
PHONE = Pattern(_PHONE, 16, "a phone number: a plus sign and 7 to 15 digits, country code first")
PHONE_OR_NONE = Pattern(_PHONE, 16, PHONE.subject, empty=True)
LABEL = Pattern(_LABEL, 36, "1 to 36 letters and digits")
TEAM_ROLE = Pattern(
    _TEAM_ROLE,
    TEAM_ROLE_MAX_CHARS,
    f"1 to {TEAM_ROLE_MAX_CHARS} characters of a-z, A-Z, 0-9, period, hyphen and underscore, "
    "not starting with a special character",
)


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object of at most `most_bytes` bytes."""

    most_bytes: int

    @property
    def text(self) -> str:
        return f"Value must be a JSON object of at most {self.most_bytes} bytes"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "object"}

    def check(self, value: Any) -> dict[str, Any]:
        try:
            if isinstance(value, dict) and len(msgspec.json.encode(value)) <= self.most_bytes:
                return value
        except (ValueError, RecursionError):  # a lone surrogate, or nested without end
            pass
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class IdOr:
    """An id, or one of a few words that stand for one."""

    words: tuple[str, ...]

    @property
    def text(self) -> str:
        named = " or ".join(f"`{word}`" for word in self.words)
        return f"Value must be an id of at most {ID_MAX_CHARS} characters, or {named}"

    @property
    def schema(self) -> dict[str, Any]:
        return {"type": "string", "maxLength": ID_MAX_CHARS}

    def check(self, value: Any) -> str:
        if isinstance(value, str) and (value in self.words or is_id(value)):
            return value
        raise Invalid(self.text)
