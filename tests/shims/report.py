"""The table of the conformance cases: each case of the contract beside how it went in each language.

A plugin of pytest (`-p tests.shims.report`) that `make conformance-table` uses. A test names its cases at the beginning
of its docstring (`21 to 27`, `44: why`). The table replaces what stands between two marks in the file named by
HEARTH_CONFORMANCE_TABLE.
"""

import os
import re
from collections import defaultdict
from pathlib import Path

import pytest

FILE_VARIABLE = "HEARTH_CONFORMANCE_TABLE"
BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
LANGUAGES = ("node", "python", "php", "ruby", "bun", "deno", "go", "java", "kotlin", "cpp", "dart", "rust")
CASES_MAX = 58
#: Cases about the HTTP port of the reference's containers, which instances here do not have, or about the internet.
NOT_HERE = {1: "no port", 2: "no port", 3: "no port", 4: "no port", 5: "no port", 38: "log files", 39: "log files",
            40: "needs the internet", 46: "no port", 55: "no port"}  # fmt: skip

#: What a language finds out elsewhere, where another test of it is.
ELSEWHERE = {(57, "go"): "at the build", (57, "cpp"): "at the build", (57, "rust"): "at the build"}

_CASES = re.compile(r"((?:\d+(?: to \d+)?(?:, )?)+)")
_results: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
_titles: dict[int, str] = {}


def cases_of(docstring: str) -> list[int]:
    """The cases that a test's docstring begins with: `9, 21 to 23: why` -> 9, 21, 22, 23."""
    found = _CASES.match(docstring)
    numbers: list[int] = []
    for part in found[1].rstrip(", ").split(", ") if found else []:
        first, _, last = part.partition(" to ")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def language_of(id: str) -> str:
    """The language in the id of a parametrized test, `""` if there is none."""
    words = set(re.split(r"[\[\]-]", id.partition("[")[2]))
    return next((language for language in LANGUAGES if language in words), "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Note how a test went that has cases."""
    report = yield
    function = getattr(item, "function", None)
    cases = cases_of(function.__doc__ or "") if function is not None else []
    language = language_of(item.name)
    if cases and language and (report.when == "call" or report.outcome != "passed"):
        outcome = (
            "absent" if report.outcome == "skipped" and "inexpressible" in str(report.longrepr) else report.outcome
        )
        for case in cases:
            _results[case][language].add(outcome)
            _titles.setdefault(case, item.originalname.removeprefix("test_").replace("_", " "))  # type: ignore[attr-defined]
    return report


def cell(outcomes: set[str]) -> str:
    """One language's word on one case."""
    if outcomes & {"failed", "error"}:
        return "**no**"
    if "passed" in outcomes:
        return "yes"
    return "cannot be written" if "absent" in outcomes else "not run"


def table() -> str:
    """The whole table in Markdown."""
    rows = ["| case | | " + " | ".join(LANGUAGES) + " |", "|---|---|" + "---|" * len(LANGUAGES)]
    for case in range(1, CASES_MAX + 1):
        if case in NOT_HERE:
            rows.append(f"| {case} | {NOT_HERE[case]} |" + " – |" * len(LANGUAGES))
        else:
            words = [ELSEWHERE.get((case, language)) or cell(_results[case][language]) for language in LANGUAGES]
            rows.append(f"| {case} | {_titles.get(case, 'no test')} | " + " | ".join(words) + " |")
    return "\n".join(rows)


def pytest_sessionfinish() -> None:
    """Write the table where it belongs."""
    name = os.environ.get(FILE_VARIABLE)
    if not name:
        return
    path = Path(name)
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", "utf-8")
