"""What the record writer says to SQLite, compiled once: the layers in between would take longer than the rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Insert, Table, Update
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.dialects.sqlite import dml as sqlite_dml
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from hearth.store.sql import writes
from hearth.store.sql.durability_schema import dead_letters, execution_attempts
from hearth.store.sql.schema import executions, jobs


class Prepared:
    """A statement compiled once, and what its values go through on their way to the driver."""

    def __init__(self, statement: Insert | Update, columns: Sequence[str] | None = None) -> None:
        dialect = sqlite_dialect.dialect()
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        self.sql = str(compiled)
        self._names = tuple(compiled.positiontup or ())
        self._fixed = {
            name: value for name, value in compiled.construct_params(_check=False).items() if value is not None
        }
        binds = [_binder(compiled.binds[name].type, dialect) for name in self._names]
        self._binds = [(place, bind) for place, bind in enumerate(binds) if bind is not None]

    def named(self, values: Mapping[str, Any]) -> list[Any]:
        """The driver's values, given some by name; those that the statement fixes need not be given."""
        return self.row([values[name] if name in values else self._fixed.get(name) for name in self._names])

    def row(self, given: Iterable[Any]) -> list[Any]:
        """The driver's values, given all of them in the statement's order."""
        values = list(given)
        for place, bind in self._binds:
            values[place] = bind(values[place])
        return values


class RecordStatements(NamedTuple):
    """What the record writer says."""

    insert_execution: Prepared
    insert_job: Prepared
    finish_job: Prepared
    requeue_job: Prepared
    end_execution: Prepared
    insert_attempt: Prepared
    insert_letter: Prepared


@cache
def record_statements() -> RecordStatements:
    """Compiled once a process, whatever number of databases it opens."""
    return RecordStatements(
        insert_execution=Prepared(writes.INSERT_EXECUTION, _written_columns(executions)),
        insert_job=Prepared(writes.INSERT_JOB, _written_columns(jobs)),
        finish_job=Prepared(writes.FINISH_JOB),
        requeue_job=Prepared(writes.REQUEUE_JOB),
        end_execution=Prepared(writes.END_EXECUTION),
        insert_attempt=_insert_or_ignore(execution_attempts),
        insert_letter=_insert_or_ignore(dead_letters),
    )


def _insert_or_ignore(table: Table) -> Prepared:
    return Prepared(sqlite_dml.insert(table).on_conflict_do_nothing(), _written_columns(table))


def _written_columns(table: Table) -> list[str]:
    return [column.name for column in table.columns if column.name != "sequence"]


def _binder(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """What a value of a column type goes through on its way to the driver, without the layers in between."""
    if isinstance(kind, TypeDecorator) and kind.impl_instance.bind_processor(dialect) is None:
        convert = kind.process_bind_param
        return lambda value: convert(value, dialect)
    return kind.bind_processor(dialect)
