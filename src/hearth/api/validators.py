"""Validators of single parameters. Each is plain data: `text` says what it accepts, with limits and their units.

Grammars that need more than a few lines (roles, events, headers, cron) are in `grammar` and `cron`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hearth.api.routes import Validator
from hearth.model.ids import ID_MAX_CHARS, UNIQUE, is_id
from hearth.model.queries import QUERIES_MAX, InvalidQuery, Kind, ListQuery, parse_queries

_TRUE = {"true", "True", "1"}
_FALSE = {"false", "False", "0"}


class Invalid(ValueError):
    """A value that is not accepted; the text is for the caller."""


@dataclass(frozen=True, slots=True)
class Id:
    """An id of a resource (contract: functions-api 2.1)."""

    custom: bool = False
    """Whether the literal `unique()` is accepted too."""

    @property
    def text(self) -> str:
        also = ", or the text `unique()`" if self.custom else ""
        return (
            f"Value must be an id: 1 to {ID_MAX_CHARS} characters of a-z, A-Z, 0-9, period, hyphen and underscore, "
            f"not starting with a special character{also}"
        )

    def check(self, value: Any) -> str:
        if isinstance(value, str) and (is_id(value) or (self.custom and value == UNIQUE)):
            return value
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class Text:
    """Text of `least` to `most` characters. NUL is refused: no database and no header can hold it."""

    least: int
    most: int

    @property
    def text(self) -> str:
        return f"Value must be text of {self.least} to {self.most} characters, without NUL"

    def check(self, value: Any) -> str:
        if isinstance(value, str) and self.least <= len(value) <= self.most and "\0" not in value:
            return value
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class Content:
    """Text of up to `most` characters, or bytes of a form part; becomes bytes."""

    most: int

    @property
    def text(self) -> str:
        return f"Value must be text of at most {self.most} characters"

    def check(self, value: Any) -> bytes:
        if isinstance(value, str) and len(value) <= self.most:
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise Invalid("Value must be valid Unicode text") from None
        if isinstance(value, bytes) and len(value) <= self.most:
            return value
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number of `unit`; decimal digits as text count too (forms, hand-written clients)."""

    least: int
    most: int
    unit: str

    @property
    def text(self) -> str:
        return f"Value must be a whole number of {self.unit} from {self.least} to {self.most}"

    def check(self, value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 18:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most:
            return value
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false. `loose` also takes text and numbers: query strings and forms have nothing else.

    Some SDKs send `True` and `False` (contract: clients 1.2).
    """

    loose: bool = False

    @property
    def text(self) -> str:
        return f"Value must be a boolean: true or false{', or 1 or 0' if self.loose else ''}"

    def check(self, value: Any) -> bool:
        if value is True or value is False:
            return bool(value)
        if self.loose:
            text = str(value) if isinstance(value, int) else value
            if isinstance(text, str):
                if text in _TRUE:
                    return True
                if text in _FALSE:
                    return False
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a fixed set of texts, case-sensitive. `subject` names the set where it is too long to list."""

    choices: tuple[str, ...]
    subject: str = ""
    empty: bool = False
    """Whether `""` is accepted too, as "not given"."""
    _set: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_set", frozenset(self.choices) | ({""} if self.empty else frozenset()))

    @property
    def text(self) -> str:
        return self.subject or f"Value must be one of ({', '.join(self.choices)})"

    def check(self, value: Any) -> str:
        if isinstance(value, str) and value in self._set:
            return value
        raise Invalid(self.text)


@dataclass(frozen=True, slots=True)
class Items:
    """A list of at most `most` values; becomes a tuple, in the order given."""

    item: Validator
    most: int
    unit: str = "items"

    @property
    def text(self) -> str:
        return f"Value must be a list of at most {self.most} {self.unit}. {self.item.text}"

    def check(self, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Invalid(self.text)
        if len(value) > self.most:
            raise Invalid(f"Value must be a list of at most {self.most} {self.unit}, not {len(value)}")
        check = self.item.check
        return tuple([check(item) for item in value])


@dataclass(frozen=True, slots=True)
class Queries:
    """The `queries` of a list call over the attributes it admits (contract: functions-api 7); becomes a ListQuery.

    `default_limit` replaces the usual 25 rows where a collection is answered whole.
    """

    attributes: Mapping[str, Kind]
    selectable: bool = False
    default_limit: int | None = None

    @property
    def text(self) -> str:
        return (
            f"Value must be a list of at most {QUERIES_MAX} queries, each the JSON text of an object with "
            f"method, attribute and values. Attributes: {', '.join(self.attributes)}"
        )

    @property
    def default(self) -> ListQuery:
        """What a call without `queries` asks for."""
        result: ListQuery = self.check([])
        return result

    def check(self, value: Any) -> ListQuery:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list):
            raise Invalid(self.text)
        if self.default_limit is not None and len(texts) < QUERIES_MAX:
            # The first limit wins, so this one counts only when none was sent.
            texts = [*texts, {"method": "limit", "values": [self.default_limit]}]
        try:
            return parse_queries(texts, self.attributes, selectable=self.selectable)
        except (InvalidQuery, RecursionError) as error:
            raise Invalid(f"Invalid query: {error}") from None
