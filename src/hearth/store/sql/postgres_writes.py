"""A group of entries as one statement of PostgreSQL: planned once, one round trip, committed by itself.

Columns go as arrays (`unnest`), so that a group costs one plan and not one for each row; what belongs together in an
entry, a record and its job or a job's end and its execution's, is in the same statement.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, Table
from sqlalchemy.types import TypeDecorator, TypeEngine

from hearth.model.statuses import EXECUTION_FINAL, ExecutionStatus, JobStatus
from hearth.ports import AttemptEnded
from hearth.store.sql import writes
from hearth.store.sql.schema import executions, jobs
from hearth.store.sql.writes import Entry
from hearth.store.sql.written_rows import execution_row, job_row

_OPEN = ", ".join(f"'{status.value}'" for status in sorted(set(ExecutionStatus) - EXECUTION_FINAL))

_ARRAYS: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (BigInteger, "bigint[]"),
    (Double, "float8[]"),
    (Boolean, "boolean[]"),
)


def is_plain(entries: Sequence[Entry]) -> bool:
    """Whether a group has only what most have: no attempt that is tried again or leaves something behind."""
    return all(
        entry.retry_at is None and entry.attempt is None and entry.dead_letter is None
        for entry in entries
        if isinstance(entry, AttemptEnded)
    )


def statement_of(entries: Sequence[Entry], channel: str) -> tuple[str, list[Any]]:
    """The statement of a plain group and its parameters; it returns the ids of the jobs that were still held.

    Few texts for all groups: the driver keeps them prepared.
    """
    parts: list[str] = []
    values: list[Any] = []
    if records := writes.executions_of(entries):
        parts.append(f"written AS ({_insert(executions, len(values))})")
        values += _columns(list(map(execution_row, records)))
    if queued := writes.jobs_of(entries):
        parts.append(f"queued AS ({_insert(jobs, len(values))})")
        values += _columns(list(map(job_row, queued)))
    results = []
    if ended := [entry for entry in entries if isinstance(entry, AttemptEnded)]:
        parts += _end(len(values))
        values += _columns([_ending_row(one) for one in ended])
        results.append("SELECT id FROM released")
    if writes.queues_jobs(entries):
        results.append(f"SELECT '' FROM pg_notify('{channel}', '')")  # noqa: S608 - a name of ours
    return f"WITH {', '.join(parts)} {' UNION ALL '.join(results) or 'SELECT 1 WHERE false'}", values


def _inserted(table: Table) -> list[Column[Any]]:
    return [column for column in table.columns if column.name != "sequence"]


def _array(column: Column[Any]) -> str:
    kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    return next((array for known, array in _ARRAYS if isinstance(kind, known)), "text[]")


def _unnest(columns: Sequence[Column[Any]], given: int) -> str:
    arrays = ", ".join(f"${given + number}::{_array(column)}" for number, column in enumerate(columns, 1))
    return f"unnest({arrays})"


def _insert(table: Table, given: int) -> str:
    columns = _inserted(table)
    names = ", ".join(f'"{column.name}"' for column in columns)
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM {_unnest(columns, given)}"  # noqa: S608 - our own names


#: What the end of an attempt gives: which job of whom, which execution, and how that is from then on.
_END_COLUMNS: tuple[tuple[str, Column[Any]], ...] = (
    ("job_id", jobs.c.id),
    ("job_owner", jobs.c.owner),
    ("project_id", executions.c.project_id),
    ("id", executions.c.id),
    *((name, executions.c[name]) for name in writes.ENDING),
)


def _end(given: int) -> list[str]:
    names = ", ".join(f'"{name}"' for name, _ in _END_COLUMNS)
    changes = ", ".join(f'"{name}" = given."{name}"' for name in writes.ENDING)
    given_rows = _unnest([column for _, column in _END_COLUMNS], given)
    return [
        f"given AS (SELECT * FROM {given_rows} AS rows ({names}))",  # noqa: S608 - our own names
        f"released AS (UPDATE jobs SET status = '{JobStatus.DONE.value}', leased_until = NULL, error = '', "  # noqa: S608
        "payload = '{}' FROM given WHERE jobs.id = given.job_id "
        f"AND jobs.status = '{JobStatus.CLAIMED.value}' AND jobs.owner = given.job_owner RETURNING jobs.id)",
        f"ended AS (UPDATE executions SET {changes} FROM given JOIN released ON released.id = given.job_id "  # noqa: S608
        "WHERE executions.project_id = given.project_id AND executions.id = given.id "
        f"AND executions.status IN ({_OPEN}))",
    ]


def _ending_row(ended: AttemptEnded) -> list[Any]:
    values = {name.removeprefix("b_"): value for name, value in writes.end_values(ended).items()}
    values |= {"job_id": ended.job_id, "job_owner": ended.owner}
    return [values[name] if bind is None else bind(values[name]) for name, bind in _END_BINDS]


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _binder(column: Column[Any]) -> Callable[[Any], Any] | None:
    """What a value of a column goes through on its way to the driver."""
    kind = column.type
    if not isinstance(kind, TypeDecorator):
        return None
    convert: Callable[[Any, Any], Any] = kind.process_bind_param
    return lambda value: convert(value, None)  # ours do not look at the dialect


_END_BINDS = [(name, _binder(column)) for name, column in _END_COLUMNS]
