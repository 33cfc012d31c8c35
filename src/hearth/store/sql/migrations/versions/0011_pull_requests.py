"""Open pull requests of connected repositories: which branch each is of, for comments that follow its deployments.

Revision 0011.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision: str | None = "0010"

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table; the previous version does not look at it."""
    op.create_table(
        "pull_requests",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("installation_id", TEXT, nullable=False),
        sa.Column("provider_repository_id", TEXT, nullable=False),
        sa.Column("pull_request", TEXT, nullable=False),
        sa.Column("branch", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_pull_requests"),
        sa.UniqueConstraint(
            "project_id",
            "installation_id",
            "provider_repository_id",
            "pull_request",
            name="uq_pull_requests_of_a_repository",
        ),
        sqlite_autoincrement=True,
    )


def downgrade() -> None:
    """Drop it: comments at pull requests are not brought up to date any more."""
    op.drop_table("pull_requests")
