"""Database addresses: `sqlite:///path` and `postgresql://user:password@host/name`."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

#: Folder-relative name of the default database.
DEFAULT_FILE = "hearth.db"
#: What may stand behind the `?` of a PostgreSQL address, as in libpq; `host` may be a socket's folder.
_OPTIONS = {"sslmode", "host"}


class AddressRefused(ValueError):
    """The database address cannot be used; the text says why. Never contains the password."""


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. `path` is set for SQLite only."""

    url: URL
    path: Path | None


def parse_address(text: str, data_dir: Path) -> Address:
    """Read a database address; `""` is the default, a file in the data folder. Raises AddressRefused.

    A relative path of SQLite (`sqlite:///name.db`) is meant from the working folder, an absolute one has
    four slashes (`sqlite:////var/lib/hearth.db`).
    """
    try:
        url = make_url(text) if text else URL.create("sqlite", database=str(data_dir / DEFAULT_FILE))
    except ArgumentError as error:
        raise AddressRefused(
            "The database address is not a URL like sqlite:///file or postgresql://host/name"
        ) from error
    engine = url.get_backend_name()
    if engine == "sqlite":
        if not url.database or url.database == ":memory:" or url.query:
            raise AddressRefused(
                "A SQLite address names a file and has no options: sqlite:////var/lib/hearth/hearth.db"
            )
        return Address(url, Path(url.database).absolute())
    if engine in ("postgresql", "postgres"):
        if not url.database:
            raise AddressRefused("A PostgreSQL address names a database: postgresql://user:password@host/name")
        unknown = sorted(set(url.query) - _OPTIONS)
        if unknown:
            raise AddressRefused(f"The database address has an option that is not supported: {', '.join(unknown)}")
        return Address(url.set(drivername="postgresql"), None)
    raise AddressRefused(f"The database engine {engine!r} is not supported; use sqlite or postgresql")
