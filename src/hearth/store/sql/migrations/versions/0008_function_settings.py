"""Settings of functions that their wire does not have.

Revision 0008.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision: str | None = "0007"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table; the previous version does not look at it."""
    op.create_table(
        "function_settings",
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("function_id", TEXT, nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("settings", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("project_id", "function_id", name="pk_function_settings"),
    )


def downgrade() -> None:
    """Drop it: every function has the defaults again."""
    op.drop_table("function_settings")
