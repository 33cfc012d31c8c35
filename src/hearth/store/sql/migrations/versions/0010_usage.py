"""Usage of functions by the hour.

Revision 0010.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision: str | None = "0009"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table; the previous version goes on working beside it."""
    op.create_table(
        "usage_hours",
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("function_id", TEXT, nullable=False),
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("executions", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        sa.Column("durations", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "function_id", "hour", name="pk_usage_hours"),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("usage_hours")
