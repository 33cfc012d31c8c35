"""Figures of executions: their wait, how they started, CPU time and memory; and of each hour of usage.

Revision 0012.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision: str | None = "0011"

Columns = tuple[tuple[str, sa.types.TypeEngine[Any]], ...]

_OF_EXECUTIONS: Columns = (
    ("queued_s", sa.Double()),
    ("is_cold", sa.Boolean()),
    ("cpu_s", sa.Double()),
    ("peak_memory_bytes", sa.BigInteger()),
)
_OF_HOURS: Columns = (
    ("started", sa.BigInteger()),
    ("cold_starts", sa.BigInteger()),
    ("cpu_s", sa.Double()),
    ("peak_memory_bytes", sa.BigInteger()),
)


def upgrade() -> None:
    """Add the columns, empty for what is there; the previous version goes on working beside it."""
    for name, kind in _OF_EXECUTIONS:
        op.add_column("executions", sa.Column(name, kind, nullable=True))
    for name, kind in _OF_HOURS:
        op.add_column("usage_hours", sa.Column(name, kind, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop them."""
    for name, _ in _OF_HOURS:
        op.drop_column("usage_hours", name)
    for name, _ in _OF_EXECUTIONS:
        op.drop_column("executions", name)
