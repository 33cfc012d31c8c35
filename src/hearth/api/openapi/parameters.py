"""Parameters as JSON schemas, read from the plain data of their validators.

A validator that is not known here may bring its own: an attribute `schema` with the JSON schema of one value,
or `parts` with the validators of an object's keys.
"""

from collections.abc import Mapping
from typing import Any

from hearth.api import grammar
from hearth.api.cron import Cron, TimeZone
from hearth.api.routes import Param, Place, Validator
from hearth.api.validators import Boolean, Content, Id, Integer, Items, OneOf, Queries, Text
from hearth.model.cron import CRON_MAX_CHARS
from hearth.model.ids import ID_MAX_CHARS
from hearth.model.queries import QUERIES_MAX, QUERY_MAX_CHARS

Schema = dict[str, Any]

_ID = rf"[A-Za-z0-9][A-Za-z0-9._\-]{{0,{ID_MAX_CHARS - 1}}}"
_DIMENSION = rf"[A-Za-z0-9][A-Za-z0-9._\-]{{0,{grammar.ROLE_DIMENSION_MAX_CHARS - 1}}}"
_VERIFICATION = "(/(un)?verified)?"
_ROLE = (
    f"^(any|guests|users{_VERIFICATION}|user:{_ID}{_VERIFICATION}|team:{_ID}(/{_DIMENSION})?|member:{_ID}"
    f"|label:[A-Za-z0-9]{{1,{ID_MAX_CHARS}}})$"
)
#: What a loose boolean accepts besides true and false; forms and query strings have nothing else than text.
_LOOSE = ["true", "false", "True", "False", "1", "0", 1, 0]
_HEADERS_TEXT: Schema = {
    "type": "string",
    "format": "headers",
    "maxLength": grammar.HEADERS_JSON_MAX_CHARS,
    "contentMediaType": "application/json",
}
_HEADER_VALUE: Schema = {"type": ["string", "number", "boolean", "null"]}


def schema_of(validator: Validator) -> Schema:
    """The JSON schema of the values a validator accepts; `{}` for one that nothing is known of."""
    own = getattr(validator, "schema", None)
    if own is not None:
        return dict(own)
    parts = getattr(validator, "parts", None)
    if parts is not None:
        properties = {name: schema_of(part) for name, part in parts.items()}
        return {"type": "object", "additionalProperties": False, "properties": properties}
    match validator:
        case Id():
            pattern = rf"^({_ID}|unique\(\))$" if validator.custom else f"^{_ID}$"
            return {"type": "string", "pattern": pattern}
        case Text():
            # The pattern is the one for "no NUL", written without the character itself.
            return {
                "type": "string",
                "minLength": validator.least,
                "maxLength": validator.most,
                "pattern": r"^[^\u0000]*$",
            }
        case Content():
            return {"type": "string", "maxLength": validator.most}
        case Integer():
            return {"type": "integer", "minimum": validator.least, "maximum": validator.most}
        case Boolean():
            plain: Schema = {"type": "boolean"}
            return {"anyOf": [plain, {"enum": list(_LOOSE)}]} if validator.loose else plain
        case OneOf():
            return {"type": "string", "enum": [*validator.choices, *([""] if validator.empty else [])]}
        case Items():
            return {"type": "array", "maxItems": validator.most, "items": schema_of(validator.item)}
    return _grammar(validator)


def _grammar(validator: Validator) -> Schema:
    """The validators of small languages; what a schema cannot say is a format of ours, explained in the text."""
    match validator:
        case Queries():
            query: Schema = {
                "type": "string",
                "format": "query",
                "maxLength": QUERY_MAX_CHARS,
                "contentMediaType": "application/json",
            }
            return {"type": "array", "maxItems": QUERIES_MAX, "items": query}
        case Cron():
            return {"type": "string", "format": "cron", "maxLength": CRON_MAX_CHARS}
        case TimeZone():
            return {"type": "string", "format": "time-zone"}
        case grammar.Role():
            return {"type": "string", "pattern": _ROLE}
        case grammar.Event():
            return {"type": "string", "format": "event"}
        case grammar.ExecutionHeaders():
            names: Schema = {
                "pattern": "^(?![Xx]-[Aa][Pp][Pp][Ww][Rr][Ii][Tt][Ee]-)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$"
            }
            plain: Schema = {
                "type": "object",
                "maxProperties": grammar.HEADERS_MAX,
                "propertyNames": names,
                "additionalProperties": _HEADER_VALUE,
            }
            return {"anyOf": [plain, _HEADERS_TEXT]}
    return {}


def takes_text(validator: Validator) -> bool:
    """Whether every value can also be sent as text, so that a form can carry the parameter."""
    match validator:
        case Id() | Text() | Content() | Integer() | OneOf() | Cron() | TimeZone() | grammar.ExecutionHeaders():
            return True
        case Boolean():
            return validator.loose
    return False


def property_of(param: Param, *, form: bool = False) -> Schema:
    """The schema of a parameter in a body: with its description and default, and null where it may be left out.

    In a form everything is text: no null, and an object only as its JSON.
    """
    schema = schema_of(param.validator)
    if form and isinstance(param.validator, grammar.ExecutionHeaders):
        schema = _HEADERS_TEXT
    if not param.required:
        schema = dict(schema) if form else _nullable(schema)
        if not (form and isinstance(param.default, Mapping)):
            schema |= _default(param.default)
    return {**schema, "description": _description(param)}


def parameter_of(param: Param, place: Place) -> Schema:
    """An OpenAPI parameter in the path or the query string."""
    schema = schema_of(param.validator)
    name = param.name
    if place is Place.QUERY and schema.get("type") == "array":
        name += "[]"  # as the server reads lists; `name[0]` is the same
    if place is Place.QUERY and not param.required:
        schema |= _default(param.default)
    return {
        "name": name,
        "in": place.value,
        "required": place is Place.PATH or param.required,
        "description": _description(param),
        "schema": schema,
    }


def unnamed(name: str) -> Schema:
    """A part of a path that stands for nothing: read and not looked at."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": "Any text: it is ignored, and only here for older clients.",
        "schema": {"type": "string", "minLength": 1},
    }


def _description(param: Param) -> str:
    text = param.validator.text
    return f"{param.description} {text}{'' if text.endswith('.') else '.'}"


def _default(value: Any) -> Schema:
    """The default as JSON has it; nothing where it is not a value of JSON (or means: as it was)."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, bool | int | str | list) or (isinstance(value, Mapping) and not value):
        return {"default": value}
    return {}


def _nullable(schema: Schema) -> Schema:
    """For an optional parameter null means its default."""
    if "enum" in schema:
        return {**schema, "type": [schema["type"], "null"], "enum": [*schema["enum"], None]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]} if "type" in schema else schema
