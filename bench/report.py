"""The results: one table for people, one JSON file for comparison."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Figures:
    """Best of all rounds for one server with so many connections; milliseconds, per second, microseconds of CPU."""

    p50_ms: float = float("inf")
    p99_ms: float = float("inf")
    per_second: float = 0.0
    cpu_us: float = float("inf")
    spread: float = float("inf")
    """p99 over p50 of one and the same round."""


@dataclass(slots=True)
class Row:
    """What one server showed, by the number of connections."""

    name: str
    at: dict[int, Figures] = field(default_factory=dict)
    first_ms: list[float] = field(default_factory=list)

    @property
    def first_median_ms(self) -> float | None:
        """Median first execution of a newly built deployment."""
        return sorted(self.first_ms)[len(self.first_ms) // 2] if self.first_ms else None


@dataclass(frozen=True, slots=True)
class Target:
    """A promise: what it says, what was measured, whether it is kept."""

    text: str
    measured: str
    kept: bool


def machine() -> dict[str, str]:
    """What the numbers were taken on."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def show(console: Console, rows: list[Row], targets: list[Target], on: dict[str, str]) -> None:
    """Print one table."""
    title = f"\nWarm sync executions, {on['date']}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("server", no_wrap=True)
    counts = sorted({connections for row in rows for connections in row.at})
    for connections in counts:
        for column in ("p50 ms", "p99 ms") if connections == 1 else ("req/s", "p50 ms", "p99 ms", "CPU us"):
            table.add_column(f"c={connections}\n{column}", justify="right", no_wrap=True)
    table.add_column("first\nmedian ms", justify="right", no_wrap=True)
    for row in rows:
        cells = []
        for connections in counts:
            figures = row.at[connections]
            cells += [f"{figures.p50_ms:.2f}", f"{figures.p99_ms:.2f}"]
            if connections != 1:
                cells = [*cells[:-2], f"{figures.per_second:,.0f}", *cells[-2:], f"{figures.cpu_us:.0f}"]
        first = row.first_median_ms
        table.add_row(row.name, *cells, "" if first is None else f"{first:.0f}")
    console.print(table)
    show_targets(console, targets, on)


def show_targets(console: Console, targets: list[Target], on: dict[str, str]) -> None:
    """Print which promises are kept, and on what."""
    for target in targets:
        mark = "[green]kept  [/]" if target.kept else "[red]missed[/]"
        console.print(f"{mark} {target.text}: {target.measured}")
    console.print(", ".join(f"{name} {value}" for name, value in on.items()), soft_wrap=True)


def write(folder: Path, rows: list[Row], targets: list[Target], on: dict[str, str]) -> Path:
    """Write everything as JSON; returns the file."""
    document = {"machine": on, "rows": [asdict(row) for row in rows], "targets": [asdict(target) for target in targets]}
    return write_json(folder, "", document, on)


def write_json(folder: Path, name: str, document: Mapping[str, object], on: dict[str, str]) -> Path:
    """Write one document of results, `name` in its file's name; returns the file."""
    folder.mkdir(exist_ok=True)
    stamp = on["date"].replace(":", "").replace("+0000", "Z")
    path = folder / f"{f'{name}-' if name else ''}{stamp}.json"
    path.write_text(json.dumps(document, indent=1) + "\n")
    return path
