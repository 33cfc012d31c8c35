"""What each collection's list call admits: wire attributes and the columns behind them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table

from hearth.store.sql import durability_schema, people_schema, schema, vcs_schema


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """A listed table: `attributes` by wire name, and the column of searchable words if it has one."""

    table: Table
    attributes: Mapping[str, ColumnElement[Any]]
    search: ColumnElement[str] | None = None


def _collection(table: Table, search: str = "", **columns: str | ColumnElement[Any]) -> Collection:
    admitted = {
        "$id": "id",
        "$createdAt": "created_at",
        "$updatedAt": "updated_at",
        "$sequence": "sequence",
        **columns,
    }
    return Collection(
        table,
        {name: table.c[column] if isinstance(column, str) else column for name, column in admitted.items()},
        table.c[search] if search else None,
    )


FUNCTIONS = _collection(
    schema.functions,
    search="search_words",
    name="name",
    enabled="enabled",
    runtime="runtime",
    deploymentId="deployment_id",
    schedule="schedule",
    timeout="timeout_s",
    entrypoint="entrypoint",
    commands="commands",
    installationId="installation_id",
)

DEPLOYMENTS = _collection(
    schema.deployments,
    buildSize="build_size_bytes",
    sourceSize="source_size_bytes",
    totalSize=schema.deployments.c.source_size_bytes + schema.deployments.c.build_size_bytes,
    buildDuration="build_duration_s",
    status="status",
    activate="activate",
    type="type",
)

EXECUTIONS = _collection(
    schema.executions,
    trigger="trigger",
    status="status",
    responseStatusCode="response_status_code",
    duration="duration_s",
    requestMethod="request_method",
    requestPath="request_path",
    deploymentId="deployment_id",
)

VARIABLES = _collection(
    schema.variables,
    key="key",
    resourceType="resource_type",
    resourceId="resource_id",
    secret="secret",  # noqa: S106 - the name of a column
)

KEYS = _collection(
    schema.api_keys,
    name="name",
    expire="expires_at",
    accessedAt="accessed_at",
    scopes="scopes",
    sdks="sdks",
)

USERS = _collection(
    people_schema.users,
    search="search_words",
    name="name",
    email="email",
    phone="phone",
    status="status",
    passwordUpdate="password_updated_at",
    registration="registered_at",
    accessedAt="accessed_at",
    emailVerification="email_verified",
    phoneVerification="phone_verified",
    labels="labels",
    impersonator="impersonator",
)

TEAMS = _collection(people_schema.teams, search="search_words", name="name", total="total")

MEMBERSHIPS = _collection(
    people_schema.memberships,
    search="search_words",
    userId="user_id",
    teamId="team_id",
    invited="invited_at",
    joined="joined_at",
    confirm="confirmed",
    roles="roles",
)

PROJECTS = _collection(
    schema.projects,
    search="search_words",
    name="name",
    teamId="team_id",
    region="region",
    labels="labels",
)

RULES = _collection(
    schema.rules,
    search="search_words",
    domain="domain",
    type="type",
    trigger="trigger",
    status="status",
    deploymentResourceType="resource_type",
    deploymentResourceId="resource_id",
    resourceType="resource_type",
    resourceId="resource_id",
    deploymentId="deployment_id",
    deploymentVcsProviderBranch="branch",
)

PLATFORMS = _collection(schema.platforms, type="type", name="name", hostname="identifier", key="identifier")

WEBHOOKS = _collection(
    schema.webhooks,
    name="name",
    url="url",
    events="events",
    tls="tls",
    enabled="enabled",
    authUsername="auth_username",
    attempts="attempts",
)

INSTALLATIONS = _collection(
    vcs_schema.installations,
    search="search_words",
    provider="provider",
    organization="organization",
    providerInstallationId="provider_installation_id",
)

DEAD_LETTERS = _collection(
    durability_schema.dead_letters,
    reason="reason",
    attempts="attempts",
    trigger="trigger",
    requestMethod="request_method",
    requestPath="request_path",
)
