"""Templates of functions (contract: functions-api 5.6)."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.resources.common import TOTAL
from hearth.api.routes import Facts, Param, Place, Route
from hearth.api.validators import Integer, Items, OneOf, Text
from hearth.control import templates

FILTERS_MAX = 100
LIMIT_MAX = 5_000


async def list_(call: Call) -> Any:
    count = call.arguments.pop("count")
    total, items = templates.search(**call.arguments)
    return wire.listing("templates", total if count else 0, [dict(item) for item in items])


async def get(call: Call) -> Any:
    return dict(templates.find(call.arguments["template_id"]))


def _query(name: str, validator: Any, description: str, to: str, default: Any) -> Param:
    return Param(name, Place.QUERY, validator, description, to, default=default)


def routes(facts: Facts) -> tuple[Route, ...]:
    """The routes of this resource."""
    runtimes = Items(OneOf(facts.runtimes, "Each must be a runtime"), FILTERS_MAX, "runtimes")
    cases = Items(OneOf(templates.use_cases()), FILTERS_MAX, "use cases")
    return (
        Route(
            name="functions.list_templates",
            method="GET",
            path="/v1/functions/templates",
            handler=list_,
            summary="List functions to start from, best first.",
            scopes=("public",),
            params=(
                _query("runtimes", runtimes, "Only templates for one of these runtimes.", "runtimes", ()),
                _query("useCases", cases, "Only templates for one of these purposes.", "use_cases", ()),
                _query("limit", Integer(1, LIMIT_MAX, "templates"), "Most templates to return.", "limit", 25),
                _query("offset", Integer(0, LIMIT_MAX, "templates"), "Templates to leave out before.", "offset", 0),
                TOTAL,
            ),
            model="templateFunctionList",
        ),
        Route(
            name="functions.get_template",
            method="GET",
            path="/v1/functions/templates/{templateId}",
            handler=get,
            summary="Get a function to start from.",
            scopes=("public",),
            refusals=("function_template_not_found",),
            params=(Param("templateId", Place.PATH, Text(1, 128), "Template ID.", "template_id", required=True),),
            model="templateFunction",
        ),
    )
