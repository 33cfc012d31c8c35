"""Requests and responses of executions, for functions that have them kept.

Revision 0013.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision: str | None = "0012"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table; the previous version goes on working beside it."""
    op.create_table(
        "execution_bodies",
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("execution_id", TEXT, nullable=False),
        sa.Column("function_id", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("request", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "execution_id", name="pk_execution_bodies"),
    )
    op.create_index(
        "ix_execution_bodies_project_id_function_id_created_at",
        "execution_bodies",
        ["project_id", "function_id", "created_at"],
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("execution_bodies")
