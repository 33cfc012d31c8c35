"""Tables of facts shipped with the package: errors, scopes, events, runtimes, specifications, templates."""

import json
from functools import cache
from importlib import resources
from typing import Any


@cache
def load(name: str) -> Any:
    """Read the JSON table `name` of this folder; the same object every time, so do not change it."""
    return json.loads(resources.files(__name__).joinpath(name).read_text("utf-8"))
