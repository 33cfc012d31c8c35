"""`hearth runtimes`: what can run here, at what level and why the rest cannot, and how it is made more."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.table import Table

from hearth.runtimes import installer
from hearth.runtimes.catalogue import Catalogue
from hearth.runtimes.downloads import Sources, machine_sources
from hearth.runtimes.families import has_shim
from hearth.runtimes.installer import InstallFailed, Reporter
from hearth.runtimes.machine import packs_of
from hearth.runtimes.pack_table import PackEntry, PackUnknown, pack_table
from hearth.runtimes.registries import client_registries
from hearth.runtimes.shelf import installed
from hearth.settings import Settings

EXIT_FAILED, EXIT_USAGE = 1, 2


def show(settings: Settings, *, as_json: bool) -> int:
    """Print one row for each runtime of the contract."""
    rows = Catalogue(packs_of(settings.packs_folder, settings.docker_images)).rows()
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


def install(settings: Settings, ids: Sequence[str], source: Path | None, *, again: bool) -> int:
    """Install packs with a progress bar; 1 if one could not be installed, 2 for an id without a pack."""
    if not ids:
        return _nothing_named()
    table = pack_table()
    packs = settings.packs_folder
    try:
        entries = table.require(ids)
        todo = installer.needed(entries, installed(packs), force=again)
        for entry in entries:
            if entry not in todo:
                print(f"{entry.id}: installed already")
        for entry in todo:
            print(f"{entry.id}: {_contents(entry)}")
        with _progress() as reporter:
            installer.install(ids, packs, table, _sources(settings, source), reporter, force=again)
    except PackUnknown as error:
        return _complain(str(error), EXIT_USAGE)
    except InstallFailed as error:
        return _complain(str(error), EXIT_FAILED)
    for entry in entries:
        if not has_shim(entry.family):
            print(f"{entry.id}: this version of Hearth cannot run functions of it yet")
    return 0


def fetch(settings: Settings, ids: Sequence[str], folder: Path) -> int:
    """Download archives into a folder; exit codes as `install`."""
    if not ids:
        return _nothing_named()
    try:
        with _progress() as reporter:
            installer.fetch_archives(ids, folder, pack_table(), _sources(settings, None), reporter)
    except PackUnknown as error:
        return _complain(str(error), EXIT_USAGE)
    except InstallFailed as error:
        return _complain(str(error), EXIT_FAILED)
    print(f"hearth runtimes install --from {folder} {' '.join(ids)}")
    return 0


def remove(settings: Settings, ids: Sequence[str]) -> int:
    """Remove packs; 1 if one is not installed."""
    if not ids:
        return _nothing_named()
    try:
        removed, is_free = installer.remove(ids, settings.packs_folder)
    except InstallFailed as error:
        return _complain(str(error), EXIT_FAILED)
    for id in removed:
        print(f"{id}: removed")
    if not is_free:
        print("A server is running: the disk space is free once it has been started anew.")
    return 0


def _contents(entry: PackEntry) -> str:
    size = f"{entry.size_bytes / 1e6:.0f} MB"
    if entry.debian:
        more = "".join(f" and {archive.package} {archive.version}" for archive in entry.archives)
        return f"a root of Debian {entry.debian.suite}{more}, about {size}"
    return f"{entry.version} from {entry.provider}, {size} to download"


def _sources(settings: Settings, source: Path | None) -> Sources:
    mirror = source or (Path(settings.packs_mirror).expanduser() if settings.packs_mirror else None)
    return machine_sources(client_registries(), mirror)


def _nothing_named() -> int:
    return _complain("Name at least one runtime; `hearth runtimes list` shows them.", EXIT_USAGE)


def _complain(text: str, code: int) -> int:
    for line in text.splitlines():
        print(f"hearth: {line}", file=sys.stderr)
    return code


@contextmanager
def _progress() -> Iterator[Reporter]:
    """Bars for downloads and lines for the rest; only the lines where nobody sits at a terminal."""
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def on_bytes(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        def say(line: str) -> None:
            bars.console.print(line, markup=False, highlight=False)

        yield Reporter(say, on_bytes)
