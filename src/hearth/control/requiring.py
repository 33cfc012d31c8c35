"""Steps that several use cases of functions share, in their transactions."""

from dataclasses import replace

from hearth.model.refusals import Refusal
from hearth.model.resources import Deployment, Function
from hearth.ports import Unit


async def require_function(unit: Unit, function_id: str) -> Function:
    """The function, or the refusal `function_not_found`."""
    function = await unit.functions.get(function_id)
    if function is None:
        raise Refusal("function_not_found")
    return function


async def activate(unit: Unit, function: Function, deployment: Deployment) -> Function:
    """Make `deployment` the function's active one, in the caller's transaction; its domains follow."""
    await unit.rules.point("function", function.id, "", deployment.id)
    changes = {"deployment_id": deployment.id, "deployment_created_at": deployment.created_at}
    return await unit.functions.update(function.id, **changes) or replace(
        function, deployment_id=deployment.id, deployment_created_at=deployment.created_at
    )
