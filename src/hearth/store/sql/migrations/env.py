"""Run by Alembic for every command, on the connection and in the transaction of `hearth.store.sql.migrating`."""

from alembic import context

from hearth.store.sql.columns import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
