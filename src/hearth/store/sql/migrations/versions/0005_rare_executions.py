"""Lists of executions by a status or a code that few have stay flat in both orders.

Revision 0005.
"""

from alembic import op

revision = "0005"
down_revision: str | None = "0004"

INDEXES = {
    "ix_executions_status_created_at": ["project_id", "function_id", "status", "created_at", "sequence"],
    "ix_executions_code_sequence": ["project_id", "function_id", "response_status_code", "sequence"],
    "ix_executions_code_created_at": ["project_id", "function_id", "response_status_code", "created_at", "sequence"],
}


def upgrade() -> None:
    """Create the indexes; the previous version goes on working beside them."""
    for name, columns in INDEXES.items():
        op.create_index(name, "executions", columns, unique=False)


def downgrade() -> None:
    """Drop them."""
    for name in INDEXES:
        op.drop_index(name, table_name="executions")
