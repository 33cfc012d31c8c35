"""The tables of people: users, their sessions and tokens, teams and memberships. See `schema` for the rules.

They belong to a project like everything else; the people of the console belong to the reserved project `console`.
"""

from sqlalchemy import Column, Index, Table, UniqueConstraint, text

from hearth.store.sql.columns import (
    flag_column,
    list_column,
    metadata,
    moment_column,
    number_column,
    sequence_column,
    text_column,
)
from hearth.store.sql.types import Document

users = Table(
    "users",
    metadata,
    sequence_column(),
    text_column("id"),
    text_column("project_id"),
    moment_column("created_at"),
    moment_column("updated_at"),
    moment_column("registered_at"),
    text_column("name"),
    text_column("email"),
    text_column("phone"),
    # The words of id, e-mail, phone and name, for the `search` parameter.
    text_column("search_words"),
    flag_column("status"),
    list_column("labels"),
    flag_column("email_verified"),
    flag_column("phone_verified"),
    flag_column("impersonator"),
    flag_column("reset_required"),
    moment_column("password_updated_at", nullable=True),
    moment_column("accessed_at", nullable=True),
    text_column("password_hash"),
    Column("prefs", Document(), nullable=False),
    UniqueConstraint("project_id", "id"),
    # Unset is "", which any number of users may have.
    Index(
        "uq_users_project_id_email",
        "project_id",
        "email",
        unique=True,
        sqlite_where=text("email <> ''"),
        postgresql_where=text("email <> ''"),
    ),
    Index(
        "uq_users_project_id_phone",
        "project_id",
        "phone",
        unique=True,
        sqlite_where=text("phone <> ''"),
        postgresql_where=text("phone <> ''"),
    ),
    Index(None, "project_id", "sequence"),
    sqlite_autoincrement=True,
)

sessions = Table(
    "sessions",
    metadata,
    sequence_column(),
    text_column("id"),
    text_column("project_id"),
    text_column("user_id"),
    moment_column("created_at"),
    moment_column("updated_at"),
    moment_column("expires_at"),
    text_column("secret_hash"),
    text_column("provider"),
    text_column("provider_uid"),
    list_column("factors"),
    text_column("ip"),
    text_column("user_agent"),
    UniqueConstraint("project_id", "id"),
    UniqueConstraint("project_id", "secret_hash"),
    Index(None, "project_id", "user_id", "sequence"),
    sqlite_autoincrement=True,
)

tokens = Table(
    "tokens",
    metadata,
    sequence_column(),
    text_column("id"),
    text_column("project_id"),
    text_column("user_id"),
    moment_column("created_at"),
    moment_column("updated_at"),
    moment_column("expires_at"),
    text_column("secret_hash"),
    UniqueConstraint("project_id", "id"),
    Index(None, "project_id", "user_id", "sequence"),
    sqlite_autoincrement=True,
)

teams = Table(
    "teams",
    metadata,
    sequence_column(),
    text_column("id"),
    text_column("project_id"),
    moment_column("created_at"),
    moment_column("updated_at"),
    text_column("name"),
    # The words of id and name.
    text_column("search_words"),
    # How many confirmed memberships there are; kept by whoever writes one.
    number_column("total"),
    Column("prefs", Document(), nullable=False),
    UniqueConstraint("project_id", "id"),
    Index(None, "project_id", "sequence"),
    sqlite_autoincrement=True,
)

memberships = Table(
    "memberships",
    metadata,
    sequence_column(),
    text_column("id"),
    text_column("project_id"),
    text_column("team_id"),
    text_column("user_id"),
    moment_column("created_at"),
    moment_column("updated_at"),
    moment_column("invited_at"),
    moment_column("joined_at", nullable=True),
    flag_column("confirmed"),
    list_column("roles"),
    # The words of its own id and the user's.
    text_column("search_words"),
    text_column("secret_hash"),
    UniqueConstraint("project_id", "id"),
    UniqueConstraint("project_id", "team_id", "user_id"),
    Index(None, "project_id", "team_id", "sequence"),
    Index(None, "project_id", "user_id", "sequence"),
    sqlite_autoincrement=True,
)
