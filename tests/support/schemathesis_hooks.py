"""What schemathesis cannot know of this API: how values of our own formats look, and which ids exist.

Loaded by the schemathesis command itself (`SCHEMATHESIS_HOOKS`), never by pytest.
"""

import json
import os
import re
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import ensure_resource_availability

#: JSON object: name of a path parameter -> ids that exist on the server under test.
KNOWN: dict[str, list[str]] = json.loads(os.environ.get("HEARTH_TEST_IDS", "{}"))

_ATTRIBUTES = ("$id", "$createdAt", "$sequence", "name", "status", "key", "trigger", "type")
_VALUES = st.one_of(st.text(max_size=20), st.integers(-5, 10_000), st.booleans(), st.floats(-10, 10, allow_nan=False))
_QUERIES = st.one_of(
    st.builds(lambda n: {"method": "limit", "values": [n]}, st.integers(1, 100)),
    st.builds(lambda n: {"method": "offset", "values": [n]}, st.integers(0, 100)),
    st.builds(
        lambda method, attribute: {"method": method, "attribute": attribute},
        st.sampled_from(("orderAsc", "orderDesc", "isNull", "isNotNull")),
        st.sampled_from(_ATTRIBUTES),
    ),
    st.builds(
        lambda method, attribute, values: {"method": method, "attribute": attribute, "values": values},
        st.sampled_from(("equal", "notEqual", "contains", "startsWith", "between", "lessThan", "search")),
        st.sampled_from(_ATTRIBUTES),
        st.lists(_VALUES, min_size=1, max_size=3),
    ),
    st.builds(lambda id: {"method": "cursorAfter", "values": [id]}, st.sampled_from(("none", "fuzz-0"))),
)

schemathesis.openapi.format("query", _QUERIES.map(json.dumps))
schemathesis.openapi.format("cron", st.sampled_from(("", "* * * * *", "0 3 * * 1-5", "@daily", "15,45 */2 1 JAN ?")))
schemathesis.openapi.format("time-zone", st.sampled_from(("UTC", "Europe/Berlin", "America/New_York")))
schemathesis.openapi.format(
    "event",
    st.sampled_from(("users.*.create", "users.*", "databases.*.collections.*.documents.*.update", "teams.t.delete")),
)
schemathesis.openapi.format(
    "headers",
    st.dictionaries(st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True), st.text("abc 1"), max_size=3).map(json.dumps),
)


@schemathesis.serializer("application/gzip")
def as_it_is(ctx: Any, value: Any) -> bytes:
    """A source sent as the whole body: any bytes."""
    return value if isinstance(value, bytes) else str(value).encode()


_REFUSED_PARAM = re.compile(r"Invalid `(\w+)` param")
#: Resources whose schemas are exact, and what of them is refused for its meaning, beyond what a schema can say.
_EXACT = ("functions", "deployments", "executions", "variables", "health")
_BY_MEANING = {"queries", "providerRepositoryId", "repository", "owner", "rootDirectory", "reference"}


@schemathesis.hook
def filter_headers(context: Any, headers: Any) -> bool:
    """A header that nobody knows is not a mistake that could be refused."""
    return not headers or not any(name.lower().startswith("x-schemathesis") for name in headers)


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """A whole number is written as one: `15.0` is a whole number for a schema, but not for this API."""
    if isinstance(body, dict):
        return {name: int(it) if isinstance(it, float) and it.is_integer() else it for name, it in body.items()}
    return body


@schemathesis.check
def described_values_are_accepted(ctx: Any, response: Any, case: Any) -> None:
    """A value that fits its schema is not refused as invalid: schema and validator say the same.

    The stock check of this kind cannot be used: a request of right values may still be refused, for instance because
    a build has ended.
    """
    if case.meta is None or response.status_code != 400 or case.operation.tags[0] not in _EXACT:
        return
    if case.meta.generation.mode.value != "positive" or case.meta.phase.name.value == "stateful":
        return  # values that one answer hands to the next request are not made from its schema
    found = _REFUSED_PARAM.match(str(response.json().get("message", "")))
    assert found is None or found.group(1) in _BY_MEANING, response.json()["message"]


@schemathesis.check
def what_was_created_is_there(ctx: Any, response: Any, case: Any) -> bool | None:
    """The stock check `ensure_resource_availability`, for requests without a body.

    What a body names may be missing as well (a user to be made a member of a team that was just created), and a 404
    about that says nothing about the created one.
    """
    return None if case.method.upper() not in ("GET", "DELETE") else ensure_resource_availability(ctx, response, case)


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Two of three ids become one that exists, so that more is reached than refusals of unknown ones."""
    if not path_parameters:
        return path_parameters
    mapped = dict(path_parameters)
    for name, value in path_parameters.items():
        known = KNOWN.get(name)
        draw = sum(str(value).encode())
        if known and draw % 3:
            mapped[name] = known[draw % len(known)]
    return mapped
