"""Which columns hold sealed values, and what each is bound to: for moving rows to an installation with another key."""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from hearth.store.sql.bodies import sealed_context as bodies_context
from hearth.store.sql.columns import metadata
from hearth.store.sql.idempotency import sealed_context as idempotency_context
from hearth.store.sql.session import Cipher
from hearth.store.sql.variables import context as variable_context
from hearth.store.sql.vcs import sealed_context as installation_context
from hearth.store.sql.webhooks import sealed_context as webhook_context

Values = Mapping[str, Any]
Context = Callable[[Values], bytes]

#: Table -> column -> what its value is bound to, given the row. Empty values are not sealed.
SEALED: dict[str, dict[str, Context]] = {
    "variables": {
        "value": lambda row: variable_context(row["project_id"], row["resource_type"], row["resource_id"], row["id"])
    },
    "webhooks": {
        "auth_password": lambda row: webhook_context(row["project_id"], row["id"], "auth_password"),
        "secret": lambda row: webhook_context(row["project_id"], row["id"], "secret"),
    },
    "installations": {
        "credentials": lambda row: installation_context(row["project_id"], row["id"], "credentials"),
        "webhook_secret": lambda row: installation_context(row["project_id"], row["id"], "webhook_secret"),
    },
    "idempotency_keys": {
        "answer": lambda row: idempotency_context(row["project_id"], row["operation"], row["caller"], row["key"])
    },
    "execution_bodies": {
        "request": lambda row: bodies_context(row["project_id"], row["function_id"], row["execution_id"], "request"),
        "response": lambda row: bodies_context(row["project_id"], row["function_id"], row["execution_id"], "response"),
    },
}


def unknown_blobs() -> list[str]:
    """Columns of bytes that are not in `SEALED`, as `table.column`: a test keeps this to the table `facts`."""
    return [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, sa.LargeBinary) and column.name not in SEALED.get(table.name, {})
    ]


def resealed(table: str, row: Values, old: Cipher, new: Cipher) -> dict[str, Any]:
    """The row with its sealed values opened with one key and sealed with another. Raises ValueError for a wrong key."""
    values = dict(row)
    for column, context in SEALED.get(table, {}).items():
        if values[column]:
            bound_to = context(values)
            values[column] = new.seal_bytes(old.open_bytes(values[column], bound_to), bound_to)
    return values
