"""`hearth config`: every setting with its value and origin."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from hearth.settings import ENV_PREFIX, Loaded, fields


def show(loaded: Loaded, *, as_json: bool) -> int:
    """Print the settings; secrets and passwords inside URLs are hidden."""
    rows = [
        (
            field.name,
            _shown(getattr(loaded.settings, field.name), field.metadata["secret"]),
            loaded.origins[field.name],
            field.metadata["doc"],
        )
        for field in fields()
    ]
    if as_json:
        print(json.dumps({name: {"value": value, "origin": origin} for name, value, origin, _ in rows}, indent=2))
        return 0
    table = Table(box=None, pad_edge=False)
    for title in ("setting", "value", "from", "meaning"):
        table.add_column(title, overflow="fold")
    for name, value, origin, doc in rows:
        table.add_row(name, str(value), origin, f"{doc} ({ENV_PREFIX}{name.upper()})")
    Console().print(table)
    return 0


def _shown(value: Any, is_secret: bool) -> Any:
    if is_secret:
        return "***" if value else ""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str) and "://" in value and "@" in value:
        scheme, _, rest = value.partition("://")
        user, _, host = rest.rpartition("@")
        return f"{scheme}://{user.partition(':')[0]}:***@{host}"
    return value
