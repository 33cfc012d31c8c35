"""What functions can be made of: runtimes and specifications (contract: functions-api 5.6)."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.resources.common import PROJECT_GROUPS
from hearth.api.routes import Param, Place, Route
from hearth.api.validators import OneOf


async def list_runtimes(call: Call) -> Any:
    items = [dict(item) for item in call.control.runtimes.installed()]
    return wire.listing("runtimes", len(items), items)


async def list_specifications(call: Call) -> Any:
    items = call.control.specifications.all(call.arguments["kind"])
    return wire.listing("specifications", len(items), items)


ROUTES = (
    Route(
        name="functions.list_runtimes",
        method="GET",
        path="/v1/functions/runtimes",
        handler=list_runtimes,
        summary="List all runtimes.",
        scopes=("public",),
        model="runtimeList",
    ),
    Route(
        name="functions.list_specifications",
        method="GET",
        path="/v1/functions/specifications",
        handler=list_specifications,
        summary="List the sizes on offer.",
        scopes=("functions.read",),
        params=(
            Param(
                "type",
                Place.QUERY,
                OneOf(("runtimes", "builds")),
                "What the sizes are for.",
                "kind",
                default="runtimes",
            ),
        ),
        model="specificationList",
        groups=PROJECT_GROUPS,
    ),
)
