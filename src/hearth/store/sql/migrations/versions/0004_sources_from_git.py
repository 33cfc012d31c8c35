"""Where the source of a deployment is fetched from.

Revision 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column; deployments of before were all uploaded, and the previous version goes on writing."""
    op.add_column("deployments", sa.Column("git_source", TEXT, nullable=True))


def downgrade() -> None:
    """Take it away. Deployments whose source is not fetched yet fail without it."""
    op.drop_column("deployments", "git_source")
