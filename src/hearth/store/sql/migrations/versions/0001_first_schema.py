"""The first schema.

Revision 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger()  # milliseconds since 1970
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "api_keys",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("secret_hash", TEXT, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=True),
        sa.Column("accessed_at", MOMENT, nullable=True),
        sa.Column("sdks", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_api_keys"),
        sa.UniqueConstraint("project_id", "id", name="uq_api_keys_project_id_id"),
        sa.UniqueConstraint("secret_hash", name="uq_api_keys_secret_hash"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "console_users",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("email", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("password_hash", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_console_users"),
        sa.UniqueConstraint("email", name="uq_console_users_email"),
        sa.UniqueConstraint("id", name="uq_console_users_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "deployment_chunks",
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("deployment_id", TEXT, nullable=False),
        sa.Column("first_byte", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_byte", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "deployment_id", "first_byte", "last_byte", name="pk_deployment_chunks"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "deployments",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("function_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("activate", sa.Boolean(), nullable=False),
        sa.Column("source_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source_chunks_total", sa.BigInteger(), nullable=False),
        sa.Column("source_chunks_uploaded", sa.BigInteger(), nullable=False),
        sa.Column("build_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("build_duration_s", sa.BigInteger(), nullable=False),
        sa.Column("build_started_at", MOMENT, nullable=True),
        sa.Column("build_ended_at", MOMENT, nullable=True),
        sa.Column("source_key", TEXT, nullable=False),
        sa.Column("artifact_key", TEXT, nullable=False),
        sa.Column("artifact_digest", TEXT, nullable=False),
        sa.Column("entrypoint", TEXT, nullable=False),
        sa.Column("commands", TEXT, nullable=False),
        sa.Column("provider_repository_name", TEXT, nullable=False),
        sa.Column("provider_repository_owner", TEXT, nullable=False),
        sa.Column("provider_repository_url", TEXT, nullable=False),
        sa.Column("provider_commit_hash", TEXT, nullable=False),
        sa.Column("provider_commit_author_url", TEXT, nullable=False),
        sa.Column("provider_commit_author", TEXT, nullable=False),
        sa.Column("provider_commit_message", TEXT, nullable=False),
        sa.Column("provider_commit_url", TEXT, nullable=False),
        sa.Column("provider_branch", TEXT, nullable=False),
        sa.Column("provider_branch_url", TEXT, nullable=False),
        sa.Column("build_logs", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_deployments"),
        sa.UniqueConstraint("project_id", "id", name="uq_deployments_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_deployments_artifact_key",
        "deployments",
        ["artifact_key"],
    )
    op.create_index(
        "ix_deployments_project_id_function_id_created_at_sequence",
        "deployments",
        ["project_id", "function_id", "created_at", "sequence"],
    )
    op.create_index(
        "ix_deployments_project_id_function_id_sequence",
        "deployments",
        ["project_id", "function_id", "sequence"],
    )
    op.create_index(
        "ix_deployments_project_id_status_sequence",
        "deployments",
        ["project_id", "status", "sequence"],
    )
    op.create_table(
        "executions",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("function_id", TEXT, nullable=False),
        sa.Column("deployment_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("trigger", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("request_method", TEXT, nullable=False),
        sa.Column("response_status_code", sa.BigInteger(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("permissions", TEXT, nullable=False),
        sa.Column("scheduled_at", MOMENT, nullable=True),
        sa.Column("request_path", TEXT, nullable=False),
        sa.Column("request_headers", TEXT, nullable=False),
        sa.Column("response_headers", TEXT, nullable=False),
        sa.Column("logs", TEXT, nullable=False),
        sa.Column("errors", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_executions"),
        sa.UniqueConstraint("project_id", "id", name="uq_executions_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_executions_project_id_function_id_created_at_sequence",
        "executions",
        ["project_id", "function_id", "created_at", "sequence"],
    )
    op.create_index(
        "ix_executions_project_id_function_id_sequence",
        "executions",
        ["project_id", "function_id", "sequence"],
    )
    op.create_index(
        "ix_executions_project_id_function_id_status_sequence",
        "executions",
        ["project_id", "function_id", "status", "sequence"],
    )
    op.create_table(
        "facts",
        sa.Column("name", TEXT, nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_facts"),
    )
    op.create_table(
        "functions",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("runtime", TEXT, nullable=False),
        sa.Column("search_words", TEXT, nullable=False),
        sa.Column("execute", TEXT, nullable=False),
        sa.Column("events", TEXT, nullable=False),
        sa.Column("schedule", TEXT, nullable=False),
        sa.Column("timeout_s", sa.BigInteger(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("live", sa.Boolean(), nullable=False),
        sa.Column("logging", sa.Boolean(), nullable=False),
        sa.Column("entrypoint", TEXT, nullable=False),
        sa.Column("commands", TEXT, nullable=False),
        sa.Column("scopes", TEXT, nullable=False),
        sa.Column("deployment_id", TEXT, nullable=False),
        sa.Column("deployment_created_at", MOMENT, nullable=True),
        sa.Column("latest_deployment_id", TEXT, nullable=False),
        sa.Column("latest_deployment_created_at", MOMENT, nullable=True),
        sa.Column("latest_deployment_status", TEXT, nullable=False),
        sa.Column("deployment_retention_days", sa.BigInteger(), nullable=False),
        sa.Column("version", TEXT, nullable=False),
        sa.Column("installation_id", TEXT, nullable=False),
        sa.Column("provider_repository_id", TEXT, nullable=False),
        sa.Column("provider_branch", TEXT, nullable=False),
        sa.Column("provider_root_directory", TEXT, nullable=False),
        sa.Column("provider_silent_mode", sa.Boolean(), nullable=False),
        sa.Column("provider_branches", TEXT, nullable=False),
        sa.Column("provider_paths", TEXT, nullable=False),
        sa.Column("build_specification", TEXT, nullable=False),
        sa.Column("runtime_specification", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_functions"),
        sa.UniqueConstraint("project_id", "id", name="uq_functions_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_functions_project_id_sequence",
        "functions",
        ["project_id", "sequence"],
    )
    op.create_table(
        "jobs",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("resource_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("deadline_at", MOMENT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("max_attempts", sa.BigInteger(), nullable=False),
        sa.Column("owner", TEXT, nullable=False),
        sa.Column("leased_until", MOMENT, nullable=True),
        sa.Column("error", TEXT, nullable=False),
        sa.Column("payload", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_jobs_resource_id_kind",
        "jobs",
        ["resource_id", "kind"],
    )
    op.create_index(
        "ix_jobs_status_deadline_at",
        "jobs",
        ["status", "deadline_at"],
    )
    op.create_index(
        "ix_jobs_status_due_at_sequence",
        "jobs",
        ["status", "due_at", "sequence"],
    )
    op.create_table(
        "projects",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("team_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_projects"),
        sa.UniqueConstraint("id", name="uq_projects_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "variables",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("resource_type", TEXT, nullable=False),
        sa.Column("resource_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("key", TEXT, nullable=False),
        sa.Column("secret", sa.Boolean(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_variables"),
        sa.UniqueConstraint("project_id", "id", name="uq_variables_project_id_id"),
        sa.UniqueConstraint(
            "project_id",
            "resource_type",
            "resource_id",
            "key",
            name="uq_variables_project_id_resource_type_resource_id_key",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_variables_project_id_resource_type_resource_id_sequence",
        "variables",
        ["project_id", "resource_type", "resource_id", "sequence"],
    )


def downgrade() -> None:
    """Drop every table, with everything in it."""
    op.drop_index("ix_variables_project_id_resource_type_resource_id_sequence", table_name="variables")
    op.drop_table("variables")
    op.drop_table("projects")
    op.drop_index("ix_jobs_status_due_at_sequence", table_name="jobs")
    op.drop_index("ix_jobs_status_deadline_at", table_name="jobs")
    op.drop_index("ix_jobs_resource_id_kind", table_name="jobs")
    op.drop_table("jobs")
    op.drop_index("ix_functions_project_id_sequence", table_name="functions")
    op.drop_table("functions")
    op.drop_table("facts")
    op.drop_index("ix_executions_project_id_function_id_status_sequence", table_name="executions")
    op.drop_index("ix_executions_project_id_function_id_sequence", table_name="executions")
    op.drop_index("ix_executions_project_id_function_id_created_at_sequence", table_name="executions")
    op.drop_table("executions")
    op.drop_index("ix_deployments_project_id_status_sequence", table_name="deployments")
    op.drop_index("ix_deployments_project_id_function_id_sequence", table_name="deployments")
    op.drop_index("ix_deployments_project_id_function_id_created_at_sequence", table_name="deployments")
    op.drop_index("ix_deployments_artifact_key", table_name="deployments")
    op.drop_table("deployments")
    op.drop_table("deployment_chunks")
    op.drop_table("console_users")
    op.drop_table("api_keys")
