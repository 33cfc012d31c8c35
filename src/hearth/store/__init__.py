"""Where state is kept: the database and the files."""

from hearth.store.files.local import LocalFiles
from hearth.store.sql.address import AddressRefused
from hearth.store.sql.keycheck import WrongKey
from hearth.store.sql.migrating import DatabaseTooNew, migrate_database
from hearth.store.sql.store import SqlStore, holds_data, open_store

__all__ = [
    "AddressRefused",
    "DatabaseTooNew",
    "LocalFiles",
    "SqlStore",
    "WrongKey",
    "holds_data",
    "migrate_database",
    "open_store",
]
