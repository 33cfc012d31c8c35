"""Imports libraries without the extras that they take up where they find them installed.

`structlog` colours tracebacks and `mako` listings with pygments, `httpx` brings a command line, `uvicorn` watches files
for a reload: some 6 MB of an idle server, used for nothing in it. Each of them does without what is not installed; it
seems not to be while they are imported here, by whoever is about to import the server.
"""

import importlib
import sys

ABSENT = ("pygments", "watchfiles", "httpx._main")
LIBRARIES = ("structlog", "uvicorn", "httpx", "mako.exceptions")


def import_libraries() -> None:
    """Import them. What is imported already stays as it is."""
    hidden = [name for name in ABSENT if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        for name in LIBRARIES:
            importlib.import_module(name)
    finally:
        for name in hidden:
            del sys.modules[name]
