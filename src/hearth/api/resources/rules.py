"""Proxy rules: which domains lead where (contract: side-services 8)."""

from typing import Any

from hearth.api import wire, wire_hosting
from hearth.api.call import Call
from hearth.api.hosting_grammar import Domain, RedirectStatus, Url
from hearth.api.resources.common import PROJECT_GROUPS, SEARCH, TOTAL, listed, queries
from hearth.api.resources.scoped import body
from hearth.api.routes import AbuseRule, Body, Param, Place, Route
from hearth.api.validators import Id, OneOf, Text
from hearth.model import attributes
from hearth.model.refusals import Refusal


async def create_function(call: Call) -> Any:
    _require_free_name(call)
    return wire_hosting.rule(await call.control.rules.create_function(call.project_id, **call.arguments))


async def create_redirect(call: Call) -> Any:
    _require_free_name(call)
    return wire_hosting.rule(await call.control.rules.create_redirect(call.project_id, **call.arguments))


async def create_api(call: Call) -> Any:
    _require_free_name(call)
    return wire_hosting.rule(await call.control.rules.create_api(call.project_id, **call.arguments))


def _require_free_name(call: Call) -> None:
    """The name the API was called by can lead nowhere else."""
    host = call.request.header(b"host").partition(":")[0].lower()
    if call.arguments["domain"] == host:
        raise Refusal("general_argument_invalid", f"{host} is a name of this server itself. Choose another one.")


async def list_(call: Call) -> Any:
    page = await call.control.rules.list(call.project_id, listed(**call.arguments))
    return wire.listing("rules", page.total, [wire_hosting.rule(item) for item in page.items])


async def get(call: Call) -> Any:
    return wire_hosting.rule(await call.control.rules.get(call.project_id, **call.arguments))


async def verify(call: Call) -> Any:
    return wire_hosting.rule(await call.control.rules.verify(call.project_id, **call.arguments))


async def delete(call: Call) -> None:
    await call.control.rules.delete(call.project_id, **call.arguments)


_PATH = "/v1/proxy/rules"
_READ, _WRITE = ("rules.read",), ("rules.write",)
_RULE_ID = Param("ruleId", Place.PATH, Id(), "Rule ID.", "rule_id", required=True)
_DOMAIN = body("domain", Domain(), "The host name.", "domain", required=True)
#: Contract: side-services 8.
_ABUSE = AbuseRule(10, 60, "url:{url},user:{user},ip:{ip}")
_MADE = ("rule_already_exists", "rule_resource_not_found")
_EVENT = "rules.[ruleId].create"

ROUTES = (
    Route(
        name="rules.create_function",
        method="POST",
        path=_PATH + "/function",
        handler=create_function,
        summary="Lead a domain to a function.",
        description="A name below the functions domain works at once; any other has to lead to this server first.",
        scopes=_WRITE,
        refusals=_MADE,
        params=(
            _DOMAIN,
            body("functionId", Id(), "The function.", "function_id", required=True),
            body(
                "branch",
                Text(0, 255),
                "Branch whose deployments are visited; empty: the active one.",
                "branch",
                default="",
            ),
        ),
        success=201,
        model="proxyRule",
        event=_EVENT,
        groups=PROJECT_GROUPS,
        abuse=_ABUSE,
        body=Body.FIELDS,
    ),
    Route(
        name="rules.create_redirect",
        method="POST",
        path=_PATH + "/redirect",
        handler=create_redirect,
        summary="Send the visitors of a domain on to another address.",
        scopes=_WRITE,
        refusals=_MADE,
        params=(
            _DOMAIN,
            body("url", Url(), "Where to.", "url", required=True),
            body("statusCode", RedirectStatus(), "Status of the redirect.", "status_code", required=True),
            body("resourceId", Id(), "The function the domain belongs to.", "resource_id", required=True),
            body("resourceType", OneOf(("function", "site")), "Its kind.", "resource_type", required=True),
        ),
        success=201,
        model="proxyRule",
        event=_EVENT,
        groups=PROJECT_GROUPS,
        abuse=_ABUSE,
        body=Body.FIELDS,
    ),
    Route(
        name="rules.create_api",
        method="POST",
        path=_PATH + "/api",
        handler=create_api,
        summary="Serve the API under a domain.",
        scopes=_WRITE,
        refusals=("rule_already_exists",),
        params=(_DOMAIN,),
        success=201,
        model="proxyRule",
        event=_EVENT,
        groups=PROJECT_GROUPS,
        abuse=_ABUSE,
        body=Body.FIELDS,
    ),
    Route(
        name="rules.list",
        method="GET",
        path=_PATH,
        handler=list_,
        summary="List the rules of a project.",
        scopes=_READ,
        params=(queries(attributes.RULES), SEARCH, TOTAL),
        model="proxyRuleList",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="rules.get",
        method="GET",
        path=_PATH + "/{ruleId}",
        handler=get,
        summary="Get a rule.",
        scopes=_READ,
        refusals=("rule_not_found",),
        params=(_RULE_ID,),
        model="proxyRule",
        groups=PROJECT_GROUPS,
    ),
    Route(
        name="rules.update_status",
        method="PATCH",
        path=_PATH + "/{ruleId}/status",
        handler=verify,
        summary="Look again whether a domain leads to this server.",
        scopes=_WRITE,
        refusals=("rule_not_found", "rule_verification_failed"),
        params=(_RULE_ID,),
        model="proxyRule",
        event="rules.[ruleId].update",
        groups=PROJECT_GROUPS,
        aliases=(("PATCH", _PATH + "/{ruleId}/verification"),),
    ),
    Route(
        name="rules.delete",
        method="DELETE",
        path=_PATH + "/{ruleId}",
        handler=delete,
        summary="Delete a rule; its domain leads nowhere any more.",
        scopes=_WRITE,
        refusals=("rule_not_found",),
        params=(_RULE_ID,),
        success=204,
        event="rules.[ruleId].delete",
        groups=PROJECT_GROUPS,
    ),
)
