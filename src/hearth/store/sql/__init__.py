"""The database on SQLite and PostgreSQL: schema, migrations, repositories, job queue, execution log."""
