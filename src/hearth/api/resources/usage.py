"""Usage figures of functions, as older versions of the reference have them, and more: percentiles and failures."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.resources.common import FUNCTION_ID, PROJECT_GROUPS
from hearth.api.routes import Param, Place, Route
from hearth.api.validators import OneOf
from hearth.model.usage import UsageRange


async def get(call: Call) -> Any:
    return wire.usage(await call.control.usage.get(call.project_id, call.arguments["function_id"], _range(call)))


async def list_all(call: Call) -> Any:
    return wire.usage(await call.control.usage.list(call.project_id, _range(call)), of_all=True)


def _range(call: Call) -> UsageRange:
    return UsageRange(call.arguments["range"])


_RANGE = Param(
    "range",
    Place.QUERY,
    OneOf(tuple(UsageRange)),
    "Span of the figures: 24h by the hour, 30d and 90d by the day.",
    "range",
    default=UsageRange.MONTH,
)

ROUTES = (
    Route(
        name="usage.list",
        method="GET",
        path="/v1/functions/usage",
        handler=list_all,
        summary="Usage figures of all functions.",
        scopes=("functions.read",),
        params=(_RANGE,),
        model="usageFunctions",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="usage.get",
        method="GET",
        path="/v1/functions/{functionId}/usage",
        handler=get,
        summary="Usage figures of a function.",
        scopes=("functions.read",),
        refusals=("function_not_found",),
        params=(FUNCTION_ID, _RANGE),
        model="usageFunction",
        groups=PROJECT_GROUPS,
    ),
)
