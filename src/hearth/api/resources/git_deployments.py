"""Deployments from git (contract: functions-api 5.9, 5.10)."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.resources.common import FUNCTION_ID, PROJECT_GROUPS
from hearth.api.routes import Body, Param, Place, Route
from hearth.api.validators import Boolean, OneOf, Text


async def create_template(call: Call) -> Any:
    return wire.deployment(await call.control.git_deployments.create_template(call.project_id, **call.arguments))


async def create_vcs(call: Call) -> Any:
    return wire.deployment(await call.control.git_deployments.create_vcs(call.project_id, **call.arguments))


_PATH = "/v1/functions/{functionId}/deployments"
_EVENT = "functions.[functionId].deployments.[deploymentId].create"
_NAME = Text(0, 128)
_ACTIVATE = Param(
    "activate",
    Place.BODY,
    Boolean(),
    "Whether the deployment becomes the active one when its build is ready.",
    "activate",
    default=False,
)

ROUTES = (
    Route(
        name="deployments.create_template",
        method="POST",
        path=_PATH + "/template",
        handler=create_template,
        summary="Deploy a template: a folder of a public git repository.",
        scopes=("functions.write",),
        refusals=("function_not_found", "installation_not_found", "provider_repository_not_found"),
        params=(
            FUNCTION_ID,
            Param("repository", Place.BODY, _NAME, "Name of the template's repository.", "repository", required=True),
            Param("owner", Place.BODY, _NAME, "Owner of the template's repository.", "owner", required=True),
            Param("rootDirectory", Place.BODY, _NAME, "Folder of the code in it.", "root_directory", required=True),
            Param(
                "type",
                Place.BODY,
                OneOf(("commit", "branch", "tag")),
                "What `reference` names: a commit, a branch or a tag.",
                "kind",
                required=True,
            ),
            Param(
                "reference",
                Place.BODY,
                _NAME,
                "Commit hash, branch, tag, or a range of tags such as `0.3.*`.",
                "reference",
                required=True,
            ),
            _ACTIVATE,
        ),
        success=202,
        model="deployment",
        event=_EVENT,
        groups=PROJECT_GROUPS,
        body=Body.FIELDS,
    ),
    Route(
        name="deployments.create_vcs",
        method="POST",
        path=_PATH + "/vcs",
        handler=create_vcs,
        summary="Deploy a branch or commit of the repository that the function is connected to.",
        scopes=("functions.write",),
        refusals=("function_not_found", "installation_not_found", "provider_repository_not_found"),
        params=(
            FUNCTION_ID,
            Param(
                "type",
                Place.BODY,
                OneOf(("branch", "commit")),
                "What `reference` names: a branch or a commit.",
                "kind",
                required=True,
            ),
            Param("reference", Place.BODY, Text(1, 255), "Branch or commit hash.", "reference", required=True),
            _ACTIVATE,
        ),
        success=202,
        model="deployment",
        event=_EVENT,
        groups=PROJECT_GROUPS,
        body=Body.FIELDS,
    ),
)
