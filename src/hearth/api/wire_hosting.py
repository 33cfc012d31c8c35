"""What stands around functions, as clients see it: projects, keys, platforms, domains, templates, webhooks.

As in `wire`: the superset of what the clients in use read, in the newest format, and no null.
"""

from collections.abc import Mapping
from typing import Any

from hearth.api.wire import Wire
from hearth.control.projects import PROTOCOLS, SERVICES
from hearth.model.resources import ApiKey, Platform, Project, Rule, Webhook
from hearth.model.times import to_wire

#: Ways to sign in, and whether this server has them.
_AUTH_METHODS = {
    "email-password": True,
    "magic-url": False,
    "email-otp": False,
    "anonymous": True,
    "invites": True,
    "jwt": True,
    "phone": False,
}
#: Services by the names that older consoles know, `serviceStatusFor<Name>`.
_OLD_SERVICES = {
    "account": "Account",
    "avatars": "Avatars",
    "databases": "Databases",
    "locale": "Locale",
    "health": "Health",
    "storage": "Storage",
    "teams": "Teams",
    "users": "Users",
    "sites": "Sites",
    "functions": "Functions",
    "graphql": "Graphql",
    "messaging": "Messaging",
}
#: Under which name a platform of a type has its identifier.
PLATFORM_FIELDS = {
    "web": "hostname",
    "apple": "bundleIdentifier",
    "android": "applicationId",
    "linux": "packageName",
    "windows": "packageIdentifierName",
}


def _date(moment: Any) -> str:
    return "" if moment is None else to_wire(moment)


def project(it: Project) -> Wire:
    """A project (contract: side-services 3), with the flat switches of older formats."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "name": it.name,
        "teamId": it.team_id,
        "region": it.region,
        "devKeys": [],
        "smtpEnabled": False,
        "smtpSenderName": "",
        "smtpSenderEmail": "",
        "smtpReplyToName": "",
        "smtpReplyToEmail": "",
        "smtpHost": "",
        "smtpPort": 0,
        "smtpUsername": "",
        "smtpPassword": "",
        "smtpSecure": "",
        "pingCount": 0,
        "pingedAt": "",
        "labels": it.labels,
        "status": "active",
        "onboarding": {},
        "authMethods": _switches(_AUTH_METHODS),
        "services": _switches({name: name not in it.services_off for name in SERVICES}),
        "protocols": _switches({name: name not in it.protocols_off for name in PROTOCOLS}),
        "blocks": [],
        "consoleAccessedAt": "",
        **{f"serviceStatusFor{old}": name not in it.services_off for name, old in _OLD_SERVICES.items()},
    }


def _switches(states: Mapping[str, bool]) -> list[Wire]:
    return [{"$id": name, "enabled": enabled} for name, enabled in states.items()]


def key(it: ApiKey, secret: str = "") -> Wire:
    """An API key; its `secret` is shown by the call that made it only (contract: side-services 4)."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "name": it.name,
        "description": it.description,
        "expire": _date(it.expires_at),
        "scopes": it.scopes,
        "secret": secret,
        "accessedAt": _date(it.accessed_at),
        "sdks": it.sdks,
    }


def platform(it: Platform) -> Wire:
    """A platform, its identifier under the name its type has for it and under the older ones."""
    named = PLATFORM_FIELDS.get(it.type, "key")
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "name": it.name,
        "type": it.type,
        "hostname": "",
        "key": "" if it.type == "web" else it.identifier,
        "store": "",
        named: it.identifier,
        **({"fingerprints": []} if it.type == "android" else {}),
    }


def rule(it: Rule) -> Wire:
    """A proxy rule (contract: side-services 8)."""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "domain": it.domain,
        "type": it.type,
        "trigger": it.trigger,
        "redirectUrl": it.redirect_url,
        "redirectStatusCode": it.redirect_status_code,
        "deploymentId": it.deployment_id,
        "deploymentResourceType": it.resource_type,
        "deploymentResourceId": it.resource_id,
        "deploymentVcsProviderBranch": it.branch,
        "status": it.status,
        "logs": it.logs,
        "renewAt": "",
        "protocol": "http",
    }


def webhook(it: Webhook, *, with_secret: bool = False) -> Wire:
    """A webhook under the names of all formats; passwords are never shown, the secret only when it is new."""
    secret = it.secret if with_secret else ""
    return {
        "$id": it.id,
        "$createdAt": to_wire(it.created_at),
        "$updatedAt": to_wire(it.updated_at),
        "name": it.name,
        "description": it.description,
        "url": it.url,
        "events": it.events,
        "tls": it.tls,
        "security": it.tls,
        "authUsername": it.auth_username,
        "authPassword": "",
        "httpUser": it.auth_username,
        "httpPass": "",
        "secret": secret,
        "signatureKey": secret,
        "enabled": it.enabled,
        "logs": it.logs,
        "attempts": it.attempts,
    }
