"""Installations at git hosts, the repositories functions are connected to, and where branches were last seen.

Revision 0006.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision: str | None = "0005"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger()  # milliseconds since 1970
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Add tables; the previous version goes on working beside them."""
    op.create_table(
        "installations",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("organization", TEXT, nullable=False),
        sa.Column("base_url", TEXT, nullable=False),
        sa.Column("provider_installation_id", TEXT, nullable=False),
        sa.Column("credentials", sa.LargeBinary(), nullable=False),
        sa.Column("webhook_secret", sa.LargeBinary(), nullable=False),
        sa.Column("repositories", TEXT, nullable=False),
        sa.Column("created_by", TEXT, nullable=False),
        sa.Column("search_words", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_installations"),
        sa.UniqueConstraint("project_id", "id", name="uq_installations_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_installations_provider_provider_installation_id", "installations", ["provider", "provider_installation_id"]
    )
    op.create_table(
        "repository_links",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("function_id", TEXT, nullable=False),
        sa.Column("installation_id", TEXT, nullable=False),
        sa.Column("provider_repository_id", TEXT, nullable=False),
        sa.Column("pull_requests", TEXT, nullable=False),
        sa.Column("webhook_id", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_repository_links"),
        sa.UniqueConstraint("project_id", "id", name="uq_repository_links_project_id_id"),
        sa.UniqueConstraint("project_id", "function_id", name="uq_repository_links_project_id_function_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_repository_links_of_a_repository",
        "repository_links",
        ["project_id", "installation_id", "provider_repository_id"],
    )
    op.create_table(
        "repository_heads",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("installation_id", TEXT, nullable=False),
        sa.Column("provider_repository_id", TEXT, nullable=False),
        sa.Column("branch", TEXT, nullable=False),
        sa.Column("commit", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_repository_heads"),
        sa.UniqueConstraint(
            "project_id",
            "installation_id",
            "provider_repository_id",
            "branch",
            name="uq_repository_heads_of_a_branch",
        ),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Take them away, with everything in them."""
    op.drop_table("repository_heads")
    op.drop_index("ix_repository_links_of_a_repository", table_name="repository_links")
    op.drop_table("repository_links")
    op.drop_index("ix_installations_provider_provider_installation_id", table_name="installations")
    op.drop_table("installations")
