"""The tables of git hosts: installations, the repositories linked to functions, where their branches stand.

See `schema` for the rules.
"""

from sqlalchemy import Column, Index, LargeBinary, Table, UniqueConstraint

from hearth.store.sql.columns import list_column, metadata, moment_column, sequence_column, text_column

installations = Table(
    "installations",
    metadata,
    sequence_column(),
    text_column("id"),
    text_column("project_id"),
    moment_column("created_at"),
    moment_column("updated_at"),
    text_column("provider"),
    text_column("organization"),
    text_column("base_url"),
    text_column("provider_installation_id"),
    Column("credentials", LargeBinary(), nullable=False),  # sealed, as are webhooks' secrets
    Column("webhook_secret", LargeBinary(), nullable=False),  # sealed as well
    list_column("repositories"),
    text_column("created_by"),
    # The words of organization, provider and host-side id, for the `search` parameter.
    text_column("search_words"),
    UniqueConstraint("project_id", "id"),
    Index(None, "provider", "provider_installation_id"),
    sqlite_autoincrement=True,
)

repository_links = Table(
    "repository_links",
    metadata,
    sequence_column(),
    text_column("id"),
    text_column("project_id"),
    moment_column("created_at"),
    moment_column("updated_at"),
    text_column("function_id"),
    text_column("installation_id"),
    text_column("provider_repository_id"),
    list_column("pull_requests"),
    text_column("webhook_id"),
    UniqueConstraint("project_id", "id"),
    UniqueConstraint("project_id", "function_id"),
    Index("ix_repository_links_of_a_repository", "project_id", "installation_id", "provider_repository_id"),
    sqlite_autoincrement=True,
)

#: Where the branches of linked repositories stood when they were last acted on.
repository_heads = Table(
    "repository_heads",
    metadata,
    sequence_column(),
    text_column("project_id"),
    text_column("installation_id"),
    text_column("provider_repository_id"),
    text_column("branch"),
    text_column("commit"),
    UniqueConstraint(
        "project_id", "installation_id", "provider_repository_id", "branch", name="uq_repository_heads_of_a_branch"
    ),
    sqlite_autoincrement=True,
)

#: Open pull requests of linked repositories; `branch` as their deployments show it.
pull_requests = Table(
    "pull_requests",
    metadata,
    sequence_column(),
    text_column("project_id"),
    text_column("installation_id"),
    text_column("provider_repository_id"),
    text_column("pull_request"),
    text_column("branch"),
    UniqueConstraint(
        "project_id",
        "installation_id",
        "provider_repository_id",
        "pull_request",
        name="uq_pull_requests_of_a_repository",
    ),
    sqlite_autoincrement=True,
)
