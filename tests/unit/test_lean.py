"""What an idle server does not carry."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from hearth.cli.entry import plain_serve
assert plain_serve(["serve"], {}) is not None
from hearth.lean import import_libraries
import_libraries()
import hearth.server
unused = {"pygments", "rich", "cyclopts", "watchfiles", "asyncpg", "aiosqlite", "sqlalchemy.orm", "alembic"}
print(sorted((unused | {"httpx._main", "IPython"}) & set(sys.modules)))
import httpx, pygments, rich.traceback, watchfiles
print(httpx.Client.__name__)
"""


@pytest.mark.slow
def test_the_server_imports_no_extras_of_its_libraries_and_they_stay_importable() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "Client"]
