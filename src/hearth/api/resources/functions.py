"""Functions (contract: functions-api 5.1-5.5)."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.cron import Cron
from hearth.api.grammar import Event, Role
from hearth.api.limits import DAY_S
from hearth.api.messages import Answer
from hearth.api.resources.common import FUNCTION_ID, PROJECT_GROUPS, SEARCH, TOTAL, listed, queries
from hearth.api.routes import Body, Facts, Param, Place, Route
from hearth.api.validators import Boolean, Id, Integer, Items, OneOf, Text
from hearth.data import load
from hearth.model.queries import Kind

ATTRIBUTES = {
    "name": Kind.STRING,
    "enabled": Kind.BOOLEAN,
    "runtime": Kind.STRING,
    "deploymentId": Kind.STRING,
    "schedule": Kind.STRING,
    "timeout": Kind.INTEGER,
    "entrypoint": Kind.STRING,
    "commands": Kind.STRING,
    "installationId": Kind.STRING,
}
ROLES_MAX = 100
EVENTS_MAX = 100
SCOPES_MAX = 200
PATTERNS_MAX = 100
RETENTION_MAX_DAYS = 36_500

_VCS_TEXT = Text(0, 128)
_PATTERNS = Items(Text(1, 128), PATTERNS_MAX, "patterns")


async def create(call: Call) -> Any:
    standing = None
    limit = call.services.settings.function_creations_per_day
    if limit and call.services.settings.abuse:
        standing = call.services.limits.take(f"functions.create:{call.project_id}", limit, DAY_S)
    view = await call.control.functions.create(call.project_id, **call.arguments)
    return call.reply(wire.function(view), headers=None if standing is None else standing.headers())


async def list_(call: Call) -> Any:
    page = await call.control.functions.list(call.project_id, listed(**call.arguments))
    return wire.listing("functions", page.total, [wire.function(view) for view in page.items])


async def get(call: Call) -> Any:
    return wire.function(await call.control.functions.get(call.project_id, **call.arguments))


async def update(call: Call) -> Any:
    return wire.function(await call.control.functions.update(call.project_id, **call.arguments))


async def set_deployment(call: Call) -> Any:
    return wire.function(await call.control.functions.set_deployment(call.project_id, **call.arguments))


async def delete(call: Call) -> Answer | None:
    await call.control.functions.delete(call.project_id, **call.arguments)
    return None


def _param(name: str, validator: Any, description: str, to: str, default: Any, *, nullable: bool = False) -> Param:
    return Param(name, Place.BODY, validator, description, to, default=default, nullable=nullable)


def _settings(facts: Facts, *, updating: bool) -> tuple[Param, ...]:
    """The settings of a function. An update keeps what is omitted where the default here is None or `""`."""
    kept = None if updating else ""
    kept_list = None if updating else ()
    scopes = OneOf(
        tuple(row["scope"] for row in load("scopes.json")["project"]),
        "Each must be a scope of a project key, such as users.read",
    )
    specification = OneOf(facts.specifications, empty=True)
    runtime = OneOf(facts.runtimes, "Value must be the id of a runtime, such as node-22 or python-3.12", empty=updating)
    return (
        Param("name", Place.BODY, Text(1, 128), "Function name, at most 128 characters.", "name", required=True),
        Param(
            "runtime",
            Place.BODY,
            runtime,
            "Runtime the function is written for.",
            "runtime",
            required=not updating,
            default="",
        ),
        _param("execute", Items(Role(), ROLES_MAX, "roles"), "Roles that may execute the function.", "execute", ()),
        _param("events", Items(Event(), EVENTS_MAX, "events"), "Events that start the function.", "events", ()),
        _param("schedule", Cron(), "CRON expression (UTC) on which the function runs.", "schedule", ""),
        _param(
            "timeout",
            Integer(1, facts.function_timeout_max_s, "seconds"),
            "Longest time one execution may take, in seconds.",
            "timeout_s",
            15,
        ),
        _param(
            "enabled",
            Boolean(),
            "Whether users may execute the function. API keys and console users always may.",
            "enabled",
            True,
        ),
        _param("logging", Boolean(), "Whether executions keep their logs and errors.", "logging", True),
        _param("entrypoint", Text(0, 1028), "File that exports the handler, within the code.", "entrypoint", ""),
        _param("commands", Text(0, 8192), "Commands that build a deployment.", "commands", ""),
        _param(
            "scopes",
            Items(scopes, SCOPES_MAX, "scopes"),
            "Scopes of the API key each execution is given.",
            "scopes",
            (),
        ),
        _param("installationId", _VCS_TEXT, "Installation at the git host.", "installation_id", ""),
        _param(
            "providerRepositoryId",
            _VCS_TEXT,
            "Repository linked to the function.",
            "provider_repository_id",
            kept,
            nullable=updating,
        ),
        _param("providerBranch", _VCS_TEXT, "Production branch of the repository.", "provider_branch", ""),
        _param(
            "providerSilentMode",
            Boolean(),
            "Whether no comments are made on commits and pull requests.",
            "provider_silent_mode",
            False,
        ),
        _param(
            "providerRootDirectory",
            _VCS_TEXT,
            "Folder of the function's code in the repository.",
            "provider_root_directory",
            "",
        ),
        _param(
            "providerBranches",
            _PATTERNS,
            "Branches whose pushes are deployed.",
            "provider_branches",
            kept_list,
            nullable=updating,
        ),
        _param(
            "providerPaths",
            _PATTERNS,
            "Paths whose changes are deployed.",
            "provider_paths",
            kept_list,
            nullable=updating,
        ),
        _param(
            "buildSpecification",
            specification,
            "CPU and memory of builds.",
            "build_specification",
            None,
            nullable=updating,
        ),
        _param(
            "runtimeSpecification",
            specification,
            "CPU and memory of executions.",
            "runtime_specification",
            None,
            nullable=updating,
        ),
        _param(
            "deploymentRetention",
            Integer(0, RETENTION_MAX_DAYS, "days"),
            "Days after which deployments that are not active are removed; 0 keeps them.",
            "deployment_retention_days",
            0,
        ),
    )


def routes(facts: Facts) -> tuple[Route, ...]:
    """The routes of this resource."""
    new_id = Param(
        "functionId", Place.BODY, Id(custom=True), "Function ID, or `unique()`.", "function_id", required=True
    )
    deployment_id = Param("deploymentId", Place.BODY, Id(), "Deployment ID.", "deployment_id", required=True)
    return (
        Route(
            name="functions.create",
            method="POST",
            path="/v1/functions",
            handler=create,
            summary="Create a function. It has no code until a deployment is made.",
            scopes=("functions.write",),
            refusals=(
                "function_runtime_unsupported",
                "installation_not_found",
                "function_already_exists",
                "general_rate_limit_exceeded",
            ),
            params=(new_id, *_settings(facts, updating=False)),
            success=201,
            model="function",
            event="functions.[functionId].create",
            groups=PROJECT_GROUPS,
            body=Body.FIELDS,
        ),
        Route(
            name="functions.list",
            method="GET",
            path="/v1/functions",
            handler=list_,
            summary="List the project's functions.",
            scopes=("functions.read",),
            params=(queries(ATTRIBUTES), SEARCH, TOTAL),
            model="functionList",
            groups=PROJECT_GROUPS,
        ),
        Route(
            name="functions.get",
            method="GET",
            path="/v1/functions/{functionId}",
            handler=get,
            summary="Get a function.",
            scopes=("functions.read",),
            refusals=("function_not_found",),
            params=(FUNCTION_ID,),
            model="function",
            groups=PROJECT_GROUPS,
        ),
        Route(
            name="functions.update",
            method="PUT",
            path="/v1/functions/{functionId}",
            handler=update,
            summary="Replace a function's settings. What is left out returns to its default, with few exceptions.",
            scopes=("functions.write",),
            refusals=("function_not_found", "installation_not_found"),
            params=(FUNCTION_ID, *_settings(facts, updating=True)),
            model="function",
            event="functions.[functionId].update",
            groups=PROJECT_GROUPS,
            body=Body.FIELDS,
        ),
        Route(
            name="functions.set_deployment",
            method="PATCH",
            path="/v1/functions/{functionId}/deployment",
            handler=set_deployment,
            summary="Make a ready deployment the active one.",
            scopes=("functions.write",),
            refusals=("function_not_found", "deployment_not_found", "build_not_ready"),
            params=(FUNCTION_ID, deployment_id),
            model="function",
            event="functions.[functionId].deployments.[deploymentId].update",
            groups=PROJECT_GROUPS,
            aliases=(("PATCH", "/v1/functions/{functionId}/deployments/{deploymentId}"),),
            body=Body.FIELDS,
        ),
        Route(
            name="functions.delete",
            method="DELETE",
            path="/v1/functions/{functionId}",
            handler=delete,
            summary="Delete a function and all that belongs to it.",
            scopes=("functions.write",),
            refusals=("function_not_found",),
            params=(FUNCTION_ID,),
            success=204,
            event="functions.[functionId].delete",
            groups=PROJECT_GROUPS,
        ),
    )
