"""Schemas of what stands around functions: projects, keys, platforms, domains, templates, webhooks, console."""

from hearth.api.openapi.schemas import (
    Schema,
    flag,
    listing,
    many,
    maybe_date,
    number,
    record,
    reference,
    resource,
    text,
    texts,
)

_SWITCH = record("Whether something is on.", {"$id": text("Its name."), "enabled": flag("Whether it is on.")})

PROJECT = record(
    "A project.",
    {
        **resource("Project"),
        "name": text("Project name."),
        "teamId": text("The organization it belongs to."),
        "region": text("Where it is."),
        "devKeys": many({}, "Always empty."),
        "smtpEnabled": flag("Always false: mail is not sent."),
        "smtpSenderName": text("Always empty."),
        "smtpSenderEmail": text("Always empty."),
        "smtpReplyToName": text("Always empty."),
        "smtpReplyToEmail": text("Always empty."),
        "smtpHost": text("Always empty."),
        "smtpPort": number("Always 0."),
        "smtpUsername": text("Always empty."),
        "smtpPassword": text("Always empty."),
        "smtpSecure": text("Always empty."),
        "pingCount": number("Always 0."),
        "pingedAt": maybe_date("When the project was last pinged."),
        "labels": texts("Labels of the project."),
        "status": text("Always `active`."),
        "onboarding": {"type": "object", "description": "Always empty."},
        "authMethods": many(_SWITCH, "Ways to sign in."),
        "services": many(_SWITCH, "Services, and whether users may call them."),
        "protocols": many(_SWITCH, "Protocols, and whether users may speak them."),
        "blocks": many({}, "Always empty."),
        "consoleAccessedAt": maybe_date("When the console last looked at it."),
    },
)

KEY = record(
    "An API key of a project.",
    {
        **resource("Key"),
        "name": text("Key name."),
        "description": text("What it is for."),
        "expire": maybe_date("When it ends."),
        "scopes": texts("What it may do."),
        "secret": text("The key itself, in the answer that made it; empty later."),
        "accessedAt": maybe_date("When it was last used, to the day."),
        "sdks": texts("SDKs that have used it."),
    },
)

PLATFORM = record(
    "An app that may call the project. Which of the names of its identifier it has depends on its type.",
    {
        **resource("Platform"),
        "name": text("Platform name."),
        "type": text("Kind of platform."),
        "hostname": text("Host name of a web platform."),
        "key": text("Identifier of any other platform."),
        "store": text("Always empty."),
        "bundleIdentifier": text("Identifier of an Apple platform."),
        "applicationId": text("Identifier of an Android platform."),
        "packageName": text("Identifier of a Linux platform."),
        "packageIdentifierName": text("Identifier of a Windows platform."),
        "fingerprints": texts("Always empty; Android platforms only."),
    },
    optional=("bundleIdentifier", "applicationId", "packageName", "packageIdentifierName", "fingerprints"),
)

RULE = record(
    "What a domain leads to.",
    {
        **resource("Rule"),
        "domain": text("The host name."),
        "type": text("What it leads to.", enum=["deployment", "redirect", "api"]),
        "trigger": text("How it was made.", enum=["manual", "deployment"]),
        "redirectUrl": text("Where a redirect leads."),
        "redirectStatusCode": number("Status of a redirect; 0 for other types."),
        "deploymentId": text("The deployment that is visited; empty while there is none."),
        "deploymentResourceType": text("Kind of what is visited, or empty."),
        "deploymentResourceId": text("The function that is visited, or empty."),
        "deploymentVcsProviderBranch": text("The branch whose deployments are visited; empty: the active one."),
        "status": text("Whether the domain leads here.", enum=["unverified", "verified"]),
        "logs": text("Why it does not lead here."),
        "renewAt": text("Always empty: certificates are the affair of the proxy in front."),
        "protocol": text("Always `http`."),
    },
)

WEBHOOK = record(
    "An address that is told of events.",
    {
        **resource("Webhook"),
        "name": text("Webhook name."),
        "description": text("What it is for."),
        "url": text("Where events are sent."),
        "events": texts("The events it wants."),
        "tls": flag("Whether the certificate of the address is checked."),
        "security": flag("The same as `tls`, for older clients."),
        "authUsername": text("Name for HTTP basic authentication."),
        "authPassword": text("Always empty: it can be written only."),
        "httpUser": text("The same as `authUsername`, for older clients."),
        "httpPass": text("Always empty."),
        "secret": text("The key that signs, in the answer that made it; empty later."),
        "signatureKey": text("The same as `secret`, for older clients."),
        "enabled": flag("Whether it is told of events."),
        "logs": text("What the last failure met."),
        "attempts": number("Deliveries given up in a row."),
    },
)

TEMPLATE_RUNTIME = record(
    "A runtime of a template.",
    {
        "name": text("Runtime."),
        "commands": text("Commands of its build."),
        "entrypoint": text("Its entrypoint."),
        "providerRootDirectory": text("Its folder in the repository."),
    },
)
TEMPLATE_VARIABLE = record(
    "A variable a template needs.",
    {
        "name": text("Key of the variable."),
        "description": text("What it is for."),
        "value": text("Value it starts with."),
        "secret": flag("Whether it should be secret."),
        "placeholder": text("How a value looks."),
        "required": flag("Whether the template works without."),
        "type": text("Kind of input."),
    },
)
TEMPLATE = record(
    "A function to start from.",
    {
        "icon": text("Name of an icon."),
        "id": text("Template ID."),
        "name": text("Template name."),
        "tagline": text("What it does."),
        "permissions": texts("Roles that may execute it."),
        "events": texts("Events it listens to."),
        "cron": text("Its schedule."),
        "timeout": number("Seconds it may run."),
        "useCases": texts("What it is for."),
        "runtimes": many(reference("templateRuntime"), "Runtimes it exists for."),
        "instructions": text("What to do after it is deployed, as HTML."),
        "vcsProvider": text("Where its source is."),
        "providerRepositoryId": text("Repository of its source."),
        "providerOwner": text("Owner of the repository."),
        "providerVersion": text("Tag of its source."),
        "variables": many(reference("templateVariable"), "Variables it needs."),
        "scopes": texts("Scopes of the key it is given."),
    },
)

SCOPE = record(
    "A scope that a key can have.",
    {
        "$id": text("The scope."),
        "description": text("What it allows."),
        "category": text("What it belongs to."),
        "deprecated": flag("Whether it is only for older keys."),
    },
)
REGION = record(
    "A place where projects can be.",
    {
        "$id": text("Region ID."),
        "name": text("Its name."),
        "available": flag("Whether projects can be made there."),
        "disabled": flag("Whether it is switched off."),
        "default": flag("Whether it is the usual one."),
        "flag": text("Always empty."),
    },
)
EVENT = record(
    "An event that was published.",
    {"event": text("The event."), "events": texts("Every name it is known under.")},
)

HOSTING_MODELS: dict[str, Schema] = {
    "project": PROJECT,
    "projectList": listing("projects", "project", "A page of projects."),
    "key": KEY,
    "keyList": listing("keys", "key", "A page of keys."),
    "ephemeralKey": KEY,
    "platform": PLATFORM,
    "platformList": listing("platforms", "platform", "A page of platforms."),
    "proxyRule": RULE,
    "proxyRuleList": listing("rules", "proxyRule", "A page of rules."),
    "webhook": WEBHOOK,
    "webhookList": listing("webhooks", "webhook", "A page of webhooks."),
    "templateRuntime": TEMPLATE_RUNTIME,
    "templateVariable": TEMPLATE_VARIABLE,
    "templateFunction": TEMPLATE,
    "templateFunctionList": listing("templates", "templateFunction", "A page of templates."),
    "consoleVariables": {"type": "object", "description": "Settings of the server, by name."},
    "consoleScope": SCOPE,
    "consoleScopeList": listing("scopes", "consoleScope", "All scopes."),
    "consoleRegion": REGION,
    "consoleRegionList": listing("regions", "consoleRegion", "All regions."),
    "publishedEvent": EVENT,
}
