"""The served description: valid, whole, and true to the code it describes."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for
from msgspec import structs
from openapi_spec_validator import OpenAPIV31SpecValidator

import hearth
from hearth.api import wire
from hearth.api.cron import Cron
from hearth.api.formats import shape
from hearth.api.grammar import Event, ExecutionHeaders, Role
from hearth.api.openapi import document, page
from hearth.api.openapi.answers import refusals_of
from hearth.api.openapi.models import MODELS
from hearth.api.openapi.parameters import schema_of
from hearth.api.routes import Body, Facts, Param, Place, Route, Validator
from hearth.api.table import all_routes
from hearth.api.validators import Boolean, Content, Id, Integer, Invalid, Items, OneOf, Queries, Text
from hearth.data import load
from hearth.model.actor import Actor, ActorKind
from hearth.model.queries import Kind
from hearth.model.refusals import TYPES
from hearth.model.scopes import OWN_SCOPES
from tests.api.support import DEPLOYMENT, EXECUTION, EXECUTION_VIEW, FUNCTION_VIEW, RUNTIMES, SECRET, VARIABLE, World
from tests.support.contract import contract_document

ROUTES = all_routes(Facts(runtimes=tuple(row["$id"] for row in RUNTIMES), specifications=("s-1vcpu-512mb",)))
DOCUMENT = document(ROUTES)
KEY_HOLDER = Actor(ActorKind.KEY, frozenset())
OPERATIONS = [
    (f"{method.upper()} {path}", operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]


def schema_errors(schema: dict[str, Any], value: Any) -> list[str]:
    """What of `value` contradicts a schema of the document."""
    # The document is the root, so that the references in it are found.
    whole = {**DOCUMENT, "$schema": "https://json-schema.org/draft/2020-12/schema", "allOf": [schema]}
    checker = Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(value)]


@pytest.mark.slow
def test_the_document_is_valid_openapi() -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(DOCUMENT).iter_errors()] == []


@pytest.mark.parametrize("route", ROUTES, ids=[route.name for route in ROUTES])
def test_every_route_is_described(route: Route) -> None:
    """Summary, good answers and their models; a model needs its schema in `hearth.api.openapi.models`."""
    assert route.summary.endswith(".")
    assert route.success == 204 or route.model or route.replies, "what does it answer?"
    assert {route.model, *(reply.model for reply in route.replies)} - {""} <= MODELS.keys()
    for method, path in ((route.method, route.path), *route.aliases):
        operation = DOCUMENT["paths"][path][method.lower()]
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["responses"]) & {"200", "201", "202", "204", "302"}
        assert operation["security"], "who may call it?"


@pytest.mark.parametrize("route", ROUTES, ids=[route.name for route in ROUTES])
def test_every_parameter_is_described(route: Route) -> None:
    """An unknown validator has to bring its `schema`; the default has to be one of the values that are accepted."""
    for param in route.params:
        schema = schema_of(param.validator)
        assert {"type", "anyOf", "enum"} & schema.keys(), f"{param.name}: what may be sent?"
        validator_for(schema, Draft202012Validator).check_schema(schema)
        assert param.description.endswith("."), param.name
    names = {param.name for param in route.params}
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    documented = {it["name"].removesuffix("[]") for it in operation["parameters"]}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        documented |= content["schema"]["properties"].keys()
        for name, schema in content["schema"]["properties"].items():
            if "default" in schema:
                assert schema_errors(schema, schema["default"]) == [], name
    assert names <= documented
    assert documented - names <= ({"code"} if route.body is Body.UPLOAD else set())


def test_operation_ids_are_unique_and_aliases_deprecated() -> None:
    ids = [operation["operationId"] for _, operation in OPERATIONS]
    assert len(ids) == len(set(ids)) == sum(1 + len(route.aliases) for route in ROUTES)
    assert sum(operation.get("deprecated", False) for _, operation in OPERATIONS) == sum(
        len(route.aliases) for route in ROUTES
    )


VALUES: list[tuple[Validator, list[Any], list[Any]]] = [
    (Id(), ["a", "A.b-c_d", "x" * 36], ["", "_a", "unique()", "x" * 37, 5, None]),
    (Id(custom=True), ["a", "unique()"], ["unique(", "-a", True]),
    (Text(1, 3), ["a", "äöü"], ["", "abcd", "a\0", 1]),
    (Content(3), ["", "abc"], ["abcd", 1]),
    (Integer(1, 900, "seconds"), [1, 900], [0, 901, 1.5, True, "x"]),
    (Boolean(), [True, False], ["true", 1, 0, None]),
    (Boolean(loose=True), [True, False, "true", "False", "1", 0], ["yes", 2, "", None]),
    (OneOf(("a", "b")), ["a"], ["", "A", None]),
    (OneOf(("a", "b"), empty=True), ["a", ""], ["c"]),
    (Items(Text(1, 3), 2, "texts"), [[], ["a", "b"]], [["a", "b", "c"], ["abcd"], "a", None]),
    (Cron(), ["", "0 3 * * *", "@daily"], [5, None]),
    (
        Role(),
        [
            "any",
            "guests",
            "users",
            "users/verified",
            "user:a",
            "user:a/unverified",
            "team:t/owner",
            "member:m",
            "label:x",
        ],
        ["", "anyone", "any:a", "any/verified", "guests/verified", "user", "user:_a", "member:m/verified", "label:a-b"],
    ),
    (Event(), ["users.*.create"], [5]),
    (ExecutionHeaders(), [{}, {"x-a": "b", "x-n": 1}, "{}"], [5, True, [1]]),
    (Queries({"name": Kind.STRING}), [[], ['{"method":"limit","values":[1]}']], [5]),
]


@pytest.mark.parametrize(("validator", "good", "bad"), VALUES, ids=[type(row[0]).__name__ for row in VALUES])
def test_schema_and_validator_agree(validator: Validator, good: list[Any], bad: list[Any]) -> None:
    """What the document calls right is accepted, and what it calls wrong is refused."""
    schema = schema_of(validator)
    for value in good:
        assert schema_errors(schema, value) == [], value
        validator.check(value)
    for value in bad:
        assert schema_errors(schema, value) != [], value
        with pytest.raises(Invalid):
            validator.check(value)


def test_a_validator_brings_its_own_schema() -> None:
    @dataclass(frozen=True)
    class Multiple:
        of: int
        text: str = "Value must be a multiple"

        @property
        def schema(self) -> dict[str, Any]:
            return {"type": "integer", "multipleOf": self.of}

        def check(self, value: Any) -> Any:
            return value

    assert schema_of(Multiple(2)) == {"type": "integer", "multipleOf": 2}


MEASURED = structs.replace(EXECUTION, queued_s=0.001, is_cold=False, cpu_s=0.02, peak_memory_bytes=50_000_000)
MEASURED_VIEW = structs.replace(EXECUTION_VIEW, execution=MEASURED)
SENT: list[tuple[str, dict[str, Any]]] = [
    ("function", wire.function(FUNCTION_VIEW)),
    ("variable", wire.variable(VARIABLE)),
    ("variable", wire.variable(SECRET)),
    ("deployment", wire.deployment(DEPLOYMENT)),
    ("execution", wire.execution(MEASURED, KEY_HOLDER)),
    ("execution", wire.created_execution(MEASURED_VIEW, KEY_HOLDER, "hi")),
    ("runtime", dict(RUNTIMES[0])),
    ("functionList", wire.listing("functions", 1, [wire.function(FUNCTION_VIEW)])),
    ("deploymentList", wire.listing("deployments", 1, [wire.deployment(DEPLOYMENT)])),
    ("executionList", wire.listing("executions", 0, [])),
    ("variableList", wire.listing("variables", 1, [wire.variable(VARIABLE)])),
]


@pytest.mark.parametrize(("model", "payload"), SENT, ids=[f"{row[0]}-{index}" for index, row in enumerate(SENT)])
def test_what_is_sent_is_what_is_described(model: str, payload: dict[str, Any]) -> None:
    """Every key, no other key, and the types; in the order of the document."""
    plain = _as_json(payload)
    assert schema_errors({"$ref": f"#/components/schemas/{model}"}, plain) == []
    assert list(plain) == list(MODELS[model]["properties"])


def test_an_execution_for_a_client_that_names_its_format_is_described_too() -> None:
    payload = shape((1, 9, 6), "execution", wire.execution(MEASURED, KEY_HOLDER))
    assert schema_errors({"$ref": "#/components/schemas/execution"}, _as_json(payload)) == []


def _as_json(value: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value))


_RAISED = re.compile(r'Refusal\(\s*"(\w+)"')
#: Raised where no route is involved, or turned into a documented one before it is answered.
UNROUTED = {
    "general_route_not_found",
    # of visits of a function's domain, which are no routes
    *("rule_not_found", "function_execute_permission_missing", "build_failed", "build_canceled"),
    "general_not_implemented",
}


def test_every_refusal_the_server_raises_is_documented_somewhere() -> None:
    folder = Path(hearth.__file__).parent
    raised = {
        type
        for room in ("api", "auth", "control")
        for path in (folder / room).rglob("*.py")
        for type in _RAISED.findall(path.read_text("utf-8"))
    }
    documented = {type for route in ROUTES for type, _ in refusals_of(route)}
    assert len(raised) > 15
    assert raised - documented - UNROUTED == set()
    assert documented <= TYPES.keys()


@pytest.mark.anyio
async def test_an_error_answer_names_its_types_and_has_the_form_of_all(world: World) -> None:
    async with world.client() as client:
        answer = await client.post("/v1/functions", json={})
    responses = DOCUMENT["paths"]["/v1/functions"]["post"]["responses"]
    schema = responses[str(answer.status_code)]["content"]["application/json"]["schema"]
    assert schema_errors(schema, answer.json()) == []
    assert schema_errors(schema, answer.json() | {"type": "function_not_found"}) != []


def test_a_new_route_is_described_without_further_work() -> None:
    async def handler(call: Any) -> Any:
        return None

    colour = Param("colour", Place.BODY, OneOf(("red", "blue")), "Its colour.", "colour", default="red")
    route = Route("bikes.paint", "PUT", "/v1/bikes/{bikeId}", handler, "Paint a bike.", ("functions.write",))
    route = replace(route, body=Body.FIELDS, params=(colour,), model="bike", refusals=("function_not_found",))
    made = document((*ROUTES, route))
    operation = made["paths"]["/v1/bikes/{bikeId}"]["put"]
    properties = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert properties["colour"]["enum"] == ["red", "blue", None]
    assert properties["colour"]["default"] == "red"
    assert [it["name"] for it in operation["parameters"]] == ["bikeId"]
    assert "function_not_found" in operation["responses"]["404"]["description"]
    assert operation["security"][0] == {"Project": [], "Key": []}
    assert operation["x-appwrite"]["scope"] == "functions.write"
    assert "Paint a bike." in page(made)


@pytest.mark.anyio
async def test_anybody_can_read_the_document_and_the_page(world: World) -> None:
    async with world.client({}) as client:
        served = await client.get("/v1/openapi.json")
        read = await client.get("/v1/docs")
    assert served.headers["content-type"].startswith("application/json")
    assert served.json()["openapi"].startswith("3.1")
    assert served.json()["paths"].keys() == DOCUMENT["paths"].keys()
    assert read.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in read.headers["content-security-policy"]


def test_the_page_has_every_endpoint_and_nothing_from_elsewhere() -> None:
    html = page(DOCUMENT)
    for route in ROUTES:
        assert f'id="{route.name}"' in html
        for method, path in route.aliases:
            assert f"{method} {path}" in html
    for model in MODELS:
        assert f'id="model-{model}"' in html
    assert re.findall(r'(?:src|href)="(?!#|openapi\.json")', html) == []
    assert "<script" not in html
    assert "@import" not in html
    assert "prefers-color-scheme:dark" in html
    assert 'name="viewport"' in html


def test_texts_of_the_page_cannot_become_markup() -> None:
    async def handler(call: Any) -> Any:
        return None

    route = Route("a.b", "GET", "/v1/x", handler, "<img src=x onerror=alert(1)>.", ("public",), model="error")
    assert "<img" not in page(document((route,)))


def _contract_operations() -> dict[tuple[str, str], dict[str, Any]]:
    contract = contract_document("functions.openapi.json")
    return {
        (method, re.sub(r"\{\w+\}", "{}", path)): operation
        for path, operations in contract["paths"].items()
        for method, operation in operations.items()
        if method in ("get", "post", "put", "patch", "delete")
    }


def test_the_document_has_all_that_the_contract_s_has() -> None:
    """Every operation the contract's document and this server share: parameters, fields, status of success."""
    ours = {
        (method, re.sub(r"\{\w+\}", "{}", path.removeprefix("/v1"))): operation
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
    }
    shared = [(key, it) for key, it in _contract_operations().items() if key in ours]
    assert len(shared) >= 20
    for key, theirs in shared:
        mine = ours[key]
        wanted = {it["name"] for it in theirs.get("parameters", []) if it["in"] != "header"}
        assert wanted - {it["name"].removesuffix("[]") for it in mine["parameters"]} == set(), key
        assert set(theirs["responses"]) <= set(mine["responses"]), key
        fields: set[str] = set()
        for content in mine.get("requestBody", {}).get("content", {}).values():
            fields |= content["schema"]["properties"].keys()
        for content in theirs.get("requestBody", {}).get("content", {}).values():
            assert content["schema"]["properties"].keys() - fields - _DROPPED == set(), key


#: Fields of older contracts that are read under their newer names (contract: functions-api 16).
_DROPPED = {
    "specification",
    "templateRepository",
    "templateOwner",
    "templateRootDirectory",
    "templateVersion",
    "buildId",
}


def test_the_scopes_named_are_real_ones() -> None:
    scopes = load("scopes.json")
    known = {row["scope"] for rows in ("project", "organization", "account") for row in scopes[rows]}
    known |= {scope for role in scopes["roles"].values() for scope in role} | {"execution.read", "execution.write"}
    known |= set(OWN_SCOPES)
    for route in ROUTES:
        assert set(route.scopes) <= known, route.name
