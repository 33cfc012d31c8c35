"""Which attributes the list calls of each collection admit in `queries`, with their kinds.

Wire names; the four of `queries.INTERNAL` come on top. What a store's rows are called is the store's affair.
"""

from collections.abc import Mapping

from hearth.model.queries import Kind

#: Contract: functions-api 5.2. `scheduleNext` and `schedulePrevious` are published but refused as unknown.
FUNCTIONS: Mapping[str, Kind] = {
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

#: Contract: functions-api 5.11. Sizes in bytes, `buildDuration` in whole seconds.
DEPLOYMENTS: Mapping[str, Kind] = {
    "buildSize": Kind.INTEGER,
    "sourceSize": Kind.INTEGER,
    "totalSize": Kind.INTEGER,
    "buildDuration": Kind.INTEGER,
    "status": Kind.STRING,
    "activate": Kind.BOOLEAN,
    "type": Kind.STRING,
}

#: Contract: functions-api 5.16. `duration` in seconds.
EXECUTIONS: Mapping[str, Kind] = {
    "trigger": Kind.STRING,
    "status": Kind.STRING,
    "responseStatusCode": Kind.INTEGER,
    "duration": Kind.FLOAT,
    "requestMethod": Kind.STRING,
    "requestPath": Kind.STRING,
    "deploymentId": Kind.STRING,
}

#: Contract: functions-api 5.18. `value` is not admitted: it is encrypted at rest.
VARIABLES: Mapping[str, Kind] = {
    "key": Kind.STRING,
    "resourceType": Kind.STRING,
    "resourceId": Kind.STRING,
    "secret": Kind.BOOLEAN,
}

#: API keys of a project (contract: side-services).
KEYS: Mapping[str, Kind] = {
    "name": Kind.STRING,
    "expire": Kind.DATETIME,
    "accessedAt": Kind.DATETIME,
    "scopes": Kind.STRINGS,
    "sdks": Kind.STRINGS,
}

#: Users of a project (contract: side-services 5.1).
USERS: Mapping[str, Kind] = {
    "name": Kind.STRING,
    "email": Kind.STRING,
    "phone": Kind.STRING,
    "status": Kind.BOOLEAN,
    "passwordUpdate": Kind.DATETIME,
    "registration": Kind.DATETIME,
    "accessedAt": Kind.DATETIME,
    "emailVerification": Kind.BOOLEAN,
    "phoneVerification": Kind.BOOLEAN,
    "labels": Kind.STRINGS,
    "impersonator": Kind.BOOLEAN,
}

#: Contract: side-services 6.
TEAMS: Mapping[str, Kind] = {
    "name": Kind.STRING,
    "total": Kind.INTEGER,
}

#: Contract: side-services 6.
MEMBERSHIPS: Mapping[str, Kind] = {
    "userId": Kind.STRING,
    "teamId": Kind.STRING,
    "invited": Kind.DATETIME,
    "joined": Kind.DATETIME,
    "confirm": Kind.BOOLEAN,
    "roles": Kind.STRINGS,
}

#: Projects the caller may see (contract: side-services 3; clients 5.3 filters by team).
PROJECTS: Mapping[str, Kind] = {
    "name": Kind.STRING,
    "teamId": Kind.STRING,
    "region": Kind.STRING,
    "labels": Kind.STRINGS,
}

#: Contract: side-services 8. `resourceType` and `resourceId` are the names of formats below 1.7.0.
RULES: Mapping[str, Kind] = {
    "domain": Kind.STRING,
    "type": Kind.STRING,
    "trigger": Kind.STRING,
    "status": Kind.STRING,
    "deploymentResourceType": Kind.STRING,
    "deploymentResourceId": Kind.STRING,
    "deploymentId": Kind.STRING,
    "deploymentVcsProviderBranch": Kind.STRING,
    "resourceType": Kind.STRING,
    "resourceId": Kind.STRING,
}

#: Platforms; `hostname` and `key` are two names of their identifier.
PLATFORMS: Mapping[str, Kind] = {
    "type": Kind.STRING,
    "name": Kind.STRING,
    "hostname": Kind.STRING,
    "key": Kind.STRING,
}

#: Contract: side-services 14. What is sealed is not admitted.
WEBHOOKS: Mapping[str, Kind] = {
    "name": Kind.STRING,
    "url": Kind.STRING,
    "events": Kind.STRINGS,
    "tls": Kind.BOOLEAN,
    "enabled": Kind.BOOLEAN,
    "authUsername": Kind.STRING,
    "attempts": Kind.INTEGER,
}

#: Contract: side-services 12.
INSTALLATIONS: Mapping[str, Kind] = {
    "provider": Kind.STRING,
    "organization": Kind.STRING,
    "providerInstallationId": Kind.STRING,
}
