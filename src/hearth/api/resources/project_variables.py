"""Variables of a project, given to all of its functions (contract: side-services 7)."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.resources.common import TOTAL, VARIABLE_ID, listed, queries
from hearth.api.resources.scoped import body, target_id
from hearth.api.routes import Body, Route
from hearth.api.validators import Boolean, Id, Text
from hearth.control.views import VARIABLES_MAX
from hearth.model import attributes
from hearth.model.ids import UNIQUE


async def create(call: Call) -> Any:
    project_id = await target_id(call, "project.write")
    return wire.variable(await call.control.project_variables.create(project_id, **call.arguments))


async def list_(call: Call) -> Any:
    page = await call.control.project_variables.list(await target_id(call, "project.read"), listed(**call.arguments))
    return wire.listing("variables", page.total, [wire.variable(item) for item in page.items])


async def get(call: Call) -> Any:
    project_id = await target_id(call, "project.read")
    return wire.variable(await call.control.project_variables.get(project_id, **call.arguments))


async def update(call: Call) -> Any:
    project_id = await target_id(call, "project.write")
    return wire.variable(await call.control.project_variables.update(project_id, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.project_variables.delete(await target_id(call, "project.write"), **call.arguments)


_PATH = "/v1/project/variables"
_READ, _WRITE = ("project.read",), ("project.write",)

ROUTES = (
    Route(
        name="project_variables.create",
        method="POST",
        path=_PATH,
        handler=create,
        summary="Create a variable of the project. Functions get it with their next deployment.",
        scopes=_WRITE,
        refusals=("project_not_found", "variable_already_exists"),
        params=(
            body("variableId", Id(custom=True), "Variable ID, or `unique()`.", "variable_id", default=UNIQUE),
            body("key", Text(1, 255), "Variable key, at most 255 characters.", "key", required=True),
            body("value", Text(0, 8192), "Variable value, at most 8192 characters.", "value", required=True),
            body("secret", Boolean(), "Whether the value can never be read back.", "secret", default=True),
        ),
        success=201,
        model="variable",
        event="variables.[variableId].create",
        body=Body.FIELDS,
    ),
    Route(
        name="project_variables.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List the project's own variables; all of them, unless a query asks for a page.",
        scopes=_READ,
        refusals=("project_not_found",),
        params=(queries(attributes.VARIABLES, default_limit=VARIABLES_MAX), TOTAL),
        model="variableList",
    ),
    Route(
        name="project_variables.get",
        method="GET",
        path=_PATH + "/{variableId}",
        handler=get,
        summary="Get a variable of the project.",
        scopes=_READ,
        refusals=("project_not_found", "variable_not_found"),
        params=(VARIABLE_ID,),
        model="variable",
    ),
    Route(
        name="project_variables.update",
        method="PUT",
        path=_PATH + "/{variableId}",
        handler=update,
        summary="Change what is given of a variable of the project.",
        scopes=_WRITE,
        refusals=(
            "project_not_found",
            "variable_not_found",
            "variable_already_exists",
            "variable_cannot_unset_secret",
        ),
        params=(
            VARIABLE_ID,
            body("key", Text(0, 255), "Variable key, at most 255 characters.", "key", nullable=True),
            body("value", Text(0, 8192), "Variable value, at most 8192 characters.", "value", nullable=True),
            body("secret", Boolean(), "True makes the variable secret, for good.", "secret", nullable=True),
        ),
        model="variable",
        event="variables.[variableId].update",
        body=Body.FIELDS,
    ),
    Route(
        name="project_variables.delete",
        method="DELETE",
        path=_PATH + "/{variableId}",
        handler=delete,
        summary="Delete a variable of the project.",
        scopes=_WRITE,
        refusals=("project_not_found", "variable_not_found"),
        params=(VARIABLE_ID,),
        success=204,
        event="variables.[variableId].delete",
    ),
)
