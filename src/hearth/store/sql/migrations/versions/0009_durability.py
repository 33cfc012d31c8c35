"""Idempotency keys, failed attempts and dead letters of executions.

Revision 0009.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision: str | None = "0008"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger()  # milliseconds since 1970
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, TEXT, nullable=False) for name in names]


def upgrade() -> None:
    """Create the tables; the previous version goes on working beside them."""
    op.create_table(
        "idempotency_keys",
        *_texts("project_id", "operation", "caller", "key", "fingerprint"),
        sa.Column("created_at", MOMENT, nullable=False),
        *_texts("owner"),
        sa.Column("leased_until", MOMENT, nullable=False),
        *_texts("subject_id"),
        sa.Column("is_answered", sa.Boolean(), nullable=False),
        sa.Column("answer", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "operation", "caller", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "execution_attempts",
        *_texts("project_id", "execution_id"),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        *_texts("deployment_id"),
        sa.Column("ended_at", MOMENT, nullable=False),
        sa.Column("response_status_code", sa.BigInteger(), nullable=False),
        sa.Column("duration_s", sa.Double(), nullable=False),
        *_texts("logs", "errors"),
        sa.PrimaryKeyConstraint("project_id", "execution_id", "number", name="pk_execution_attempts"),
    )
    op.create_index("ix_execution_attempts_ended_at", "execution_attempts", ["ended_at"])
    op.create_table(
        "dead_letters",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        *_texts("id", "project_id", "function_id"),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        *_texts("reason", "error"),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        *_texts("trigger", "request_method", "request_path", "payload"),
        sa.PrimaryKeyConstraint("sequence", name="pk_dead_letters"),
        sa.UniqueConstraint("project_id", "id", name="uq_dead_letters_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_dead_letters_project_id_function_id_sequence", "dead_letters", ["project_id", "function_id", "sequence"]
    )
    op.create_index("ix_dead_letters_created_at", "dead_letters", ["created_at"])


def downgrade() -> None:
    """Drop the tables."""
    for name in ("dead_letters", "execution_attempts", "idempotency_keys"):
        op.drop_table(name)
