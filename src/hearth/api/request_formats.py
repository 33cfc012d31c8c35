"""Requests in older shapes, brought into the newest one before they are checked (contract: functions-api 16).

Both shapes are accepted from everybody where they cannot be confused (`specification`, `data`, `version`); what
changes the meaning of a request is done only for clients that say they are older. Filters apply from the oldest to
the newest.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import msgspec

from hearth.api.formats import Version

Fields = dict[str, Any]

#: Build commands that were implied before they could be sent (format 1.4.0).
_IMPLIED_COMMANDS = {
    "node": "npm install",
    "deno": "deno cache src/index.ts",
    "bun": "bun install",
    "python": "pip install -r requirements.txt",
    "ruby": "bundle install",
    "php": "composer install",
    "dart": "dart pub get",
    "dotnet": "dotnet restore",
}
#: Seconds an ephemeral key was good for before it had to be said (format 1.9.0).
_EPHEMERAL_S = 900
_RENAMED_ATTRIBUTES = {"deployment": "deploymentId", "size": "sourceSize", "buildTime": "buildDuration"}
_TEXT_QUERY = re.compile(r"([A-Za-z]+)\((.*)\)\s*\Z", re.DOTALL)
_WITHOUT_ATTRIBUTE = frozenset({"limit", "offset", "cursorAfter", "cursorBefore", "select"})


def translate(route: str, version: Version | None, fields: Fields) -> Fields:
    """The parameters of a call to `route`, in the newest shape. May change `fields` itself."""
    for apply in _steps(route, version):
        apply(fields)
    return fields


def _specification(fields: Fields) -> None:
    value = fields.get("specification")
    if value is not None:
        for name in ("buildSpecification", "runtimeSpecification"):
            if fields.get(name) is None:
                fields[name] = value


def _execution_data(fields: Fields) -> None:
    if "data" in fields and "body" not in fields:
        fields["body"] = fields["data"]


def _template_version(fields: Fields) -> None:
    version = fields.pop("version", None)
    if version is not None and fields.get("type") is None and fields.get("reference") is None:
        fields["type"], fields["reference"] = "tag", version


def _implied_commands(fields: Fields) -> None:
    runtime = fields.get("runtime")
    if fields.get("commands") is None and isinstance(runtime, str):
        fields["commands"] = _IMPLIED_COMMANDS.get(runtime.rpartition("-")[0], "")


def _unique_variable(fields: Fields) -> None:
    if fields.get("variableId") is None:
        fields["variableId"] = "unique()"


def _usual_duration(fields: Fields) -> None:
    if fields.get("duration") is None:
        fields["duration"] = _EPHEMERAL_S


def _readable_variable(fields: Fields) -> None:
    fields["secret"] = False


def _old_webhook(fields: Fields) -> None:
    for old, name in (("security", "tls"), ("httpUser", "authUsername"), ("httpPass", "authPassword")):
        if fields.get(name) is None and old in fields:
            fields[name] = fields[old]


def _output_only(fields: Fields) -> None:
    fields["type"] = "output"


def _json_queries(fields: Fields) -> None:
    queries = fields.get("queries")
    if isinstance(queries, list):
        fields["queries"] = [_from_text(query) for query in queries]


def _from_text(query: Any) -> Any:
    """`equal("name", ["x"])` as the object it means; anything else as it is (it is refused or read later)."""
    match = _TEXT_QUERY.match(query) if isinstance(query, str) else None
    if match is None:
        return query
    method, inside = match.groups()
    try:
        arguments = msgspec.json.decode(f"[{inside}]")
    except (ValueError, RecursionError):
        return query
    result: Fields = {"method": method}
    if arguments and method not in _WITHOUT_ATTRIBUTE:
        result["attribute"], *arguments = arguments
    # One list holds all values: `equal("name", ["x", "y"])`.
    if len(arguments) == 1 and isinstance(arguments[0], list):
        arguments = arguments[0]
    result["values"] = arguments
    return result


def _renamed_queries(fields: Fields) -> None:
    queries = fields.get("queries")
    if isinstance(queries, list):
        fields["queries"] = [_rename(query) for query in queries]


def _rename(query: Any) -> Any:
    if isinstance(query, str):
        try:
            query = msgspec.json.decode(query)
        except (ValueError, RecursionError):
            return query
    if isinstance(query, dict) and query.get("attribute") in _RENAMED_ATTRIBUTES:
        return {**query, "attribute": _RENAMED_ATTRIBUTES[query["attribute"]]}
    return query


_LISTS = frozenset({"functions.list", "deployments.list", "executions.list", "variables.list"})
_SETTINGS = frozenset({"functions.create", "functions.update"})
_CREATE_VARIABLE = frozenset({"variables.create"})

#: (below this version, or None = for clients that name no format; routes; what is done), oldest first.
_CHAIN: tuple[tuple[Version | None, frozenset[str], Callable[[Fields], None]], ...] = (
    ((1, 4, 0), _SETTINGS, _implied_commands),
    ((1, 5, 0), _LISTS, _json_queries),
    ((1, 7, 0), _LISTS, _renamed_queries),
    ((1, 7, 0), _CREATE_VARIABLE | {"variables.update"}, _readable_variable),
    ((1, 7, 0), frozenset({"deployments.download"}), _output_only),
    ((1, 9, 0), frozenset({"keys.create_ephemeral"}), _usual_duration),
    ((1, 9, 4), _CREATE_VARIABLE, _unique_variable),
    (None, _CREATE_VARIABLE, _unique_variable),
)
#: (routes, what is done) for everybody.
_ALWAYS: tuple[tuple[frozenset[str], Callable[[Fields], None]], ...] = (
    (_SETTINGS, _specification),
    (frozenset({"executions.create"}), _execution_data),
    (frozenset({"webhooks.create", "webhooks.update"}), _old_webhook),
    (frozenset({"deployments.create_template"}), _template_version),
)


@lru_cache(maxsize=1_024)
def _steps(route: str, version: Version | None) -> tuple[Callable[[Fields], None], ...]:
    """What is to be done to the fields of a call, in order."""
    steps = [
        apply
        for below, routes, apply in _CHAIN
        if route in routes and (version is None if below is None else version is not None and version < below)
    ]
    return (*steps, *(apply for routes, apply in _ALWAYS if route in routes))
