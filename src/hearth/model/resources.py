"""The stored resources. Field names are Python's; the wire's names live in `hearth.api.wire` only.

`sequence` is the insertion order inside one table (`$sequence` in queries); 0 until stored.
Unset text is `""`, never None, because clients reject null (contract: clients 2.1).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from hearth.model.sources import GitSource
from hearth.model.statuses import DeploymentStatus, ExecutionStatus, JobStatus, Trigger


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant: everything else belongs to exactly one project."""

    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    team_id: str = ""
    region: str = "default"
    services_off: tuple[str, ...] = ()
    """Services that answer keys and admins only (contract: functions-api 1, check 12)."""
    protocols_off: tuple[str, ...] = ()
    """Likewise for `rest`, `graphql` and `websocket` (check 13)."""
    labels: tuple[str, ...] = ()
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Platform:
    """An app that may call from a browser or a device. `identifier` is a web platform's host name, else the app's id.

    `type` is `web`, `apple`, `android`, `windows` or `linux`.
    """

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    type: str
    name: str
    identifier: str
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A project API key. Only `secret_hash` (SHA-256, hex) is stored; the secret has 1024 random bits."""

    id: str
    project_id: str
    name: str
    secret_hash: str
    scopes: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None = None
    accessed_at: datetime | None = None
    sdks: tuple[str, ...] = ()
    description: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """What a host name leads to; a name is taken once in the whole server.

    `type` is `deployment` (of `resource_type` `function`), `redirect` or `api`. A `manual` rule without a `branch`
    follows the function's active deployment. `status` is `verified` or `unverified`, then with the reason in `logs`.
    """

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    domain: str
    type: str
    trigger: str = "manual"
    redirect_url: str = ""
    redirect_status_code: int = 0
    deployment_id: str = ""
    resource_type: str = ""
    resource_id: str = ""
    branch: str = ""
    status: str = "unverified"
    logs: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that is told of events. `secret` signs what is sent; it and `auth_password` are encrypted at rest.

    `attempts` counts failures in a row, `logs` holds what the last of them met; `tls` says whether certificates
    are checked.
    """

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    name: str
    url: str
    events: tuple[str, ...]
    secret: str
    description: str = ""
    tls: bool = True
    enabled: bool = True
    auth_username: str = ""
    auth_password: str = ""
    attempts: int = 0
    logs: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Function:
    """Name, runtime, limits and triggers of some code; has at most one active deployment."""

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    name: str
    runtime: str
    execute: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    schedule: str = ""
    timeout_s: int = 15
    enabled: bool = True
    live: bool = True
    logging: bool = True
    entrypoint: str = ""
    commands: str = ""
    scopes: tuple[str, ...] = ()
    deployment_id: str = ""
    deployment_created_at: datetime | None = None
    latest_deployment_id: str = ""
    latest_deployment_created_at: datetime | None = None
    latest_deployment_status: str = ""
    deployment_retention_days: int = 0
    version: str = "v5"
    installation_id: str = ""
    provider_repository_id: str = ""
    provider_branch: str = ""
    provider_root_directory: str = ""
    provider_silent_mode: bool = False
    provider_branches: tuple[str, ...] = ()
    provider_paths: tuple[str, ...] = ()
    build_specification: str = ""
    runtime_specification: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Variable:
    """A key and value handed to builds and runs. `value` is clear text in memory, encrypted at rest.

    `resource_type` is `function` or `project`; `resource_id` is the function's id, or `""` for the project.
    """

    id: str
    project_id: str
    resource_type: str
    resource_id: str
    created_at: datetime
    updated_at: datetime
    key: str
    value: str
    secret: bool
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Deployment:
    """One version of a function's code, with the record of its build.

    `source_key` and `artifact_key` name files in the file store, `""` while there is none; `artifact_digest`
    is the SHA-256 of the artifact's bytes. `source_total_bytes` is what the upload announced. `git_source` is where
    the source is fetched from if there is none yet; None for one that was uploaded.
    """

    id: str
    project_id: str
    function_id: str
    created_at: datetime
    updated_at: datetime
    type: str
    status: DeploymentStatus
    entrypoint: str
    commands: str
    activate: bool
    source_key: str = ""
    source_size_bytes: int = 0
    source_total_bytes: int = 0
    source_chunks_total: int = 0
    source_chunks_uploaded: int = 0
    artifact_key: str = ""
    artifact_digest: str = ""
    build_size_bytes: int = 0
    build_logs: str = ""
    build_started_at: datetime | None = None
    build_ended_at: datetime | None = None
    build_duration_s: int = 0
    provider_repository_name: str = ""
    provider_repository_owner: str = ""
    provider_repository_url: str = ""
    provider_commit_hash: str = ""
    provider_commit_author_url: str = ""
    provider_commit_author: str = ""
    provider_commit_message: str = ""
    provider_commit_url: str = ""
    provider_branch: str = ""
    provider_branch_url: str = ""
    git_source: GitSource | None = None
    sequence: int = 0


#: One header as it is stored and shown: name and value.
Header = tuple[str, str]


class Execution(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of one run. `request_headers` and `response_headers` are already filtered (contract 10.3).

    `queued_s` is how long it waited for its instance from when it was due, `is_cold` whether it had to wait for a new
    one, `cpu_s` its CPU time in seconds, and `peak_memory_bytes` the most memory its instance had used by its end
    (docs/adr/0033). None = it has not run, or that is not counted.

    A struct, not a dataclass: several are made for every run, and this takes a third of the time.
    """

    id: str
    project_id: str
    function_id: str
    deployment_id: str
    created_at: datetime
    updated_at: datetime
    trigger: Trigger
    status: ExecutionStatus
    request_method: str
    request_path: str
    request_headers: tuple[Header, ...] = ()
    response_status_code: int = 0
    response_headers: tuple[Header, ...] = ()
    logs: str = ""
    errors: str = ""
    duration_s: float = 0.0
    permissions: tuple[str, ...] = ()
    scheduled_at: datetime | None = None
    queued_s: float | None = None
    is_cold: bool | None = None
    cpu_s: float | None = None
    peak_memory_bytes: int | None = None
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A durable queue entry: work that outlives the request that asked for it.

    A worker holds it until `leased_until` and must renew; `attempts` counts claims. Past `deadline_at`
    it is ended, never retried.
    """

    id: str
    kind: str
    project_id: str
    resource_id: str
    created_at: datetime
    due_at: datetime
    deadline_at: datetime
    status: JobStatus = JobStatus.QUEUED
    payload: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    max_attempts: int = 1
    owner: str = ""
    leased_until: datetime | None = None
    error: str = ""
    sequence: int = 0
