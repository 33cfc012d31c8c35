"""People: users, sessions, tokens, teams, memberships. The console's users move into the project `console`.

Revision 0003.
"""

import re

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
MOMENT = sa.BigInteger()  # milliseconds since 1970
SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

#: Kept as they are by both forms of a console user.
CONSOLE_COLUMNS = ("id", "email", "name", "password_hash", "created_at", "updated_at")


def upgrade() -> None:
    """Add the tables and move the console's users."""
    op.create_table(
        "users",
        *_head(),
        sa.Column("registered_at", MOMENT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("email", TEXT, nullable=False),
        sa.Column("phone", TEXT, nullable=False),
        sa.Column("search_words", TEXT, nullable=False),
        sa.Column("status", sa.Boolean(), nullable=False),
        sa.Column("labels", TEXT, nullable=False),
        sa.Column("email_verified", sa.Boolean(), nullable=False),
        sa.Column("phone_verified", sa.Boolean(), nullable=False),
        sa.Column("impersonator", sa.Boolean(), nullable=False),
        sa.Column("reset_required", sa.Boolean(), nullable=False),
        sa.Column("password_updated_at", MOMENT, nullable=True),
        sa.Column("accessed_at", MOMENT, nullable=True),
        sa.Column("password_hash", TEXT, nullable=False),
        sa.Column("prefs", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_users"),
        sa.UniqueConstraint("project_id", "id", name="uq_users_project_id_id"),
        sqlite_autoincrement=True,
    )
    for column in ("email", "phone"):
        given = sa.text(f"{column} <> ''")
        op.create_index(
            f"uq_users_project_id_{column}",
            "users",
            ["project_id", column],
            unique=True,
            sqlite_where=given,
            postgresql_where=given,
        )
    op.create_index("ix_users_project_id_sequence", "users", ["project_id", "sequence"])
    op.create_table(
        "sessions",
        *_head(),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("secret_hash", TEXT, nullable=False),
        sa.Column("provider", TEXT, nullable=False),
        sa.Column("provider_uid", TEXT, nullable=False),
        sa.Column("factors", TEXT, nullable=False),
        sa.Column("ip", TEXT, nullable=False),
        sa.Column("user_agent", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_sessions"),
        sa.UniqueConstraint("project_id", "id", name="uq_sessions_project_id_id"),
        sa.UniqueConstraint("project_id", "secret_hash", name="uq_sessions_project_id_secret_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_project_id_user_id_sequence", "sessions", ["project_id", "user_id", "sequence"])
    op.create_table(
        "tokens",
        *_head(),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("secret_hash", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_tokens"),
        sa.UniqueConstraint("project_id", "id", name="uq_tokens_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tokens_project_id_user_id_sequence", "tokens", ["project_id", "user_id", "sequence"])
    op.create_table(
        "teams",
        *_head(),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("search_words", TEXT, nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("prefs", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_teams"),
        sa.UniqueConstraint("project_id", "id", name="uq_teams_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_teams_project_id_sequence", "teams", ["project_id", "sequence"])
    op.create_table(
        "memberships",
        *_head(),
        sa.Column("team_id", TEXT, nullable=False),
        sa.Column("user_id", TEXT, nullable=False),
        sa.Column("invited_at", MOMENT, nullable=False),
        sa.Column("joined_at", MOMENT, nullable=True),
        sa.Column("confirmed", sa.Boolean(), nullable=False),
        sa.Column("roles", TEXT, nullable=False),
        sa.Column("search_words", TEXT, nullable=False),
        sa.Column("secret_hash", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_memberships"),
        sa.UniqueConstraint("project_id", "id", name="uq_memberships_project_id_id"),
        sa.UniqueConstraint("project_id", "team_id", "user_id", name="uq_memberships_project_id_team_id_user_id"),
        sqlite_autoincrement=True,
    )
    for column in ("team_id", "user_id"):
        columns = ["project_id", column, "sequence"]
        op.create_index(f"ix_memberships_{'_'.join(columns)}", "memberships", columns)
    _move_console_users()
    op.drop_table("console_users")


def downgrade() -> None:
    """Give the console's users their table back; everybody else goes."""
    op.create_table(
        "console_users",
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("email", TEXT, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("password_hash", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("sequence", name="pk_console_users"),
        sa.UniqueConstraint("id", name="uq_console_users_id"),
        sa.UniqueConstraint("email", name="uq_console_users_email"),
        sqlite_autoincrement=True,
    )
    columns = ", ".join(CONSOLE_COLUMNS)
    op.execute(
        sa.text(
            f"INSERT INTO console_users ({columns}) "  # noqa: S608 - names of columns, ours
            f"SELECT {columns} FROM users WHERE project_id = 'console' AND email <> '' ORDER BY sequence"
        )
    )
    for column in ("team_id", "user_id"):
        op.drop_index(f"ix_memberships_project_id_{column}_sequence", table_name="memberships")
    op.drop_table("memberships")
    op.drop_index("ix_teams_project_id_sequence", table_name="teams")
    op.drop_table("teams")
    op.drop_index("ix_tokens_project_id_user_id_sequence", table_name="tokens")
    op.drop_table("tokens")
    op.drop_index("ix_sessions_project_id_user_id_sequence", table_name="sessions")
    op.drop_table("sessions")
    for name in ("uq_users_project_id_email", "uq_users_project_id_phone", "ix_users_project_id_sequence"):
        op.drop_index(name, table_name="users")
    op.drop_table("users")


def _head() -> tuple[sa.Column[object], ...]:
    """The columns every one of these tables begins with."""
    return (
        sa.Column("sequence", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", TEXT, nullable=False),
        sa.Column("project_id", TEXT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
    )


def _move_console_users() -> None:
    """Copy `console_users` into `users`, findable by the rule of `hearth.store.sql.search` at this revision."""
    old = sa.table("console_users", sa.column("sequence"), *(sa.column(name) for name in CONSOLE_COLUMNS))
    connection = op.get_bind()
    insert = sa.text(
        "INSERT INTO users (project_id, id, email, name, password_hash, created_at, updated_at, registered_at, "
        "password_updated_at, accessed_at, phone, search_words, status, labels, email_verified, phone_verified, "
        "impersonator, reset_required, prefs) VALUES ('console', :id, :email, :name, :password_hash, "
        ":created_at, :updated_at, :created_at, :updated_at, NULL, '', :search_words, true, '[]', false, false, "
        "false, false, '{}')"
    )
    for row in connection.execute(sa.select(old).order_by(old.c.sequence)).all():
        values = dict(row._mapping)
        del values["sequence"]
        values["email"] = values["email"].lower()
        found = (re.findall(r"\w+", text.casefold()) for text in (row.id, values["email"], "", row.name))
        values["search_words"] = "".join(f" {word}" for words in found for word in words)
        connection.execute(insert, values)
