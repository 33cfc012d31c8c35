"""`hearth runtimes list`: what can run here, at what level, and why the rest cannot."""

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from hearth.runtimes.catalogue import Catalogue
from hearth.runtimes.host import discover_host_packs


def show(*, as_json: bool) -> int:
    """Print one row for each runtime of the contract."""
    rows = Catalogue(discover_host_packs()).rows()
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    table = Table(box=None, pad_edge=False)
    for title in ("runtime", "name", "version", "level", "from", "why not"):
        table.add_column(title, overflow="fold")
    for row in sorted(rows, key=lambda row: row.level is None):
        level = str(row.level) if row.level else "-"
        table.add_row(row.id, row.name, row.version or "-", level, row.provider or "-", row.reason)
    Console().print(table)
    return 0
