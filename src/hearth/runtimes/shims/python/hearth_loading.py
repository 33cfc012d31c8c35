"""Loads the code of a Python function: imports its entrypoint, with what its build installed.

Standard library only, Python >= 3.9. Imported while the folder of these modules is on the path (see `shim`).
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # `typing` costs milliseconds at start-up
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from hearth.runtimes.shims.python import hearth_output as output

    Handler = Callable[[Any], Any]
else:
    import hearth_output as output

    ModuleType = type(sys)  # `types` would be a quarter of a millisecond

SIGNATURE_INVALID = "Function signature invalid. Did you forget to export a 'main' function?"
#: Needed for loading code, for telling what went wrong, and by what many functions and `async def` handlers import.
#: `asyncio` itself, with the `ssl` it brings, would be 3 MB of every instance; with these there it takes 7 ms.
WARM_MODULES = (
    *("importlib.util", "inspect", "site", "traceback", "json", "logging", "typing", "subprocess"),
    *("concurrent.futures", "socket", "selectors", "contextvars"),
)
_warmed: set[str] = set()
"""Modules imported before there was a deployment."""


class LoadFailed(Exception):
    """The code cannot be run; the message says why."""


def load(code: str, entrypoint: str) -> Handler:
    """Import the entrypoint and return its `main`. Raises LoadFailed."""
    file = os.path.join(code, entrypoint)
    if not os.path.isfile(file):
        raise LoadFailed(f"Failed to load entrypoint, file {entrypoint} does not exist.")
    if _warmed:
        _cool_down(code)
    _extend_path(code, os.path.dirname(file))
    # The code folder is the package `function`, so that `from .helper import x` works in an entrypoint.
    package = ModuleType("function")
    package.__path__ = [code]
    sys.modules["function"] = package
    try:
        module = _import(code, entrypoint)
    except SystemExit:
        raise
    except BaseException as problem:
        raise LoadFailed(f"{output.describe(problem)}\nFailed to load entrypoint {entrypoint}.") from problem
    handler = getattr(module, "main", None)
    if not callable(handler):
        raise LoadFailed(SIGNATURE_INVALID)
    typed: Handler = handler
    return typed


def _import(code: str, entrypoint: str) -> ModuleType:
    stem, extension = os.path.splitext(os.path.normpath(entrypoint))
    if extension == ".py" and "." not in stem:
        name = "function." + stem.replace("/", ".")
        __import__(name)  # `importlib`, with the `warnings` it brings, would be another 0.4 ms of a start
        return sys.modules[name]
    import importlib.util

    spec = importlib.util.spec_from_file_location("function.entrypoint", os.path.join(code, entrypoint))
    if spec is None or spec.loader is None:
        raise ImportError(f"{entrypoint} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _extend_path(code: str, entry_folder: str) -> None:
    """Code folder first, then what the build installed into its virtual environment, the entry's folder last."""
    packages: list[str] = []
    library = os.path.join(code, "runtime-env", "lib")
    if os.path.isdir(library):
        for name in sorted(os.listdir(library)):
            folder = os.path.join(library, name, "site-packages")
            if name.startswith("python") and os.path.isdir(folder):
                packages.append(folder)
    sys.path[:0] = [code]
    if packages:
        import site

        for folder in packages:
            site.addsitedir(folder)  # honours .pth files
    if entry_folder not in sys.path:
        sys.path.append(entry_folder)


def warm_up() -> None:
    """Before there is a deployment: import now what loading and running its code would import then."""
    import importlib

    before = set(sys.modules)
    for name in WARM_MODULES:
        importlib.import_module(name)
    _warmed.update(set(sys.modules) - before)


def _cool_down(code: str) -> None:
    """Forget what was imported ahead if the code has a module of such a name, which has to come first."""
    own = {name.partition(".")[0] for name in os.listdir(code)}
    if own & _warmed:
        for name in _warmed:
            sys.modules.pop(name, None)
