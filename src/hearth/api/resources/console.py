"""What clients ask about the server itself (contract: side-services 9)."""

from typing import Any

from hearth.api import wire
from hearth.api.call import Call
from hearth.api.hosting_grammar import Domain
from hearth.api.routes import Param, Place, Route
from hearth.api.validators import OneOf
from hearth.data import load
from hearth.model.refusals import Refusal


async def variables(call: Call) -> Any:
    """The settings by the names clients know. The CLI reads `_APP_DOMAIN_FUNCTIONS` (contract: clients 5.4)."""
    settings = call.services.settings
    return {
        "_APP_DOMAIN_TARGET_CNAME": settings.domain_target[0] if settings.domain_target else settings.functions_domain,
        "_APP_DOMAIN_TARGET_A": "",
        "_APP_DOMAIN_TARGET_AAAA": "",
        "_APP_DOMAIN_TARGET_CAA": "",
        "_APP_STORAGE_LIMIT": settings.source_max_bytes,
        "_APP_COMPUTE_SIZE_LIMIT": settings.source_max_bytes,
        "_APP_COMPUTE_BUILD_TIMEOUT": settings.build_timeout_s,
        "_APP_USAGE_STATS": "disabled",
        "_APP_VCS_ENABLED": False,
        "_APP_VCS_PROVIDERS": [],
        "_APP_DOMAIN_ENABLED": True,
        "_APP_ASSISTANT_ENABLED": False,
        "_APP_DOMAIN_SITES": "",
        "_APP_DOMAIN_FUNCTIONS": settings.functions_domain,
        "_APP_OPTIONS_FORCE_HTTPS": "disabled",
        "_APP_DOMAINS_NAMESERVERS": "",
        "_APP_DB_ADAPTER": "",
    }


async def project_scopes(call: Call) -> Any:
    return _scopes("project")


async def organization_scopes(call: Call) -> Any:
    return _scopes("organization")


def _scopes(kind: str) -> Any:
    items = [
        {
            "$id": row["scope"],
            "description": _described(row["scope"]),
            "category": row["category"],
            "deprecated": row["deprecated"],
        }
        for row in load("scopes.json")[kind]
    ]
    return wire.listing("scopes", len(items), items)


def _described(scope: str) -> str:
    name, _, right = scope.rpartition(".")
    return f"May {'read' if right == 'read' else 'change'} {name.replace('.', ' ')}."


async def resource(call: Call) -> None:
    if not call.control.rules.is_free(call.arguments["value"]):
        raise Refusal("resource_already_exists", "This domain is taken. Choose another one.")


async def regions(call: Call) -> Any:
    name = call.services.settings.region
    return wire.listing(
        "regions",
        1,
        [{"$id": name, "name": name, "available": True, "disabled": False, "default": True, "flag": ""}],
    )


ROUTES = (
    Route(
        name="console.variables",
        method="GET",
        path="/v1/console/variables",
        handler=variables,
        summary="Settings of the server that clients go by.",
        scopes=("projects.read",),
        model="consoleVariables",
    ),
    Route(
        name="console.project_scopes",
        method="GET",
        path="/v1/console/scopes/project",
        handler=project_scopes,
        summary="List the scopes a project's key can have.",
        scopes=("public",),
        model="consoleScopeList",
    ),
    Route(
        name="console.organization_scopes",
        method="GET",
        path="/v1/console/scopes/organization",
        handler=organization_scopes,
        summary="List the scopes an organization gives.",
        scopes=("public",),
        model="consoleScopeList",
    ),
    Route(
        name="console.resource",
        method="GET",
        path="/v1/console/resources",
        handler=resource,
        summary="Whether a domain is free: 204 if it is, 409 if it is taken.",
        scopes=("rules.read",),
        refusals=("resource_already_exists",),
        params=(
            Param("value", Place.QUERY, Domain(), "The domain.", "value", required=True),
            Param("type", Place.QUERY, OneOf(("rules",)), "What the name is for.", "", required=True),
        ),
        success=204,
    ),
    Route(
        name="console.regions",
        method="GET",
        path="/v1/console/regions",
        handler=regions,
        summary="List the places where projects can be: one.",
        scopes=("public",),
        model="consoleRegionList",
    ),
)
