"""Variables of a function (contract: functions-api 5.18)."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.resources.common import FUNCTION_ID, PROJECT_GROUPS, TOTAL, VARIABLE_ID, listed, queries
from hearth.api.routes import Body, Param, Place, Route
from hearth.api.validators import Boolean, Id, Text
from hearth.control.views import VARIABLES_MAX
from hearth.model.queries import Kind

ATTRIBUTES = {
    "key": Kind.STRING,
    "resourceType": Kind.STRING,
    "resourceId": Kind.STRING,
    "secret": Kind.BOOLEAN,
}


async def create(call: Call) -> Any:
    return wire.variable(await call.control.variables.create(call.project_id, **call.arguments))


async def list_(call: Call) -> Any:
    function_id = call.arguments.pop("function_id")
    page = await call.control.variables.list(call.project_id, function_id, listed(**call.arguments))
    return wire.listing("variables", page.total, [wire.variable(item) for item in page.items])


async def get(call: Call) -> Any:
    return wire.variable(await call.control.variables.get(call.project_id, **call.arguments))


async def update(call: Call) -> Any:
    return wire.variable(await call.control.variables.update(call.project_id, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.variables.delete(call.project_id, **call.arguments)


def _body(name: str, validator: Any, description: str, to: str, **more: Any) -> Param:
    return Param(name, Place.BODY, validator, description, to, **more)


_PATH = "/v1/functions/{functionId}/variables"

ROUTES = (
    Route(
        name="variables.create",
        method="POST",
        path=_PATH,
        handler=create,
        summary="Create a variable. Its value reaches builds and executions that start afterwards.",
        scopes=("functions.write",),
        refusals=("function_not_found", "variable_already_exists"),
        params=(
            FUNCTION_ID,
            _body("variableId", Id(custom=True), "Variable ID, or `unique()`.", "variable_id", required=True),
            _body("key", Text(1, 255), "Variable key, at most 255 characters.", "key", required=True),
            _body("value", Text(0, 8192), "Variable value, at most 8192 characters.", "value", required=True),
            _body("secret", Boolean(), "Whether the value can never be read back.", "secret", default=True),
        ),
        success=201,
        model="variable",
        event="variables.[variableId].create",
        groups=PROJECT_GROUPS,
        body=Body.FIELDS,
    ),
    Route(
        name="variables.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List a function's variables; all of them, unless a query asks for a page.",
        scopes=("functions.read",),
        refusals=("function_not_found",),
        # The CLI cannot ask for a second page, so the whole list is one (contract: clients 5.4).
        params=(FUNCTION_ID, queries(ATTRIBUTES, default_limit=VARIABLES_MAX), TOTAL),
        model="variableList",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="variables.get",
        method="GET",
        path=_PATH + "/{variableId}",
        handler=get,
        summary="Get a variable.",
        scopes=("functions.read",),
        refusals=("function_not_found", "variable_not_found"),
        params=(FUNCTION_ID, VARIABLE_ID),
        model="variable",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="variables.update",
        method="PUT",
        path=_PATH + "/{variableId}",
        handler=update,
        summary="Change what is given of a variable.",
        scopes=("functions.write",),
        refusals=(
            "function_not_found",
            "variable_not_found",
            "variable_already_exists",
            "variable_cannot_unset_secret",
        ),
        params=(
            FUNCTION_ID,
            VARIABLE_ID,
            _body("key", Text(0, 255), "Variable key, at most 255 characters.", "key", nullable=True),
            _body("value", Text(0, 8192), "Variable value, at most 8192 characters.", "value", nullable=True),
            _body("secret", Boolean(), "True makes the variable secret, for good.", "secret", nullable=True),
        ),
        model="variable",
        event="variables.[variableId].update",
        groups=PROJECT_GROUPS,
        body=Body.FIELDS,
    ),
    Route(
        name="variables.delete",
        method="DELETE",
        path=_PATH + "/{variableId}",
        handler=delete,
        summary="Delete a variable.",
        scopes=("functions.write",),
        refusals=("function_not_found", "variable_not_found"),
        params=(FUNCTION_ID, VARIABLE_ID),
        success=204,
        event="variables.[variableId].delete",
        groups=PROJECT_GROUPS,
    ),
)
