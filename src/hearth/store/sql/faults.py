"""What a database raises, as our fault: one that passes by itself is told apart from one that does not."""

import errno
import sqlite3
import sys

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from hearth.model.refusals import PlatformFault, StorageAway

_ANY = (SQLAlchemyError, OSError, sqlite3.Error)

_FULL = "its disk is full"
_AWAY = "its database does not answer"
#: Classes of SQLSTATE: connection exceptions, operator intervention (shutdown, cannot connect now), too many clients.
_AWAY_STATES = ("08", "57P", "53300")
_FULL_STATES = ("53100",)


def database_errors() -> tuple[type[BaseException], ...]:
    """Everything that may come out of a driver, or of the layer above it."""
    driver = sys.modules.get("asyncpg")  # 4 MB that a server on SQLite does without: imported where it is used
    return _ANY if driver is None else (*_ANY, driver.PostgresError, driver.InterfaceError)


def fault_of(error: BaseException, step: str) -> PlatformFault:
    """The fault to raise for what was caught while a database was to `step`."""
    cause = getattr(error, "orig", None) or error
    text = f"The database failed to {step}: {cause or type(cause).__name__}"
    reason = _passing(error, cause)
    return PlatformFault(text) if reason is None else StorageAway(text, reason=reason)


def _passing(error: BaseException, cause: BaseException) -> str | None:
    """Why it failed, if that may be over in a while."""
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        # A full disk shows itself as either, depending on which file was to grow.
        return _FULL if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) else None
    state = getattr(cause, "sqlstate", None) or ""
    if state.startswith(_FULL_STATES):
        return _FULL
    if state.startswith(_AWAY_STATES):
        return _AWAY
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return _AWAY
    if isinstance(cause, OSError):
        return _FULL if cause.errno in (errno.ENOSPC, errno.EDQUOT) else _AWAY
    driver = sys.modules.get("asyncpg")
    return _AWAY if driver is not None and isinstance(cause, driver.InterfaceError) else None
