"""The tables of `hearth.model.durability`. As in `schema`, columns carry the names of the fields."""

from sqlalchemy import BigInteger, Column, Double, Index, LargeBinary, Table, UniqueConstraint

from hearth.store.sql.columns import flag_column as _flag
from hearth.store.sql.columns import metadata
from hearth.store.sql.columns import moment_column as _moment
from hearth.store.sql.columns import number_column as _number
from hearth.store.sql.columns import sequence_column as _sequence
from hearth.store.sql.columns import text_column as _text
from hearth.store.sql.types import Document, Moment, Words

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("project_id", Words(), primary_key=True),
    Column("operation", Words(), primary_key=True),
    Column("caller", Words(), primary_key=True),
    Column("key", Words(), primary_key=True),
    _text("fingerprint"),
    _moment("created_at"),
    _text("owner"),
    _moment("leased_until"),
    _text("subject_id"),
    _flag("is_answered"),
    Column("answer", LargeBinary(), nullable=False),  # sealed; its context is the row it stands in
    Index(None, "created_at"),
)

execution_attempts = Table(
    "execution_attempts",
    metadata,
    Column("project_id", Words(), primary_key=True),
    Column("execution_id", Words(), primary_key=True),
    Column("number", BigInteger(), primary_key=True, autoincrement=False),
    _text("deployment_id"),
    _moment("ended_at"),
    _number("response_status_code"),
    Column("duration_s", Double(), nullable=False),
    _text("logs"),
    _text("errors"),
    Index(None, "ended_at"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    _sequence(),
    _text("id"),
    _text("project_id"),
    _text("function_id"),
    _moment("created_at"),
    _moment("updated_at"),
    _text("reason"),
    _text("error"),
    _number("attempts"),
    _text("trigger"),
    _text("request_method"),
    _text("request_path"),
    Column("payload", Document(), nullable=False),
    UniqueConstraint("project_id", "id"),
    Index(None, "project_id", "function_id", "sequence"),
    Index(None, "created_at"),
    sqlite_autoincrement=True,
)

#: What was asked and answered, of functions that have it kept (`hearth.model.bodies`).
execution_bodies = Table(
    "execution_bodies",
    metadata,
    Column("project_id", Words(), primary_key=True),
    Column("execution_id", Words(), primary_key=True),
    _text("function_id"),
    _moment("created_at"),
    Column("request", LargeBinary(), nullable=False),  # sealed
    Column("response", LargeBinary(), nullable=False),  # sealed; empty: there was none
    Index(None, "project_id", "function_id", "created_at"),
)

#: Executions by the hour of their creation, kept when they themselves are gone (`hearth.model.usage`).
usage_hours = Table(
    "usage_hours",
    metadata,
    Column("project_id", Words(), primary_key=True),
    Column("function_id", Words(), primary_key=True),
    Column("hour", Moment(), primary_key=True, autoincrement=False),
    _number("executions"),
    _number("failures"),
    Column("duration_s", Double(), nullable=False),
    Column("durations", Document(), nullable=False),  # class -> count
    *(Column(name, BigInteger(), nullable=False, server_default="0") for name in ("started", "cold_starts")),
    Column("cpu_s", Double(), nullable=False, server_default="0"),
    Column("peak_memory_bytes", BigInteger(), nullable=False, server_default="0"),
)
