"""Commits into SQLite that are to survive the end of the machine are on the disk before they are answered."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COUNT = 10
ROOT = Path(__file__).parents[2]
#: Records one execution after another, saying so on its standard output before the first and after the last.
PROGRAM = f"""
import asyncio, os, sys
from pathlib import Path
from hearth.auth.secrets import VariableCipher
from hearth.store import open_store
from tests.store.samples import KEY, FakeClock, execution

async def main(folder, synced):
    store = await open_store("", data_dir=folder, secret=VariableCipher(KEY), clock=FakeClock(), synced=synced)
    await store.execution_log.open()
    os.write(1, b"begin")
    for number in range({COUNT}):
        await store.execution_log.record(execution(f"e{{number}}"))
    os.write(1, b"end")
    await store.close()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2] == "synced"))
"""


@pytest.mark.parametrize(("mode", "least", "most"), [("synced", COUNT, 3 * COUNT), ("unsynced", 0, COUNT - 1)])
def test_a_commit_reaches_the_disk_before_its_answer_where_that_is_asked_for(
    mode: str, least: int, most: int, tmp_path: Path
) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed (see `scripts/setup test`)")
    output = tmp_path / "calls"
    argv = [strace, "-f", "-qq", "-e", "trace=write,fsync,fdatasync", "-o", str(output)]
    done = subprocess.run(
        [*argv, sys.executable, "-c", PROGRAM, str(tmp_path / "data"), mode],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
    )
    if "ptrace" in done.stderr and done.returncode:
        pytest.skip(f"strace may not run programs here: {done.stderr[:200]}")
    assert done.returncode == 0, done.stderr
    between = output.read_text().partition('"begin"')[2].partition('"end"')[0]
    assert least <= len(re.findall(r"\bf(?:data)?sync\(", between)) <= most
