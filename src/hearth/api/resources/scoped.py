"""Routes about a project that stand under two kinds of paths: `/project/...`, and `/projects/{projectId}/...`.

The second kind is called from the console, which is a project of its own: there the pipeline has checked only that
the caller may ask about projects at all.
"""

from typing import Any

from hearth.api.call import Call
from hearth.api.routes import Param, Place
from hearth.model.people import CONSOLE
from hearth.model.refusals import Refusal
from hearth.model.resources import Project


async def target(call: Call, scope: str) -> Project:
    """The project a call is about. Raises `project_not_found`, `general_unauthorized_scope`."""
    wanted = call.path.get("projectId", call.project_id)
    if wanted == CONSOLE:
        raise Refusal("project_not_found", "Name the project in the `x-appwrite-project` header.")
    return await call.control.projects.target(call.actor, call.project_id, wanted, scope)


async def target_id(call: Call, scope: str) -> str:
    """The id of the same."""
    return (await target(call, scope)).id


def body(name: str, validator: Any, description: str, to: str, **more: Any) -> Param:
    """A parameter of the body."""
    return Param(name, Place.BODY, validator, description, to, **more)
