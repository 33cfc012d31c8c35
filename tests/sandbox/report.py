"""The table of the isolation cases: which ran, where, how it went, what was seen.

A plugin of pytest (`-p tests.sandbox.report`) that `make isolation-report` uses: every test whose name begins with the
id of a case (`test_F1_...`, `test_R1_R2_...`), or that is named in OTHER_TESTS, becomes a row of the file named
by HEARTH_ISOLATION_REPORT. A test says by `note` what it saw.
"""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import gvisor

FILE_VARIABLE = "HEARTH_ISOLATION_REPORT"
KEEP_VARIABLE = "HEARTH_ISOLATION_REPORT_KEEP"
"""Set: rows of the file that is there stay, for tests that do not run now. So it can be made in pieces."""
CASES: Mapping[str, int] = {"F": 10, "P": 14, "N": 9, "R": 11, "B": 7, "S": 9}
"""Letter -> how many cases it has: 60 together."""
SEEN_CHARS_MAX = 180
OTHER_TESTS: Mapping[str, tuple[str, ...]] = {
    "test_a_stem_holds_no_secret_no_code_and_no_connection": ("S6",),
    "test_many_stems_assigned_and_ended_leave_counts_as_they_were": ("S6", "S9"),
}
"""Cases that are tested where what they are about is tested."""

_NAME = re.compile(r"test_((?:[FPNRBS]\d+_)+)")
_HERE = re.compile(re.escape(str(Path(__file__).parents[2])))
_TEMPORARY = re.compile(r"/tmp/(hearth|canary)[\w.-]*")
"""Paths of the machine at hand say nothing to a reader of the report."""
_notes: list[str] = []
_profiles: set[str] = set()


@dataclass(frozen=True, slots=True)
class Row:
    """One test on one driver. `result` is passed, failed, skipped or error."""

    cases: tuple[str, ...]
    driver: str
    profile: str
    test: str
    result: str
    seen: str
    took_s: float


def cases_of(name: str) -> tuple[str, ...]:
    """The ids in a test's name: `test_R1_R2_memory...` -> (R1, R2)."""
    plain = name.partition("[")[0]
    if plain in OTHER_TESTS:
        return OTHER_TESTS[plain]
    found = _NAME.match(name)
    return tuple(found[1].strip("_").split("_")) if found else ()


def all_cases() -> list[str]:
    return [f"{letter}{number}" for letter, count in CASES.items() for number in range(1, count + 1)]


def note(seen: object, profile: str = "") -> None:
    """Say what was seen by the test that runs now; called any number of times, the last ones are shown."""
    text = seen if isinstance(seen, str) else json.dumps(seen, default=str)
    text = _HERE.sub("<checkout>", _TEMPORARY.sub("/tmp/<test>", text))
    _notes.append(" ".join(text.split()))
    if profile:
        _profiles.add(profile)


def begin() -> None:
    """Forget what earlier tests noted."""
    _notes.clear()
    _profiles.clear()


def noted() -> tuple[str, str]:
    """What was seen, shortened, and the profiles, of the test that runs now."""
    text = "; ".join(_notes[-3:])
    short = text if len(text) <= SEEN_CHARS_MAX else text[: SEEN_CHARS_MAX - 1] + "…"
    return "".join(char if char.isprintable() else "?" for char in short), " ".join(sorted(_profiles)) or "run"


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the table as Markdown."""
    path.write_text(text_of(rows, machine()))


def machine() -> str:
    """One line about where the cases ran; no names of the machine."""
    runc = _first_line(["runc", "--version"])
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    kinds = sorted({line.split(" - ")[1].split()[0] for line in _mounts() if " - cgroup" in line})
    parts = [f"Linux {platform.release().partition('-')[0]} {platform.machine()}", f"{os.cpu_count()} cores"]
    parts += [f"{memory_gib:.0f} GiB", f"control groups: {' and '.join(kinds)}", runc or "no runc"]
    parts += [_first_line([gvisor.program(), "--version"])] if gvisor.program() else ["no runsc"]
    return ", ".join(parts)


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def _first_line(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.split("\n")[0]
    except OSError:
        return ""


def text_of(rows: Sequence[Row], where: str) -> str:
    """The report's text. A case passes on a driver only if every test of it does."""
    drivers = sorted({row.driver for row in rows})
    lines = [
        "# Isolation report",
        "",
        "Written by `make isolation-report`, not by hand. The cases are those of the isolation contract (F files and",
        "mounts, P processes and kernel interface, N network, R resources and time, B archives and builds, S secrets",
        "and life cycle); each has its positive control, and a case passes only if another function still runs after",
        "it. Hosts with control groups v2 alone are held by unit tests on a stand-in for the kernel's files; where",
        "these rows were made is said below.",
        "",
        f"{time.strftime('%Y-%m-%d')}, {where}.",
        "",
        "## Summary",
        "",
        "| case | " + " | ".join(drivers) + " |",
        "|---|" + "---|" * len(drivers),
    ]
    for case in all_cases():
        lines.append(f"| {case} | " + " | ".join(_verdict(case, driver, rows) for driver in drivers) + " |")
    lines += [
        "",
        "## What was seen",
        "",
        "| case | driver | profile | result | test | seen | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=_order):
        cells = (" ".join(row.cases), row.driver, row.profile, row.result, row.test, row.seen, f"{row.took_s:.2f}")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def rows_of(text: str) -> list[Row]:
    """The rows of a report that was written."""
    found = []
    for line in text.partition("\n## What was seen\n")[2].splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 7 and cases_of(cells[4]):
            cases, driver, profile, result, test, seen, took = cells
            found.append(Row(tuple(cases.split()), driver, profile, test, result, seen, float(took)))
    return found


def merged(kept: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The new rows, and the kept ones of tests that are not among them."""
    return [*(row for row in kept if row.test not in {one.test for one in new}), *new]


def _verdict(case: str, driver: str, rows: Sequence[Row]) -> str:
    found = [row.result for row in rows if case in row.cases and row.driver == driver]
    if not found:
        return "not run"
    for result in ("error", "failed"):
        if result in found:
            return f"**{result}**"
    passed, skipped = found.count("passed"), found.count("skipped")
    if not passed:
        return "skipped"
    return f"passed ({passed})" + (f", {skipped} skipped" if skipped else "")


def _order(row: Row) -> tuple[Any, ...]:
    letter, number = row.cases[0][0], int(row.cases[0][1:])
    return (list(CASES).index(letter), number, row.test, row.driver)


# ------------------------------------------------------------------------------------------------ hooks of pytest

_rows: list[Row] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    begin()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Keep a row of the isolation report for each test of a case: at its call, or at a setup that went wrong."""
    outcome = yield
    cases = cases_of(item.name)
    if cases and (call.when == "call" or (call.when == "setup" and not outcome.passed)):
        seen, profile = noted()
        if outcome.skipped and isinstance(outcome.longrepr, tuple):
            seen = outcome.longrepr[2].removeprefix("Skipped: ")
        result = "error" if call.when == "setup" and outcome.failed else outcome.outcome
        mode = getattr(item, "callspec", None)
        driver = str(mode.params.get("mode", "ns root")) if mode is not None else "ns root"
        _rows.append(Row(cases, driver, profile, item.name, result, seen, outcome.duration))
    return outcome


def pytest_sessionfinish() -> None:
    path = os.environ.get(FILE_VARIABLE)
    if path and _rows:
        kept = rows_of(Path(path).read_text()) if os.environ.get(KEEP_VARIABLE) else []
        write(Path(path), merged(kept, _rows))
