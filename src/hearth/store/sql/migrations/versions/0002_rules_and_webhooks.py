"""Domains, webhooks and browser platforms; what a project switches off; descriptions of keys.

Revision 0002.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger()  # milliseconds since 1970
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: Added to `projects`: name and what a row of before has. The defaults let the previous version go on writing.
PROJECT_COLUMNS = (
    ("search_words", ""),
    ("region", "default"),
    ("services_off", "[]"),
    ("protocols_off", "[]"),
    ("labels", "[]"),
)


def upgrade() -> None:
    """Add tables and columns."""
    for name, value in PROJECT_COLUMNS:
        op.add_column("projects", sa.Column(name, TEXT, nullable=False, server_default=value))
    op.add_column("api_keys", sa.Column("description", TEXT, nullable=False, server_default=""))
    _index_projects()
    op.create_table(
        "platforms",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("identifier", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_platforms"),
        sa.UniqueConstraint("project_id", "id", name="uq_platforms_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rules",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("domain", TEXT, nullable=False),
        sa.Column("search_words", TEXT, nullable=False),
        sa.Column("type", TEXT, nullable=False),
        sa.Column("trigger", TEXT, nullable=False),
        sa.Column("redirect_url", TEXT, nullable=False),
        sa.Column("redirect_status_code", sa.BigInteger(), nullable=False),
        sa.Column("deployment_id", TEXT, nullable=False),
        sa.Column("resource_type", TEXT, nullable=False),
        sa.Column("resource_id", TEXT, nullable=False),
        sa.Column("branch", TEXT, nullable=False),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("logs", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_rules"),
        sa.UniqueConstraint("project_id", "id", name="uq_rules_project_id_id"),
        sa.UniqueConstraint("domain", name="uq_rules_domain"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_rules_project_id_resource_type_resource_id_sequence",
        "rules",
        ["project_id", "resource_type", "resource_id", "sequence"],
    )
    op.create_table(
        "webhooks",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("events", TEXT, nullable=False),
        sa.Column("tls", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("auth_username", TEXT, nullable=False),
        sa.Column("auth_password", sa.LargeBinary(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("logs", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_webhooks"),
        sa.UniqueConstraint("project_id", "id", name="uq_webhooks_project_id_id"),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Take them away, with everything in them."""
    op.drop_table("webhooks")
    op.drop_index("ix_rules_project_id_resource_type_resource_id_sequence", table_name="rules")
    op.drop_table("rules")
    op.drop_table("platforms")
    op.drop_column("api_keys", "description")
    for name, _ in reversed(PROJECT_COLUMNS):
        op.drop_column("projects", name)


def _index_projects() -> None:
    """Make the projects that exist findable, by the rule of `hearth.store.sql.search` at this revision."""
    projects = sa.table("projects", sa.column("id", TEXT), sa.column("name", TEXT), sa.column("search_words", TEXT))
    connection = op.get_bind()
    for id, name in connection.execute(sa.select(projects.c.id, projects.c.name)).all():
        words = "".join(f" {word}" for text in (id, name) for word in re.findall(r"\w+", text.casefold()))
        connection.execute(projects.update().where(projects.c.id == id).values(search_words=words))
