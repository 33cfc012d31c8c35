"""Column types: how our values look in both databases. Nothing here knows a table."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from hearth.model import times
from hearth.model.sources import GitSource, ReferenceKind
from hearth.store.texts import storable

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _storable_in(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(str(key)): _storable_in(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable_in(item) for item in value]
    return value


#: Compared and sorted by code point on both engines, whatever the locale of the database.
_ORDERED_TEXT = Text().with_variant(Text(collation="C"), "postgresql")


class Words(TypeDecorator[str]):
    """Text in code point order. An enumeration is given and taken as its value."""

    impl = _ORDERED_TEXT
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Make the text storable; an enumeration becomes plain text, which every driver takes."""
        if value is None:
            return None
        return storable(value.value if isinstance(value, StrEnum) else value)


class Moment(TypeDecorator[datetime]):
    """A point in time as milliseconds since 1970: exact, comparable, the same on both engines."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To milliseconds."""
        return None if value is None else times.to_epoch_ms(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """To a UTC time."""
        return None if value is None else times.from_epoch_ms(value)


class StringList(TypeDecorator[tuple[str, ...]]):
    """A list of texts as a JSON array; queried by element through `expressions.has_any`."""

    impl = _ORDERED_TEXT
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: Dialect) -> str | None:
        """To JSON text."""
        return None if value is None else encode_list(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[str, ...] | None:
        """To a tuple."""
        return None if value is None else tuple(_decode(value))


class Headers(TypeDecorator[tuple[tuple[str, str], ...]]):
    """Headers as a JSON array of pairs, in order."""

    impl = _ORDERED_TEXT
    cache_ok = True

    def process_bind_param(self, value: tuple[tuple[str, str], ...] | None, dialect: Dialect) -> str | None:
        """To JSON text."""
        return None if value is None else encode_list(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> tuple[tuple[str, str], ...] | None:
        """To a tuple of pairs."""
        return None if value is None else tuple((name, text) for name, text in _decode(value))


class Document(TypeDecorator[dict[str, Any]]):
    """A JSON object that is never queried (the payload of a job)."""

    impl = _ORDERED_TEXT
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """To JSON text."""
        return None if value is None else encode_document(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        """To a dictionary."""
        return None if value is None else _decode(value)


class Origin(TypeDecorator[GitSource]):
    """Where the source of a deployment is fetched from, as a JSON object; NULL for one that was uploaded."""

    impl = _ORDERED_TEXT
    cache_ok = True

    def process_bind_param(self, value: GitSource | None, dialect: Dialect) -> str | None:
        """To JSON text."""
        return None if value is None else _encode(_storable_in(dataclasses.asdict(value))).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> GitSource | None:
        """To a git source."""
        if value is None:
            return None
        return _git_source(_decode(value))


def _git_source(fields: dict[str, Any]) -> GitSource:
    template = fields.get("template")
    return GitSource(
        **{
            **fields,
            "kind": ReferenceKind(fields["kind"]),
            "template": None if template is None else _git_source(template),
        }
    )


def encode_document(value: Mapping[str, Any]) -> str:
    """The stored form of a document. Only one with a character that cannot be stored is gone through."""
    try:
        text = _encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        return _encode(_storable_in(dict(value))).decode()
    return _encode(_storable_in(dict(value))).decode() if b"\\u0000" in text else text.decode()


def encode_list(value: tuple[Any, ...]) -> str:
    """The stored form of a list; the common empty one at no cost."""
    if not value:
        return "[]"
    try:
        text = _encode(value)
    except UnicodeEncodeError:  # a lone surrogate
        return _encode(_storable_in(value)).decode()
    return _encode(_storable_in(value)).decode() if b"\\u0000" in text else text.decode()
