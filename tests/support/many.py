"""Very many executions in a database: copies of one that is there, made by the database itself."""

from hearth.store.sql.schema import executions

#: Milliseconds between the creation of one copy and the next.
STEP_MS = 1
FAILED_EVERY = 10


def copies(of: str, *, function_id: str, prefix: str, rows: int) -> str:
    """A statement for both engines: `rows` copies of the execution `of` as executions of a function.

    The n-th (from 1) has the id `<prefix><n>` and is `STEP_MS` younger than the one before; each `FAILED_EVERY`th
    has failed with status code 500. The texts come from tests, so they stand in the statement as they are.
    """
    columns = [column.name for column in executions.columns if column.name != "sequence"]
    failed = f"n % {FAILED_EVERY} = 0"
    changed = {
        "id": f"'{prefix}' || n",
        "function_id": f"'{function_id}'",
        "created_at": f"created_at + n * {STEP_MS}",
        "status": f"CASE WHEN {failed} THEN 'failed' ELSE 'completed' END",
        "response_status_code": f"CASE WHEN {failed} THEN 500 ELSE 200 END",
    }
    chosen = ", ".join(changed.get(name, f'"{name}"') for name in columns)
    quoted = ", ".join(f'"{name}"' for name in columns)
    return (
        f"INSERT INTO executions ({quoted}) SELECT {chosen} FROM executions, "
        f"(WITH RECURSIVE counted(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < {rows}) "
        f"SELECT n FROM counted) AS numbers WHERE id = '{of}' ORDER BY n"
    )
