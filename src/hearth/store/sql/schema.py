"""The tables. Columns carry the names of the model's fields, so that rows and resources convert by name.

`sequence` is the insertion order and the primary key; ids are unique per project. Large texts stand last, so
that SQLite finds what lists filter by on a row's first page. There are no foreign keys between resources:
what belongs to a deleted one is removed afterwards, in pieces, by jobs.

A change here needs a migration in `hearth.store.sql.migrations`; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    LargeBinary,
    Table,
    TextClause,
    UniqueConstraint,
    text,
)

from hearth.store.sql.columns import flag_column as _flag
from hearth.store.sql.columns import list_column as _list
from hearth.store.sql.columns import metadata
from hearth.store.sql.columns import moment_column as _moment
from hearth.store.sql.columns import number_column as _number
from hearth.store.sql.columns import sequence_column as _sequence
from hearth.store.sql.columns import text_column as _text
from hearth.store.sql.types import Document, Headers, Origin, Words

projects = Table(
    "projects",
    metadata,
    _sequence(),
    _text("id"),
    _text("name"),
    _text("team_id"),
    _moment("created_at"),
    _moment("updated_at"),
    # The words of id and name, for the `search` parameter: see `hearth.store.sql.search`.
    _text("search_words"),
    _text("region"),
    _list("services_off"),
    _list("protocols_off"),
    _list("labels"),
    UniqueConstraint("id"),
    sqlite_autoincrement=True,
)

api_keys = Table(
    "api_keys",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _text("name"),
    _text("secret_hash"),
    _list("scopes"),
    _moment("created_at"),
    _moment("updated_at"),
    _moment("expires_at", nullable=True),
    _moment("accessed_at", nullable=True),
    _list("sdks"),
    _text("description"),
    UniqueConstraint("project_id", "id"),
    UniqueConstraint("secret_hash"),
    sqlite_autoincrement=True,
)

functions = Table(
    "functions",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _moment("created_at"),
    _moment("updated_at"),
    _text("name"),
    _text("runtime"),
    # The words of id, name and runtime, for the `search` parameter: see `hearth.store.sql.search`.
    _text("search_words"),
    _list("execute"),
    _list("events"),
    _text("schedule"),
    _number("timeout_s"),
    _flag("enabled"),
    _flag("live"),
    _flag("logging"),
    _text("entrypoint"),
    _text("commands"),
    _list("scopes"),
    _text("deployment_id"),
    _moment("deployment_created_at", nullable=True),
    _text("latest_deployment_id"),
    _moment("latest_deployment_created_at", nullable=True),
    _text("latest_deployment_status"),
    _number("deployment_retention_days"),
    _text("version"),
    _text("installation_id"),
    _text("provider_repository_id"),
    _text("provider_branch"),
    _text("provider_root_directory"),
    _flag("provider_silent_mode"),
    _list("provider_branches"),
    _list("provider_paths"),
    _text("build_specification"),
    _text("runtime_specification"),
    UniqueConstraint("project_id", "id"),
    Index(None, "project_id", "sequence"),
    sqlite_autoincrement=True,
)

#: Settings that the wire of functions does not have (`hearth.model.function_settings`); no row = defaults.
function_settings = Table(
    "function_settings",
    metadata,
    Column("project_id", Words(), primary_key=True),
    Column("function_id", Words(), primary_key=True),
    _moment("updated_at"),
    # By name, so that a new setting needs no migration. Nothing is looked for in it.
    Column("settings", Document(), nullable=False),
)

variables = Table(
    "variables",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _text("resource_type"),
    _text("resource_id"),
    _moment("created_at"),
    _moment("updated_at"),
    _text("key"),
    _flag("secret"),
    Column("value", LargeBinary(), nullable=False),  # sealed; its context is the row it stands in
    UniqueConstraint("project_id", "id"),
    UniqueConstraint("project_id", "resource_type", "resource_id", "key"),
    Index(None, "project_id", "resource_type", "resource_id", "sequence"),
    sqlite_autoincrement=True,
)

deployments = Table(
    "deployments",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _text("function_id"),
    _moment("created_at"),
    _moment("updated_at"),
    _text("type"),
    _text("status"),
    _flag("activate"),
    _number("source_size_bytes"),
    _number("source_total_bytes"),
    _number("source_chunks_total"),
    _number("source_chunks_uploaded"),
    _number("build_size_bytes"),
    _number("build_duration_s"),
    _moment("build_started_at", nullable=True),
    _moment("build_ended_at", nullable=True),
    _text("source_key"),
    _text("artifact_key"),
    _text("artifact_digest"),
    _text("entrypoint"),
    _text("commands"),
    _text("provider_repository_name"),
    _text("provider_repository_owner"),
    _text("provider_repository_url"),
    _text("provider_commit_hash"),
    _text("provider_commit_author_url"),
    _text("provider_commit_author"),
    _text("provider_commit_message"),
    _text("provider_commit_url"),
    _text("provider_branch"),
    _text("provider_branch_url"),
    Column("git_source", Origin(), nullable=True),
    _text("build_logs"),
    UniqueConstraint("project_id", "id"),
    Index(None, "project_id", "function_id", "sequence"),
    Index(None, "project_id", "function_id", "created_at", "sequence"),
    Index(None, "project_id", "status", "sequence"),
    Index(None, "artifact_key"),
    sqlite_autoincrement=True,
)

deployment_chunks = Table(
    "deployment_chunks",
    metadata,
    Column("project_id", Words(), primary_key=True),
    Column("deployment_id", Words(), primary_key=True),
    Column("first_byte", BigInteger(), primary_key=True, autoincrement=False),
    Column("last_byte", BigInteger(), primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

_OF_FUNCTION = ("project_id", "function_id")

#: What few executions have, as the partial indexes name it. A list that asks for nothing else says so in these words.
RARE_STATUS = text("status != 'completed'")
RARE_CODE = text("response_status_code != 200")


def _rare(name: str, which: TextClause, *columns: str) -> Index:
    return Index(name, *_OF_FUNCTION, *columns, sqlite_where=which, postgresql_where=which)


executions = Table(
    "executions",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _text("function_id"),
    _text("deployment_id"),
    _moment("created_at"),
    _moment("updated_at"),
    _text("trigger"),
    _text("status"),
    _text("request_method"),
    _number("response_status_code"),
    Column("duration_s", Double(), nullable=False),
    _list("permissions"),
    _moment("scheduled_at", nullable=True),
    _text("request_path"),
    Column("request_headers", Headers(), nullable=False),
    Column("response_headers", Headers(), nullable=False),
    _text("logs"),
    _text("errors"),
    Column("queued_s", Double()),
    Column("is_cold", Boolean()),
    Column("cpu_s", Double()),
    Column("peak_memory_bytes", BigInteger()),
    UniqueConstraint("project_id", "id"),
    # Every execution is written into each index without condition, so there are few (docs/adr/0015). The two orders
    # carry along what lists filter by most; what few executions have is also found by itself, in either order.
    Index("ix_executions_in_order", *_OF_FUNCTION, "sequence", "status", "response_status_code"),
    Index("ix_executions_by_date", *_OF_FUNCTION, "created_at", "sequence", "status", "response_status_code"),
    _rare("ix_executions_rare_status", RARE_STATUS, "status", "sequence"),
    _rare("ix_executions_rare_status_by_date", RARE_STATUS, "status", "created_at", "sequence"),
    _rare("ix_executions_rare_code", RARE_CODE, "response_status_code", "sequence"),
    _rare("ix_executions_rare_code_by_date", RARE_CODE, "response_status_code", "created_at", "sequence"),
)

jobs = Table(
    "jobs",
    metadata,
    _sequence(),
    _text("id"),
    _text("kind"),
    _text("project_id"),
    _text("resource_id"),
    _moment("created_at"),
    _moment("due_at"),
    _moment("deadline_at"),
    _text("status"),
    _number("attempts"),
    _number("max_attempts"),
    _text("owner"),
    _moment("leased_until", nullable=True),
    _text("error"),
    Column("payload", Document(), nullable=False),
    UniqueConstraint("id"),
    Index(None, "status", "due_at", "sequence"),
    Index(None, "status", "deadline_at"),
    Index(None, "resource_id", "kind"),
    sqlite_autoincrement=True,
)

platforms = Table(
    "platforms",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _moment("created_at"),
    _moment("updated_at"),
    _text("type"),
    _text("name"),
    _text("identifier"),
    UniqueConstraint("project_id", "id"),
    sqlite_autoincrement=True,
)

rules = Table(
    "rules",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _moment("created_at"),
    _moment("updated_at"),
    _text("domain"),
    # The words of id and domain, for the `search` parameter.
    _text("search_words"),
    _text("type"),
    _text("trigger"),
    _text("redirect_url"),
    _number("redirect_status_code"),
    _text("deployment_id"),
    _text("resource_type"),
    _text("resource_id"),
    _text("branch"),
    _text("status"),
    _text("logs"),
    UniqueConstraint("project_id", "id"),
    UniqueConstraint("domain"),
    Index(None, "project_id", "resource_type", "resource_id", "sequence"),
    sqlite_autoincrement=True,
)

webhooks = Table(
    "webhooks",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _moment("created_at"),
    _moment("updated_at"),
    _text("name"),
    _text("description"),
    _text("url"),
    _list("events"),
    _flag("tls"),
    _flag("enabled"),
    _text("auth_username"),
    Column("auth_password", LargeBinary(), nullable=False),  # sealed; its context is the row it stands in
    Column("secret", LargeBinary(), nullable=False),  # sealed as well
    _number("attempts"),
    _text("logs"),
    UniqueConstraint("project_id", "id"),
    sqlite_autoincrement=True,
)

#: What this database says about itself: `key_check` (see `keycheck`) and, on SQLite, `checkpoint` (see `sqlite`).
facts = Table(
    "facts",
    metadata,
    Column("name", Words(), primary_key=True),
    Column("value", LargeBinary(), nullable=False),
)
