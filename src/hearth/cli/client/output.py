"""What the commands say: results on standard output, everything on the way there on standard error."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
#: Control characters that a terminal acts on. What a function logged is data and must not move the cursor.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

#: Width of tables that no terminal shows.
PLAIN_COLUMNS = 200


def document(value: Any) -> None:
    """One JSON document on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def line_of(value: Any) -> None:
    """One JSON line on standard output, at once."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")), flush=True)


def table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Rows under titles on standard output; nothing is cut."""
    shown = Table(box=None, pad_edge=False)
    for title in titles:
        shown.add_column(title, overflow="fold")
    for row in rows:
        shown.add_row(*map(plain, row))
    # A console takes 80 columns where there is no terminal, and `print` nothing wider than that.
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else PLAIN_COLUMNS).print(shown)


def say(text: str) -> None:
    """A line for the reader on standard error."""
    print(plain(text), file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Text of a function or a build, without what a terminal would act on."""
    return _CONTROLS.sub("", _ANSI.sub("", text))


def moment(wire: str) -> str:
    """A date of the API, shorter."""
    return wire[:19].replace("T", " ")


@contextmanager
def upload_bar(name: str) -> "Iterator[Any]":
    """A progress bar for one upload, where somebody sits at a terminal; gives the function to call on progress."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        task = bars.add_task(f"{name}: sending")
        yield lambda done, total: bars.update(task, completed=done, total=total)
