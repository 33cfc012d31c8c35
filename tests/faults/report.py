"""`make fault-report`: rounds on both engines, and what came of them as docs/durability-report.md.

Seeds of rounds that found something stay in the report, so that they can be run again.
"""

import argparse
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from tests.faults.checker import RULES
from tests.faults.rounds import SETTLE_S, VICTIMS, Campaign, run

ENGINES = ("sqlite", "postgresql")
#: A bug of `tests.faults.planted`, and the promise it breaks.
EXPECTED = {"reaper-off": "unfinished", "intents-forgotten": "ran unrecorded"}
#: Rounds on one data folder; then a new one, with the next seed.
ROUNDS_EACH = 20

_HEAD = """# What a kill costs

Written by `make fault-report`; the suite is `tests/faults`. A round is: callers of every kind (sync, async, delayed,
events, schedules, uploads in chunks whose builds run), a SIGKILL to one process at a random moment, a restart if that
ended the server, and then the question what became of every promise. While the server is down, delayed executions and
schedules are made due in the database, also planned times that were fired already. Each run of user code tells a
counter outside its sandbox.
"""


def main() -> int:
    """Run what the arguments ask for, write the report, and return 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="of each engine")
    parser.add_argument("--minutes", type=float, default=60.0, help="no round begins after them")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, default=Path("docs/durability-report.md"))
    arguments = parser.parse_args()
    until_s = time.monotonic() + arguments.minutes * 60
    with ProcessPoolExecutor(len(ENGINES) + 1) as processes:
        waiting = [processes.submit(_engine, it, arguments.rounds, arguments.seed, until_s) for it in ENGINES]
        planting = processes.submit(_planted, arguments.seed)
        campaigns = [campaign for it in waiting for campaign in it.result()]
        noticed = planting.result()
    text = write(campaigns, arguments.rounds, noticed)
    arguments.report.write_text(text, "utf-8")
    print(text)
    return 1 if any(it.found for it in campaigns) or not all(noticed.values()) else 0


def write(campaigns: list[Campaign], asked: int, noticed: Mapping[str, bool]) -> str:
    """The report. `noticed` says of each planted bug whether the suite found it."""
    rounds = [(campaign.engine, it) for campaign in campaigns for it in campaign.rounds]
    total = sum((campaign.accepted for campaign in campaigns), Counter[str]())
    lines = [_HEAD, "## The run", ""]
    lines += [
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.release()} {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}. "
        f"{len(rounds)} rounds of {asked * len(ENGINES)} asked for, "
        f"{len(campaigns)} data folders (seeds {', '.join(str(it.seed) for it in campaigns)}).",
        "",
        "| Killed | " + " | ".join(f"rounds on {engine}" for engine in ENGINES) + " | slowest end of everything, s |",
        "|---|" + "---:|" * (len(ENGINES) + 1),
    ]
    kinds = [*VICTIMS, *sorted({it.victim for _, it in rounds} - set(VICTIMS))]
    for victim in kinds:
        counts = [sum(it.victim == victim and on == engine for on, it in rounds) for engine in ENGINES]
        slowest = max((it.settled_s for _, it in rounds if it.victim == victim), default=0.0)
        lines.append(f"| {victim} | {' | '.join(map(str, counts))} | {slowest:.1f} |")
    counts = [sum(on == engine for on, _ in rounds) for engine in ENGINES]
    lines += [
        f"| all | {' | '.join(map(str, counts))} | {max((it.settled_s for _, it in rounds), default=0.0):.1f} |",
        "",
        f"Accepted: {', '.join(f'{count:,} {how}' for how, count in sorted(total.items()))}; "
        f"{sum(it.runs for it in campaigns):,} runs of user code were counted. "
        f"Everything has to have ended {SETTLE_S:.0f} s after the restart (one lease, and a round of the reaper).",
        "",
        "| What must not be | Found |",
        "|---|---:|",
        *(f"| {rule} | {sum(one.rule == rule for _, it in rounds for one in it.violations)} |" for rule in RULES),
        "",
    ]
    lines += [
        "Bugs planted on purpose into the server, for the suite to notice: "
        + "; ".join(f"{bug} ({EXPECTED[bug]}): {'noticed' if it else 'NOT noticed'}" for bug, it in noticed.items())
        + ".",
        "",
    ]
    found = [line for campaign in campaigns for line in campaign.found]
    lines += [f"- {line}" for line in found]
    return "\n".join(lines).rstrip() + "\n"


def _planted(seed: int) -> dict[str, bool]:
    noticed = {}
    for bug, rule in EXPECTED.items():
        campaign = run("sqlite", seed, 8, victims=("server",), planted=bug)
        noticed[bug] = any(it.rule == rule for done in campaign.rounds for it in done.violations)
    return noticed


def _engine(engine: str, count: int, seed: int, until_s: float) -> list[Campaign]:
    campaigns: list[Campaign] = []
    while (left := count - sum(len(it.rounds) for it in campaigns)) > 0 and time.monotonic() < until_s:
        number = seed + len(campaigns)
        campaigns.append(run(engine, number, min(left, ROUNDS_EACH), until_s=until_s, progress=True))
        for line in campaigns[-1].found:
            print(line, flush=True)
    return campaigns


if __name__ == "__main__":
    sys.exit(main())
