"""Reads the parameters of a request, checked in the order of declaration (contract: functions-api 1, check 19)."""

from collections.abc import Mapping
from typing import Any

import msgspec
from multipart import MultipartError, PushMultipartParser, parse_options_header  # type: ignore[import-untyped] # has no types

from hearth.api.messages import Request, nest, read_pairs
from hearth.api.routes import Param
from hearth.api.validators import Invalid
from hearth.model.refusals import Refusal, invalid_param, missing_param

#: Parts one form may have, and bytes of a part's header line.
FORM_PARTS_MAX = 100
PART_HEADER_MAX_BYTES = 4_096
PART_HEADERS_MAX = 16

_MISSING: Any = object()
_decoder = msgspec.json.Decoder()


def check(params: tuple[Param, ...], path: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for control. `path` wins over `fields`: aliases carry in the path what is a field elsewhere.

    Raises Refusal for the first parameter that is missing or not accepted. Null for an optional one means its default.
    """
    arguments: dict[str, Any] = {}
    for param in params:
        name = param.name
        value = path.get(name, _MISSING) if path else _MISSING
        if value is _MISSING:
            value = fields.get(name, _MISSING)
        if value is _MISSING or (value is None and not param.required):
            if param.required:
                raise missing_param(name)
            if param.to:
                arguments[param.to] = param.default
            continue
        try:
            checked = param.validator.check(value)
        except Invalid as error:
            raise invalid_param(name, str(error)) from None
        if param.to:
            arguments[param.to] = checked
    return arguments


def read_fields(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a request body: JSON unless the content-type says form. Nothing sent = no fields.

    Raises Refusal when the body cannot be read.
    """
    if not body:
        return {}
    kind = content_type[:48].lower()
    if kind.startswith("multipart/form-data"):
        return read_form(content_type, body)
    if kind.startswith("application/x-www-form-urlencoded"):
        return read_pairs(body.decode("utf-8", "replace"))
    try:
        fields = _decoder.decode(body)
    except (ValueError, RecursionError) as error:
        raise Refusal("general_argument_invalid", f"The request body is not valid JSON: {error}") from None
    if type(fields) is not dict:
        if fields == []:
            return {}  # an empty object, as PHP clients write it
        raise Refusal("general_argument_invalid", "The request body must be a JSON object.")
    return fields


def form_parser(content_type: str) -> PushMultipartParser:
    """A parser for a multipart body with every bound set. Raises Refusal when there is no usable boundary."""
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    try:
        return PushMultipartParser(
            boundary,
            max_segment_count=FORM_PARTS_MAX,
            max_header_size=PART_HEADER_MAX_BYTES,
            max_header_count=PART_HEADERS_MAX,
        )
    except (MultipartError, ValueError) as error:
        raise unreadable_form(error) from None


def unreadable_form(error: Exception) -> Refusal:
    """The refusal of a body that is not the form it says it is."""
    return Refusal("general_argument_invalid", f"The request body is not a valid multipart form: {error}.")


def read_form(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a multipart form held in memory: text, or bytes where it is not UTF-8. Raises Refusal."""
    pairs: list[tuple[str, Any]] = []
    value = bytearray()
    name = ""
    try:
        with form_parser(content_type) as parser:
            for event in parser.parse(body):
                if event is None:
                    pairs.append((name, form_value(bytes(value))))
                elif isinstance(event, bytes | bytearray):
                    value += event
                else:
                    name, value = event.name or "", bytearray()
    except MultipartError as error:
        raise unreadable_form(error) from None
    return nest(pairs)


def form_value(raw: bytes) -> str | bytes:
    """The value of a form field: text if it can be."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def fields_of(request: Request, body: bytes) -> dict[str, Any]:
    """The fields of a request whose body has been received."""
    return read_fields(request.header(b"content-type"), body)
