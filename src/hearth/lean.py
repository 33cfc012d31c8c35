"""Imports libraries without the extras that they take up where they find them installed.

`structlog` draws tracebacks with rich and pygments, `mako` listings with pygments, `httpx` brings a command line,
`uvicorn` watches files for a reload: some 8 MB of an idle server, used for nothing in it. Each of them does without
what is not installed; it seems not to be while they are imported here, by whoever is about to import the server.
"""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager

ABSENT = ("pygments", "rich", "watchfiles", "httpx._main")
LIBRARIES = ("structlog", "uvicorn", "httpx")


def import_libraries() -> None:
    """Import them. What is imported already stays as it is."""
    with without_extras():
        for name in LIBRARIES:
            importlib.import_module(name)


@contextmanager
def without_extras() -> Iterator[None]:
    """What is imported in here finds no extras, unless they are imported already."""
    hidden = [name for name in ABSENT if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
